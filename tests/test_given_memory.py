"""Nothing given is read after the call has returned: its owner may fill the memory again."""

import numpy as np
import pytest

import xpnn
from tests.backends.test_dlpack import aligned
from tests.conftest import needs
from xpnn import Adam, Dense, Flatten, Layer, Network, ReLU, Trainer
from xpnn.backends import get_backend
from xpnn.guide import HiddenLayer, InputLayer

pytestmark = pytest.mark.fault("memory that its owner fills again")

X = np.random.default_rng(0).normal(size=(96, 64)).astype(np.float32)
Y = (np.arange(96) % 4).astype(np.int32)
SIZE = 32


def buffers():
    """Memory that every library could read as it lies."""
    return aligned(SIZE * 64).reshape(SIZE, 64), aligned(SIZE, np.int32)


def batches(refilled):
    """Three batches, in fresh memory or in the same."""
    x, y = buffers()
    for start in range(0, len(X), SIZE):
        if not refilled:
            x, y = buffers()
        x[:], y[:] = X[start : start + SIZE], Y[start : start + SIZE]
        yield x, y


def network(backend):
    return Network([Dense(256), ReLU(), Dense(4)], (64,), backend, seed=1)


def trainer(backend):
    return Trainer(network(backend), xpnn.cross_entropy, Adam(0.01))


def stepped(backend, refilled):
    one = trainer(backend)
    for x, y in batches(refilled):
        one.step(x, y)
    return one.network.numpy_arrays()


def stepped_with_tensors(backend, refilled):
    import torch

    one = trainer(backend)
    x, y = (torch.from_numpy(array) for array in buffers())
    for rows, labels in batches(refilled=False):
        if not refilled:
            x, y = torch.empty_like(x), torch.empty_like(y)
        x[:], y[:] = torch.from_numpy(rows), torch.from_numpy(labels)
        one.step(x, y)
    return one.network.numpy_arrays()


def fitted(backend, refilled):
    one = trainer(backend)
    one.fit(lambda: batches(refilled), progress=False)
    return one.network.numpy_arrays()


def passed_back(backend, refilled):
    one = network(backend)
    for x, _ in batches(refilled):
        outputs = one.forward(x, training=True)
        if refilled:
            x[:] = 7.0
        one.backward(outputs)
    return {name: backend.to_numpy(grad) for name, grad in one.grads.items()}


def predicted(backend, refilled, layers=()):
    one = network(backend) if not layers else Network(list(layers), (64,), backend)
    found = []
    for x, _ in batches(refilled):
        found.append(one.predict(x))
    return {str(k): np.array(backend.to_numpy(outputs)) for k, outputs in enumerate(found)}


def loaded(backend, refilled):
    one = Network([Dense(64)], (SIZE,), backend)
    x, _ = next(batches(refilled))
    one.load({"0.dense.weight": x, "0.dense.bias": x[0]})
    if refilled:
        x[:] = 7.0
    return one.numpy_arrays()


class GivenWeights(Layer):
    """One that hands out the same memory whenever it is asked for its starting weights."""

    weights = aligned(64)

    def init_params(self, input_shape, rng):
        return {"weight": self.weights}

    def forward(self, Z, training=False):  # noqa: N803
        return Z * self.params["weight"]


def started(backend, refilled):
    GivenWeights.weights[:] = 1.0
    one = Network([GivenWeights()], (64,), backend)
    if refilled:
        GivenWeights.weights[:] = 7.0
    return one.numpy_arrays()


def linked(backend, refilled):
    x, _ = next(batches(refilled))
    below = InputLayer(x, backend)
    layer = HiddenLayer(3, below)
    weights = np.ones((64, 3), np.float32)
    layer.weights = weights
    if refilled:
        x[:], weights[:] = 7.0, 7.0
    layer.feedforward()
    return {"z": backend.to_numpy(layer.z)}


ENTRANCES = {
    "step": stepped,
    "step with tensors": pytest.param(stepped_with_tensors, marks=needs("torch")),
    "fit": fitted,
    "forward and backward": passed_back,
    "predict": predicted,
    "predict by views alone": lambda *arguments: predicted(*arguments, [Flatten()]),
    "load": loaded,
    "starting weights": started,
    "the guide's layers": linked,
}


@pytest.mark.parametrize("run", ENTRANCES.values(), ids=ENTRANCES)
def test_memory_that_is_filled_again_changes_nothing(backend, run):
    if run is stepped_with_tensors and backend.name == "torch" and not backend.on_host:
        pytest.skip("its own tensors have to lie on its device")
    found, wanted = run(backend, True), run(backend, False)
    assert found.keys() == wanted.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, wanted[name])


@needs("jax")
@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=needs("torch"))])
def test_arrays_of_jax_never_change(library):
    x, _ = next(batches(refilled=True))
    given = get_backend(library).asarray(x)
    taken = network("jax").asarray(given)
    x[:] = 7.0
    np.testing.assert_array_equal(np.asarray(taken), X[:SIZE])
