"""Layers with planted mistakes, and how a report begins to explain each."""

import math
from types import SimpleNamespace

import pytest

from xpnn.layers import (
    GELU,
    Dense,
    Dropout,
    Layer,
    Parallel,
    ReLU,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)


class Mistaken(Dense):
    """Dense with one gradient replaced by ``plant``, which sees all that goes into it."""

    def __init__(self, units, where, plant):
        super().__init__(units)
        self.where, self.plant = where, plant

    def backward(self, delta):
        back = super().backward(delta)
        right = back if self.where == "(input)" else self.grads[self.where]
        W = self.params["weight"]
        now = SimpleNamespace(xp=self.xp, Z=self.cache["Z"], delta=delta, W=W, right=right)
        wrong = self.plant(now)
        if self.where == "(input)":
            return wrong
        self.grads[self.where] = wrong
        return back


def mistaken(where, plant, units=2):
    """How to make such a Dense."""
    return lambda: Mistaken(units, where, plant)


def with_slope(kind, formula):
    """An activation whose backward is ``formula``, which sees S, Z, delta and its right slope."""

    class Wrong(kind):
        def forward(self, S, training=False):
            self.cache["S"], self.cache["Z"] = S, super().forward(S, training)
            return self.cache["Z"]

        def backward(self, delta):
            S, Z = self.cache["S"], self.cache["Z"]
            right = lambda array: self.slope(self.xp, array, delta)  # noqa: E731
            return formula(SimpleNamespace(S=S, Z=Z, delta=delta, right=right))

    return Wrong


class Square(Layer):
    """``Z^2``, but the 2 of its derivative is forgotten."""

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        return Z * Z

    def backward(self, delta):
        return delta * self.cache["Z"]


class Scale(Layer):
    """``g Z`` with g = 1 at first, and dL/dZ = delta without the g."""

    def init_params(self, input_shape, rng):
        return {"g": rng.uniform(1, 1, input_shape)}

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        return self.params["g"] * Z

    def backward(self, delta):
        self.grads["g"] = self.xp.sum(self.cache["Z"] * delta, axis=0)
        return delta


class MaskForgotten(Dropout):
    def backward(self, delta):
        return delta / (1 - self.rate)


class NothingInBackward(Dropout):
    def backward(self, delta):
        return delta


class ShortcutForgotten(Residual):
    def backward(self, delta):
        return self.body.backward(delta)


class BranchesSwapped(Parallel):
    def backward(self, delta):
        first, second = self.layers
        half = delta.shape[-1] // 2
        return first.backward(delta[..., half:]) + second.backward(delta[..., :half])


class DiagonalSoftmax(Softmax):
    def backward(self, delta):
        Z = self.cache["output"]
        return delta * Z * (1 - Z)


def last_sample(m):
    return m.xp.reshape(m.Z[-1, ...], (-1, 1)) * m.delta[-1, ...]


def keep_axis(m):
    return m.xp.sum(m.delta, axis=0, keepdims=True)


def dense(name, where, plant, words, shape=(4,), units=2):
    """A line of the table: a Dense with one wrong gradient."""
    return pytest.param(mistaken(where, plant, units), shape, where, words, id=name)


def activation(name, kind, formula, words):
    """A line of the table: an activation with a wrong backward."""
    return pytest.param(with_slope(kind, formula), (4,), "(input)", words, id=name)


def layer(name, make, where, words, shape=(4,)):
    """A line of the table: any other layer."""
    return pytest.param(make, shape, where, words, id=name)


BadSigmoid = with_slope(Sigmoid, lambda m: m.delta * m.S * (1 - m.S))
TO_S = "f' of the wrong array: evaluated at the input, while its formula is in the output"
TO_Z = "f' of the wrong array: evaluated at the output, while its formula is in the input"


def swapped():
    return BranchesSwapped([Dense(2), Dense(2)])


