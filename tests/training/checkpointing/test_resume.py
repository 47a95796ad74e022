"""A run that goes on from a checkpoint ends like one that was never interrupted."""

import copy
import logging
import re

import numpy as np
import pytest

import xpnn
from tests.training.checkpointing.test_checkpoints import where_it_stands
from xpnn import (
    SGD,
    Accuracy,
    AdamW,
    BatchNorm,
    BestWeights,
    Callback,
    Checkpoint,
    ClipByGlobalNorm,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    Network,
    ReduceOnPlateau,
    ReLU,
    Trainer,
    WarmUp,
)
from xpnn.backends import get_backend
from xpnn.errors import FileError, ShapeError
from xpnn.saving import write_tensors
from xpnn.training.checkpointing.contents import contents_of, read_contents, write_contents
from xpnn.training.checkpointing.resuming import numbered, read_checkpoint

SIZE, STEPS = 16, 6  # samples of a batch, batches of an epoch


class Killed(Exception):  # noqa: N818  (it stands for the end of a process)
    pass


class KillAfter(Callback):
    """Ends training where the process could have died, without any cleaning up."""

    runs_last = True

    def __init__(self, steps):
        self.steps = steps

    def on_log(self, trainer, step, logs):
        if trainer.steps == self.steps:
            raise Killed

    def on_step_end(self, trainer, step):
        if trainer.steps == self.steps:
            raise Killed


def make_trainer(backend="numpy", **changes):
    layers = [
        Dense(24, use_bias=False),
        BatchNorm(),
        ReLU(),
        Dropout(0.3),
        Dense(changes.pop("classes", 10)),
    ]
    network = Network(layers, (64,), backend, seed=changes.pop("network_seed", 5))
    optimizer = changes.pop("optimizer", None) or AdamW(
        WarmUp(4, ReduceOnPlateau(1e-2, patience=1)), clip=ClipByGlobalNorm(1.0)
    )
    settings = {"metrics": [Accuracy()], "seed": 3, "log_every": 4} | changes
    loss = settings.pop("loss", xpnn.cross_entropy)
    return Trainer(network, loss, optimizer, **settings)


def data(count=120):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


def fit(trainer, *callbacks, epochs=4, resume=None, samples=120, batch_size=SIZE, **settings):
    x, y = data(samples)
    return trainer.fit(
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        validation=0.2,
        callbacks=callbacks,
        progress=False,
        resume=resume,
        **settings,
    )


def all_values(trainer):
    values = trainer.network.numpy_arrays()
    for slot, one in trainer.opt_state.items():
        arrays = one if isinstance(one, dict) else {"": one}
        values |= {
            f"{slot}.{name}": array
            if isinstance(array, int | float)
            else trainer.network.backend.to_numpy(array).copy()
            for name, array in arrays.items()
        }
    return values


