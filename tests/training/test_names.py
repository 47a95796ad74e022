"""Losses, optimizers and metrics by name: the same as the objects with their defaults."""

import numpy as np
import pytest

import xpnn
from xpnn import Accuracy, Adam, Dense, Input, Network, Trainer
from xpnn.losses import cross_entropy, mean_squared_error
from xpnn.training.names import (
    LOSSES,
    METRICS,
    OPTIMIZERS,
    losses_of_names,
    metrics_of_names,
    optimizer_of_name,
)

pytestmark = pytest.mark.host_only

X, Y = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32), np.arange(12) % 2


def network():
    return Network([Dense(4, activation="relu"), Dense(2)], (3,))


def history(*parts, **more):
    return Trainer(network(), *parts, **more).fit(X, Y, epochs=3, validation=0.25, progress=False)


def test_a_run_by_names_is_that_of_the_objects():
    found = history("cross_entropy", "adam", metrics=["accuracy"])
    wanted = history(cross_entropy, Adam(), metrics=[Accuracy()])
    assert dict(found) == dict(wanted)
    assert found["val_accuracy"]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_called_as_their_functions(name):
    short = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}
    assert losses_of_names(name) is getattr(xpnn.losses, short.get(name, name))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_their_defaults(name):
    found = optimizer_of_name(name)
    assert type(found).__name__.lower() == name
    assert repr(found) == repr(type(found)())


def test_metrics_are_called_as_in_a_history():
    found = metrics_of_names([*METRICS])
    assert [one.name for one in found] == [*METRICS]
    shown = {getattr(xpnn.metrics, name) for name in xpnn.metrics.__all__}
    metrics = {one for one in shown if isinstance(one, type) and issubclass(one, xpnn.Metric)}
    assert {type(one) for one in found} == metrics - {xpnn.Metric}


def test_outputs_by_name():
    x = Input((3,))
    net = Network(inputs=x, outputs={"price": Dense(1)(x), "kind": Dense(2)(x)})
    trainer = Trainer(
        net, {"price": "mse", "kind": cross_entropy}, "sgd", metrics={"kind": ["accuracy"]}
    )
    assert trainer.loss.functions == [mean_squared_error, cross_entropy]
    assert [one.name for one in trainer.metrics] == ["kind_accuracy"]
    assert Trainer(net, ["mse", "cross_entropy"], "sgd").loss.functions == trainer.loss.functions


def test_names_may_be_set_later():
    trainer = Trainer(network(), "cross_entropy", "sgd")
    trainer.optimizer, trainer.loss, trainer.metrics = "adamw", "hinge", ["accuracy", "f1"]
    assert type(trainer.optimizer) is xpnn.AdamW
    assert trainer.loss is xpnn.losses.hinge
    assert [one.name for one in trainer.metrics] == ["accuracy", "f1"]


@pytest.mark.parametrize(
    ("parts", "more", "words"),
    [
        (
            ("cross_entrop", "adam"),
            {},
            "no loss 'cross_entrop', did you mean 'cross_entropy'? There",
        ),
        (("categorical_crossentropy", "adam"), {}, "did you mean 'cross_entropy'?"),
        (("binary_crossentropy", "adam"), {}, "did you mean 'binary_cross_entropy'?"),
        (("mse", "Adam"), {}, "no optimizer 'Adam', did you mean 'adam'? There are "),
        (("mse", "adam"), {"metrics": ["acc"]}, "no metric 'acc', did you mean 'accuracy'?"),
        (("mse", "adam"), {"metrics": ["what"]}, "no metric 'what'. There are "),
        (({"x": "msee"}, "adam"), {}, "no loss 'msee', did you mean 'mse'?"),
    ],
)
def test_names_of_nothing(parts, more, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Trainer(network(), *parts, **more)
    assert words in str(caught.value)


def test_one_metric_is_no_list():
    with pytest.raises(
        TypeError, match=r"wanted a list of objects, got 'accuracy'; write \['accuracy'\]$"
    ):
        Trainer(network(), "mse", "adam", metrics="accuracy")
