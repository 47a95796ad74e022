"""Whatever part of a step is the user's own is called at every step, unless they say otherwise."""

import functools
from unittest.mock import Mock

import numpy as np
import pytest

import xpnn
from xpnn import mean_squared_error
from xpnn.layers import Dense, ReLU
from xpnn.layers.activations import Activation
from xpnn.layers.regularization import L2, MaxNorm
from xpnn.network import Network
from xpnn.optimizers import SGD
from xpnn.optimizers.clipping import ClipByValue
from xpnn.training import Trainer
from xpnn.training.stepping.compiling import own_part

CALLS = []


class OwnOptimizer(SGD):
    def rule(self, xp, *arrays, **numbers):
        CALLS.append(1)
        return super().rule(xp, *arrays, **numbers)


class OwnClip(ClipByValue):
    def apply(self, xp, grad, scale):
        CALLS.append(1)
        return super().apply(xp, grad, scale)


class OwnPenalty(L2):
    def slope(self, xp, w, grad):
        CALLS.append(1)
        return super().slope(xp, w, grad)


class OwnConstraint(MaxNorm):
    def apply(self, xp, w):
        CALLS.append(1)
        return super().apply(xp, w)


def own_loss(predictions, targets, **options):
    CALLS.append(1)
    return mean_squared_error(predictions, targets, **options)


@functools.wraps(mean_squared_error)
def wrapped_loss(predictions, targets, **options):
    CALLS.append(1)
    return mean_squared_error(predictions, targets, **options)


def typed_in():
    """A loss of code that is no module's, as a notebook or a template may run it."""
    names = {"__builtins__": __builtins__, "CALLS": CALLS, "loss": mean_squared_error}
    exec("def typed_loss(p, t, **k):\n    CALLS.append(1)\n    return loss(p, t, **k)", names)
    return names["typed_loss"]


PARTS = {
    "typed-in-loss": {"loss": typed_in()},
    "optimizer": {"optimizer": OwnOptimizer(0.1)},
    "clip": {"optimizer": SGD(0.1, clip=OwnClip(1.0))},
    "loss": {"loss": own_loss},
    "wrapped-loss": {"loss": wrapped_loss},
    "penalty": {"rule": OwnPenalty(0.1)},
    "constraint": {"rule": OwnConstraint(1.0)},
}


@pytest.mark.parametrize("compile", [None, True])
@pytest.mark.parametrize("part", PARTS)
def test_an_own_part_is_called_at_every_step(part, compile):
    own = PARTS[part]
    layer = Dense(1, use_bias=False)  # one parameter, so that every part is called once a step
    if "rule" in own:
        layer.regularize(own["rule"])
    network = Network([layer], (3,))
    loss, optimizer = own.get("loss", mean_squared_error), own.get("optimizer", SGD(0.1))
    trainer = Trainer(network, loss, optimizer, compile=compile)
    CALLS.clear()
    for _ in range(4):
        trainer.step(np.ones((2, 3), np.float32), np.ones((2, 1), np.float32))
    assert len(CALLS) == (1 if compile else 4)


@pytest.mark.parametrize("compile", [None, True])
def test_a_method_put_in_place_of_a_layers_own_is_called_at_every_step(compile):
    network, calls = Network([Dense(1)], (3,)), []
    (layer,) = network.layers
    own = layer.forward
    layer.forward = lambda z, training=False: (calls.append(1), own(z, training))[1]
    trainer = Trainer(network, mean_squared_error, SGD(0.1), compile=compile)
    for _ in range(4):
        trainer.step(np.ones((2, 3), np.float32), np.ones((2, 1), np.float32))
    assert len(calls) == (1 if compile else 4)


@pytest.mark.parametrize("compile", [None, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_method_put_in_place_of_a_classs_own_is_called_at_every_step(
    compile, wrapped, monkeypatch
):
    """Also that of a base of the class, and whatever name it says to have."""
    own, calls = Activation.forward, []

    def counting(layer, z, training=False):
        calls.append(1)
        return own(layer, z, training)

    monkeypatch.setattr(
        Activation, "forward", functools.wraps(own)(counting) if wrapped else counting
    )
    trainer = Trainer(
        Network([Dense(1), ReLU()], (3,)), mean_squared_error, SGD(0.1), compile=compile
    )
    for _ in range(4):
        trainer.step(np.ones((2, 3), np.float32), np.ones((2, 1), np.float32))
    assert len(calls) == (1 if compile else 4)
    if compile is None:
        assert "ReLU.forward is not xpnn's" in repr(trainer)


def test_an_object_put_in_place_of_a_method_is_called_at_every_step(monkeypatch):
    stand_in = Mock(side_effect=lambda z, training=False: z * 1.0)
    monkeypatch.setattr(ReLU, "forward", stand_in)
    trainer = Trainer(Network([Dense(1), ReLU()], (3,)), mean_squared_error, SGD(0.1))
    assert not trainer.compiled


PUBLIC = [
    one
    for name in xpnn.__all__
    if isinstance(one := getattr(xpnn, name), type)
    and one.__module__.split(".")[1] in ("layers", "metrics", "optimizers")
]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_all_that_comes_with_xpnn_is_known(kind):
    """Nothing in a class of xpnn's was written elsewhere."""
    assert own_part(object.__new__(kind)) is None


def test_functions_that_come_with_xpnn_are_known():
    losses = [xpnn.cross_entropy, functools.partial(xpnn.cross_entropy, class_weight=[1.0, 2.0])]
    assert own_part(*losses) is None
    assert own_part(*losses, functools.partial(own_loss, 1)) == "own_loss"
    assert own_part(np.sum) is not None
    assert own_part(len) is not None
