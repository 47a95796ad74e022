"""Sums that keep their digits, for libraries that add one term to all before it.

A running sum of n equal terms in float32 is off by n 6e-8 of itself at worst, and of 2^24 ones it
stops to grow. In blocks of at most 2048, whose sums are then added up in blocks, only what is added
within a block and how often blocks are made of blocks counts.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from xpnn.numerics import LONGEST_SUM
from xpnn.typing import Array, Namespace


def with_sums_by_blocks(
    xp: Namespace,
    keeps_digits: Callable[[Array, tuple[int, ...]], bool] = lambda x, axes: False,
) -> Namespace:
    """The namespace of a library, its ``sum`` and ``mean`` by blocks and in at least float32.

    For n terms x_i in float32 and u = 6e-8::

        |found - sum x_i| <= 2048 ceil(log n / log 2048) u sum |x_i|

    which is the worst case; where terms differ, errors cancel to about its square root. Half
    precision is added up in float32 and rounded once; integers are added as the library does it.

    Args:
        keeps_digits: whether the library by itself does as well with the sum of an array over some
            axes.
    """
    half = getattr(xp, "float16", None)  # which the standard does not have

    def summed(
        x: Array,
        /,
        *,
        axis: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        keepdims: bool = False,
    ) -> Array:
        narrow = dtype is None and x.dtype == half
        if x.size <= LONGEST_SUM and not narrow:
            return xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
        wide = xp.float32 if narrow else dtype
        axes = _numbered(axis, x.ndim)
        count = math.prod(x.shape[k] for k in axes)
        if count <= LONGEST_SUM or keeps_digits(x, axes):
            total = xp.sum(x, axis=axis, dtype=wide, keepdims=keepdims)
        else:
            total = x
            for k in axes:
                total = _along(xp, total, k, wide)
            total = total if keepdims else xp.squeeze(total, axis=axes)
        return xp.astype(total, x.dtype) if narrow else total

    def mean(
        x: Array, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
    ) -> Array:
        narrow = x.dtype == half
        total = summed(x, axis=axis, dtype=xp.float32 if narrow else None, keepdims=keepdims)
        total = total / math.prod(x.shape[k] for k in _numbered(axis, x.ndim))
        return xp.astype(total, x.dtype) if narrow else total

    return SimpleNamespace(**{**vars(xp), "sum": summed, "mean": mean})


def _along(xp: Namespace, x: Array, axis: int, dtype: Any) -> Array:
    """The sum along one axis, which stays, of length 1."""
    length = x.shape[axis]
    blocks, rest = divmod(length, LONGEST_SUM)
    if length <= LONGEST_SUM:
        return xp.sum(x, axis=axis, dtype=dtype, keepdims=True)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    whole = (slice(None),) * axis
    head = x[(*whole, slice(0, length - rest), ...)]
    head = xp.reshape(head, (*before, blocks, LONGEST_SUM, *after))
    total = _along(xp, xp.sum(head, axis=axis + 1, dtype=dtype), axis, dtype)
    if rest:
        tail = x[(*whole, slice(length - rest, length), ...)]
        total = total + xp.sum(tail, axis=axis, dtype=dtype, keepdims=True)
    return total


def _numbered(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes of a sum, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    listed = axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(k % ndim if ndim else k for k in listed))
