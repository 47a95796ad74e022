"""Statistics over each sample's own values, alike in training and evaluation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import ones
from xpnn.layers.normalization.base import Normalization
from xpnn.numerics import widened
from xpnn.typing import Array, Shape


class LayerNorm(Normalization):
    """Each position of each sample over its features (Ba et al., 2016, eq. 3 and 4).

    Forward, for inputs Z of shape (batch, ..., features), with m and v the mean and variance over
    the last axis, in training and in prediction alike::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    Args:
        epsilon: keeps the division finite where the variance is near zero.

    >>> from xpnn import Network
    >>> Network([LayerNorm()], input_shape=(4,)).predict([[1.0, 3.0, 1.0, 3.0]]).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(self, *, epsilon: float = 1e-5):
        super().__init__(epsilon)


class RMSNorm(Normalization):
    """``LayerNorm`` without the mean and the shift (Zhang and Sennrich, 2019, eq. 4).

    Forward, for inputs Z of shape (batch, ..., features), with means over the last axis::

        r = 1 / sqrt(mean(Z^2) + epsilon)        X = Z r        S = X scale

    Backward, given delta = dL/dS::

        G = dL/dX = delta scale                  dL/dZ = r (G - X mean(G X))
        dL/dscale = sum of delta X               (over all but the last axis)

    Args:
        epsilon: keeps the division finite for inputs near zero.

    >>> from xpnn import Network
    >>> Network([RMSNorm()], input_shape=(4,)).predict([[1.0, 7.0, 1.0, 7.0]]).tolist()
    [[0.2, 1.4, 0.2, 1.4]]
    """

    def __init__(self, *, epsilon: float = 1e-6):
        super().__init__(epsilon)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        return {"scale": ones(input_shape[-1:], rng)}

    def centre(self, Z: Array, training: bool) -> tuple[Array, Array]:
        return Z, self.fused["inverse"](Z)

    def backward(self, delta: Array) -> Array:
        X, scale = self.cache["X"], self.params["scale"]
        self.learn(delta, X)
        G = self.fused["slope"](delta, scale)
        mean = self.fused["mean_of_products"](G, X)
        return self.fused["pass_back"](G, X, 0.0, mean, self.cache["inverse"], scale)


class GroupNorm(Normalization):
    """Each group of neighbouring features of a sample, over all positions (Wu and He, 2018).

    Forward, for inputs Z of shape (batch, *positions, features), with m and v the mean and variance
    over the positions (time, height, width) and over the features of a group::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    With one group that is all of the sample; with one group a feature it is ``InstanceNorm``.

    Args:
        groups: how many groups the features are cut into, all of one size.
        epsilon: keeps the division finite where the variance is near zero.

    Raises:
        ShapeError: the groups do not divide the features; from where a network is made.

    >>> from xpnn import Network
    >>> Network([GroupNorm(2)], input_shape=(4,)).predict([[1.0, 3.0, 5.0, 9.0]]).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    fixed = ("groups",)

    def __init__(self, groups: int, *, epsilon: float = 1e-5):
        super().__init__(epsilon)
        if groups < 1:
            raise ValueError(f"GroupNorm needs at least one group, got groups={groups}")
        self.groups = groups

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = super().output_shape(input_shape)
        if shape[-1] % self.groups:
            raise ShapeError(
                f"GroupNorm({self.groups}) cannot cut {shape[-1]} features into {self.groups} "
                f"groups of one size; choose a divisor of {shape[-1]}"
            )
        return shape

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        xp, groups = self.xp, self.groups
        one, finished = map(self.swept, (rule, finish))

        def averaged(*arrays: Array) -> Array:
            X = widened(one(*arrays), xp)
            batch, *between, features = X.shape
            width = features // groups
            for _ in between:  # one axis after another, which NumPy does many times as fast
                X = xp.mean(X, axis=1)
            means = finished(xp.mean(xp.reshape(X, (batch, groups, width)), axis=2, keepdims=True))
            means = xp.broadcast_to(means, (batch, groups, width))
            return xp.reshape(means, (batch, *[1] * len(between), features))

        return averaged

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups})"


class InstanceNorm(Normalization):
    """Each feature of each sample over its positions (Ulyanov et al., 2016, eq. 4).

    Forward, for inputs Z of shape (batch, *positions, features), with m and v the mean and variance
    over the positions (time, height, width), in training and in prediction alike::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    What is left of an image is free of its contrast. With its scale and shift it is
    ``torch.nn.InstanceNorm2d(features, affine=True)``.

    Args:
        epsilon: keeps the division finite where the variance is near zero.

    Raises:
        ShapeError: inputs have no positions; from where a network is made.

    >>> InstanceNorm().output_shape((28, 28, 8))
    (28, 28, 8)
    """

    def __init__(self, *, epsilon: float = 1e-5):
        super().__init__(epsilon)

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape[:-1]) < 2:
            raise ShapeError(
                f"{self!r} goes over the positions of a sample, (*positions, features), and inputs "
                f"of shape {input_shape} have one, or none; normalise them by BatchNorm or "
                f"LayerNorm"
            )
        return input_shape

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        xp = self.xp
        one, finished = map(self.swept, (rule, finish))

        def averaged(*arrays: Array) -> Array:
            X = widened(one(*arrays), xp)
            for axis in range(1, X.ndim - 1):  # each by itself, which NumPy does faster
                X = xp.mean(X, axis=axis, keepdims=True)
            return finished(X)

        return averaged
