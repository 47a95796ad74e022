"""Nothing is public without a line in the table of its kind, whose every line is tested."""

import inspect
from types import FunctionType
from typing import get_args

import pytest

import xpnn
from tests.backends.table import BACKEND_ROWS
from tests.layers.table import LAYERS
from tests.losses.table import CASES as LOSSES
from tests.metrics.table import METRICS
from tests.optimizers.schedules import SCHEDULES
from tests.optimizers.table import CASES as OPTIMIZERS
from tests.test_initializers import INITIALIZERS
from tests.training.callbacks.table import CALLBACKS
from xpnn import backends, initializers, layers, losses, metrics, optimizers, training
from xpnn.layers import BASES as LAYER_BASES
from xpnn.layers.regularization import Constraint, Penalty
from xpnn.losses.outputs import MEANINGS, outputs_of
from xpnn.metrics.base import Kind
from xpnn.optimizers import Clipping

MODULES = [xpnn, backends, initializers, layers, losses, metrics, optimizers, training]
BASES = {
    *LAYER_BASES,
    *(xpnn.Optimizer, xpnn.Schedule, xpnn.Metric, xpnn.Callback, xpnn.Backend, Clipping),
    xpnn.Communicator,
}
"""What no table holds: classes that others are made from."""


def public(module):
    """The public things of a module by name, without what it imports if it has no ``__all__``."""
    names = getattr(module, "__all__", None)
    if names is None:
        found = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        return {k: v for k, v in found.items() if getattr(v, "__module__", "") == module.__name__}
    return {name: getattr(module, name) for name in names}


def everything():
    return {name: value for module in MODULES for name, value in public(module).items()}


def kinds(base):
    """The public classes made from ``base``."""
    found = (one for one in everything().values() if isinstance(one, type))
    return {one for one in found if issubclass(one, base) and one not in BASES}


def functions_of(package, *others):
    """The public functions that a package defines, but for some."""
    found = {one for one in everything().values() if isinstance(one, FunctionType)}
    return {one for one in found if one.__module__.startswith(package.__name__)} - {*others}


def public_losses():
    """What the package of losses defines, and whatever is called as a loss is."""
    called_as_one = {
        one
        for one in everything().values()
        if isinstance(one, FunctionType)
        and [*inspect.signature(one).parameters][:2] == ["predictions", "targets"]
    }
    of_the_package = functions_of(
        losses, losses.check_targets, losses.total_weight, losses.balanced_weights
    )
    return called_as_one | of_the_package


def public_initializers():
    """Functions ``(shape, rng)``, and those that make one."""
    return functions_of(
        initializers,
        *(initializers.fans, initializers.zeros_for, initializers.claim),
        *(initializers.check_room, initializers.check_memory, initializers.memory_of_machine),
    )


def plain(loss):
    """A loss without the options that are bound."""
    return getattr(loss, "func", loss)


