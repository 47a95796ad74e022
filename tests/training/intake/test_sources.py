"""Where the data lie changes nothing: arrays, files, a full device and iterables train alike."""

import io
import sys
import tracemalloc

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS, needs
from xpnn import (
    LSTM,
    SGD,
    Accuracy,
    Adam,
    Dense,
    Embedding,
    Flatten,
    Network,
    ReLU,
    StopOnNaN,
    Trainer,
)
from xpnn.backends import get_backend
from xpnn.data.batches import Batches
from xpnn.errors import DataError, ShapeError, TrainingStopped
from xpnn.training.callbacks.shipped import Callback

X, Y = (array[:150] for array in xpnn.datasets.digits())
WEIGHT = np.linspace(0.5, 1.5, len(X))
SETTINGS = {"epochs": 2, "batch_size": 32, "progress": False}


def make_trainer(backend, **settings):
    network = Network([Dense(12), ReLU(), Dense(10)], (64,), backend, seed=2)
    return Trainer(network, xpnn.cross_entropy, Adam(1e-2), metrics=[Accuracy()], **settings)


def results(backend, x, y=None, **settings):
    """The history and the weights after training."""
    trainer = make_trainer(backend)
    history = trainer.fit(x, y, **(SETTINGS | settings))
    return history.epochs, trainer.network.numpy_arrays()


def assert_same(one, two):
    assert one[0] == two[0]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, two[1][name])


@pytest.fixture
def full(backend, monkeypatch):
    """A backend whose device has no memory left."""
    monkeypatch.setattr(type(backend), "has_room_for", lambda self, nbytes: nbytes == 0)
    return backend


class Kept(Callback):
    """The batches of an epoch, on the host, and where they came from."""

    def on_step_end(self, trainer, step):
        self.batches = trainer.batches


# Arrays -------------------------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # how batches come is the same; streams and its own arrays tell
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("validation", [None, 0.2, (X[:20], Y[:20], WEIGHT[:20])])
def test_a_full_device_trains_as_an_empty_one(backend, monkeypatch, validation, shuffle):
    settings = {"validation": validation, "shuffle": shuffle, "sample_weight": WEIGHT}
    wanted = results(backend, X, Y, **settings)
    monkeypatch.setattr(type(backend), "has_room_for", lambda self, nbytes: False)
    assert_same(results(backend, X, Y, **settings), wanted)


def test_what_does_not_fit_stays_on_the_host(full):
    kept = Kept()
    make_trainer(full).fit(X, Y, callbacks=[kept], **SETTINGS)
    x, y, _ = kept.batches.arrays
    assert x is X
    assert y is Y
    assert all(map(full.owns, kept.batches[0][:2]))


def test_an_array_of_the_backend_is_not_copied(backend):
    x, y = backend.asarray(X, "float32"), backend.asarray(Y.astype(np.int32))
    for validation in (None, 0.2):
        kept = Kept()
        make_trainer(backend).fit(x, y, validation=validation, callbacks=[kept], **SETTINGS)
        assert kept.batches.arrays[0] is x
        assert kept.batches.arrays[1] is y


def test_arrays_of_the_backend_never_ask_for_room(full):
    kept = Kept()
    x, y = full.asarray(X, "float32"), full.asarray(Y.astype(np.int32))
    make_trainer(full).fit(x, y, callbacks=[kept], **SETTINGS)
    assert kept.batches.staging is None


@pytest.mark.parametrize(("dtype", "more"), [("float32", 0), ("float64", 4), ("uint8", 4)])
def test_what_is_asked_for_is_room_for_all_arrays_as_they_come_and_converted(
    monkeypatch, dtype, more
):
    backend, asked = get_backend("array-api-strict:device1"), []
    monkeypatch.setattr(
        type(backend), "has_room_for", lambda self, nbytes: asked.append(nbytes) or True
    )
    x, y = (X[:32] * 16).astype(dtype), Y[:32].astype(np.int64)
    make_trainer(backend).fit(x, y, progress=False, validation=(x, y), sample_weight=None)
    targets = y.nbytes + 4 * y.size  # class numbers may become others, of the network's width
    assert asked == [2 * (x.nbytes + more * x.size + targets)]
    asked.clear()
    owned = backend.asarray(x, "float32"), backend.asarray(y, "int32")
    make_trainer(backend).fit(*owned, progress=False)
    assert asked == [0]


