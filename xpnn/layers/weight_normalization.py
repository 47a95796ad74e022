"""A layer around another one, whose weight it learns as a direction and a length."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import XpnnError
from xpnn.initializers import claim
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container
from xpnn.layers.nodes import shape_made
from xpnn.layers.normalization import like, square_rule, wide_product_rule
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Range, Shape

SHORTEST = 1e-30  # of squared lengths, so that what is 0 is divided by something


class WeightNorm(Container):
    """A layer whose weight has a direction and a length of its own (Salimans and Kingma, 2016).

    Forward, for each unit j of the layer inside, with |v_j| over all axes but the last::

        w_j = g_j v_j / |v_j|               g (units,)   v of the shape of w

    and w is its weight. Backward, given dL/dw from its own backward (eq. 3)::

        dL/dg_j = dL/dw_j . v_j / |v_j|
        dL/dv_j = g_j / |v_j| (dL/dw_j - dL/dg_j v_j / |v_j|)

    v takes the place of the layer's own weight, under its name, and starts as that would; g is
    ``length``, and starts at |v|, so that at first nothing is changed. As the length of v means
    nothing, neither do rules of ``regularize`` here.

    Args:
        layer: what has a weight, such as a Dense or a convolution.

    Raises:
        XpnnError: it has none; from where a network is made.

    >>> from xpnn import Dense, Network
    >>> sorted(Network([WeightNorm(Dense(3))], input_shape=(4,)).params)
    ['0.weightnorm.layer.bias', '0.weightnorm.layer.weight', '0.weightnorm.length']
    """

    fixed: ClassVar[tuple[str, ...]] = ("layers", "layer")

    def __init__(self, layer: Layer):
        super().__init__([layer])
        self.layer = layer

    def children(self) -> dict[str, Layer]:
        return {"layer": self.layer}

    def entries(self) -> list[Layer]:
        return self.layer.entries()

    def output_shape(self, input_shape: Shape) -> Shape:
        return shape_made(self.layer, input_shape)

    def output_range(self, input_range: Range | None) -> Range | None:
        return self.layer.output_range(input_range)

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        return [input_shape]

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        shape = super().build(input_shape, backend, seed=seed, name=name, dtype=dtype)
        weight = self.layer.params.get("weight")
        if weight is None or len(weight.shape) < 2:
            raise XpnnError(
                f"WeightNorm wants a layer with a weight of two axes or more, such as a Dense or a "
                f"Conv2D, got {self.layer!r}; leave WeightNorm out"
            )
        with backend.on_device():
            self.params["length"] = backend.asarray(_lengths(weight, backend), dtype)
        return shape

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "inverse": self.backend.sums(square_rule, invert_rule, features=True),
            "sum_of_products": self.backend.sums(wide_product_rule, features=True),
            "scale": elementwise(scale_rule),
            "pass_back": elementwise(pass_back_rule),
        }

    def forward(self, Z: Array, training: bool = False) -> Array:
        params = self.layer.params
        v, g = params["weight"], self.params["length"]
        inverse = self.fused["inverse"](v)
        params["weight"] = w = self.fused["scale"](v, g, inverse)
        self.cache.update(weight=w, inverse=inverse)
        try:
            return self.layer.forward(Z, training)
        finally:
            params["weight"] = v

    def backward(self, delta: Array) -> Array | None:
        params, grads = self.layer.params, self.layer.grads
        v, g = params["weight"], self.params["length"]
        params["weight"] = self.cache["weight"]
        try:
            back = self.layer.backward(delta)
        finally:
            params["weight"] = v
        slope, inverse = grads["weight"], self.cache["inverse"]
        along = self.fused["sum_of_products"](slope, v) * inverse  # dL/dg
        grads["weight"] = self.fused["pass_back"](slope, v, g, along, inverse)
        self.grads["length"] = like(self.xp, along, g)
        return back

    def __repr__(self) -> str:
        return f"WeightNorm({self.layer!r})"


def invert_rule(xp: Namespace, squares: Array) -> Array:
    """``1 / |v|``, from the sum of squares."""
    return 1.0 / xp.sqrt(xp.maximum(squares, SHORTEST))


def scale_rule(xp: Namespace, v: Array, g: Array, inverse: Array) -> Array:
    """``w``, in the dtype of v."""
    return like(xp, widened(v, xp) * (g * inverse), v)


def pass_back_rule(
    xp: Namespace, slope: Array, v: Array, g: Array, along: Array, inverse: Array
) -> Array:
    """``dL/dv``, in the dtype of v, from dL/dw and dL/dg."""
    return like(xp, (g * inverse) * (slope - along * inverse * v), v)


def _lengths(weight: Array, backend: Backend) -> np.ndarray:
    """|v| of each unit, on the host, so that all backends start at the same; zeros for zeros."""
    shape = tuple(weight.shape)[-1:]
    if claim(shape):
        return np.zeros(shape)
    rows = backend.to_numpy(weight).astype(np.float64).reshape(-1, *shape)
    return np.sqrt(np.sum(rows * rows, axis=0))
