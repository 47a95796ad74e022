"""Reductions for CuPy: an elementwise rule, the sum of its results and what is made of it, at once.

``cupy.fuse`` makes one kernel of a function that ends in one reduction without ``keepdims``, with
elementwise work before and after it. With two reductions, or with a number that is an argument and
is used after the reduction, it makes one, too, but for a single multiprocessor: a hundredth of a
large GPU. So what a mean divides by comes before the sum.

Sums over rows have a block of threads for each 32 columns, which are few blocks where columns are
few and rows many. Those are cut into stretches, which are added up in a second launch.
"""

import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from xpnn.backends.cupy.bfloat16 import astype, is_half, widened
from xpnn.backends.portable.reductions import count
from xpnn.numerics import BARRED, largest_divisor
from xpnn.typing import Array, Namespace, Shape

COLUMNS, BLOCKS = 32, 512  # of a block of threads in such a sum, and blocks that fill a GPU
SHORTEST = 64  # rows of a stretch


def stretches(shape: Shape) -> int:
    """Into how many stretches to cut the rows of ``shape``, its first axis, to add them up."""
    rows, size = shape[0], math.prod(shape)
    return (
        largest_divisor(rows, min(rows // SHORTEST, COLUMNS * BLOCKS * rows // size)) if size else 1
    )


def summed(
    x: Array,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    dtype: Any = None,
    keepdims: bool = False,
) -> Array:
    """``sum``, in two launches where rows are many and columns few."""
    from array_api_compat import cupy as xp

    if (
        axis == 0
        and x.ndim > 1
        and (x.dtype.kind == "f" or is_half(x.dtype))
        and x.flags.c_contiguous
    ):
        parts = stretches(x.shape)
        if parts > 1:
            x = xp.sum(xp.reshape(x, (parts, -1, *x.shape[1:])), axis=1, dtype=dtype)
    return xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def fused(function: Callable[..., Any], rule: Callable[..., Any]) -> Callable[..., Any]:
    """One kernel, compiled when first called, by the name of the rule that it was made of."""
    import cupy

    name = re.sub(r"\W+", "_", getattr(rule, "__qualname__", "rule"))
    kernel: Callable[..., Any] = cupy.fuse(kernel_name=f"xpnn_{name}")(function)
    return kernel


def fusable(xp: Namespace) -> Namespace:
    """The namespace inside of a kernel."""
    import cupy

    # compat's sign sets NaN by a mask, its sum and max have a form of their own: none of them fuses
    own = {"sign": cupy.sign, "sum": cupy.sum, "max": cupy.max, "astype": astype}
    return SimpleNamespace(**{**vars(xp), **own})


def reduced(
    xp: Namespace,
    rule: Callable[..., Any] | None,
    finish: Callable[..., Any] | None,
    features: bool,
    mean: bool,
) -> Callable[..., Array]:
    """``Backend.sums`` and ``means``: one launch, or two where one would keep few threads busy.

    Over a batch of images: first the sum over the batch, for each position and feature by itself,
    then that over the positions. Over many rows: first that of each stretch.
    """
    xp, rule = fusable(xp), rule or itself

    def ended(terms: Array, entries: float, axis: int) -> Array:
        total = xp.sum(terms / entries if mean else terms, axis=axis)
        return total if finish is None else finish(xp, total)

    def whole(entries: float, *arrays: Array) -> Array:
        return ended(_wide(rule(xp, *widened(arrays)), xp), entries, axis=0 if features else -1)

    def over_batch(*arrays: Array) -> Array:
        return xp.sum(_wide(rule(xp, *widened(arrays)), xp), axis=0)

    def over_stretch(*arrays: Array) -> Array:
        return xp.sum(_wide(rule(xp, *widened(arrays)), xp), axis=1)

    def second(entries: float, sums: Array) -> Array:
        return ended(sums, entries, axis=0)

    whole, over_batch, over_stretch, second = (
        fused(one, rule) for one in (whole, over_batch, over_stretch, second)
    )

    def call(*arrays: Array) -> Array:
        shape = max((array.shape for array in arrays), key=math.prod)
        entries = float(count(shape, features))
        if not features:
            return whole(entries, *arrays)[..., None]
        if len(shape) > 2:
            sums = over_batch(*arrays)
        else:
            parts = stretches(shape)
            if parts == 1 or any(array.shape != shape for array in arrays):
                return whole(entries, *arrays)
            sums = over_stretch(*(xp.reshape(array, (parts, -1, shape[1])) for array in arrays))
        return second(entries, xp.reshape(sums, (-1, shape[-1])))

    return call


def itself(xp: Namespace, x: Array) -> Array:
    """The rule of a plain sum."""
    return x


def _wide(values: Array, xp: Namespace) -> Array:
    return xp.astype(values, xp.float32) if is_half(values.dtype) else values


# Softmax ------------------------------------------------------------------------------------------


class Softmax:
    """``Backend.softmax`` and ``log_softmax`` in three launches: maxima, sums of powers, shares."""

    def __init__(self, xp: Namespace):
        xp = fusable(xp)

        def top(x: Array, *barred: Array) -> Array:
            return xp.max(seen(x, *barred), axis=-1)

        def powers(x: Array, top: Array, *barred: Array) -> Array:
            return xp.sum(xp.exp(seen(x, *barred) - top), axis=-1)

        def shares(x: Array, top: Array, total: Array, *barred: Array) -> Array:
            powers = xp.exp(seen(x, *barred) - top) / total
            return powers if powers.dtype == x.dtype else xp.astype(powers, x.dtype)

        def log_shares(x: Array, top: Array, total: Array) -> Array:
            return (_wide(x, xp) - top) - xp.log(total)

        def seen(x: Array, *barred: Array) -> Array:
            x = _wide(x, xp)
            return x + xp.astype(barred[0], x.dtype) * BARRED if barred else x

        self._top, self._powers = fused(top, top), fused(powers, powers)
        self.shares, self._log_shares = fused(shares, shares), fused(log_shares, log_shares)

    def softmax(self, x: Array, *barred: Array) -> Array:
        return self.shares(x, *self.top_and_total(x, *barred), *barred)

    def log_softmax(self, x: Array) -> Array:
        return self._log_shares(x, *self.top_and_total(x))

    def top_and_total(self, x: Array, *barred: Array) -> tuple[Array, Array]:
        """Of each row the maximum, and the sum of the powers below it; they keep their axis."""
        top = self.top(x, *barred)
        return top, self.total(x, top, *barred)

    def top(self, x: Array, *barred: Array) -> Array:
        """The maximum of each row."""
        return self._top(x, *barred)[..., None]

    def total(self, x: Array, top: Array, *barred: Array) -> Array:
        """Of each row the sum of ``exp(x - top)``."""
        return self._powers(x, top, *barred)[..., None]