@needs("cupy")
@pytest.mark.gpu_only
def test_half_of_the_free_memory_is_for_data():
    import cupy

    backend = get_backend("cupy")
    backend.free_memory()
    free, _ = cupy.cuda.runtime.memGetInfo()
    assert backend.has_room_for(free // 2 - (1 << 20))
    assert not backend.has_room_for(free // 2 + (1 << 20))


# Memory maps --------------------------------------------------------------------------------------

STORED = {
    "as trained": (X.astype(np.float32), Y.astype(np.int32)),
    "bytes": ((16 * X).astype(np.uint8), Y.astype(np.uint8)),
    "doubles": (X.astype(np.float64), Y),
    "big-endian": (X.astype(">f8"), Y.astype(">i4")),
}


def mapped(folder, *arrays):
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    return [np.load(folder / f"{k}.npy", mmap_mode="r") for k in range(len(arrays))]


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("settings", [{}, {"shuffle": False}, {"validation": 0.2}], ids=str)
@pytest.mark.parametrize("kind", STORED)
def test_a_memory_map_trains_as_the_array_in_it(backend, tmp_path, kind, settings):
    wanted = results(backend, *STORED[kind], **settings)
    assert_same(results(backend, *mapped(tmp_path, *STORED[kind]), **settings), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", ">f4"])
def test_a_memory_map_is_never_in_memory_as_a_whole(tmp_path, dtype):
    rows = 1 << 18  # 67 MB of float32; even the booleans of a check would be 17 MB
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", dtype, (rows, 64))
    x[:100] = 16 * X[:100]
    x, y = np.load(tmp_path / "x.npy", mmap_mode="r"), np.zeros((rows, 1), np.float32)
    network = Network([Dense(1)], (64,))
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(1e-6))
    tracemalloc.start()
    try:
        trainer.fit(x, y, batch_size=4096, progress=False, validation=0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 14e6, peak


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on an overflow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bad_numbers_in_a_memory_map_are_found(backend, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("xpnn.training.stepping.checks.BLOCK", 1000)  # many blocks
    x = X.astype(dtype)
    x[149, 63] = np.nan
    x[3, 1] = 1e30 if dtype == "float32" else 1e300  # which float32 does not hold
    count = 1 if dtype == "float32" else 2
    with pytest.raises(DataError, match=f"but {count} of 9600 in x are NaN or infinite"):
        make_trainer(backend).fit(*mapped(tmp_path, x, Y))


def test_ids_and_labels_in_a_memory_map_are_checked(full, tmp_path):
    ids = (np.arange(60).reshape(20, 3) % 7).astype(np.int16)
    network = Network([Embedding(7, 2), Flatten(), Dense(3)], (3,), full)
    trainer = Trainer(network, xpnn.cross_entropy, Adam())
    y = (np.arange(20) % 3).astype(np.int8)
    trainer.fit(*mapped(tmp_path, ids, y), progress=False)
    bad = ids.copy()
    bad[19, 2] = 7
    with pytest.raises(DataError, match=r"wanted ids from 0 to 6, .* got ids from 0 to 7"):
        trainer.fit(*mapped(tmp_path, bad, y))
    with pytest.raises(DataError, match=r"wanted class numbers from 0 to 2, .* from 0 to 3"):
        trainer.fit(*mapped(tmp_path, ids, np.where(y == 2, 3, y)))
    with pytest.raises(DataError, match=r"wanted integers, such as the ids .* got float64"):
        trainer.fit(*mapped(tmp_path, ids.astype(float), y))
    with pytest.raises(ShapeError, match=r"wanted inputs of shape \(batch, 3\), got \(20, 2\)"):
        trainer.fit(*mapped(tmp_path, ids[:, :2], y))
    weight = np.where(y == 2, -1.0, 1.0)
    with pytest.raises(DataError, match="sample_weight of at least 0"):
        trainer.fit(*mapped(tmp_path, ids, y), sample_weight=weight)


# Iterables ----------------------------------------------------------------------------------------


def cut(x=X, y=Y, size=32, weight=None):
    rest = () if weight is None else (weight,)
    return [tuple(array[k : k + size] for array in (x, y, *rest)) for k in range(0, len(x), size)]


ITERABLES = {
    "list": lambda batches: batches,
    "lists in it": lambda batches: [list(batch) for batch in batches],
    "function": lambda batches: lambda: iter(batches),
    "doubles": lambda batches: [(x.astype(float), y.astype(np.uint8), *w) for x, y, *w in batches],
    "nested lists": lambda batches: [tuple(one.tolist() for one in batch) for batch in batches],
}


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ITERABLES)
def test_an_iterable_trains_as_its_arrays_in_order(backend, kind, weight):
    validation = (X[:30], Y[:30])
    wanted = results(backend, X, Y, shuffle=False, sample_weight=weight, validation=validation)
    source = ITERABLES[kind](cut(weight=weight))
    assert_same(results(backend, source, batch_size=None, validation=validation), wanted)


def test_an_iterable_of_the_devices_own_arrays(backend):
    own = [(backend.asarray(x), backend.asarray(y)) for x, y in cut()]
    wanted = results(backend, X, Y, shuffle=False)
    assert_same(results(backend, own, batch_size=None), wanted)


@pytest.mark.by_what_is_installed
def test_an_iterable_of_other_libraries_arrays(backend):
    wanted = results(backend, X, Y, shuffle=False)
    for spec in SPECS:
        other = get_backend(spec)
        batches = [(other.asarray(x), other.asarray(y.astype(np.int32))) for x, y in cut()]
        assert_same(results(backend, batches, batch_size=None), wanted)


@needs("torch")
def test_a_data_loader(backend):
    import torch

    samples = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(samples, batch_size=32)
    wanted = results(backend, X, Y, shuffle=False)
    assert_same(results(backend, loader, batch_size=None), wanted)


def test_an_iterator_serves_one_epoch(backend):
    wanted = results(backend, X, Y, shuffle=False, epochs=1)
    assert_same(results(backend, iter(cut()), batch_size=None, epochs=1), wanted)
    trainer, source = make_trainer(backend), iter(cut())
    with pytest.raises(DataError, match="wanted batches for 2 epochs, got a list_iterator, which"):
        trainer.fit(source, epochs=2)
    assert trainer.steps == 0
    assert len(list(source)) == 5  # nothing was taken


NAN = np.where(np.arange(64) == 5, np.nan, X[:32])
BAD = {
    "features": ((X[:32, :60], Y[:32]), ShapeError, r"inputs of shape \(batch, 64\), got \(32, 60"),
    "one sample": ((X[0], Y[:1]), ShapeError, r"a single sample; let the iterable give several"),
    "lengths": ((X[:32], Y[:31]), ShapeError, "x has 32, y has 31"),
    "a label alone": ((X[:1], np.int64(3)), ShapeError, "wanted y to have one row for each sample"),
    "nothing in it": ((X[:0], Y[:0]), DataError, "wanted at least one sample, got none"),
    "NaN": ((NAN, Y[:32]), DataError, "but 32 of 2048 in x are NaN or infinite"),
    "labels": ((X[:32], Y[:32] + 1), DataError, "wanted class numbers from 0 to 9"),
    "float labels": ((X[:32], Y[:32] + 0.5), DataError, "class numbers of an integer dtype"),
    "weights": ((X[:32], Y[:32], -WEIGHT[:32]), DataError, "sample_weight of at least 0"),
    "one array": (X[:32], DataError, "or a dict of such, got a ndarray"),
    "four parts": ((X, Y, WEIGHT, Y), DataError, "got a tuple of 4; make each batch such a tuple"),
    "no targets": ((X, None), DataError, "wanted inputs x and targets y, got None for one"),
    "strings": ((X[:1], ["a"]), DataError, "wanted numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_batch_is_named(backend, kind):
    batch, error, message = BAD[kind]
    first = cut(weight=WEIGHT if len(batch) == 3 else None)[:2]
    trainer = make_trainer(backend)
    with pytest.raises(error, match=f"batch 3: .*{message}"):
        trainer.fit([*first, batch], progress=False)
    assert trainer.epoch == 0


OWN = [kind for kind in BAD if kind in ("features", "lengths", "float labels", "nothing in it")]


@pytest.mark.parametrize("kind", OWN)
def test_shapes_and_dtypes_on_the_device_are_looked_at_too(backend, kind):
    batch, error, message = BAD[kind]
    own = tuple(map(backend.asarray, batch))
    with pytest.raises(error, match=f"batch 1: .*{message}"):
        make_trainer(backend).fit([own], progress=False)


@pytest.mark.parametrize("setting", ["batch_size", "shuffle", "sample_weight", "validation"])
def test_what_goes_with_arrays_is_refused_beside_an_iterable(setting):
    value = {"batch_size": 8, "shuffle": False, "sample_weight": 1.0, "validation": 0.2}[setting]
    trainer = make_trainer("numpy")
    with pytest.raises(ValueError, match=f"wanted .*{setting}.* beside an iterable of batches"):
        trainer.fit(cut(), **{setting: value})
    assert trainer.steps == 0


def test_an_empty_iterable_is_an_error(backend):
    with pytest.raises(DataError, match="wanted at least one batch in each epoch, got none"):
        make_trainer(backend).fit([], progress=False)


def test_layers_that_want_batches_of_one_size_say_which_batch_is_not():
    network = Network([LSTM(3, stateful=4), Dense(1)], (5, 2), "numpy")
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(0.1))
    x, y = np.zeros((8, 5, 2), np.float32), np.zeros((8, 1), np.float32)
    with pytest.raises(ShapeError, match=r"batch 2: .* got a batch of 3; make all batches"):
        trainer.fit([(x[:4], y[:4]), (x[:3], y[:3])], progress=False)


@pytest.mark.parametrize("known", [False, True])
def test_the_bar_and_the_log_points_do_without_a_length(monkeypatch, known):
    class Logged(Callback):
        def __init__(self):
            self.points, self.steps = [], []

        def on_epoch_begin(self, trainer, steps):
            self.steps.append(steps)

        def on_log(self, trainer, step, logs):
            self.points.append(step)

    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    batches, logged = cut()[:4], Logged()
    trainer = make_trainer("numpy", log_every=2, callbacks=[logged])
    trainer.fit(batches if known else lambda: iter(batches), epochs=2)
    assert logged.points == [2, 4] * 2
    assert logged.steps == [4 if known else None] * 2
    shown = terminal.getvalue()
    assert (" 0/4 " if known else " 0step ") in shown
    assert shown.count(": 4 steps in ") == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on an overflow
def test_stop_on_nan_goes_back_to_the_last_log_point(backend):
    trainer = make_trainer(backend, log_every=2, callbacks=[StopOnNaN()])
    before = results(backend, cut()[:2], batch_size=None, epochs=1)[1]
    huge = (np.full((32, 64), 3e38, np.float32), Y[:32])
    with pytest.raises(TrainingStopped, match="between the steps 3 and 4; batches of an iterable"):
        trainer.fit([*cut()[:2], huge, *cut()[:1], *cut()], progress=False)
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on an overflow
def test_stop_on_nan_repeats_batches_from_the_host(full):
    x = X.copy()
    x[100] = 3e38
    trainer = make_trainer(full, callbacks=[StopOnNaN()])
    with pytest.raises(TrainingStopped, match=r"in epoch 1, step 4: .* is NaN or infinite"):
        trainer.fit(x, Y, shuffle=False, progress=False)
    assert isinstance(trainer.state.batches, Batches)
