"""Mean 0 and variance 1 over some axes: forward and backward, whichever they are."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import ones, zeros
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape
from xpnn.weak_methods import without_holding


class Normalization(Layer):
    """Base of all normalisations: a scale and a shift for each feature, and the elementwise parts.

    Forward, with m and v the mean and variance of Z::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward: Z enters S three times: by itself, through m and through v. Given delta = dL/dS, the
    three together are, with means over the same axes as m and v (Ioffe and Szegedy, 2015, section
    3, put together)::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    A new normalisation says in ``means`` what it averages over: here the last axis.

    Args:
        epsilon: keeps the division finite where the variance is near zero.
    """

    gives = ANY_NUMBER

    def __init__(self, epsilon: float):
        super().__init__()
        if not epsilon > 0:
            raise ValueError(f"{type(self).__name__} needs epsilon above 0, got epsilon={epsilon}")
        self.epsilon = float(epsilon)

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        """A function of arrays: the means of what a rule returns, as ``Backend.means`` has it.

        Over the last axis here; in any case in a shape that broadcasts against the arrays.
        """
        return self.backend.means(rule, finish)

    def swept(self, rule: Callable[..., Any] | None) -> Callable[..., Any]:
        """The rule as a sweep, for ``means`` of a kind's own; what hands on its array for None."""
        return (lambda x: x) if rule is None else self.backend.elementwise(rule)

    def centre(self, Z: Array, training: bool) -> tuple[Array, Array]:
        """Z - m and r, which is in at least float32."""
        centred = Z - self.fused["mean"](Z)
        return centred, self.fused["inverse"](centred)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                f"{self!r} wants inputs of shape (..., features), got single numbers; give the "
                f"network input_shape=(1,) and inputs of shape (batch, 1)"
            )
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        shape = input_shape[-1:]
        return {"scale": ones(shape, rng), "shift": zeros(shape, rng)}

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "mean": self.means(None),
            "inverse": self.means(square_rule, without_holding(self.invert_rule)),
            "mean_of_products": self.means(wide_product_rule),
            "sum_of_products": self.backend.sums(wide_product_rule, features=True),
            "sum": self.backend.sums(None, features=True),
            "slope": elementwise(wide_product_rule),
            "scale": elementwise(scale_rule),
            "pass_back": elementwise(pass_back_rule),
        }

    def invert_rule(self, xp: Namespace, variance: Array) -> Array:
        """``r = 1 / sqrt(v + epsilon)``, NaN for a variance that has overflown."""
        variance = variance + self.epsilon
        return xp.sqrt(variance) / variance

    def forward(self, Z: Array, training: bool = False) -> Array:
        centred, inverse = self.centre(Z, training)
        shift = self.params.get("shift", 0.0)
        X, S = self.fused["scale"](centred, inverse, self.params["scale"], shift)
        self.cache.update(X=X, inverse=inverse)
        return S

    def backward(self, delta: Array) -> Array:
        X, scale = self.cache["X"], self.params["scale"]
        self.learn(delta, X)
        G = self.fused["slope"](delta, scale)
        means = self.fused["mean"](G), self.fused["mean_of_products"](G, X)
        return self.fused["pass_back"](G, X, *means, self.cache["inverse"], scale)

    def learn(self, delta: Array, X: Array) -> tuple[Array, Array | None]:
        """Write the gradients; returns the sums of delta X and of delta, in float32 or wider."""
        xp, scale = self.xp, self.params["scale"]
        sums = self.fused["sum_of_products"](delta, X), None
        self.grads["scale"] = like(xp, sums[0], scale)
        if "shift" in self.params:
            sums = sums[0], self.fused["sum"](delta)
            self.grads["shift"] = like(xp, sums[1], scale)
        return sums

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def square_rule(xp: Namespace, x: Array) -> Array:
    """``x^2``, in at least float32."""
    x = widened(x, xp)
    return x * x


def wide_product_rule(xp: Namespace, x: Array, y: Array) -> Array:
    """``x y``, likewise."""
    return widened(x, xp) * widened(y, xp)


def scale_rule(
    xp: Namespace, centred: Array, inverse: Array, scale: Array, shift: Array
) -> tuple[Array, Array]:
    """X and S, in the dtype of the parameters."""
    X = centred * inverse
    return like(xp, X, scale), like(xp, X * scale + shift, scale)


def pass_back_rule(
    xp: Namespace, G: Array, X: Array, mean_g: Array, mean_gx: Array, inverse: Array, scale: Array
) -> Array:
    """dL/dZ, in the dtype of the parameters."""
    return like(xp, inverse * (G - mean_g - X * mean_gx), scale)


def like(xp: Namespace, x: Array, other: Array) -> Array:
    """``x`` in the dtype of ``other``."""
    return x if x.dtype == other.dtype else xp.astype(x, other.dtype)
