"""Sums over an axis of what an elementwise rule returns, and what is made of such sums."""

import math
from collections.abc import Callable
from typing import Any

from xpnn.numerics import log_softmax, softmax, sum_to_features, wide_sum, widened
from xpnn.typing import Array, Namespace


class Reductions:
    """The part of a backend that adds up: on a GPU each in one kernel with its rule."""

    xp: Namespace
    elementwise: Callable[..., Any]

    def sums(
        self,
        rule: Callable[..., Any] | None,
        finish: Callable[..., Any] | None = None,
        *,
        features: bool = False,
    ) -> Callable[..., Array]:
        """The sum over the last axis of what a rule returns.

        ::

            (..., features) -> (..., 1)                     (..., features) -> (features,)
                                                            with ``features``

        Half precision is added up in float32, and stays so.

        Args:
            rule: as for ``elementwise``; it returns one array. None: the sum of the array itself.
            finish: an elementwise rule of one array, what is made of the sum.
            features: the sum over all axes but the last, rather.

        Returns:
            ``summed(*arrays)``, in at least float32.
        """
        return self._reduced(rule, finish, features, mean=False)

    def means(
        self,
        rule: Callable[..., Any] | None,
        finish: Callable[..., Any] | None = None,
        *,
        features: bool = False,
    ) -> Callable[..., Array]:
        """As ``sums``, over the number of entries that are added up."""
        return self._reduced(rule, finish, features, mean=True)

    def _reduced(
        self,
        rule: Callable[..., Any] | None,
        finish: Callable[..., Any] | None,
        features: bool,
        mean: bool,
    ) -> Callable[..., Array]:
        xp, one = self.xp, None if rule is None else self.elementwise(rule)
        finished = None if finish is None else self.elementwise(finish)

        def reduced(*arrays: Array) -> Array:
            x = arrays[0] if one is None else one(*arrays)
            if features:
                total = self.sum_to_features(widened(x, xp))
            else:
                total = wide_sum(x, xp, axis=-1, keepdims=True)
            if mean:
                total = total / count(x.shape, features)
            return total if finished is None else finished(total)

        return reduced

    def sum_to_features(self, x: Array) -> Array:
        """The sum over all axes but the last, of at least float32."""
        return sum_to_features(x, self.xp)

    def softmax(self, x: Array, barred: Array | None = None) -> Array:
        """``exp(x) / sum(exp(x))`` over the last axis.

        Entries where ``barred`` (booleans that broadcast to ``x``) count as -1e30: they come out as
        0, unless all of a row are barred, which then come out as equal. Half precision is worked
        out in float32, and rounded in the end.
        """
        return softmax(x, self.xp, barred)

    def log_softmax(self, x: Array) -> Array:
        """``x - log(sum(exp(x)))`` over the last axis, in at least float32."""
        return log_softmax(x, self.xp)


def count(shape: tuple[int, ...], features: bool) -> int:
    """How many entries are added up."""
    return math.prod(shape[:-1]) if features else shape[-1]
