"""Normalisation over groups of features."""

import math
from collections.abc import Callable
from typing import Any

from xpnn.errors import ShapeError
from xpnn.layers.normalization import Normalization
from xpnn.typing import Array, Shape


class GroupNorm(Normalization):
    """Each group of neighbouring features of a sample, over all positions (Wu and He, 2018).

    m and v are means over the positions (time, height, width) and over the features of a group.
    With one group that is all of the sample; with one group a feature it is instance normalisation
    (Ulyanov et al., 2016).

    Args:
        groups: how many groups the features are cut into, all of one size.
        epsilon: keeps the division finite where the variance is near zero.
    """

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
        assert self.backend is not None
        xp, one, finished = self.xp, *map(self._swept, (rule, finish))

        def averaged(*arrays: Array) -> Array:
            X = one(*arrays)
            batch, *between, features = X.shape
            width = features // self.groups
            for _ in between:  # one axis after another, which NumPy does many times as fast
                X = xp.sum(X, axis=1)
            sums = xp.sum(xp.reshape(X, (batch, self.groups, width)), axis=2, keepdims=True)
            means = finished(sums / (math.prod(between) * width))
            means = xp.broadcast_to(means, (batch, self.groups, width))
            return xp.reshape(means, (batch, *[1] * len(between), features))

        return averaged

    def _swept(self, rule: Callable[..., Any] | None) -> Callable[..., Any]:
        assert self.backend is not None
        return (lambda x: x) if rule is None else self.backend.elementwise(rule)

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups})"
