"""The Checkpoint callback and its files: what is in them, which of them stay, what can go wrong."""

import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from tests.training.test_sync import CountingBackend
from xpnn import (
    SGD,
    Adam,
    Callback,
    Checkpoint,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    History,
    Network,
    ReLU,
    Trainer,
)
from xpnn.backends import get_backend
from xpnn.errors import FileError
from xpnn.saving import tensor_file, tensors
from xpnn.saving.tensor_file import TensorFile
from xpnn.training.checkpointing.contents import contents_of, read_contents, write_contents
from xpnn.training.checkpointing.resuming import numbered
from xpnn.training.running_mean import RunningMean

WRITE = "xpnn.training.checkpointing.contents.write_tensors"


def data(count=96):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


def make_trainer(backend="numpy", dtype="float32"):
    layers = [Dense(16), ReLU(), Dropout(0.2), Dense(10)]
    return Trainer(
        Network(layers, (64,), backend, seed=1, dtype=dtype), xpnn.cross_entropy, Adam(1e-2)
    )


def fit(trainer, *callbacks, **settings):
    settings = {"epochs": 3, "batch_size": 16, "progress": False} | settings
    return trainer.fit(*data(), callbacks=callbacks, **settings)


def where_it_stands(trainer):
    state = trainer.state
    return {
        **{name: getattr(state, name) for name in ("epoch", "steps", "epoch_steps", "in_fit")},
        "stop_reason": state.stop_reason,
        "objects": (id(state.opt_state), id(state.losses), id(state.batches), id(state.callbacks)),
    }


def assert_stands_as_before(trainer, stood):
    assert where_it_stands(trainer) == stood


def names(folder):
    return [int(path.stem[-9:]) for path in numbered(folder)]


class Scripted(Callback):
    """Replaces the validation loss by a given series."""

    def __init__(self, values):
        self.values = iter(values)

    def on_epoch_end(self, trainer, logs):
        logs["val_loss"] = next(self.values)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [6, 12, 18]),
        ({"keep": 2}, [12, 18]),
        ({"every_steps": 4, "keep": None}, [4, 6, 8, 12, 16, 18]),
        ({"every_steps": 5, "every_epochs": None, "keep": 4}, [5, 10, 15, 18]),
        ({"every_epochs": 2}, [12, 18]),
        ({"every_epochs": None, "keep": 1}, [18]),
    ],
)
def test_the_newest_ones_stay(tmp_path, settings, expected, background):
    fit(make_trainer(), Checkpoint(tmp_path, background=background, **settings))
    assert names(tmp_path) == expected
    assert [path for path in tmp_path.iterdir() if path not in numbered(tmp_path)] == []


def test_the_best_one_stays_besides(tmp_path):
    script, checkpoint = Scripted([0.5, 0.3, 0.4, 0.6]), Checkpoint(tmp_path, keep=1, best="loss")
    checkpoint.monitor = "val_loss"
    fit(make_trainer(), script, checkpoint, epochs=4)
    assert names(tmp_path) == [24]
    assert read_contents(checkpoint.best_path)["trainer"] == {"epoch": 2, "steps": 12}
    again = make_trainer()
    history = fit(again, Scripted([0.4, 0.6]), epochs=4, resume=checkpoint.best_path)
    assert history["val_loss"] == [0.5, 0.3, 0.4, 0.6]


def test_the_best_one_is_there_if_writing_ends_behind_any_file(tmp_path, monkeypatch):
    """A newest checkpoint that knows of a best one is never without the file of that one."""
    for dies_at in range(1, 9):
        folder, written = tmp_path / str(dies_at), []

        def write(path, contents, dies_at=dies_at, written=written):
            if len(written) == dies_at:
                raise InterruptedError
            written.append(path)
            write_contents(path, contents)

        monkeypatch.setattr("xpnn.training.checkpointing.checkpoint.write_contents", write)
        checkpoint = Checkpoint(folder, best="val_loss")
        with contextlib.suppress(InterruptedError):
            fit(make_trainer(), Scripted([0.5, 0.3, 0.4, 0.2, 0.6]), checkpoint, epochs=5)
        if numbered(folder):
            newest, best = (
                next(
                    one["state"]["best"]
                    for one in read_contents(path)["callbacks"]
                    if one["kind"] == "Checkpoint"
                )
                for path in (numbered(folder)[-1], checkpoint.best_path)
            )
            assert best <= newest