MISTAKES = [  # what is wrong, in which gradient, and how the report begins to explain it
    dense("sign", "weight", lambda m: -m.right, "sign:"),
    dense("no-sum", "bias", lambda m: m.delta, "missing sum: a gradient for each sample"),
    dense(
        "no-sum-weight", "weight", lambda m: m.Z[:, :, None] * m.delta[:, None, :], "missing sum:"
    ),
    dense("one-sample", "weight", last_sample, "missing sum: only sample 2 counts"),
    dense("no-sum-over-time", "bias", lambda m: m.delta, "missing sum:", shape=(3, 4)),
    dense("keepdims", "bias", keep_axis, "shape: an axis of length 1"),
    dense(
        "mean-for-sum",
        "bias",
        lambda m: m.xp.mean(m.delta, axis=0),
        "factor: 0.333333 times the right gradient; 1/3 is one over the batch size",
    ),
    dense(
        "times-batch",
        "weight",
        lambda m: 3.0 * m.right,
        "factor: 3 times the right gradient; 3 is the batch size",
    ),
    dense("sign-and-factor", "weight", lambda m: -2.0 * m.right, "sign and factor: -2 times"),
    dense(
        "learning-rate",
        "weight",
        lambda m: 0.01 * m.right,
        "factor: 0.01 times the right gradient; it looks like a learning rate",
    ),
    dense("odd-factor", "weight", lambda m: 1.37 * m.right, "factor: 1.37 times the right"),
    dense("turned", "weight", lambda m: m.delta.T @ m.Z, "transposed: the right numbers"),
    dense("turned-square", "weight", lambda m: m.right.T, "transposed: the right", units=4),
    dense(
        "weight-not-turned",
        "(input)",
        lambda m: m.delta @ m.W,
        "transposed: delta times weight where delta times weight^T",
        units=4,
    ),
    dense("nothing-back", "(input)", lambda m: None, "missing: backward returned None"),
    dense("nan", "bias", lambda m: m.right * math.nan, "NaN: 2 of 2 elements"),
    dense("zero", "bias", lambda m: 0.0 * m.right, "zero:"),
    dense("other-shape", "weight", lambda m: m.right[:-1, :], "shape: wanted (4, 2), that of"),
    dense("nearly-right", "weight", lambda m: 1.00001 * m.right, "precision:"),
    layer("sigmoid-of-S", BadSigmoid, "(input)", TO_S),
    activation("tanh-of-S", Tanh, lambda m: m.delta * (1 - m.S * m.S), TO_S),
    activation("silu-of-Z", SiLU, lambda m: m.right(m.Z), TO_Z),
    activation("gelu-of-Z", GELU, lambda m: m.right(m.Z), TO_Z),
    activation("softplus-of-Z", Softplus, lambda m: m.right(m.Z), TO_Z),
    activation(
        "factor-Z", Sigmoid, lambda m: m.delta * (1 - m.Z), "missing factor: times the output"
    ),
    activation("no-delta", Tanh, lambda m: 1 - m.Z * m.Z, "missing factor: times delta"),
    activation("extra-Z", Tanh, lambda m: m.right(m.Z) * m.Z, "extra factor: the output"),
    activation("relu-without-slope", ReLU, lambda m: m.delta, "delta unchanged:"),
    activation("twice", Tanh, lambda m: m.right(m.Z) + m.delta, "extra term: delta"),
    layer("no-2", Square, "(input)", "factor: 0.5 times the right gradient; a factor of 2"),
    layer("scale-of-one", Scale, "(input)", "delta unchanged:"),
    layer("mask-forgotten", lambda: MaskForgotten(0.4), "(input)", "mask:", (6,)),
    layer("no-backward", lambda: NothingInBackward(0.4), "(input)", "delta unchanged:", (6,)),
    layer(
        "shortcut-forgotten",
        lambda: ShortcutForgotten([Dense(4), Tanh()]),
        "(input)",
        "missing term: with delta added",
    ),
    layer("branches-swapped", swapped, "(input)", "swapped:"),
    layer("branches-swapped-weight", swapped, "1.dense.weight", "swapped:"),
    layer("softmax-diagonal", DiagonalSoftmax, "(input)", "unknown: 12 of 12 elements"),
]
