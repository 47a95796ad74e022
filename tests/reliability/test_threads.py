"""Two networks that train at once, in two threads, learn what each learns alone, bit for bit."""

import pickle
import threading
import zlib

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS
from tests.reliability.tally import attempt
from xpnn import LSTM, Adam, BatchNorm, Dense, Dropout, Network, ReLU, Trainer
from xpnn.backends import get_backend
from xpnn.errors import XpnnError
from xpnn.saving import TensorFile, save_torch_weights

X = np.random.default_rng(0).random((64, 6, 4), dtype=np.float32)
Y = np.arange(64) % 3


def dense(seed, spec):
    layers = [xpnn.Flatten(), Dense(32), BatchNorm(), ReLU(), Dropout(0.3), Dense(3)]
    return Network(layers, (6, 4), spec, seed=seed)


def recurrent(seed, spec):
    return Network([LSTM(8), Dense(3)], (6, 4), spec, seed=seed)


def trained(make, seed, spec, start=None):
    """The loss of each epoch, and all values after them."""
    network = make(seed, spec)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-2))
    if start is not None:
        start.wait()
    history = trainer.fit(X, Y, epochs=3, batch_size=16, validation=0.25, progress=False)
    return history["loss"], network.numpy_arrays(), trainer.predict(X)


def at_once(jobs):
    """What the jobs return, each run in a thread; the first error of any."""
    start, found = threading.Barrier(len(jobs)), [None] * len(jobs)

    def run(place, job):
        try:
            found[place] = job(start)
        except BaseException as error:
            start.abort()
            found[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "it hangs"
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def assert_same(found, wanted, backend):
    assert found[0] == wanted[0]
    for name, value in wanted[1].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)
    np.testing.assert_array_equal(backend.to_numpy(found[2]), backend.to_numpy(wanted[2]))


@pytest.mark.fault("two networks in two threads")
@pytest.mark.parametrize("makers", [(dense, dense), (dense, recurrent)], ids=["same", "different"])
def test_two_networks_at_once(backend, makers):
    """Of one form, with other weights: what is recorded or compiled for one is not the other's."""
    wanted = [trained(make, seed, backend.spec) for seed, make in enumerate(makers)]
    once = backend.name in ("jax", "array-api-strict")  # one compiles anew, the other is slow
    for _ in range(1 if once else 3):
        found = at_once(
            [
                lambda start, make=make, seed=seed: trained(make, seed, backend.spec, start)
                for seed, make in enumerate(makers)
            ]
        )
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other, backend)


@pytest.mark.fault("two networks in two threads")
@pytest.mark.by_what_is_installed
@pytest.mark.skipif(len(SPECS) < 2, reason="two backends are wanted")
def test_two_backends_at_once():
    specs = SPECS[:2]
    wanted = [trained(dense, 0, spec) for spec in specs]
    found = at_once([lambda start, spec=spec: trained(dense, 0, spec, start) for spec in specs])
    for spec, one, other in zip(specs, found, wanted, strict=True):
        assert_same(one, other, get_backend(spec))


@pytest.mark.fault("two networks in two threads")
def test_networks_are_built_at_once(backend):
    """Starting weights come from the seed and not from the order of drawing."""
    wanted = [dense(seed, backend.spec).numpy_arrays() for seed in range(4)]

    def build(start, seed):
        start.wait()
        return dense(seed, backend.spec).numpy_arrays()

    found = at_once([lambda start, seed=seed: build(start, seed) for seed in range(4)])
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value)


@pytest.mark.fault("two networks in two threads")
def test_a_network_predicts_in_two_threads(backend):
    """One network that nobody trains, as a server has it."""
    if backend.name != "numpy":
        pytest.skip("layers keep what they saw last: promised for nobody but looked at on NumPy")
    network = dense(0, backend.spec)
    wanted = np.array(network.predict(X))

    def predict(start):
        start.wait()
        return [np.array(network.predict(X)) for _ in range(20)]

    for found in at_once([predict, predict]):
        for one in found:
            np.testing.assert_array_equal(one, wanted)


# One network, trained in one thread and saved in another ------------------------------------------


class Waits(xpnn.Callback):
    """Waits at the end of the first epoch until it may go on, and saves the network there."""

    def __init__(self, path):
        self.path, self.there, self.goes_on = path, threading.Event(), threading.Event()

    def on_epoch_end(self, state, logs):
        state.network.save(self.path)
        self.there.set()
        assert self.goes_on.wait(60)


WRITERS = {
    "save": lambda trainer, path: trainer.network.save(path),
    "save_weights": lambda trainer, path: xpnn.save_weights(trainer.network, path),
    "save_torch_weights": lambda trainer, path: save_torch_weights(trainer.network, path),
    "trainer.save": lambda trainer, path: trainer.save(path),
    "pickle": lambda trainer, path: path.write_bytes(pickle.dumps(trainer.network)),
    "fit": lambda trainer, path: trainer.fit(X, Y, progress=False),
}


@pytest.mark.fault("one network in two threads")
def test_a_network_is_written_down_only_where_nobody_else_trains_it(backend, tmp_path):
    trainer = Trainer(recurrent(0, backend.spec), xpnn.cross_entropy, Adam(1e-2))
    waits = Waits(tmp_path / "inside")
    options = {"callbacks": [waits], "progress": False}
    thread = threading.Thread(target=trainer.fit, args=(X, Y), kwargs=options)
    thread.start()
    try:
        assert waits.there.wait(60)
        for name, write in WRITERS.items():
            with attempt(), pytest.raises(XpnnError, match="another thread trains this network"):
                write(trainer, tmp_path / name)
            assert not (tmp_path / name).exists()
    finally:
        waits.goes_on.set()
        thread.join()
    for name, write in WRITERS.items():
        write(trainer, tmp_path / name)
    xpnn.load(tmp_path / "inside")


def test_training_waits_for_what_is_being_written(tmp_path, monkeypatch):
    network = dense(0, "numpy")
    trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-2))
    before, steps, real = network.numpy_arrays(), [], xpnn.saving.model.write_tensors
    thread = threading.Thread(target=trainer.fit, args=(X, Y), kwargs={"progress": False})

    def slowly(*arguments):
        thread.start()
        thread.join(0.2)
        steps.append(trainer.steps)
        real(*arguments)

    monkeypatch.setattr("xpnn.saving.model.write_tensors", slowly)
    network.save(tmp_path / "net")
    thread.join()
    assert steps == [0]
    assert trainer.steps == 2
    for name, value in xpnn.load(tmp_path / "net").numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.fault("one network in two threads")
def test_the_checksum_is_that_of_what_was_written(tmp_path, monkeypatch):
    """Steps that are taken by hand, in another thread, may write into an array at any moment."""
    network = dense(0, "numpy")
    weight, real = network.params["1.dense.weight"], zlib.crc32

    def meanwhile(*arguments):
        found = real(*arguments)
        weight[...] += 1
        return found

    monkeypatch.setattr("zlib.crc32", meanwhile)
    network.save(tmp_path / "net")
    monkeypatch.undo()
    with TensorFile(tmp_path / "net") as file:
        file.check_sum()
