"""What a run depends on is compared by value where it goes on from a checkpoint."""

import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import json
import logging
import pathlib
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import xpnn
from tests.layers.table import LAYERS
from tests.losses.table import CASES as LOSSES
from tests.optimizers.table import CASES as OPTIMIZERS
from xpnn import (
    SGD,
    Accuracy,
    AdamW,
    BestWeights,
    Callback,
    Checkpoint,
    CSVLogger,
    Dense,
    EarlyStopping,
    Layer,
    Network,
    Trainer,
    cross_entropy,
)
from xpnn.data import NpzShards
from xpnn.errors import FileError
from xpnn.training import History
from xpnn.training.checkpointing.agreement import differences
from xpnn.training.describing import described

FACTOR = 1.0  # a global that a function below reads


# Values -------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, **values):
        vars(self).update(values)

    def method(self):
        return self


@dataclasses.dataclass(slots=True)
class Slots:
    value: float


class Mode(enum.Enum):
    ONE, OTHER = 1, 2


Pair = collections.namedtuple("Pair", "one other")


def closing_over(value):
    def function():
        return value

    return function


def closing_over_a_function(value):
    inner = closing_over(value)
    return lambda: inner()


def with_default(value):
    def function(a, b=value):
        return a

    return function


def with_named_default(value):
    def function(a, *, b=value):
        return a

    return function


def with_attribute(value):
    def function():
        return 1

    function.total_weight = value
    return function


def wrapped(value):
    return functools.lru_cache(closing_over(value))


def constant(number):
    return eval(f"lambda: {number}")


def reads_a_global():
    return FACTOR