@pytest.mark.fault("Ctrl-C in training")
def test_the_best_one_alone_is_not_the_newest_for_an_interrupt(tmp_path):
    """Where only the best file was written, Ctrl-C still saves where the run stands."""

    class Press(Callback):
        def on_epoch_end(self, trainer, logs):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(make_trainer(), Press(), Checkpoint(tmp_path, every_epochs=None, best="loss"))
    assert names(tmp_path) == [6]
    assert fit(make_trainer(), resume=tmp_path).epochs == fit(make_trainer()).epochs


def test_a_best_that_is_not_measured_says_what_is(tmp_path):
    with pytest.raises(ValueError, match=r"Checkpoint watches 'val_loss', which is not measured"):
        fit(make_trainer(), Checkpoint(tmp_path, best="val_loss"))


@pytest.mark.parametrize("setting", ["every_steps", "every_epochs", "keep"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_counts_are_at_least_one(setting, value):
    said = (
        r"needs \w+ of at least 1, or None, got|Checkpoint wants \w+ to be an integer or None, got"
    )
    with pytest.raises((TypeError, ValueError), match=f"({said}) {value}") as caught:
        Checkpoint("runs", **{setting: value})
    assert setting in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("best", 3), ("background", 1), ("higher_is_better", "yes")]
)
def test_settings_are_of_their_types(setting, value):
    with pytest.raises(TypeError, match=f"Checkpoint wants {setting} to be .*, got {value!r}"):
        Checkpoint("runs", **{setting: value})


def test_a_folder_with_later_checkpoints_is_not_written_over(tmp_path):
    fit(make_trainer(), Checkpoint(tmp_path))
    trainer = make_trainer()
    with pytest.raises(FileError, match=r"has checkpoint-0+6.*, which is later than the 0 steps"):
        fit(trainer, Checkpoint(tmp_path))
    assert trainer.steps == 0
    assert names(tmp_path) == [6, 12, 18]
    log = tmp_path / "history.csv"
    log.write_text("lines of another run")
    trainer.fit(*data(), batch_size=16, progress=False)
    values, stood = trainer.network.numpy_arrays(), where_it_stands(trainer)
    with pytest.raises(FileError, match="later than the 6 steps"):
        fit(trainer, CSVLogger(log), Checkpoint(tmp_path))
    assert log.read_text() == "lines of another run"
    assert_stands_as_before(trainer, stood)
    np.testing.assert_equal(trainer.network.numpy_arrays(), values)
    fit(trainer, Checkpoint(tmp_path), resume=tmp_path)
    fit(trainer, Checkpoint(tmp_path))  # the same trainer goes on
    assert names(tmp_path) == [24, 30, 36]


def test_only_what_a_killed_process_left_is_cleared_away(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, stderr=-1)
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, daemon=True)
    thread.start()
    here = f"{os.getpid()}.{thread.ident}"
    writers = [f"{killed.pid}.456", f"{os.getppid()}.456", here, f"{os.getpid()}.1", "of.mine"]
    torn = [tmp_path / f"checkpoint-000000006.safetensors.{writer}.part" for writer in writers]
    for path in torn:
        path.write_bytes(b"half")
    fit(make_trainer(), Checkpoint(tmp_path), epochs=1)
    assert [path.exists() for path in torn] == [True, True, True, False, True]
    killed.communicate()
    may_end.set()
    thread.join()
    fit(make_trainer(), Checkpoint(tmp_path), resume=tmp_path)
    assert [path.exists() for path in torn] == [False, True, False, False, True]


# What is in a file --------------------------------------------------------------------------------


def test_the_file_is_plain_safetensors_with_json(backend, tmp_path):
    fit(make_trainer(backend), Checkpoint(tmp_path))
    with TensorFile(numbered(tmp_path)[-1]) as file:
        file.check_sum()
        assert file.metadata["format"] == "xpnn-checkpoint"
        tree = json.loads(file.metadata["contents"])
        assert file.entries["network.0.dense.weight"].dtype == "float32"
        assert file.entries["optimizer.m.0.dense.weight"].shape == (64, 16)
    assert tree["network"]["2.dropout.draw"] == 18
    assert tree["optimizer"]["step"] == 18
    assert tree["trainer"] == {"epoch": 3, "steps": 18}
    assert tree["must_agree"]["data"]["samples"] == 96
    (history,) = tree["callbacks"]
    assert (history["kind"], history["known_by"], history["options"]) == ("History", None, None)
    state = history["state"]
    assert (state["length"], state["names"]) == (3, ["epoch", "loss", "rate"])


