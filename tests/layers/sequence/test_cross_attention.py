"""Cross-attention in a graph: against torch.nn, by differences, and behind masks."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, host, randomized
from tests.layers.sequence.test_attention import attention_names, load_torch, torch_passes
from xpnn import (
    Adam,
    Add,
    CrossAttention,
    Dense,
    Embedding,
    Graph,
    Input,
    Masked,
    Network,
    PaddingMask,
    Trainer,
    generate,
    load,
    mean_squared_error,
)
from xpnn.errors import ShapeError, XpnnError
from xpnn.saving import load_torch_weights
from xpnn.testing import check_gradients

TIME, LENGTH, FEATURES = 4, 6, 8
IDS = np.array([[3, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0, 2, 0, 0, 1, 0]])


def draws(length, seed, features=FEATURES):
    return np.random.default_rng(seed).standard_normal((3, length, features)).astype(np.float32)


def looking(backend, features=FEATURES, **options):
    """A network of three inputs: steps, those that they look at, and ids that say which of them."""
    steps, context = Input((TIME, FEATURES)), Input((LENGTH, features))
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


WIDTH = 5  # of a context that is not as wide as what looks at it


def by_torch(arrays, name="1.crossattention"):
    """Our parameters, or gradients, as nn.MultiheadAttention with kdim and vdim has them."""
    own = {key.removeprefix(f"{name}."): value for key, value in arrays.items()}
    keys, values = np.split(own["context_weight"], 2, axis=1)
    return {
        "q_proj_weight": own["weight"].T,
        "k_proj_weight": keys.T,
        "v_proj_weight": values.T,
        "in_proj_bias": own["bias"],
        "out_proj.weight": own["output_weight"].T,
        "out_proj.bias": own["output_bias"],
    }


@needs("torch")
@pytest.mark.parametrize("read", [True, False])
def test_of_a_context_of_other_features_it_equals_torch(backend, read, monkeypatch):
    import torch

    monkeypatch.setattr(backend, "attention_from", 0)
    network = looking(backend, WIDTH)
    module = torch.nn.MultiheadAttention(FEATURES, 2, batch_first=True, kdim=WIDTH, vdim=WIDTH)
    params = {**network.numpy_arrays()}
    module.load_state_dict(
        {k: torch.tensor(np.ascontiguousarray(one)) for k, one in by_torch(params).items()}
    )
    x, context, delta = draws(TIME, 0), draws(LENGTH, 1, WIDTH), draws(TIME, 2)
    inputs = [torch.tensor(one, requires_grad=True) for one in (x, context)]
    unseen = torch.tensor(IDS == 0)
    options = {"key_padding_mask": unseen, "need_weights": False}
    output = module(inputs[0], inputs[1], inputs[1], **options)[0]
    output.backward(torch.tensor(delta))

    network.layers[1].inspected = read
    given = tuple(map(backend.asarray, (x, context, IDS)))
    with backend.on_device():
        found = {"output": network.root.forward(given)}
        found["x"], found["context"], _ = network.root.backward(backend.asarray(delta))
    found = host(network, {**found, **network.grads})
    wanted = {"output": output.detach().numpy()}
    wanted |= {"x": inputs[0].grad.numpy(), "context": inputs[1].grad.numpy()}
    wanted |= {name: one.grad.numpy() for name, one in module.named_parameters()}
    assert_close({**found, **by_torch(found)}, wanted)

    fresh = looking(backend, WIDTH)
    fresh.load({name: 0 * array for name, array in params.items()})
    load_torch_weights(fresh, module.state_dict(), {"": "1.crossattention"})
    assert_close(fresh.numpy_arrays(), params, tolerance=0)


def test_of_a_context_of_other_features_it_is_saved_and_learns(backend, tmp_path):
    network = looking(backend, WIDTH, kv_heads=1)
    given = draws(TIME, 0), draws(LENGTH, 1, WIDTH), IDS
    assert network.params["1.crossattention.context_weight"].shape == (WIDTH, FEATURES)
    trainer = Trainer(network, mean_squared_error, Adam(0.02))
    losses = trainer.fit(given, draws(TIME, 3), epochs=30, progress=False)["loss"]
    assert losses[-1] < 0.7 * losses[0]
    network.save(tmp_path / "wide.safetensors")
    again = load(tmp_path / "wide.safetensors", backend)
    for one in (again, network.to("numpy")):
        np.testing.assert_allclose(
            one.backend.to_numpy(one.predict(given)),
            backend.to_numpy(network.predict(given)),
            atol=1e-5,
        )


@pytest.mark.parametrize("context", [4, 3])
@by_differences
def test_gradients_match_finite_differences(backend, context):
    layer = CrossAttention(2, kv_heads=1, dropout=0.3)
    assert check_gradients(layer, ((2, 4), (3, context)), backend, batch=2).error < 1e-6


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
    with pytest.raises(ShapeError, match=r"shape \(length, features\), got \(4, 8\) and \(6,\)"):
        CrossAttention(2)(x, Input((6,)))
    layer = CrossAttention(2)
    joined = Add()(layer(x, context), layer(x, Input((6, 5))))
    with pytest.raises(ShapeError, match=r"like those of its first call.*for which its weight is"):
        Network(inputs=[x, context, joined.call.sources[1].call.sources[1]], outputs=joined)
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
