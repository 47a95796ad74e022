"""Tied weights: one array, two layers, one gradient."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, passes, randomized
from xpnn import (
    Adam,
    Dense,
    Embedding,
    Network,
    Parallel,
    Sequential,
    Tanh,
    TiedDense,
    Trainer,
    cross_entropy,
    mean_squared_error,
)
from xpnn.errors import GradientError, ShapeError
from xpnn.saving import load_weights, save_weights
from xpnn.testing import check_gradients

IDS = np.array([[3, 0, 3], [3, 1, 4]])


def words(backend="numpy", **keywords):
    """Ids in, scores of all ids out, by one and the same matrix."""
    embedding = Embedding(5, 4)
    layers = [embedding, Dense(4), Tanh(), TiedDense(5, embedding)]
    return randomized(Network(layers, (3,), backend, **keywords))


def autoencoder():
    encoder = Dense(3)
    return Sequential([encoder, Tanh(), TiedDense(4, encoder)])


def test_there_is_one_array(backend):
    network = words(backend)
    assert sorted(network.params) == [
        "0.embedding.weight", "1.dense.bias", "1.dense.weight", "3.tieddense.bias",
    ]  # fmt: skip
    network.forward(IDS, training=True)
    network.backward(network.backend.asarray(np.ones((2, 3, 5), np.float32)))
    assert network.grads.keys() == network.params.keys()
    assert network.summary().params == 5 * 4 + 4 * 4 + 4 + 5


@pytest.mark.parametrize("use_bias", [True, False])
@by_differences
def test_backward_matches_finite_differences(backend, use_bias):
    embedding = Embedding(5, 4)
    tied = Sequential([embedding, Dense(4), TiedDense(5, embedding, use_bias=use_bias)])
    assert check_gradients(tied, backend=backend, x=IDS).error < 1e-6
    assert check_gradients(autoencoder(), (4,), backend).error < 1e-6
    assert check_gradients(words(backend.spec), x=IDS).error < 1e-6


def test_the_tie_may_be_undone_before_the_other_end(backend):
    """Branches go back in the order in which they stand: here the layer with the array is first."""
    encoder = Dense(4)
    pair = Parallel([encoder, Sequential([Dense(4), TiedDense(3, encoder)])])
    assert check_gradients(pair, (3,), backend).error < 1e-6


@needs("torch")
def test_equals_torch(backend, rng):
    import torch

    network = words(backend)
    arrays = network.numpy_arrays()
    p = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    delta = rng.standard_normal((2, 3, 5)).astype(np.float32)
    z = torch.nn.functional.embedding(torch.tensor(IDS), p["0.embedding.weight"])
    z = torch.tanh(z @ p["1.dense.weight"] + p["1.dense.bias"])
    output = torch.nn.functional.linear(z, p["0.embedding.weight"], p["3.tieddense.bias"])
    output.backward(torch.tensor(delta))
    oracle = {name: tensor.grad.numpy() for name, tensor in p.items()}
    assert_close(passes(network, IDS, delta), {"output": output.detach().numpy(), **oracle})


@needs("torch")
def test_the_optimizer_updates_it_once(backend):
    import torch

    network, labels = words(backend), IDS[:, ::-1].copy()
    arrays = network.numpy_arrays()
    p = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    theirs = torch.optim.Adam(p.values(), lr=0.01)
    trainer = Trainer(network, cross_entropy, Adam(0.01))
    trainer.fit(IDS, labels, epochs=10, batch_size=2, shuffle=False, progress=False)
    for _ in range(10):
        theirs.zero_grad()
        z = torch.nn.functional.embedding(torch.tensor(IDS), p["0.embedding.weight"])
        z = torch.tanh(z @ p["1.dense.weight"] + p["1.dense.bias"])
        output = torch.nn.functional.linear(z, p["0.embedding.weight"], p["3.tieddense.bias"])
        torch.nn.functional.cross_entropy(output.mT, torch.tensor(labels)).backward()
        theirs.step()
    found = network.numpy_arrays()
    assert_close(found, {name: tensor.detach().numpy() for name, tensor in p.items()})
    assert trainer.opt_state["m"].keys() == network.params.keys()


def test_it_is_saved_once_and_loaded_whole(backend, tmp_path):
    network, path = words(backend), tmp_path / "weights.safetensors"
    save_weights(network, path)
    other = words(backend, seed=1)
    other.load({name: 0 * array for name, array in other.numpy_arrays().items()})
    load_weights(other, path)
    expected, found = (backend.to_numpy(one.predict(IDS)) for one in (network, other))
    np.testing.assert_array_equal(found, expected)


def test_a_frozen_array_stays(backend):
    network = words(backend)
    network.layers[0].trainable = False
    before = network.numpy_arrays()
    trainer = Trainer(network, cross_entropy, Adam(0.1))
    trainer.fit(IDS, IDS, progress=False)
    after = network.numpy_arrays()
    np.testing.assert_array_equal(after["0.embedding.weight"], before["0.embedding.weight"])
    assert not np.array_equal(after["3.tieddense.bias"], before["3.tieddense.bias"])


def test_training_follows_numpy(backend, rng):
    x = rng.standard_normal((32, 4)).astype(np.float32)

    def curve(place):
        trainer = Trainer(Network([autoencoder()], (4,), place), mean_squared_error, Adam(0.02))
        return trainer.fit(x, x, epochs=10, batch_size=8, progress=False)["loss"]

    reference = curve("numpy")
    assert reference[-1] < 0.7 * reference[0]
    np.testing.assert_allclose(curve(backend), reference, rtol=1e-4)


class ForgetsTheTie(TiedDense):
    def backward(self, delta):
        back = super().backward(delta)
        del self.grads["weight"]
        return back


@by_differences
def test_a_planted_mistake_is_caught(backend):
    encoder = Dense(3)
    broken = Sequential([encoder, Tanh(), ForgetsTheTie(4, encoder)])
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients(broken, (4,), backend)


def test_misfits_are_explained():
    embedding = Embedding(5, 4)
    with pytest.raises(ShapeError, match=r"of shape \(6, 4\) from Embedding\(5, 4\).*\(5, 4\)"):
        Network([embedding, TiedDense(6, embedding)], (3,))
    later = Dense(3)
    with pytest.raises(ShapeError, match=r"none yet.*earlier into the same network"):
        Network([TiedDense(4, later), later], (3,))
    other = Network([Dense(3)], (4,)).layers[0]
    with pytest.raises(ValueError, match="tied to a layer of another network"):
        Network([TiedDense(4, other)], (3,))
    with pytest.raises(TypeError, match="tied to a layer such as an Embedding, got 3"):
        TiedDense(4, 3)
