"""Training from files and threads: the same as in memory, and nothing stays behind."""

import threading

import numpy as np
import pytest

import xpnn
from xpnn import Accuracy, Adam, Dense, EarlyStopping, Network, ReLU, Trainer
from xpnn.data import CsvShards, NpzShards, ParquetShards, Prefetch
from xpnn.errors import DataError, FileError
from xpnn.training.callbacks.shipped import Callback

X, Y = (array[:150] for array in xpnn.datasets.digits())
BYTES = (16 * X).astype(np.uint8)


@pytest.fixture(autouse=True)
def _no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def files(tmp_path):
    """The samples in five files."""
    for k in range(0, 150, 30):
        rows = slice(k, k + 30)
        np.savez(tmp_path / f"{k:03}.npz", x=BYTES[rows], y=Y[rows].astype(np.uint8))
    return tmp_path / "*.npz"


def make_trainer(backend, **settings):
    network = Network([Dense(12), ReLU(), Dense(10)], (64,), backend, seed=2)
    return Trainer(network, xpnn.cross_entropy, Adam(1e-2), metrics=[Accuracy()], **settings)


def results(backend, *data, epochs=2, **settings):
    """The history and the weights after training."""
    trainer = make_trainer(backend)
    history = trainer.fit(*data, epochs=epochs, progress=False, **settings)
    return history.epochs, trainer.network.numpy_arrays()


def assert_same(one, two):
    assert one[0] == two[0]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, two[1][name])


def test_shards_in_order_train_as_their_arrays(backend, files):
    wanted = results(backend, BYTES.astype(np.float32), Y, shuffle=False, batch_size=32)
    assert_same(results(backend, NpzShards(files, batch_size=32)), wanted)
    assert_same(results(backend, Prefetch(NpzShards(files, batch_size=32))), wanted)


def in_memory(shards, epochs):
    """A function that returns what shards have in each epoch, one call after another."""
    kept = iter([list(shards.batches(epoch)) for epoch in range(epochs)])
    return lambda: iter(next(kept))


def test_fit_tells_shards_which_epoch_it_is(backend, files):
    shards = NpzShards(files, batch_size=32, window=50)
    wanted = results(backend, in_memory(shards, 3), epochs=3)
    assert_same(results(backend, shards, epochs=3), wanted)
    assert_same(results(backend, Prefetch(shards), epochs=3), wanted)
    trainer, losses = make_trainer(backend), []
    for _ in range(3):  # a second fit goes on with the next epoch
        losses += trainer.fit(shards, progress=False)["loss"]
    assert losses == [epoch["loss"] for epoch in wanted[0]]


@pytest.mark.parametrize("kind", [CsvShards, ParquetShards])
def test_tables_train_as_their_arrays(backend, tmp_path, kind):
    pa = pytest.importorskip("pyarrow", reason="tables are read by pyarrow")
    from pyarrow import csv, parquet

    names = [f"pixel{k}" for k in range(64)]
    words = [f"digit {k}" for k in range(10)]
    table = pa.table({**dict(zip(names, BYTES.T, strict=True)), "y": [words[k] for k in Y]})
    path = tmp_path / "digits"
    (csv.write_csv if kind is CsvShards else parquet.write_table)(table, path)
    shards = kind(path, x=names, y="y", classes=words, batch_size=32)
    wanted = results(backend, BYTES.astype(np.float32), Y, shuffle=False, batch_size=32)
    assert_same(results(backend, shards), wanted)
    assert_same(results(backend, Prefetch(shards)), wanted)


@pytest.mark.slow_to_compile  # rows are read on the host
def test_validation_and_evaluation_with_shards(backend, files):
    shards = NpzShards(files, batch_size=40)
    x = BYTES.astype(np.float32)
    arrays, both = results(backend, x, Y, validation=(x, Y)), make_trainer(backend)
    for source in (shards, Prefetch(shards), lambda: iter(shards)):
        streamed = results(backend, x, Y, validation=source)
        assert [e["val_accuracy"] for e in streamed[0]] == [e["val_accuracy"] for e in arrays[0]]
        np.testing.assert_allclose(
            [e["val_loss"] for e in streamed[0]], [e["val_loss"] for e in arrays[0]], rtol=1e-5
        )
        history = both.fit(shards, validation=source, progress=False)
        found, wanted = both.evaluate(source), both.evaluate(x, Y)
        assert found == pytest.approx(wanted, rel=1e-5)
        assert history["val_loss"][0] == pytest.approx(wanted["loss"], rel=1e-5)


def test_what_does_not_go_with_batches_is_refused(files):
    trainer, shards = make_trainer("numpy"), NpzShards(files)
    for name, value in {"batch_size": 3, "sample_weight": np.ones(150)}.items():
        with pytest.raises(ValueError, match=f"wanted no {name} beside an iterable of batches"):
            trainer.evaluate(shards, **{name: value})
    with pytest.raises(DataError, match="wanted batches for 2 epochs, got a generator"):
        trainer.fit(X, Y, validation=(batch for batch in shards), epochs=2)
    for once in (Prefetch(iter([(X, Y)])), Prefetch(Prefetch(batch for batch in shards))):
        with pytest.raises(DataError, match=r"wanted batches for 2 epochs, got a \w*(tor|ter)"):
            trainer.fit(once, epochs=2)
        trainer.fit(once, progress=False)  # but one epoch it serves
    with pytest.raises(ValueError, match=r"wanted validation=\(x, y\), or batches, beside an iter"):
        trainer.fit(shards, validation=0.2)
    with pytest.raises(TypeError, match="wanted an iterable of batches"):
        trainer.fit(X, Y, validation="abc")
    with pytest.raises(DataError, match="validation batch 1: wanted class numbers from 0 to 9"):
        trainer.fit(X, Y, validation=lambda: iter([(X, Y + 5)]), progress=False)