MANY, PERMUTED = np.arange(1000.0), np.arange(1000.0)[::-1].copy()
WAYS = {  # how a value is held
    "bare": lambda value: value,
    "list": lambda value: [1, [value]],
    "dictionary": lambda value: {"a": {"b": value}},
    "attribute": lambda value: Holder(a=value),
    "slot": Slots,
    "named tuple": lambda value: Pair(1, value),
    "method": lambda value: Holder(a=value).method,
    "partial": lambda value: functools.partial(print, value),
    "partial by name": lambda value: functools.partial(print, end=value),
    "closure": closing_over,
    "inner closure": closing_over_a_function,
    "default": with_default,
    "named default": with_named_default,
    "attribute of a function": with_attribute,
    "behind a cache": wrapped,
    "namespace": lambda value: types.SimpleNamespace(a=value),
}
VALUES = {
    "number": (1.0, 2.0),
    "number and none": (None, 0.0),
    "NumPy's number": (np.float32(1.0), np.float32(2.0)),
    "text": ("mean", "sum"),
    "array": (np.array([1.0, 1.0]), np.array([1.0, 50.0])),
    "array of another width": (np.zeros(2, np.float32), np.zeros(2)),
    "long array": (MANY, PERMUTED),
    "array of texts": (np.array(["a", "b"]), np.array(["a", "c"])),
    "0-d array": (np.array(1.0), np.array(2.0)),
    "set": ({"a", "b", "c"}, {"a", "b", "d"}),
    "member of an enum": (Mode.ONE, Mode.OTHER),
    "date": (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
    "fraction": (fractions.Fraction(1, 2), fractions.Fraction(1, 3)),
    "path": (pathlib.Path("a"), pathlib.Path("b")),
    "bytes": (b"a", b"b"),
    "complex number": (1j, 2j),
    "range": (range(3), range(4)),
    "dtype": (np.dtype("f4"), np.dtype("f8")),
    "lambda": (constant(1), constant(2)),
}


def told(one, other):
    return list(differences(json.loads(json.dumps(described(one))), described(other), "it"))


@pytest.mark.host_only
@pytest.mark.parametrize("hold", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("pair", VALUES.values(), ids=VALUES)
def test_another_value_is_noticed_however_it_is_held(hold, pair):
    one, other = pair
    assert told(hold(one), hold(other))
    assert not told(hold(one), hold(one))


@pytest.mark.host_only
def test_what_is_the_same_is_no_difference():
    nan = float("nan")
    assert not told(Holder(a=nan, b=np.array([nan])), Holder(a=float("nan"), b=np.array([nan])))
    itself = Holder()
    itself.own, itself.network = itself, Network([Dense(2)], (2,))
    assert not told(itself, itself)
    looped = []
    looped.append(looped)
    assert not told(looped, looped)
    trainer = Trainer(itself.network, cross_entropy, SGD(0.1), callbacks=[History()])
    for one in (trainer, trainer.state, *trainer.callbacks, itself.network):  # these change
        assert described(closing_over(one))["closure"] == {"value": {"kind": type(one).__name__}}


@pytest.mark.host_only
@pytest.mark.parametrize(("one", "other"), [([], [1]), ({}, {"calls": 3}), ({"a": [1]}, {})])
def test_what_a_function_may_fill_is_told_but_no_error(one, other):
    assert {matters for _, matters in told(closing_over(one), closing_over(other))} == {False}
    assert {matters for _, matters in told(closing_over(1), closing_over(2))} == {True}


@pytest.mark.host_only
def test_what_an_object_keeps_to_itself_is_told_but_no_error():
    ((words, matters),) = told(Holder(_scale=1.0), Holder(_scale=2.0))
    assert (words, matters) == ("it.private._scale is 1.0 here and 2.0 in the checkpoint", False)


@pytest.mark.host_only
def test_what_holds_everything_is_described_in_few_words():
    everything = [logging.getLogger("xpnn"), sys.stderr, threading.Lock(), iter([]), sys]
    for one in everything:
        assert described(Holder(a=one))["a"] == {"kind": type(one).__name__}
    crowd = [Holder() for _ in range(30)]
    for one in crowd:
        one.others = crowd
    assert len(json.dumps(described(crowd[0]))) < 1_000_000


@pytest.mark.host_only
def test_a_table_is_compared_by_its_numbers():
    pandas = pytest.importorskip("pandas")
    assert told(pandas.Series([1.0, 2.0]), pandas.Series([1.0, 3.0]))
    assert not told(pandas.Series([1.0, 2.0]), pandas.Series([1.0, 2.0]))


def test_an_array_of_a_device_is_compared_by_its_numbers(backend):
    one, other, again = (backend.asarray(np.array(v)) for v in ([1.0, 2.0], [1.0, 3.0], [1.0, 2.0]))
    assert told(one, other)
    assert not told(one, again)
    many = backend.asarray(np.arange(1000.0))
    assert told(many, backend.asarray(np.arange(1000.0)[::-1].copy()))


@pytest.mark.host_only
def test_a_global_is_told_but_no_error(monkeypatch):
    before = described(reads_a_global)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    ((words, matters),) = differences(described(reads_a_global), before, "loss")
    assert (words, matters) == ("loss.globals.FACTOR is 2.0 here and 1.0 in the checkpoint", False)


SOURCE = """
import json
from tests.training.checkpointing.test_agreement import all_parts
print(json.dumps(all_parts()))
"""


def all_parts():
    """The descriptions of all that comes with xpnn, and of the values above."""
    parts = {
        **{f"loss {name}": case.loss for name, case in LOSSES.items()},
        **{f"optimizer {name}": case.make() for name, case in OPTIMIZERS.items()},
        **{f"layer {case.id}": vars(case.values[0]()) for case in LAYERS},
        **{f"value {name}": closing_over(pair) for name, pair in VALUES.items()},
    }
    return {name: described(one) for name, one in parts.items()}


@pytest.mark.host_only
def test_another_process_describes_all_in_the_same_words():
    done = subprocess.run(
        [sys.executable, "-c", SOURCE], capture_output=True, check=True, cwd=pathlib.Path.cwd()
    )
    here = json.loads(json.dumps(all_parts()))
    assert json.loads(done.stdout) == here
    assert len(json.dumps(here)) < 200_000


# Runs ---------------------------------------------------------------------------------------------


def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(96, 6)), np.arange(96) % 3


X, Y = samples()
ONES, RISING = np.ones(96), np.linspace(0.0, 5.0, 96)


def make_trainer(loss=cross_entropy, optimizer=None, layers=(), backend="numpy", **more):
    network = Network([*(make() for make in layers), Dense(3)], (6,), backend, seed=1)
    return Trainer(network, loss, optimizer or SGD(0.1), **more)


def fit(trainer, *data, epochs=1, resume=None, callbacks=(), **more):
    data = data or (X, Y)
    keeping = [] if resume else [Checkpoint("run")]
    settings = {"progress": False, "callbacks": [*callbacks, *keeping], "resume": resume}
    return trainer.fit(*data, epochs=epochs, **settings, **more)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path.cwd())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scaled_loss(factor):
    def loss(predictions, targets, *, sample_weight=None, backend=None):
        value, delta = cross_entropy(predictions, targets, backend=backend)
        return value * factor, delta * factor

    return loss


