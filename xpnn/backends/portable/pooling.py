"""The largest entry under a window, and the way back to it.

A maximum over a rectangle is a maximum over columns of maxima over rows, so that one axis follows
another. Along an axis, entries z_0, z_1, ... of a window are compared in turn. ``won[k]`` says
whether z_k is larger than all before it; the last that has won is the first maximum. Padding is
minus infinity, so it never wins.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import Slide, batch_order, cut, fold, slid_order
from xpnn.typing import Array, Namespace


class Pooling(Sliding):
    """The part of a backend that finds maxima under windows."""

    elementwise: Callable[..., Any]

    def max_pool(self, Z: Array, slides: Sequence[Slide]) -> tuple[Array, Any]:
        """The largest entry under a window, channel by channel.

        ::

            S[n, t] = max_i Z[n, t s + i - p]

        Args:
            Z: (batch, *lengths, channels).
            slides: one for each axis; less is padded than the window is long.

        Returns:
            (batch, *positions, channels), and what ``max_pool_gradient`` wants to know of Z.
        """
        (x, first), kept = slid_order(Z, self), []
        for axis in reversed(range(len(slides))):
            entries = cut(x, first + axis, slides[axis], self, fill=-math.inf)
            x, *won = self._compare(*entries) if len(entries) > 1 else entries
            kept.append(won)
        return batch_order(x, self), kept

    def max_pool_gradient(self, delta: Array, kept: Any, slides: Sequence[Slide]) -> Array:
        """dL/dZ of ``max_pool``: all of delta for the first of the largest, row by row.

        Args:
            delta: (batch, *positions, channels).
            kept: what ``max_pool`` returned beside S.
            slides: as for ``max_pool``.

        Returns:
            (batch, *lengths, channels). Entries under several windows get the sum.
        """
        x, first = slid_order(delta, self)
        for axis, (slide, won) in enumerate(zip(slides, reversed(kept), strict=True), start=first):
            x = fold(self._share(x, *won) if won else [x], axis, slide, self)
        return batch_order(x, self)

    @functools.cached_property
    def _compare(self) -> Callable[..., Any]:
        return self.elementwise(_compared)

    @functools.cached_property
    def _share(self) -> Callable[..., Any]:
        return self.elementwise(_shared)


def _compared(xp: Namespace, best: Array, *later: Array) -> tuple[Array, ...]:
    """The maximum, and for each entry but the first whether it is larger than all before."""
    won = []
    for entry in later:
        won.append(entry > best)
        best = xp.maximum(best, entry)
    return best, *won


def _shared(xp: Namespace, delta: Array, *won: Array) -> tuple[Array, ...]:
    """All of delta for the last entry that has won, nothing for the others."""
    parts = []
    for one in reversed(won):
        share = delta * xp.astype(one, delta.dtype)
        delta = delta - share
        parts.append(share)
    return delta, *reversed(parts)
