"""Cross-attention in a graph: against torch.nn, by differences, and behind masks."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, host, randomized
from tests.layers.sequence.test_attention import attention_names, load_torch, torch_passes
from xpnn import (
    Add,
    CrossAttention,
    Dense,
    Embedding,
    Graph,
    Input,
    Masked,
    Network,
    PaddingMask,
    generate,
)
from xpnn.errors import ShapeError, XpnnError
from xpnn.testing import check_gradients

TIME, LENGTH, FEATURES = 4, 6, 8
IDS = np.array([[3, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0, 2, 0, 0, 1, 0]])


def draws(length, seed):
    return np.random.default_rng(seed).standard_normal((3, length, FEATURES)).astype(np.float32)


def looking(backend, **options):
    """A network of three inputs: steps, those that they look at, and ids that say which of them."""
    steps, context = Input((TIME, FEATURES)), Input((LENGTH, FEATURES))
    ids = Input((LENGTH,), takes="integers")
    looked = CrossAttention(2, **options)(steps, context, PaddingMask()(ids))
    network = randomized(Network(inputs=[steps, context, ids], outputs=looked, backend=backend))
    network.load({name: 0.5 * array for name, array in network.numpy_arrays().items()})
    return network


@needs("torch")
@pytest.mark.parametrize("read", [True, False])
def test_it_equals_torch(backend, read, monkeypatch):
    """By all of P, and by the primitive, as a step goes."""
    import torch

    monkeypatch.setattr(backend, "attention_from", 0)
    network = looking(backend)
    names = attention_names("1.crossattention")
    module = torch.nn.MultiheadAttention(FEATURES, 2, batch_first=True)
    load_torch(module, names, network)
    x, context, delta = draws(TIME, 0), draws(LENGTH, 1), draws(TIME, 2)
    unseen = torch.tensor(IDS == 0)
    output, (back, context_back), grads = torch_passes(
        module,
        names,
        [x, context],
        delta,
        lambda module, x, c: module(x, c, c, key_padding_mask=unseen, need_weights=False)[0],
    )
    network.layers[1].inspected = read
    given = tuple(map(backend.asarray, (x, context, IDS)))
    with backend.on_device():
        found = {"output": network.root.forward(given)}
        assert (network.layers[1].cache["P"] is not None) is read
        found["x"], found["context"], of_the_ids = network.root.backward(backend.asarray(delta))
    assert of_the_ids is None
    wanted = {"output": output, "x": back, "context": context_back, **grads}
    assert_close(host(network, {**found, **network.grads}), wanted)


def test_gradients_match_finite_differences(backend):
    layer = CrossAttention(2, kv_heads=1, dropout=0.3)
    assert check_gradients(layer, ((2, 4), (3, 4)), backend, batch=2).error < 1e-6


def test_steps_that_are_not_seen_change_nothing(backend):
    network = looking(backend)
    x, context = draws(TIME, 0), draws(LENGTH, 1)
    other = np.where(IDS[..., None] != 0, context, 50 * context)
    found, again = (
        backend.to_numpy(network.predict((x, one, IDS), batch_size=2)) for one in (context, other)
    )
    np.testing.assert_allclose(again, found, atol=1e-6)
    seen = backend.to_numpy(network.predict((x, other, np.ones_like(IDS))))
    assert np.abs(seen - found)[[0, 2]].max(axis=(1, 2)).min() > 1e-2


def test_a_mask_around_it_is_that_of_its_queries(backend):
    """So it is not that of what they look at."""

    def output(wrap):
        x = Input((TIME, FEATURES))
        context = Dense(FEATURES)(x)
        inner = Graph.of(x, Add()(CrossAttention(2)(x, context), x))
        network = Network([wrap(inner)], (TIME, FEATURES), backend)
        return backend.to_numpy(network.predict(np.zeros_like(draws(TIME, 0))))

    np.testing.assert_allclose(output(lambda one: Masked([one])), output(lambda one: one))


def test_what_is_refused(backend):
    x, context, seen = Input((4, 8)), Input((6, 8)), Input((6,))
    with pytest.raises(ShapeError, match=r"got \(4, 8\) and \(6, 5\); a Dense makes other"):
        CrossAttention(2)(x, Input((6, 5)))
    with pytest.raises(ShapeError, match=r"no more than a mask of shape \(6,\), got \(4,\)"):
        CrossAttention(2)(x, context, Input((4,)))
    with pytest.raises(ShapeError, match=r"than a mask of shape \(6,\), got \(6,\), \(6,\)"):
        CrossAttention(2)(x, context, seen, Input((6,)))
    with pytest.raises(ShapeError, match="two inputs or more, but was called on 1"):
        CrossAttention(2)(x)
    with pytest.raises(ShapeError, match="3 equal heads, got 8 features"):
        CrossAttention(3)(x, context)
    ids = Input((4,), takes="integers")
    Z = Embedding(5, 8)(ids)
    writer = Network(inputs=ids, outputs=Dense(5)(CrossAttention(2)(Z, Z)), backend=backend)
    with pytest.raises(XpnnError, match="cannot write where that follows from the text itself"):
        generate(writer, [1, 2], 1)