def weighing(weights):
    return functools.partial(cross_entropy, class_weight=weights)


class Scale(Layer):
    """Multiplies by the numbers of a list or an array."""

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def forward(self, inputs, training=False):
        return inputs * self.xp.asarray(self.factors, dtype=inputs.dtype)

    def backward(self, delta):
        return delta * self.xp.asarray(self.factors, dtype=delta.dtype)


class Counts(Scale):
    """The same, and keeps count of its calls."""

    def __init__(self, factors):
        super().__init__(factors)
        self.calls, self.seen = 0, []

    def forward(self, inputs, training=False):
        self.calls += 1
        self.seen.append(inputs.shape)
        return super().forward(inputs, training)


def decaying(decays):
    return AdamW(0.01, weight_decay=0.1, decays=lambda name, param: decays)


def in_batches(size, x=X, y=Y, order=1):
    return [(x[k : k + size], y[k : k + size]) for k in range(0, len(x), size)][::order]


SETTINGS = {  # what is given to the trainer: the one of the checkpoint, another one, what is said
    "class weights": (
        {"loss": weighing(np.array([1.0, 1.0, 1.0]))},
        {"loss": weighing(np.array([1.0, 1.0, 50.0]))},
        r"loss.class_weight.values is \[1.0, 1.0, 50.0\] here and \[1.0, 1.0, 1.0\]",
    ),
    "closure": (
        {"loss": scaled_loss(1.0)},
        {"loss": scaled_loss(100.0)},
        r"loss.closure.factor is 100.0 here and 1.0",
    ),
    "decays": (
        {"optimizer": decaying(True)},
        {"optimizer": decaying(False)},
        r"optimizer.decays.closure.decays is False here and True",
    ),
    "list of a layer": (
        {"layers": [lambda: Scale([1.0] * 6)]},
        {"layers": [lambda: Scale([2.0] * 6)]},
        r"options.1 Scale.factors is \[2.0, 2.0",
    ),
    "array of a layer": (
        {"layers": [lambda: Scale(np.full(6, 1.0))]},
        {"layers": [lambda: Scale(np.full(6, 2.0))]},
        r"options.1 Scale.factors.values is \[2.0, 2.0",
    ),
}


@pytest.mark.host_only
@pytest.mark.fault("checkpoint of another run")
def test_what_a_layer_counts_is_no_other_run():
    layers = [lambda: Counts([1.0] * 6)]
    fit(make_trainer(layers=layers))
    assert len(fit(make_trainer(layers=layers), epochs=2, resume="run")) == 2
    with pytest.raises(FileError, match=r"options.1 Counts.factors is \[2.0"):
        fit(make_trainer(layers=[lambda: Counts([2.0] * 6)]), epochs=2, resume="run")


@pytest.mark.parametrize(("first", "other", "message"), SETTINGS.values(), ids=SETTINGS)
def test_other_settings_are_another_run(first, other, message):
    fit(make_trainer(**first))
    with pytest.raises(FileError, match=message):
        fit(make_trainer(**other), epochs=2, resume="run")
    fit(make_trainer(**first), epochs=2, resume="run")


