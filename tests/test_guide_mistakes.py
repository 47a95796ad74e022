"""A mistake in the use of the guide's layers is explained, and changes nothing."""

import numpy as np
import pytest

from tests.test_guide import NAND_X, NAND_Y, everything, feed, linked
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.guide import HiddenLayer, InputLayer
from xpnn.layers import Dense, Dropout, Sequential, Sigmoid, Tanh


def same_arrays(one, other):
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def stale_after_new_input(layers):
    feed(layers)
    layers[0].z = NAND_X[:2]
    return lambda: layers[-1].backprop(NAND_Y[:2])


def stale_after_an_update(layers):
    feed(layers)
    layers[-1].backprop(NAND_Y)
    return lambda: layers[-1].backprop(NAND_Y)


def stale_after_new_weights(layers):
    feed(layers)
    layers[1].bias = np.ones(4)
    return lambda: layers[-1].backprop(NAND_Y)


def fed_from_below(layers):
    return layers[-1].feedforward


def never_fed(layers):
    return lambda: layers[-1].backprop(NAND_Y)


def fed(call):
    """``call(layers)`` on a net that has been fed forward."""

    def prepare(layers):
        feed(layers)
        return lambda: call(layers)

    return prepare


MISTAKES = [
    (never_fed, XpnnError, "call feedforward"),
    (fed_from_below, XpnnError, "HiddenLayer.*number 1 .* call feedforward"),
    (stale_after_new_input, XpnnError, "call feedforward"),
    (stale_after_an_update, XpnnError, "call feedforward"),
    (stale_after_new_weights, XpnnError, "call feedforward"),
    (
        fed(lambda net: net[-1].backprop([1, 1, 1, 0])),
        ShapeError,
        r"\(4, 1\), got \(4,\); write np\.asarray\(y\)\[",
    ),
    (fed(lambda net: net[-1].backprop(NAND_Y[:3])), ShapeError, r"\(4, 1\), got \(3, 1\)"),
    (fed(lambda net: net[-1].backprop(NAND_Y * np.nan)), DataError, "y holds NaN"),
    (fed(lambda net: net[-1].backprop([["a"]] * 4)), DataError, "numbers"),
    (lambda net: lambda: setattr(net[0], "z", np.ones((4, 3))), ShapeError, r"\(batch, 2\), got"),
    (lambda net: lambda: setattr(net[0], "z", np.ones(2)), ShapeError, r"got \(2,\)"),
    (lambda net: lambda: setattr(net[0], "z", np.ones((0, 2))), ShapeError, r"got \(0, 2\)"),
    (lambda net: lambda: setattr(net[0], "z", [[1, np.inf]]), DataError, "the input holds"),
    (lambda net: lambda: setattr(net[1], "weights", np.ones((4, 2))), ShapeError, r"\(2, 4\), got"),
    (lambda net: lambda: setattr(net[1], "bias", np.ones((1, 4))), ShapeError, r"\(4,\), got"),
    (lambda net: lambda: setattr(net[1], "learning_rate", -1), ValueError, "got -1"),
    (lambda net: lambda: setattr(net[2], "learning_rate", "fast"), ValueError, "got 'fast'"),
    (lambda net: lambda: HiddenLayer(0, net[1]), ValueError, "at least one unit"),
    (lambda net: lambda: HiddenLayer(3, net[2]), TypeError, "got OutputLayer"),
    (lambda net: lambda: HiddenLayer(3, NAND_X), TypeError, "upper_layer is"),
    (lambda net: lambda: HiddenLayer(3, net[1], "sigmoid"), TypeError, "got 'sigmoid'"),
    (lambda net: lambda: HiddenLayer(3, net[1], np.tanh), TypeError, "activation is"),
    (lambda net: lambda: HiddenLayer(3, net[1], Dense), TypeError, "got <class.*Dense"),
    (lambda net: lambda: HiddenLayer(3, net[1], Dropout), TypeError, "activation is"),
    (lambda net: lambda: HiddenLayer(3, net[1], Sequential([Tanh()])), TypeError, "activation is"),
    (lambda net: lambda: HiddenLayer(3, net[1], net[1].activation), XpnnError, "make another one"),
    (lambda net: lambda: HiddenLayer(3, net[1], learning_rate=np.nan), ValueError, "got nan"),
]


@pytest.mark.parametrize(("prepare", "error", "message"), MISTAKES)
def test_a_mistake_is_explained_and_changes_nothing(backend, prepare, error, message):
    layers = linked(NAND_X, [(4, Sigmoid), (1, Sigmoid)], backend)
    call = prepare(layers)
    before, links = everything(layers), [layer.next_layer for layer in layers]
    rates = [layer.learning_rate for layer in layers[1:]]
    with pytest.raises(error, match=message):
        call()
    assert same_arrays(everything(layers), before)
    assert [layer.next_layer for layer in layers] == links
    assert [layer.learning_rate for layer in layers[1:]] == rates


def test_an_unknown_dtype_is_explained():
    with pytest.raises(ValueError, match=r"dtype is one of .*, got 'int32'"):
        InputLayer(NAND_X, dtype="int32")
