"""Where memory ends, it is said in words, whatever was being done; and nothing was changed."""

import math

import numpy as np
import pytest

import xpnn
from tests.reliability.conduct import everything
from tests.reliability.tally import attempt
from xpnn import Adam, Dense, Network, Trainer
from xpnn.data import NpzShards, datasets
from xpnn.errors import OutOfMemory
from xpnn.layers import Layer
from xpnn.saving import load_torch_weights, save_torch_weights

pytestmark = pytest.mark.host_only

X, Y = np.random.default_rng(0).random((64, 128), np.float32), np.arange(64) % 3


class Hungry(Layer):
    """Runs out of memory where ``full`` is set."""

    full = False

    def forward(self, Z, training=False):  # noqa: N803
        return no_room() if Hungry.full else Z

    def backward(self, delta):
        return delta


def trainer():
    return Trainer(Network([Dense(64), Hungry(), Dense(3)], (128,)), xpnn.cross_entropy, Adam(0.1))


def plain():
    return Network([Dense(64), Dense(3)], (128,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each kind."""
    path, one = tmp_path_factory.mktemp("files"), trainer()
    one.save(path / "checkpoint")
    plain().save(path / "model")
    xpnn.save_weights(one.network, path / "weights")
    save_torch_weights(one.network, path / "torch")
    np.savez(path / "shard.npz", x=X, y=Y)
    (path / "idx").write_bytes(bytes((0, 0, 8, 1)) + (5000).to_bytes(4, "big") + bytes(5000))
    return path


def no_room(*_, **__):
    raise MemoryError("Unable to allocate 3.00 TiB for an array")


def in_arrays(patch):
    empty = np.empty

    def scarce(shape, *arguments, **options):
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        return no_room() if size > 1000 else empty(shape, *arguments, **options)

    patch.setattr(np, "empty", scarce)


def in_bytes(patch):
    patch.setattr(datasets, "_read_at_most", no_room)


def in_layers(patch):
    patch.setattr(Hungry, "full", True)


def in_copies(patch):
    patch.setattr(type(plain().backend), "to_numpy", no_room)


def in_host_copies(patch):
    patch.setattr("xpnn.training.checkpointing.contents.host_copies", no_room)


def in_data(patch):
    patch.setattr(type(plain().backend), "asarray", no_room)


def predicts(one, path):
    one.predict(X)


CALLS = {
    "xpnn.load": (in_arrays, lambda one, path: xpnn.load(path / "model")),
    "load_weights": (in_arrays, lambda one, path: xpnn.load_weights(one.network, path / "weights")),
    "load_weights, to a device": (
        in_data,
        lambda one, path: xpnn.load_weights(one.network, path / "weights"),
    ),
    "trainer.load": (in_arrays, lambda one, path: one.load(path / "checkpoint")),
    "trainer.load, to a device": (in_data, lambda one, path: one.load(path / "checkpoint")),
    "load_torch_weights": (
        in_arrays,
        lambda one, path: load_torch_weights(one.network, path / "torch"),
    ),
    "read_idx": (in_bytes, lambda one, path: datasets.read_idx(path / "idx")),
    "NpzShards": (in_arrays, lambda one, path: next(iter(NpzShards(path / "shard.npz")))),
    "predict": (in_layers, predicts),
    "predict, the data": (in_data, predicts),
    "forward": (in_layers, lambda one, path: one.network.forward(X)),
    "evaluate": (in_layers, lambda one, path: one.evaluate(X, Y)),
    "evaluate, the data": (in_data, lambda one, path: one.evaluate(X, Y)),
    "fit": (in_layers, lambda one, path: one.fit(X, Y, batch_size=64, progress=False)),
    "fit, the data": (in_data, lambda one, path: one.fit(X, Y, batch_size=64, progress=False)),
    "step": (in_layers, lambda one, path: one.step(X, Y)),
    "network.save": (in_copies, lambda one, path: plain().save(path / "more")),
    "save_weights": (in_copies, lambda one, path: xpnn.save_weights(one.network, path / "more")),
    "save_torch_weights": (
        in_copies,
        lambda one, path: save_torch_weights(one.network, path / "more"),
    ),
    "trainer.save": (in_host_copies, lambda one, path: one.save(path / "more")),
}


@pytest.mark.fault("memory that ends")
@pytest.mark.parametrize("name", CALLS)
def test_the_end_of_memory_is_said_in_words(name, folder, monkeypatch):
    ends, call = CALLS[name]
    one = trainer()
    one.fit(X, Y, progress=False)
    before = everything(one)
    with attempt(), monkeypatch.context() as patch:
        ends(patch)
        with pytest.raises(OutOfMemory) as caught:
            call(one, folder)
    assert "; " in str(caught.value), "it says what to do"
    assert isinstance(caught.value.__cause__, MemoryError)
    assert everything(one) == before
    assert not (folder / "more").exists()


def test_another_error_stays_what_it_is():
    backend = plain().backend
    with pytest.raises(ZeroDivisionError), backend.room_for("this", "do that"):
        raise ZeroDivisionError
    known = OutOfMemory("said already")
    with pytest.raises(OutOfMemory) as caught, backend.room_for("this", "do that"):
        raise known
    assert caught.value is known