DTYPES = [
    *(pytest.param("numpy", one, id=one) for one in ("float16", "float32", "float64")),
    pytest.param("torch", "bfloat16", marks=needs("torch"), id="bfloat16"),
]


@pytest.mark.parametrize(("spec", "dtype"), DTYPES)
def test_dtypes_are_kept(tmp_path, spec, dtype):
    trainer, again = (make_trainer(spec, dtype) for _ in range(2))
    trainer.fit(*data(), progress=False)
    path = tmp_path / "one.safetensors"
    trainer.save(path)
    with TensorFile(path) as file:
        assert file.entries["network.0.dense.weight"].dtype == dtype
    again.load(path)
    for name, value in trainer.network.params.items():
        other = again.network.params[name]
        assert other.dtype == value.dtype
        assert bool((other == value).all())


def test_any_nesting_comes_back(backend, tmp_path):
    xp, values = backend.xp, np.arange(6, dtype=np.float32)
    with backend.on_device():
        tree = {
            "arrays": [backend.asarray(values), {"x": backend.asarray(values.reshape(2, 3))}],
            "large": backend.asarray(np.zeros((0, 3), np.float32)),
            "number": xp.asarray(2.5, dtype=xp.float32, device=backend.device),
            "count": backend.counter(7),
            "host": np.arange(3, dtype=np.int64),
            "texts": ["a", None, True, -1, 1e300, np.inf, -np.inf],
        }
    write_contents(tmp_path / "x", contents_of(tree, backend))
    found = read_contents(tmp_path / "x")
    np.testing.assert_array_equal(found["arrays"][0], values)
    np.testing.assert_array_equal(found["arrays"][1]["x"], values.reshape(2, 3))
    assert found["large"].shape == (0, 3)
    assert (found["number"], found["count"]) == (2.5, 7)
    assert found["host"].dtype == np.int64
    assert found["texts"] == ["a", None, True, -1, 1e300, np.inf, -np.inf]


def test_pieces_of_what_is_too_large_for_one_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.training.checkpointing.contents.TOGETHER", 10)
    backend = CountingBackend()
    arrays = {str(n): backend.xp.arange(n, device=backend.device) for n in (3, 4, 5, 30, 1, 6)}
    contents = contents_of(arrays, backend)
    for name, one in contents.tensors.items():
        np.testing.assert_array_equal(one.values, np.arange(int(name)))
    assert backend.copies_to_host == 4


@pytest.mark.parametrize("state", [{"x": object()}, {"x": {1, 2}}, {3: 4}, {"x": b"bytes"}])
def test_a_state_that_no_file_can_hold_is_refused(tmp_path, state):
    class Odd(Callback):
        def state(self):
            return state

    with pytest.raises(TypeError, match=r"callbacks.0.state.*: wanted "):
        fit(make_trainer(), Odd(), Checkpoint(tmp_path))


def test_callbacks_that_come_or_go_are_named(tmp_path, caplog):
    class Counting(Callback):
        count = 0

        def on_step_end(self, trainer, step):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def load_state(self, state):
            self.count = state["count"]

    one, other = Counting(), Counting()
    fit(make_trainer(), one, Checkpoint(tmp_path))
    fit(make_trainer(), other, resume=tmp_path)
    assert other.count == one.count == 18
    fit(make_trainer(), Counting(), Counting(), resume=tmp_path)
    assert "the checkpoint knows of no Counting more; it starts anew" in caplog.text
    fit(make_trainer(), resume=tmp_path)
    assert "there is no Counting that takes up what the checkpoint has of one" in caplog.text


def test_a_callback_made_from_another_may_keep_something_else(tmp_path):
    class Patient(EarlyStopping):
        def state(self):
            return {"left": 7}

        def load_state(self, state):
            self.left = state["left"]

    fit(make_trainer(), Patient("loss"), Checkpoint(tmp_path))
    again = Patient("loss")
    fit(make_trainer(), again, resume=tmp_path)
    assert again.left == 7