def assert_same(one, other):
    first, second = all_values(one), all_values(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert (one.epoch, one.steps) == (other.epoch, other.steps)


@pytest.mark.parametrize("dies_after", [1, 4, 6, 13, 20])
def test_a_resumed_run_is_the_run_that_never_ended(backend, tmp_path, dies_after):
    if backend.name == "array-api-strict" and dies_after != 13:
        pytest.skip("where it dies is the same loop's on NumPy")
    whole = make_trainer(backend)
    expected = fit(whole)
    keeping = Checkpoint(tmp_path, every_steps=2, background=dies_after % 2 == 0)
    with pytest.raises(Killed):
        fit(make_trainer(backend), keeping, KillAfter(dies_after))
    resumed = make_trainer(backend)
    history = fit(resumed, Checkpoint(tmp_path, every_steps=2), resume=tmp_path)
    assert history.epochs == expected.epochs
    assert_same(resumed, whole)


@pytest.mark.parametrize("target", ["numpy", "array-api-strict:device1"])
def test_another_backend_goes_on_with_the_same_curve(backend, tmp_path, target):
    if backend.spec == target:
        pytest.skip("it is the same one")
    whole = make_trainer(backend)
    expected = fit(whole)
    with pytest.raises(Killed):
        fit(make_trainer(backend), Checkpoint(tmp_path, every_steps=5), KillAfter(12))
    resumed = make_trainer(target)
    history = fit(resumed, resume=tmp_path)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-4)
    for name, value in whole.network.numpy_arrays().items():
        np.testing.assert_allclose(
            resumed.network.numpy_arrays()[name], value, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("precision", [None, "float16", "bfloat16"])
def test_mixed_precision_resumes_with_its_loss_scale(tmp_path, precision):
    spec = "torch" if precision == "bfloat16" else "numpy"
    if spec == "torch":
        pytest.importorskip("torch")
    settings = {"backend": spec, "precision": precision, "optimizer": SGD(0.1)}
    whole = make_trainer(**settings)
    expected = fit(whole, epochs=2)
    with pytest.raises(Killed):
        fit(make_trainer(**settings), Checkpoint(tmp_path, every_steps=3), KillAfter(8), epochs=2)
    resumed = make_trainer(**settings)
    assert fit(resumed, epochs=2, resume=tmp_path).epochs == expected.epochs
    assert_same(resumed, whole)


@pytest.mark.parametrize("dies_after", [5, 9, 14, 20])
def test_callbacks_go_on_with_what_they_knew(tmp_path, dies_after):
    def callbacks(folder):
        stopping = EarlyStopping(patience=2, min_gain=0.01)
        return [stopping, BestWeights("val_accuracy"), CSVLogger(folder / "history.csv")]

    def lines(folder):
        text = (folder / "history.csv").read_text().splitlines()
        return [",".join(line.split(",")[:1] + line.split(",")[2:]) for line in text]

    whole, first = make_trainer(optimizer=SGD(0.5)), callbacks(tmp_path / "whole")
    expected = fit(whole, *first, epochs=12)
    saved, kept = tmp_path / "saved", tmp_path / "resumed"
    mortal = [Checkpoint(saved, every_steps=2), KillAfter(dies_after)]
    with pytest.raises(Killed):
        fit(make_trainer(optimizer=SGD(0.5)), *callbacks(kept), *mortal, epochs=12)
    resumed, again = make_trainer(optimizer=SGD(0.5)), callbacks(kept)
    history = fit(resumed, *again, Checkpoint(saved, every_steps=2), epochs=12, resume=saved)
    assert history.epochs == expected.epochs
    assert resumed.stop_reason == whole.stop_reason
    assert again[1].epoch == first[1].epoch
    assert_same(resumed, whole)
    assert lines(kept) == lines(tmp_path / "whole")


class Scripted(Callback):
    """Replaces the validation loss by that of a series for the epoch."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer, logs):
        logs["val_loss"] = self.values[trainer.epoch - 1]


def test_patience_goes_on_with_what_was_waited(tmp_path):
    script = Scripted(1.0, 0.9, 0.95, 0.96, 0.97, 0.5)
    mortal = [Checkpoint(tmp_path, every_steps=2), KillAfter(21)]
    with pytest.raises(Killed):
        fit(make_trainer(), script, EarlyStopping(patience=3), *mortal, epochs=6)
    trainer = make_trainer()
    history = fit(trainer, script, EarlyStopping(patience=3), epochs=6, resume=tmp_path)
    assert history["epoch"] == [1, 2, 3, 4, 5]
    assert trainer.stop_reason == "val_loss has not improved on 0.9 for 3 epochs"


class Logs(Callback):
    def __init__(self):
        self.seen = []

    def on_log(self, trainer, step, logs):
        self.seen.append((trainer.epoch, step, logs["loss"]))


@pytest.mark.parametrize("dies_after", [4, 5, 6, 7])
def test_no_log_point_is_lost(tmp_path, dies_after):
    logs, first, second = Logs(), Logs(), Logs()
    fit(make_trainer(), logs, epochs=2)
    mortal = [first, Checkpoint(tmp_path, every_steps=1), KillAfter(dies_after)]
    with pytest.raises(Killed):
        fit(make_trainer(), *mortal, epochs=2)
    fit(make_trainer(), second, epochs=2, resume=tmp_path)
    assert first.seen + second.seen == logs.seen


def test_a_run_that_has_ended_is_not_run_again(tmp_path):
    first = make_trainer()
    expected = fit(first, BestWeights(), EarlyStopping(), Checkpoint(tmp_path))
    again = make_trainer()
    history = fit(again, BestWeights(), EarlyStopping(), Checkpoint(tmp_path), resume=tmp_path)
    assert history.epochs == expected.epochs
    assert_same(again, first)
    longer = fit(again, BestWeights(), EarlyStopping(), epochs=5, resume=tmp_path)
    assert longer["epoch"] == [1, 2, 3, 4, 5]


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    class Stop(Callback):
        def on_step_end(self, trainer, step):
            if trainer.steps == 8:  # in the middle of an epoch, which is gone through to its end
                trainer.stop("enough")

    with pytest.raises(Killed):
        fit(make_trainer(), Stop(), Checkpoint(tmp_path, every_steps=3), KillAfter(10))
    trainer = make_trainer()
    assert fit(trainer, Checkpoint(tmp_path), resume=tmp_path)["epoch"] == [1, 2]
    assert fit(make_trainer(), Checkpoint(tmp_path), resume=tmp_path)["epoch"] == [1, 2]


@pytest.mark.slow_to_compile  # iterables are drawn on the host
@pytest.mark.parametrize("sized", [True, False])
def test_an_iterable_is_drawn_again_and_what_is_done_is_dropped(backend, tmp_path, sized):
    x, y = data(100)
    batches = [(x[k : k + SIZE], y[k : k + SIZE]) for k in range(0, 100, SIZE)]
    source = batches if sized else (lambda: iter(batches))
    whole = make_trainer(backend)
    expected = whole.fit(source, epochs=2, progress=False)
    mortal = [Checkpoint(tmp_path, every_steps=2), KillAfter(11)]
    with pytest.raises(Killed):
        make_trainer(backend).fit(source, epochs=2, callbacks=mortal, progress=False)
    resumed = make_trainer(backend)
    assert resumed.fit(source, epochs=2, progress=False, resume=tmp_path).epochs == expected.epochs
    assert_same(resumed, whole)


def test_an_iterable_that_ends_before_the_place_is_refused(tmp_path):
    x, y = data(96)
    batches = [(x[k : k + SIZE], y[k : k + SIZE]) for k in range(0, 96, SIZE)]
    mortal = [Checkpoint(tmp_path, every_steps=2), KillAfter(5)]
    with pytest.raises(Killed):
        make_trainer().fit(lambda: iter(batches), callbacks=mortal, progress=False)
    with pytest.raises(xpnn.DataError, match=r"wanted at least 4 batches, after which .*, got 3"):
        make_trainer().fit(lambda: iter(batches[:3]), progress=False, resume=tmp_path)


# What may come in place of a checkpoint ----------------------------------------------------------


@pytest.mark.parametrize("make", [False, True])
def test_without_a_checkpoint_training_begins(tmp_path, make):
    folder = tmp_path / "runs" / "first"
    if make:
        folder.mkdir(parents=True)
    whole, trainer = make_trainer(), make_trainer()
    expected = fit(whole)
    assert fit(trainer, Checkpoint(folder), resume=folder).epochs == expected.epochs
    assert numbered(folder)


def test_a_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fit(make_trainer(), resume=tmp_path / "checkpoint-000000012.safetensors")


@pytest.fixture
def folder(tmp_path):
    fit(make_trainer(), Checkpoint(tmp_path, every_steps=4))
    assert [int(path.stem[-9:]) for path in numbered(tmp_path)] == [18, 20, 24]
    return tmp_path


@pytest.mark.fault("damaged checkpoint")
@pytest.mark.parametrize("damage", ["torn", "flipped", "foreign", "weights", "empty"])
def test_a_broken_file_is_skipped_for_a_whole_one(folder, damage, caplog):
    *_, before, last = numbered(folder)
    content = last.read_bytes()
    if damage == "weights":
        xpnn.save_weights(make_trainer().network, last)
    else:
        flipped = bytearray(content)
        flipped[-3] ^= 1
        broken = {"torn": content[:-1], "flipped": flipped, "foreign": b"PK" * 99, "empty": b""}
        last.write_bytes(broken[damage])
    trainer = make_trainer()
    with caplog.at_level(logging.WARNING, "xpnn"):
        history = fit(trainer, Checkpoint(folder), resume=folder)
    assert f"training goes on from {before}" in caplog.text
    assert last.name in caplog.text
    assert history["epoch"] == [1, 2, 3, 4]
    whole = make_trainer()
    fit(whole)
    assert_same(trainer, whole)
    with pytest.raises(FileError, match=r"checkpoint|safetensors"):
        fit(make_trainer(), resume=_broken(last, content))


def _broken(path, content):
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.fault("damaged checkpoint")
def test_a_folder_without_a_whole_file_is_an_error(folder):
    for path in numbered(folder):
        path.write_bytes(path.read_bytes()[:-5])
    trainer = make_trainer()
    before = trainer.network.numpy_arrays()
    with pytest.raises(FileError, match=r"wanted a whole checkpoint in .*, but of 3 none is: .*"):
        fit(trainer, resume=folder)
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.fault("file of a newer version")
def test_a_checkpoint_of_a_newer_version_is_an_error(folder, monkeypatch):
    monkeypatch.setattr("xpnn.training.checkpointing.contents.CHECKPOINT_VERSION", 4)
    make = make_trainer()
    fit(make, epochs=1)
    make.save(folder / "checkpoint-000000099.safetensors")
    monkeypatch.undo()
    with pytest.raises(FileError, match=r"is of version 4 .* this xpnn reads up to 3; update xpnn"):
        fit(make_trainer(), resume=folder)


@pytest.mark.fault("checkpoint of another run")
@pytest.mark.parametrize(
    ("changed", "settings", "message"),
    [
        ({"optimizer": SGD(0.1)}, {}, r"optimizer.kind is SGD here and AdamW in the checkpoint"),
        ({"seed": 4}, {}, r"trainer.seed is 4 here and 3 in the checkpoint"),
        ({"network_seed": 4}, {}, r"seed is \d+ here and \d+ in the checkpoint"),
        ({"accumulate": 2}, {}, r"trainer.accumulate is 2 here and 1"),
        ({"precision": "float16"}, {}, r"precision is MixedPrecision here and None in"),
        ({"classes": 12}, {}, r"4.dense.weight is float32 \(24, 12\) here and float32 \(24, 10\)"),
        ({}, {"batch_size": 8}, r"data.batch_size is 8 here and 16"),
        ({}, {"samples": 110}, r"data.samples is 88 here and 96"),
        ({}, {"shuffle": False}, r"data.shuffle is False here and True"),
        (
            {"optimizer": AdamW(WarmUp(4, ReduceOnPlateau(2e-2, patience=1)))},
            {},
            r"run: optimizer.rate.then.start is 0.02 here and 0.01 in the checkpoint; "
            r"optimizer.clip is None here and ClipByGlobalNorm in the checkpoint. To resume",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_run_is_told_in_what_it_differs(folder, changed, settings, message):
    trainer = make_trainer(**changed)
    before = trainer.network.numpy_arrays()
    with pytest.raises(FileError, match=message) as caught:
        fit(trainer, resume=folder, **settings)
    assert "make them the same; to go on from its values in another way, call" in str(caught.value)
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    assert trainer.opt_state is None
    assert trainer.epoch == 0


@pytest.mark.parametrize("what", ["missing", "torn", "another run", "weights that do not fit"])
def test_a_refused_resume_leaves_the_trainer_where_it_stood(folder, what):
    trainer, last = make_trainer(), numbered(folder)[-1]
    with pytest.raises(Killed):
        fit(trainer, KillAfter(3))
    trainer.stop_reason = "enough"
    if what == "weights that do not fit":
        tree = read_contents(last)
        tree["network"]["4.dense.weight"] = np.zeros((3, 3))
        write_contents(last, contents_of(tree, get_backend("numpy")))
    elif what == "torn":
        last.write_bytes(last.read_bytes()[:-1])
    else:
        last = last.with_name("missing.safetensors") if what == "missing" else last
    stood, values = where_it_stands(trainer), all_values(trainer)
    with pytest.raises((FileError, FileNotFoundError, ShapeError)):
        fit(trainer, resume=last, batch_size=8 if what == "another run" else SIZE)
    assert (trainer.epoch, trainer.steps, trainer.epoch_steps) == (0, 3, 3)
    assert trainer.stop_reason == "enough"
    assert where_it_stands(trainer) == stood
    np.testing.assert_equal(all_values(trainer), values)


def test_integers_of_numpy_are_integers_to_a_checkpoint(tmp_path):
    count = np.int64
    counts = {"every_steps": count(2), "every_epochs": count(1), "keep": count(2)}
    settings = {"accumulate": count(2), "log_every": count(4), "seed": count(3)}
    with pytest.raises(Killed):
        fit(
            make_trainer(**settings),
            *(Checkpoint(tmp_path, **counts), KillAfter(9)),
            epochs=count(2),
            batch_size=count(SIZE),
        )
    resumed, whole = make_trainer(**settings), make_trainer(accumulate=2)
    history = fit(resumed, epochs=count(2), batch_size=count(SIZE), resume=tmp_path)
    assert history.epochs == fit(whole, epochs=2).epochs
    assert_same(resumed, whole)


class Teacher:
    """A loss that holds a network, and comes back to itself."""

    def __init__(self, temperature=0.5):
        self.network = Network([Dense(10)], (64,), seed=8)
        self.layers, self.own = self.network.layers, self
        self.temperature = np.float32(temperature)

    def __call__(self, predictions, targets, **options):
        return xpnn.cross_entropy(predictions, targets, **options)


def test_a_loss_may_hold_a_network(tmp_path):
    first, again = make_trainer(loss=Teacher()), make_trainer(loss=Teacher())
    expected = fit(first, Checkpoint(tmp_path))
    assert read_contents(numbered(tmp_path)[-1])["must_agree"]["loss"] == {
        "kind": "Teacher",
        "network": {"kind": "Network"},
        "layers": [{"kind": "Dense"}],
        "own": {"kind": "Teacher"},
        "temperature": 0.5,
    }
    assert fit(again, resume=tmp_path).epochs == expected.epochs
    with pytest.raises(FileError, match=r"loss.temperature is 0.25 here and 0.5 in"):
        fit(make_trainer(loss=Teacher(temperature=0.25)), resume=tmp_path)


# Contents made to do harm -------------------------------------------------------------------------


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


FORGED = {
    (): (None, [], {}, "text", np.zeros(3)),
    ("network",): (None, [], 3),
    ("network", "4.dense.weight"): (None, "text", [], {"a": 1}, 10**400, np.zeros(3)),
    ("network", "3.dropout.draw"): (None, "text", [1], float("nan"), np.zeros(2)),
    ("optimizer",): ([], {}, "text", {"m": 3}),
    ("optimizer", "m"): (None, 3, {}, []),
    ("optimizer", "m", "0.dense.weight"): (None, "text", np.zeros(2)),
    ("optimizer", "step"): (None, "text", {}),
    ("trainer",): (None, []),
    ("trainer", "epoch"): (None, -1, 1.5, 10**30, True, "1"),
    ("trainer", "steps"): (None, -1, float("inf")),
    ("run",): ([], 3, {}),
    ("run", "first_epoch"): (None, -1, 3, 10**6),
    ("run", "epoch_steps"): (None, -1, 10**9),
    ("run", "logged"): (None, -1, 1, 10**9),
    ("run", "first_batch"): (3, {}, {"size": -1, "figures": [], "steady": None}),
    ("run", "stop_reason"): (3, {}),
    ("run", "losses"): (None, [1.0, 2.0]),
    ("run", "losses", "total"): (None, "text", np.zeros(3)),
    ("must_agree",): (None, {}, []),
    ("must_agree", "optimizer"): (np.zeros(3), [np.zeros(2)], [[{"a": np.zeros(2)}]]),
    ("must_agree", "layers"): (None, nested(50)),
    ("callbacks",): (None, {}, [3], [["History"]], [{"kind": "History"}]),
    ("callbacks", 0, "kind"): (None, 3, []),  # of EarlyStopping
    ("callbacks", 0, "known_by"): (3, {}),
    ("callbacks", 0, "options"): (3, [], {"patience": np.zeros(3)}),
    ("callbacks", 0, "state"): ({}, 3, {"best": "x", "waited": 1}),
    ("callbacks", 1, "state", "kept"): ([], {"a": 1}, {"0.dense.weight": np.zeros(2)}),
    ("callbacks", 2, "state", "lines"): ("text", None, np.zeros(3)),  # of CSVLogger
    ("callbacks", 3, "state", "length"): (None, -1, 10**9),  # of History
    ("callbacks", 3, "state", "names"): (None, [1, 2, 3], ["loss"]),
    ("callbacks", 3, "state", "columns"): (None, [], [3], [[None, None]] * 6),
}


@pytest.fixture(scope="module")
def whole_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    callbacks = [EarlyStopping(), BestWeights(), CSVLogger(folder / "history.csv")]
    fit(make_trainer(), *callbacks, Checkpoint(folder), epochs=2)
    return read_contents(numbered(folder)[-1])


@pytest.mark.fault("checkpoint made to do harm")
@pytest.mark.parametrize("place", FORGED, ids=lambda place: ".".join(map(str, place)))
def test_contents_that_cannot_be_are_refused_and_change_nothing(whole_tree, tmp_path, place):
    log, path, trainer = tmp_path / "history.csv", tmp_path / "forged.safetensors", make_trainer()
    log.write_text("lines of another run")
    before, stood = trainer.network.numpy_arrays(), where_it_stands(trainer)
    for value in FORGED[place]:
        tree = copy.deepcopy(whole_tree)
        inner = tree
        for key in place[:-1]:
            inner = inner[key]
        if place:
            inner[place[-1]] = value
        write_contents(path, contents_of(tree if place else value, get_backend("numpy")))
        with pytest.raises((FileError, ShapeError), match=re.escape(str(path))):
            fit(trainer, EarlyStopping(), BestWeights(), CSVLogger(log), resume=path)
        if place[:1] in {(), ("network",), ("optimizer",), ("trainer",)}:
            with pytest.raises((FileError, ShapeError), match=re.escape(str(path))):
                trainer.load(path)
        assert log.read_text() == "lines of another run"
        np.testing.assert_equal(trainer.network.numpy_arrays(), before)
        assert where_it_stands(trainer) == stood


@pytest.mark.fault("checkpoint made to do harm")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 500 + "]" * 500, "nested more than 100 deep"),
        ("[" * 100_000, "nested too deep"),
        ('{"$tensor": ["a"]}', "unhashable"),
        ('{"$tensor": "a"}', "'a'"),
        ('{"$float": {}}', "float"),
        ('{"$float": ' + "1" * 400 + "}", "too large"),
        ("NaN", "NaN is no number"),
        (None, "'contents'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_texts_that_are_no_contents(tmp_path, text, message):
    path = tmp_path / "forged.safetensors"
    contents = {} if text is None else {"contents": text}
    write_tensors(path, {}, {"format": "xpnn-checkpoint", "version": "1", **contents})
    with pytest.raises(FileError, match=f"is no whole checkpoint: .*{message}"):
        read_checkpoint(path)


# By hand ------------------------------------------------------------------------------------------


def test_load_takes_values_along_and_leaves_the_rest_free(backend, tmp_path):
    trainer, path = make_trainer(backend), tmp_path / "deep" / "run.safetensors"
    fit(trainer, epochs=2)
    trainer.save(path)
    other = make_trainer("numpy", optimizer=AdamW(1e-4), network_seed=9)
    with pytest.raises(ShapeError, match=r"does not fit this network and optimizer: wanted values"):
        other.load(path)
    other = make_trainer("numpy", optimizer=AdamW(WarmUp(4, ReduceOnPlateau(1e-4, patience=1))))
    other.load(path)
    assert (other.epoch, other.steps) == (2, 12)
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(other.network.numpy_arrays()[name], value)
    assert fit(other, epochs=1, batch_size=32)["epoch"] == [3]


def test_load_of_another_network_changes_nothing(tmp_path):
    trainer = make_trainer(classes=12, optimizer=SGD(0.1))
    trainer.save(tmp_path / "one.safetensors")
    other = make_trainer(optimizer=SGD(0.1))
    before = other.network.numpy_arrays()
    with pytest.raises(ShapeError, match=r"4.dense.* has the shape .*; nothing was loaded"):
        other.load(tmp_path / "one.safetensors")
    for name, value in other.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_was_saved_outside_of_fit_is_resumed(tmp_path):
    trainer = make_trainer()
    x, y = data(SIZE)
    for _ in range(3):
        trainer.step(trainer.network.asarray(x), y)
    trainer.save(tmp_path / "by_hand.safetensors")
    expected = fit(trainer, epochs=2)
    again = make_trainer()
    history = fit(again, epochs=2, resume=tmp_path / "by_hand.safetensors")
    assert history.epochs == expected.epochs
    assert_same(again, trainer)
