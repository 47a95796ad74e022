"""Softmax: shares over an axis, in which each value depends on all."""

from collections.abc import Callable
from typing import Any

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.typing import Array, Namespace, Shape


class Softmax(Layer):
    """Numbers of the last axis as probabilities, which sum to 1 (Bridle, 1990).

    Forward, for inputs S of shape (batch, ..., classes)::

        Z_i = exp(S_i) / sum_j exp(S_j)

    Backward, given delta = dL/dZ::

        dL/dS_i = Z_i (delta_i - sum_j delta_j Z_j)

    The largest S is subtracted first, so nothing overflows. For training a classifier leave it out:
    ``cross_entropy`` takes S itself.

    Raises:
        ShapeError: inputs are single numbers; from where a network is made.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Softmax()], input_shape=(3,))
    >>> net.forward([[1.0, 2.0, 3.0]]).tolist()
    [[0.09003, 0.2447, 0.6652]]
    >>> net.backward(np.asarray([[1.0, 0.0, 0.0]], "float32")).tolist()
    [[0.08193, -0.02203, -0.05989]]
    """

    gives = (0.0, 1.0)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                "Softmax shares out 1 over the last axis of a sample, and samples of shape () have "
                "none; put a Dense in front of it, or read samples of shape (features,)"
            )
        return input_shape

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "sum_of_products": self.backend.sums(product_rule),
            "pass_back": elementwise(softmax_slope),
        }

    def forward(self, S: Array, training: bool = False) -> Array:
        Z = self.backend.softmax(S)
        self.cache["output"] = Z
        return Z

    def backward(self, delta: Array) -> Array:
        Z, fused = self.cache["output"], self.fused
        return fused["pass_back"](Z, delta, fused["sum_of_products"](delta, Z))


def product_rule(xp: Namespace, a: Array, b: Array) -> Array:
    """``a b``."""
    return a * b


def softmax_slope(xp: Namespace, Z: Array, delta: Array, total: Array) -> Array:
    """``dL/dS = Z (delta - total)``, where ``total`` is the sum of delta Z."""
    return xp.astype(Z * (delta - total), Z.dtype, copy=False)