class EndsAt(Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, trainer, step):
        if trainer.steps == self.step:
            self.act(trainer)


def interrupt(trainer):
    raise KeyboardInterrupt


@pytest.mark.slow_to_compile  # rows are read on the host
@pytest.mark.parametrize(
    ("step", "ahead", "window"), [(1, False, None), (7, False, 50), (7, True, 50), (10, True, None)]
)
def test_training_from_files_is_resumed_where_it_was(backend, files, tmp_path, step, ahead, window):
    def source():
        shards = NpzShards(files, batch_size=32, window=window)
        return Prefetch(shards) if ahead else shards

    wanted = results(backend, source(), epochs=3)
    path = tmp_path / "checkpoint"

    def save_and_end(state):
        trainer.save(path)
        raise InterruptedError

    trainer = make_trainer(backend, callbacks=[EndsAt(step, save_and_end)])
    with pytest.raises(InterruptedError):
        trainer.fit(source(), epochs=3, progress=False)
    again = make_trainer(backend, callbacks=[EndsAt(None, None)])
    history = again.fit(source(), epochs=3, progress=False, resume=path)
    assert again.steps == 15
    assert history.epochs[-1] == wanted[0][-1]
    for name, array in again.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, wanted[1][name])


@pytest.mark.parametrize("act", ["error", "interrupt", "stop"])
def test_the_thread_ends_however_training_ends(files, act):
    def stop(trainer):
        trainer.stop("enough")

    def error(trainer):
        raise RuntimeError("a callback went wrong")

    ends = EndsAt(2, {"error": error, "interrupt": interrupt, "stop": stop}[act])
    trainer = make_trainer("numpy", callbacks=[ends])
    caught = None
    try:
        trainer.fit(Prefetch(NpzShards(files, batch_size=4)), progress=False, epochs=3)
    except (RuntimeError, KeyboardInterrupt) as raised:
        caught = raised  # whose traceback keeps the frames of fit
    assert not any(one.name == "xpnn-prefetch" for one in threading.enumerate())
    assert (caught is None) == (act == "stop")


@pytest.mark.parametrize("where", ["fit", "evaluate"])
def test_the_thread_ends_when_measuring_fails(files, where, monkeypatch):
    trainer, shards = make_trainer("numpy"), Prefetch(NpzShards(files, batch_size=4))

    def fail(*args):
        raise RuntimeError("no measure")

    monkeypatch.setattr(trainer, "_eval_step", fail)
    measure = {
        "fit": lambda: trainer.fit(X, Y, validation=shards, progress=False),
        "evaluate": lambda: trainer.evaluate(shards),
    }
    with pytest.raises(RuntimeError, match="no measure") as caught:
        measure[where]()
    assert not any(one.name == "xpnn-prefetch" for one in threading.enumerate())
    del caught


def test_the_thread_ends_with_early_stopping_and_a_bad_batch(files):
    trainer = make_trainer("numpy")
    shards = Prefetch(NpzShards(files))
    trainer.fit(
        shards,
        validation=shards,
        epochs=4,
        progress=False,
        callbacks=[EarlyStopping(patience=1)],
    )
    bad = Prefetch(lambda: iter([(X[:8], Y[:8]), (X[:8, :3], Y[:8]), (X, Y), (X, Y), (X, Y)]))
    with pytest.raises(ValueError, match=r"batch 2: wanted inputs of shape") as caught:
        trainer.fit(bad, progress=False)
    assert not any(one.name == "xpnn-prefetch" for one in threading.enumerate())
    del caught


def test_a_damaged_file_costs_only_the_batches_from_it_on(backend, files):
    path = files.parent / "060.npz"
    path.write_bytes(path.read_bytes()[:-30])
    for wrap in (lambda one: one, Prefetch):
        trainer = make_trainer(backend)
        with pytest.raises(FileError, match=r"060\.npz cannot be read"):
            trainer.fit(wrap(NpzShards(files, batch_size=20)), progress=False)
        assert trainer.steps == 0  # the number of steps is asked for before the first one

        class Unknown(NpzShards):
            def rows(self, shard):
                return None

        with pytest.raises(FileError, match=r"060\.npz cannot be read"):
            trainer.fit(wrap(Unknown(files, batch_size=20)), progress=False)
        assert trainer.steps == 3
        before = make_trainer(backend)
        before.fit([(BYTES[k : k + 20], Y[k : k + 20]) for k in (0, 20, 40)], progress=False)
        for name, array in trainer.network.numpy_arrays().items():
            np.testing.assert_array_equal(array, before.network.numpy_arrays()[name])


@pytest.mark.parametrize("dtype", ["float32", "uint8", ">f8"])
def test_predict_reads_a_memory_map_in_batches(backend, tmp_path, monkeypatch, dtype):
    np.save(tmp_path / "x.npy", BYTES.astype(dtype))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    trainer = make_trainer(backend)
    wanted = backend.to_numpy(trainer.predict(BYTES.astype(dtype), batch_size=40))
    seen, plain = [], Network.admit
    monkeypatch.setattr(Network, "admit", lambda self, x: seen.append(len(x)) or plain(self, x))
    found = backend.to_numpy(trainer.predict(mapped, batch_size=40))
    np.testing.assert_array_equal(found, wanted)
    assert seen == [40, 40, 40, 30]
    with pytest.raises(ValueError, match=r"wanted inputs of shape \(batch, 64\)"):
        trainer.predict(mapped[:, :3])
    assert tuple(trainer.predict(mapped[:0]).shape) == (0, *wanted.shape[1:])