TABLES = {  # a kind: its public things, and those that have a line
    "layer": (
        lambda: kinds(xpnn.Layer),
        {type(layer) for row in LAYERS for _, layer in row.values[0]().walk()},
    ),
    "loss": (public_losses, {plain(case.loss) for case in LOSSES.values()}),
    "optimizer": (
        lambda: kinds(xpnn.Optimizer),
        {type(case.make()) for case in OPTIMIZERS.values()},
    ),
    "schedule": (lambda: kinds(xpnn.Schedule), {type(row.schedule) for row in SCHEDULES.values()}),
    "metric": (lambda: kinds(xpnn.Metric), {type(row.values[0]) for row in METRICS}),
    "callback": (lambda: kinds(xpnn.Callback), {row.kind for row in CALLBACKS.values()}),
    "initializer": (public_initializers, {row.function for row in INITIALIZERS.values()}),
    "backend": (lambda: {*backends.BACKENDS}, {*BACKEND_ROWS}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_everything_public_is_in_its_table(kind):
    found, in_table = TABLES[kind]
    without = found() - in_table
    assert not without, f"a public {kind} has a line in the table of its kind, but not {without}"


def says_what_it_takes_outputs_for(one):
    """Whether a loss or a metric does, in one of the words that there are."""
    if isinstance(one, FunctionType):
        return outputs_of(one) in MEANINGS
    return one.reads in get_args(Kind)


@pytest.mark.parametrize("kind", ["loss", "metric"])
def test_everything_public_says_what_it_takes_outputs_for(kind):
    found, _ = TABLES[kind]
    silent = {one for one in found() if not says_what_it_takes_outputs_for(one)}
    assert not silent, f"a public {kind} says what it takes outputs for, but not {silent}"


OTHERS = {  # of no kind that has a table
    "data initializers metrics datasets get_backend split register load Network Trainer",
    "beam_search generate every_parameter matrices_only make_train_step load_weights save_weights",
    "explain find_rate minimize Updater",
    "MixedPrecision",
    "ByOutput Input Node",
}


def test_every_public_name_is_of_a_known_kind():
    """So that what is called or made in an unusual way does not go by unseen."""
    in_tables = {one for found, _ in TABLES.values() for one in found()} | BASES
    families = (Exception, Penalty, Constraint, Clipping)
    left = {
        name
        for name, value in public(xpnn).items()
        if not (isinstance(value, type) and issubclass(value, families))
        and not any(value is one for one in in_tables)
    }
    assert left == {*" ".join(OTHERS).split()}


# Planted ------------------------------------------------------------------------------------------


def quarrel(predictions, targets, *, sample_weight=None, backend):
    """A loss with the sign of its delta turned."""
    value, delta = losses.mean_squared_error(predictions, targets, backend=backend)
    return value, -delta


class Climber(optimizers.SGD):
    """An optimizer that climbs."""

    def rule(self, xp, param, grad, *slots, rate, momentum):
        return (param + rate * grad,)


class OffByOne(metrics.Accuracy):
    """A metric that counts one too many."""

    def result(self, rows):
        return super().result(rows) + 1


class Blind(metrics.Metric):
    """A metric that does not say what it reads."""

    name = "blind"


class Silent(training.Callback):
    """A callback that is never called: there is no such hook."""

    def on_epoch_ended(self, trainer, logs):
        raise AssertionError


class Backwards(optimizers.Linear):
    """A schedule that runs back."""

    def value(self, xp, done):
        return super().value(xp, -done)


def narrow(shape, rng):
    return 0.01 * rng.standard_normal(shape)


class Mirror(layers.Identity):
    """A layer that passes back the wrong sign."""

    def backward(self, delta):
        return -delta


PLANTS = {
    "layer": (layers, Mirror),
    "loss": (losses, quarrel),
    "optimizer": (optimizers, Climber),
    "schedule": (optimizers, Backwards),
    "metric": (metrics, OffByOne),
    "callback": (training, Silent),
    "initializer": (initializers, narrow),
}


@pytest.mark.parametrize("also_in_xpnn", [False, True])
@pytest.mark.parametrize("kind", PLANTS)
def test_one_more_without_a_line_is_noticed(kind, also_in_xpnn, monkeypatch):
    module, plant = PLANTS[kind]
    monkeypatch.setattr(plant, "__module__", f"{module.__name__}.planted")
    for home in (module, xpnn) if also_in_xpnn else (module,):
        monkeypatch.setattr(home, plant.__name__, plant, raising=False)
        if hasattr(home, "__all__"):
            monkeypatch.setattr(home, "__all__", [*home.__all__, plant.__name__])
        else:
            monkeypatch.setattr(plant, "__module__", home.__name__)
    with pytest.raises(AssertionError, match=f"a public {kind} has a line"):
        test_everything_public_is_in_its_table(kind)


@pytest.mark.parametrize(("kind", "plant"), [("loss", quarrel), ("metric", Blind)])
def test_one_more_that_does_not_say_what_it_takes_outputs_for_is_noticed(kind, plant, monkeypatch):
    monkeypatch.setattr(plant, "__module__", f"xpnn.{kind}s.planted")
    monkeypatch.setattr(xpnn, plant.__name__, plant, raising=False)
    monkeypatch.setattr(xpnn, "__all__", [*xpnn.__all__, plant.__name__])
    with pytest.raises(AssertionError, match=f"a public {kind} says what"):
        test_everything_public_says_what_it_takes_outputs_for(kind)


def test_one_more_backend_without_a_line_is_noticed(monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "planted", "xpnn.backends.numpy:NumpyBackend")
    with pytest.raises(AssertionError, match="a public backend has a line"):
        test_everything_public_is_in_its_table("backend")


def test_one_more_of_no_kind_is_noticed(monkeypatch):
    monkeypatch.setattr(xpnn, "curious", lambda truth, guess: 0.0, raising=False)
    monkeypatch.setattr(xpnn, "__all__", [*xpnn.__all__, "curious"])
    with pytest.raises(AssertionError):
        test_every_public_name_is_of_a_known_kind()


def test_a_loss_that_weighs_classes_says_what_its_items_weigh():
    """And has a line with class weights, so that any cut of its data has the mean of the whole."""
    weighing = {
        one for one in public_losses() if "class_weight" in inspect.signature(one).parameters
    }
    bound = {
        case.loss.func
        for case in LOSSES.values()
        if "class_weight" in getattr(case.loss, "keywords", {})
    }
    assert {one for one in weighing if one.item_weights is not None} == weighing == bound
