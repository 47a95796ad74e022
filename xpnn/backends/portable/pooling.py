"""The largest entry under a window, or the mean of all, and the way back to them.

A maximum over a rectangle is a maximum over columns of maxima over rows, and so is a mean, so that
one axis follows another.

Maxima: along an axis, entries z_0, z_1, ... of a window are compared in turn. ``won[k]`` says
whether z_k is larger than all before it; the last that has won is the first maximum. Padding is
minus infinity, so it never wins.

Means: how many entries count under a window is the product of those along each axis. Delta is
divided by it once, and put back axis after axis.
"""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import Slide, batch_order, cut, fold, slid_order
from xpnn.numerics import add_up, widened
from xpnn.typing import Array, Namespace


class Pooling(Sliding):
    """The part of a backend that finds maxima and means under windows."""

    elementwise: Callable[..., Any]
    constant: Callable[..., Array]
    most_arrays = sys.maxsize
    """So many entries of a window are given to one call of ``elementwise``."""

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
            x, *later = cut(x, first + axis, slides[axis], self, fill=-math.inf)
            won: list[Array] = []
            for part in self._parts(later):
                x, *more = self._compare(x, *part)
                won += more
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
            shares: list[Array] = []
            for part in reversed(self._parts(won)):
                x, *more = self._share(x, *part)
                shares = more + shares
            x = fold([x, *shares], axis, slide, self)
        return batch_order(x, self)

    def average_pool(self, Z: Array, slides: Sequence[Slide], count_padding: bool = False) -> Array:
        """The mean of the entries under a window, channel by channel.

        ::

            S[n, t] = 1/m[t] sum_i Z[n, t s + i - p]

        Args:
            Z: (batch, *lengths, channels).
            slides: one for each axis; less is padded than the window is long.
            count_padding: whether m is the window's size, rather than the number of entries of Z
                under the window.

        Returns:
            (batch, *positions, channels). Half precision is added up in float32.
        """
        x, first = slid_order(Z, self)
        counts = self._counts(slides, count_padding)
        for axis in reversed(range(len(slides))):
            entries = cut(x, first + axis, slides[axis], self)
            while len(entries) > self.most_arrays:
                entries = [self._total(*part) for part in self._parts(entries)]
            x = self._mean(_along(counts[axis], first + axis, x.ndim), *entries)
        return batch_order(self.xp.astype(x, Z.dtype, copy=False), self)

    def average_pool_gradient(
        self, delta: Array, slides: Sequence[Slide], count_padding: bool = False
    ) -> Array:
        """dL/dZ of ``average_pool``: for one axis, ``dL/dZ[n, u] = sum_t delta[n, t] / m[t]``
        over the windows that cover u.

        Args:
            delta: (batch, *positions, channels).
            slides, count_padding: as for ``average_pool``.

        Returns:
            (batch, *lengths, channels).
        """
        x, first = slid_order(delta, self)
        counts = enumerate(self._counts(slides, count_padding), start=first)
        x = self._divide(x, *(_along(count, axis, x.ndim) for axis, count in counts))
        for axis, slide in enumerate(slides, start=first):
            x = fold([x] * slide.size, axis, slide, self)
        return batch_order(x, self)

    def _counts(self, slides: Sequence[Slide], count_padding: bool) -> list[Any]:
        """How many entries count along each axis: a number, or one for each position."""
        return [
            float(one.size)
            if count_padding or (one.low == 0 and one.extent <= one.length)
            else self.constant(_within(one))
            for one in slides
        ]

    def _parts(self, entries: Sequence[Array]) -> list[Sequence[Array]]:
        most = self.most_arrays
        return [entries[k : k + most] for k in range(0, len(entries), most)]

    @functools.cached_property
    def _total(self) -> Callable[..., Any]:
        return self.elementwise(_added)

    @functools.cached_property
    def _mean(self) -> Callable[..., Any]:
        return self.elementwise(_averaged)

    @functools.cached_property
    def _divide(self) -> Callable[..., Any]:
        return self.elementwise(_divided)

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


def _added(xp: Namespace, *entries: Array) -> Array:
    """The sum of the entries, of half precision in float32."""
    return add_up(entries, xp)


def _averaged(xp: Namespace, count: Array | float, *entries: Array) -> Array:
    """The sum of the entries over how many of them count."""
    total = add_up(entries, xp)
    return xp.astype(total / count, entries[0].dtype, copy=False)


def _divided(xp: Namespace, delta: Array, *counts: Array | float) -> Array:
    """Delta over the product of what counts along each axis."""
    return xp.astype(widened(delta, xp) / math.prod(counts), delta.dtype, copy=False)


def _within(slide: Slide) -> tuple[float, ...]:
    """How many entries of the axis lie under the window, for each position."""
    starts = (t * slide.stride - slide.low for t in range(slide.positions))
    return tuple(float(min(u + slide.size, slide.length) - max(u, 0)) for u in starts)


def _along(count: Any, axis: int, axes: int) -> Any:
    """Numbers along one of so many axes; a single number as it is."""
    if isinstance(count, float):
        return count
    return count[(slice(None),) + (None,) * (axes - axis - 1)]
