"""The decoder's block in a graph: against torch.nn, by differences, and behind masks."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences_not_on_torch, host, randomized
from xpnn import (
    Dropout,
    Graph,
    Input,
    Masked,
    Network,
    PaddingMask,
    ReLU,
    RMSNorm,
    TransformerDecoderBlock,
)
from xpnn.errors import ShapeError
from xpnn.saving import load_torch_weights
from xpnn.testing import check_gradients

TIME, LENGTH, FEATURES = 4, 6, 8
SEEN = np.array([[3, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0, 2, 0, 0, 1, 0]])
OWN = np.array([[1, 2, 0, 0], [1, 2, 3, 4], [1, 0, 2, 0]])
NAME = "2.transformerdecoderblock"


def draws(length, seed):
    return np.random.default_rng(seed).standard_normal((3, length, FEATURES)).astype(np.float32)


def decoding(backend, **options):
    """A block as a network: its steps, those that it looks at, and the ids of both."""
    steps, context = Input((TIME, FEATURES)), Input((LENGTH, FEATURES))
    ids, own = (Input((n,), takes="integers") for n in (LENGTH, TIME))
    block = TransformerDecoderBlock(FEATURES, 2, hidden=6, activation=ReLU, **options)
    outputs = block(steps, context, PaddingMask()(ids), PaddingMask()(own))
    return Network(inputs=[steps, context, ids, own], outputs=outputs, backend=backend)


def loaded(network, arrays):
    """With the arrays of a module of torch.nn, its weights or its gradients."""
    given = {f"block.{key}": one.detach().numpy() for key, one in arrays.items()}
    load_torch_weights(network, given, {"block": NAME})
    return host(network, network.params)


@needs("torch")
@pytest.mark.parametrize("norm_first", [False, True])
def test_it_equals_torch(backend, norm_first):
    import torch

    torch.manual_seed(0)
    options = {"batch_first": True, "norm_first": norm_first}
    module = torch.nn.TransformerDecoderLayer(FEATURES, 2, 6, 0.0, **options)
    for param in module.parameters():
        param.data = 0.5 * torch.randn_like(param)
    inputs = [torch.tensor(draws(*one), requires_grad=True) for one in ((TIME, 0), (LENGTH, 1))]
    unseen, own = torch.tensor(SEEN == 0), torch.tensor(OWN == 0)
    later = torch.triu(torch.ones(TIME, TIME, dtype=torch.bool), diagonal=1)
    masks = {"memory_key_padding_mask": unseen, "tgt_key_padding_mask": own}
    wanted = module(*inputs, tgt_mask=later, **masks)
    wanted.backward(torch.tensor(draws(TIME, 2)))

    network = decoding(backend, norm_first=norm_first)
    loaded(network, module.state_dict())
    given = tuple(map(backend.asarray, (draws(TIME, 0), draws(LENGTH, 1), SEEN, OWN)))
    with backend.on_device():
        found = {"output": network.root.forward(given)}
        back = network.root.backward(backend.asarray(draws(TIME, 2)))
    assert back[2:] == (None, None)
    found |= {"steps": back[0], "context": back[1], **network.grads}
    grads = {key: one.grad for key, one in module.named_parameters()}
    oracle = loaded(decoding("numpy", norm_first=norm_first), grads)
    oracle |= {"output": wanted.detach().numpy()}
    oracle |= {"steps": inputs[0].grad.numpy(), "context": inputs[1].grad.numpy()}
    assert_close(host(network, found), oracle, tolerance=2e-5)


@pytest.mark.parametrize(("norm_first", "context"), [(False, 4), (True, 4), (True, 3)])
@by_differences_not_on_torch
def test_gradients_match_finite_differences(backend, norm_first, context):
    options = {"norm_first": norm_first, "kv_heads": 1, "dropout": 0.3, "rotate": True}
    block = TransformerDecoderBlock(4, 2, hidden=3, norm=RMSNorm, **options)
    assert check_gradients(block, ((2, 4), (3, context)), backend, batch=2).error < 1e-6


def test_steps_that_are_not_seen_change_nothing(backend):
    """Neither those of the context nor those of its own sequence."""
    network = randomized(decoding(backend))
    x, context = draws(TIME, 0), draws(LENGTH, 1)
    other_x = np.where(OWN[..., None] != 0, x, 3 * x)
    other = np.where(SEEN[..., None] != 0, context, 50 * context)
    found, again, seen = (
        backend.to_numpy(network.predict(one))
        for one in (
            (x, context, SEEN, OWN),
            (other_x, other, SEEN, OWN),
            (other_x, other, SEEN, np.ones_like(OWN)),
        )
    )
    np.testing.assert_allclose(again[OWN != 0], found[OWN != 0], rtol=1e-5, atol=1e-5)
    assert np.abs(seen[2, 2] - found[2, 2]).max() > 1e-2


def test_a_mask_around_it_is_that_of_its_own_steps(backend):
    x = draws(TIME, 0) * (OWN[..., None] != 0)
    steps, ids, seen = Input((TIME, FEATURES)), *(Input((TIME,), takes="integers") for _ in "ab")
    block = lambda: TransformerDecoderBlock(FEATURES, 2)  # noqa: E731
    inner = Graph.of(steps, block()(steps, steps))
    around = randomized(Network([Masked([inner])], (TIME, FEATURES), backend))
    told = block()(steps, steps, PaddingMask()(seen), PaddingMask()(ids))
    network = Network(inputs=[steps, seen, ids], outputs=told, backend=backend)
    values = around.numpy_arrays().values()
    network.load(dict(zip(network.numpy_arrays(), values, strict=True)))
    found, wanted = (
        backend.to_numpy(one)
        for one in (around.predict(x), network.predict((x, np.ones_like(OWN), OWN)))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_dropout_acts_at_five_places(backend):
    block = TransformerDecoderBlock(FEATURES, 2, dropout=0.3)
    assert [one.rate for _, one in block.walk() if isinstance(one, Dropout)] == [0.3] * 5


def test_what_is_refused():
    x, context, seen = Input((4, 8)), Input((6, 8)), Input((6,))
    block = lambda: TransformerDecoderBlock(8, 2)  # noqa: E731
    with pytest.raises(ShapeError, match=r"got \(4, 5\); a Dense\(8\) makes other features fit"):
        block()(Input((4, 5)), context)
    with pytest.raises(ShapeError, match=r"got \(4, 8\) and \(6, 5, 2\)"):
        block()(x, Input((6, 5, 2)))
    with pytest.raises(ShapeError, match=r"than masks of shape \(6,\) and \(4,\), got \(4,\)"):
        block()(x, context, Input((4,)))
    with pytest.raises(ShapeError, match=r"and \(4,\), got \(6,\), \(6,\)"):
        block()(x, context, seen, Input((6,)))
    with pytest.raises(ShapeError, match="two inputs or more, but was called on 1"):
        block()(x)
    with pytest.raises(ShapeError, match=r"and \(4,\), got \(6,\), \(4,\), \(4,\)"):
        block()(x, context, seen, Input((4,)), Input((4,)))