class Long(Callback):
    """Has a history of many epochs, as if they had been, and the lines of a log."""

    runs_last = True
    length = 20_000

    def __init__(self, log):
        self.log, self.history = log, None

    def on_fit_begin(self, trainer, epochs):
        (self.history,) = (one for one in trainer.callbacks if isinstance(one, History))

    def on_step_end(self, trainer, step):
        if trainer.steps == 6:
            losses = np.random.default_rng(0).random(self.length).tolist()
            self.history.epochs = [
                {"epoch": k, "loss": loss, "mae": loss / 3}
                | ({"val_loss": -loss} if k % 2 else {"note": "even"})
                for k, loss in enumerate(losses)
            ]
            self.log.write_text("".join(f"{k},{loss!r}\n" for k, loss in enumerate(losses)))


def test_a_history_may_be_longer_than_a_header(tmp_path, monkeypatch):
    for module in (tensors, tensor_file):
        monkeypatch.setattr(module, "MAX_HEADER", 300_000)
    monkeypatch.setattr(tensors, "CHUNK", 1 << 18)
    log = tmp_path / "history.csv"
    first = Long(log)
    fit(make_trainer(), first, CSVLogger(log), Checkpoint(tmp_path), epochs=1)
    wanted, lines = first.history.epochs, log.read_bytes()
    assert len(lines) > tensors.CHUNK
    log.unlink()
    history = fit(make_trainer(), CSVLogger(log), epochs=1, resume=tmp_path)
    assert len(history) == Long.length + 1
    assert history.epochs == wanted
    assert type(history.epochs[0]["epoch"]) is int
    assert log.read_bytes() == lines


# Gone bad -----------------------------------------------------------------------------------------


def goes_bad(step):
    """A loss that is NaN from a step on, with a delta that spoils the weights."""
    calls = []

    def loss(predictions, targets, *, sample_weight=None, backend):
        calls.append(None)
        value, delta = xpnn.cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )
        factor = float("nan") if len(calls) >= step else 1.0
        return value * factor, delta * factor

    return loss


@pytest.mark.fault("NaN and infinity, stage by stage")
@pytest.mark.parametrize("background", [False, True])
def test_what_has_gone_bad_does_not_push_out_what_is_good(backend, tmp_path, caplog, background):
    layers = [Dense(4), ReLU(), Dense(10)]
    network = Network(layers, (64,), backend, seed=1)
    trainer = Trainer(network, goes_bad(9), Adam(1e-2), compile=False)
    keeping = Checkpoint(tmp_path, every_steps=2, keep=2, best="loss", background=background)
    with caplog.at_level(logging.WARNING, "xpnn"), np.errstate(all="ignore"):
        history = fit(trainer, keeping)
    assert np.isnan(history["loss"]).tolist() == [False, True, True]
    assert names(tmp_path) == [6, 8]
    assert caplog.text.count("no checkpoint after") == 1
    assert "no checkpoint after 10 steps, nor until this is over, as the loss" in caplog.text
    trainer.save(tmp_path / "asked_for.safetensors")  # by hand it is written all the same
    again = Trainer(network, xpnn.cross_entropy, Adam(1e-2), compile=False)
    again.load(numbered(tmp_path)[-1])
    assert all(np.isfinite(one).all() for one in network.numpy_arrays().values())


@pytest.mark.fault("NaN and infinity, stage by stage")
def test_a_loss_that_is_no_number_can_wait_on_the_device_while_a_file_is_written(backend, tmp_path):
    class Save(Callback):
        def on_step_end(self, state, step):
            if state.steps == 3:
                trainer.save(tmp_path / "bad.safetensors")

    network = make_trainer(backend).network
    trainer = Trainer(network, goes_bad(2), Adam(1e-2), compile=False)
    with np.errstate(all="ignore"):
        fit(trainer, Save(), epochs=1)
    losses = read_contents(tmp_path / "bad.safetensors")["run"]["losses"]
    assert np.isnan(losses["total"])
    assert losses["weight"] == 48