DATA = {  # what is given to fit
    "x": (((X, Y), {}), ((X + 1, Y), {}), "data.x holds other numbers"),
    "order": (((X, Y), {}), ((X[::-1], Y[::-1]), {}), "data.x holds other numbers"),
    "y": (((X, Y), {}), ((X, (Y + 1) % 3), {}), r"data.y.checksum is \w+ here"),
    "weights": (
        ((X, Y), {"sample_weight": ONES}),
        ((X, Y), {"sample_weight": RISING}),
        "data.sample_weight holds other numbers",
    ),
    "one weight": (
        ((X, Y), {"sample_weight": ONES}),
        ((X, Y), {"sample_weight": np.where(np.arange(96) == 41, 2.0, 1.0)}),
        "data.sample_weight holds other numbers",
    ),
    "no weights": (
        ((X, Y), {"sample_weight": ONES}),
        ((X, Y), {}),
        "data.sample_weight is None here and something else",
    ),
    "held out": (
        ((X, Y), {"validation": 0.25}),
        ((X[:72], Y[:72]), {"validation": (X[72:], Y[72:])}),
        "data.x holds other numbers",
    ),
    "validation": (
        ((X, Y), {"validation": (X, Y)}),
        ((X, Y), {"validation": (X - 1, Y)}),
        "data.held_out.x holds other numbers",
    ),
    "weights of the validation": (
        ((X, Y), {"validation": (X, Y, ONES)}),
        ((X, Y), {"validation": (X, Y, RISING)}),
        "data.held_out.sample_weight holds other numbers",
    ),
    "size of batches": (
        ((in_batches(16),), {}),
        (([(x[:8], y[:8]) for x, y in in_batches(16)],), {}),
        r"data.rows is \[8, 8, .*\] here and \[16, 16, ",
    ),
    "batches": (
        ((in_batches(16),), {}),
        ((in_batches(16, x=2 * X),), {}),
        "data.x holds other numbers",
    ),
    "order of batches": (
        ((in_batches(16),), {}),
        ((in_batches(16, order=-1),), {}),
        "data.x holds other numbers",
    ),
}


@pytest.mark.slow_to_compile  # data are told apart on the host
@pytest.mark.fault("checkpoint of another run")
@pytest.mark.parametrize(("first", "other", "message"), DATA.values(), ids=DATA)
def test_other_data_are_another_run(backend, first, other, message):
    (data, more), (others, settings) = first, other
    fit(make_trainer(backend=backend), *data, **more)
    with pytest.raises(FileError, match=message):
        fit(make_trainer(backend=backend), *others, epochs=2, resume="run", **settings)
    fit(make_trainer(backend=backend), *data, epochs=2, resume="run", **more)