@pytest.mark.parametrize("keep", [1, 3])
def test_weights_that_a_last_step_has_spoilt_are_not_saved(tmp_path, keep):
    """The losses were fine until then."""

    class Spoil(Callback):
        def on_log(self, trainer, step, logs):
            if trainer.epoch == 1:
                values = trainer.network.numpy_arrays()
                trainer.network.load({name: value * np.inf for name, value in values.items()})

    trainer = Trainer(Network([Dense(10)], (64,)), xpnn.cross_entropy, SGD(0.1))
    with np.errstate(all="ignore"):
        history = fit(trainer, Spoil(), Checkpoint(tmp_path, keep=keep), epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert names(tmp_path) == [6]


# Waiting ------------------------------------------------------------------------------------------


def test_a_checkpoint_waits_for_the_device_once(tmp_path):
    backend = CountingBackend()
    backend.indices(10)
    counts = []

    class Probe(Callback):
        def on_step_end(self, trainer, step):
            counts.append(backend.copies_to_host)

    fit(make_trainer(backend), Probe(), Checkpoint(tmp_path, every_steps=2), epochs=1)
    assert np.diff(counts).tolist() == [0, 1, 0, 1, 0]


def test_the_mean_of_an_epoch_does_not_depend_on_when_it_was_read(tmp_path):
    histories = [
        fit(make_trainer(), *callbacks).epochs
        for callbacks in ([], [Checkpoint(tmp_path / "a", every_steps=1)])
    ]
    trainer = make_trainer()
    trainer.log_every = 2
    assert histories[0] == histories[1] == fit(trainer).epochs
    values, weights = np.random.default_rng(0).random((2, 3000))
    means = []
    for every in (1, 7, 3000):
        mean = RunningMean(get_backend("numpy"))
        for number, (value, weight) in enumerate(zip(values, weights, strict=True), start=1):
            mean.add(np.asarray(value), np.asarray(weight))
            if number % every == 0:
                mean.read()
        means.append(mean.read())
    assert means == [means[0]] * 3


def test_training_goes_on_while_a_thread_writes(backend, tmp_path, monkeypatch):
    fit(make_trainer(backend), Checkpoint(tmp_path / "now", every_steps=2, keep=None), epochs=1)
    from xpnn.training.checkpointing.contents import write_tensors

    may_write, at_once, under_way = threading.Event(), [], []

    def slow(*arguments):
        under_way.append(1)
        at_once.append(len(under_way))
        assert may_write.wait(30)
        write_tensors(*arguments)
        under_way.pop()

    class Release(Callback):
        def on_step_end(self, trainer, step):
            if step == 4:  # its checkpoint has to wait for that of step 2
                assert names(tmp_path / "later") == []
                may_write.set()

    monkeypatch.setattr(WRITE, slow)
    late = Checkpoint(tmp_path / "later", every_steps=2, keep=None, background=True)
    fit(make_trainer(backend), Release(), late, epochs=1)
    assert names(tmp_path / "later") == [2, 4, 6]
    assert set(at_once) == {1}
    for one, other in zip(numbered(tmp_path / "now"), numbered(tmp_path / "later"), strict=True):
        np.testing.assert_equal(read_contents(one), read_contents(other))


# What goes wrong ----------------------------------------------------------------------------------


@pytest.mark.fault("disk full at a checkpoint")
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told_and_old_files_are_whole(tmp_path, monkeypatch, background, call):
    trainer, checkpoint = make_trainer(), Checkpoint(tmp_path, every_steps=1, background=background)
    plain, written = getattr(os, call), []

    def full(*arguments):
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        return plain(*arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left on device: this file was not") as error:
        fit(trainer, checkpoint)
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    done = 3 if call == "fsync" else 5  # fsync is called for the file and for its folder
    assert names(tmp_path)[-1] == done
    assert done < trainer.steps <= done + 2
    for path in numbered(tmp_path):
        read_contents(path)
    assert not list(tmp_path.glob("*.part"))
    again = make_trainer()
    assert fit(again, Checkpoint(tmp_path), resume=tmp_path).epochs == fit(make_trainer()).epochs


@pytest.mark.fault("folder that cannot be written to")
@pytest.mark.parametrize("background", [False, True])
def test_a_folder_that_cannot_be_written_to(tmp_path, background):
    place = tmp_path / "file"
    place.write_text("in the way")
    with pytest.raises(OSError, match="this file was not written"):
        fit(make_trainer(), Checkpoint(place, background=background))
    assert place.read_text() == "in the way"


@pytest.mark.fault("disk full while a file is saved")
def test_save_to_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    trainer, path = make_trainer(), tmp_path / "one.safetensors"
    fit(trainer, epochs=1)
    trainer.save(path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fit(trainer, epochs=1)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == old