FORMS = {  # of the same data
    "float32": lambda x, y, w: (x.astype(np.float32), y, w),
    "rounded otherwise": lambda x, y, w: (x * (1 + 1e-7), y, w * (1 - 1e-7)),
    "int32": lambda x, y, w: (x, y.astype(np.int32), w),
    "uint8": lambda x, y, w: (x, y.astype(np.uint8), w),
    "lists": lambda x, y, w: (x.tolist(), y.tolist(), w.tolist()),
    "another layout": lambda x, y, w: (np.asfortranarray(x), y[::-1].copy()[::-1], w),
    "another byte order": lambda x, y, w: (x.astype(">f8"), y.astype(">i4"), w),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_data_in_another_form_are_the_same_run(backend, form, caplog):
    fit(make_trainer(), X, Y, sample_weight=RISING, validation=(X, Y))
    x, y, weight = form(X, Y, RISING)
    trainer = make_trainer(backend=backend)
    fit(trainer, x, y, sample_weight=weight, validation=(x, y), epochs=2, resume="run")
    assert trainer.epoch == 2
    assert not caplog.text


@pytest.mark.host_only
@pytest.mark.parametrize("size", [16, 8])
def test_batches_of_another_size_from_a_function_are_told(size, caplog):
    fit(make_trainer(), lambda: iter(in_batches(16)))
    fit(make_trainer(), lambda: iter(in_batches(size)), epochs=3, resume="run")
    said = "the first batch of this epoch has 8 samples, and had 16 where the checkpoint was"
    assert caplog.text.count(said) == (size == 8)


EPOCHS_OF = {  # what a function gives in each epoch, and whether that is told in a resumed run
    "the same": (lambda k: in_batches(16), lambda k: in_batches(16), False),
    "another": (lambda k: in_batches(16), lambda k: in_batches(16, x=X + 1), True),
    "another order": (lambda k: in_batches(16), lambda k: in_batches(16, order=-1), True),
    "drawn anew": (lambda k: in_batches(16, x=X + k), lambda k: in_batches(16, x=X - k), False),
}


@pytest.mark.parametrize(("first", "other", "is_told"), EPOCHS_OF.values(), ids=EPOCHS_OF)
def test_other_batches_of_a_function_are_told(backend, first, other, is_told, caplog):
    def run(make, epochs, **more):
        numbers = iter(range(9))
        trainer = make_trainer(backend=backend)
        fit(trainer, lambda: iter(make(next(numbers))), epochs=epochs, **more)

    run(first, 2)
    run(other, 4, resume="run")
    assert caplog.text.count("holds other numbers than that of the checkpoint") == is_told


@pytest.mark.host_only
def test_a_loader_of_another_set_is_another_run():
    class Loader:
        def __init__(self, count, batch_size=16):
            self.dataset, self.batch_size = range(count), batch_size

        def __iter__(self):
            return iter(in_batches(self.batch_size))

    fit(make_trainer(), Loader(96))
    for other, message in ((Loader(80), "data.dataset is 80"), (Loader(96, 8), "data.batch_size")):
        with pytest.raises(FileError, match=message):
            fit(make_trainer(), other, epochs=2, resume="run")


@pytest.mark.host_only
def test_data_in_a_mapped_file_are_those_in_memory(folder):
    np.save("x.npy", X)
    fit(make_trainer(), np.load("x.npy", mmap_mode="r"), Y)
    fit(make_trainer(), X, Y, epochs=2, resume="run")
    np.save("other.npy", X + 1)
    with pytest.raises(FileError, match=r"data\.x holds other numbers"):
        fit(make_trainer(), np.load("other.npy", mmap_mode="r"), Y, epochs=2, resume="run")


@pytest.mark.host_only
def test_of_a_large_set_a_bounded_part_is_read():
    class Counted(np.ndarray):
        taken = 0

        def __getitem__(self, key):
            found = np.asarray(self)[key]
            type(self).taken += found.size
            return found

    from xpnn.data.batches import Samples
    from xpnn.training.intake import identity

    network = Network([Dense(1)], (100,))
    x = np.zeros((50_000, 100), np.float32).view(Counted)
    identity.of_data(Samples((x, np.zeros((50_000, 1)), None), network.backend), network)
    assert 0 < Counted.taken <= identity.NUMBERS


@pytest.mark.host_only
@pytest.mark.parametrize("kind", ["values", "names", "batch_size", "array"])
def test_other_files_are_another_run(folder, kind):
    def shards(name, x, *, batch_size=16, key="x"):
        where = folder / name
        where.mkdir(exist_ok=True)
        for k in range(2):
            np.savez(where / f"{k}{key}.npz", **{key: x[k::2], "other": x[k::2] + 1, "y": Y[k::2]})
        return NpzShards(where / "*.npz", x=key, batch_size=batch_size, window=32)

    fit(make_trainer(), shards("one", X))
    fit(make_trainer(), shards("moved", X), epochs=2, resume="run")
    other = {
        "values": lambda: shards("other", X + 1),
        "names": lambda: shards("other", X, key="inputs"),
        "batch_size": lambda: shards("other", X, batch_size=8),
        "array": lambda: NpzShards(folder / "one" / "*.npz", x="other", batch_size=16, window=32),
    }[kind]()
    message = {
        "values": "data.contents is",
        "names": "data.names is",
        "batch_size": "data.batches is 12 here and 6",
        "array": r"data.options.names is \['other', 'y'\] here and \['x', 'y'\]",
    }[kind]
    with pytest.raises(FileError, match=message):
        fit(make_trainer(), other, epochs=2, resume="run")


# Callbacks ----------------------------------------------------------------------------------------


class Says(Callback):
    def __init__(self, name, *numbers):
        self.name, self.numbers = name, iter(numbers)

    def on_epoch_end(self, state, logs):
        logs[self.name] = next(self.numbers)


@pytest.mark.host_only
@pytest.mark.parametrize("kind", [EarlyStopping, BestWeights])
def test_what_was_known_of_one_number_is_not_taken_for_another(kind, caplog):
    def run(name, epochs, *numbers):
        callback, trainer = kind(name), make_trainer(metrics=[Accuracy()])
        resume = "run" if epochs > 2 else None
        fit(trainer, callbacks=[Says(name, *numbers), callback], epochs=epochs, resume=resume)
        return callback

    run("val_loss", 2, 7.0, 6.0)
    assert run("val_accuracy", 3, 0.1).best == 0.1
    assert f"knows of no {kind.__name__} of val_accuracy (rising) more" in caplog.text
    assert f"there is no {kind.__name__} of val_loss (falling) that takes up" in caplog.text
    caplog.clear()
    assert run("val_loss", 3, 6.5).best == 6.0
    assert not caplog.text


@pytest.mark.host_only
def test_callbacks_of_one_kind_find_their_own_in_any_order():
    def run(epochs, first, second, *numbers, resume=None):
        stops = {name: EarlyStopping(name) for name in ("val_loss", "val_accuracy")}
        says = [Says("val_loss", *numbers), Says("val_accuracy", *numbers)]
        logs = [CSVLogger(f"{name}.csv") for name in (first, second)]
        trainer = make_trainer(metrics=[Accuracy()])
        listed = [*says, stops[first], stops[second], *logs]
        fit(trainer, callbacks=listed, epochs=epochs, resume=resume)
        return [stops[name].best for name in stops]

    assert run(2, "val_loss", "val_accuracy", 3.0, 1.0) == [1.0, 3.0]
    assert run(3, "val_accuracy", "val_loss", 2.0, resume="run") == [1.0, 3.0]


@pytest.mark.host_only
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_history_of_a_resumed_fit_is_whole(before, after):
    """Whatever other histories there are among the callbacks."""
    first = fit(make_trainer(), callbacks=[History() for _ in range(before)])
    mine = [History() for _ in range(after)]
    history = fit(make_trainer(), callbacks=mine, epochs=2, resume="run")
    assert history["epoch"] == [1, 2]
    assert history["loss"][:1] == first["loss"]


@pytest.mark.host_only
def test_what_a_callback_was_made_with_is_told(caplog):
    class Noise(Callback):
        def __init__(self, size):
            self.size = size

    def run(epochs, patience, size, resume=None):
        callbacks = [EarlyStopping("loss", patience=patience), Noise(np.array(size))]
        trainer = make_trainer()
        fit(trainer, callbacks=callbacks, epochs=epochs, resume=resume)
        return trainer

    run(1, 3, [1.0])
    assert run(2, 4, [2.0], resume="run").epoch == 2
    assert "EarlyStopping.patience is 4 here and 3 in the checkpoint; the run goes" in caplog.text
    assert "Noise.size.values is [2.0] here and [1.0] in the checkpoint" in caplog.text
    caplog.clear()
    run(2, 3, [1.0], resume="run")
    assert not caplog.text


@pytest.mark.host_only
def test_other_metrics_are_told(caplog):
    fit(make_trainer(metrics=[Accuracy()]))
    fit(make_trainer(metrics=[xpnn.F1()]), epochs=2, resume="run")
    assert "metrics is [{'kind': 'F1'" in caplog.text


@pytest.mark.host_only
def test_other_code_is_told(caplog):
    def loss_of(text):
        found = {"cross_entropy": cross_entropy, "__name__": "mine"}
        exec(
            "def loss(predictions, targets, *, sample_weight=None, backend=None):\n"
            f"    {text}\n"
            "    value, delta = cross_entropy(predictions, targets, backend=backend)\n"
            "    return value, delta\n",
            found,
        )
        return found["loss"]

    fit(make_trainer(loss=loss_of("'A docstring.'")))
    with caplog.at_level(logging.WARNING):
        fit(make_trainer(loss=loss_of("'Another one.'")), epochs=2, resume="run")
        assert not caplog.text
        fit(make_trainer(loss=loss_of("predictions = predictions * 1")), epochs=2, resume="run")
    assert "loss.code is " in caplog.text


# State of callbacks -------------------------------------------------------------------------------


STATES = [
    {"m": {"$tensor": "hello"}},
    {"$float": "1.5"},
    {"a": {"$float": "nan"}},
    {"$tensor": 3},
    {"$$tensor": {"$": 1}},
    {"$float": {"$tensor": "a"}, "b": [{"$tensor": float("inf")}]},
]


@pytest.mark.host_only
@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_state_of_a_callback_comes_back_whatever_its_keys(state):
    class Odd(Callback):
        found = None

        def state(self):
            return state

        def load_state(self, saved):
            self.found = saved

    fit(make_trainer(), callbacks=[Odd()])
    odd = Odd()
    fit(make_trainer(), callbacks=[odd], epochs=2, resume="run")
    assert odd.found == state


@pytest.mark.host_only
def test_arrays_under_such_keys_come_back_too():
    class Odd(Callback):
        found = None

        def state(self):
            return {"$tensor": np.arange(3), "$float": 0.5}

        def load_state(self, saved):
            self.found = saved

    fit(make_trainer(), callbacks=[Odd()])
    odd = Odd()
    fit(make_trainer(), callbacks=[odd], epochs=2, resume="run")
    np.testing.assert_array_equal(odd.found["$tensor"], np.arange(3))
    assert odd.found["$float"] == 0.5
