"""Reductions for CuPy: an elementwise rule, the sum of its results and what is made of it, at once.

``cupy.fuse`` makes one kernel of a function that ends in one reduction without ``keepdims``, with
elementwise work before and after it. With two reductions it makes one, too, but of a single block.
"""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from xpnn.backends.reductions import count
from xpnn.numerics import BARRED
from xpnn.typing import Array, Namespace


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
    own = {"sign": cupy.sign, "sum": cupy.sum, "max": cupy.max}
    return SimpleNamespace(**{**vars(xp), **own})


def reduced(
    xp: Namespace,
    rule: Callable[..., Any] | None,
    finish: Callable[..., Any] | None,
    features: bool,
    mean: bool,
) -> Callable[..., Array]:
    """``Backend.sums`` and ``means``: one launch, or two where features have positions.

    Over a batch of images a single sum would keep few threads busy: first the sum over the batch,
    for each position and feature by itself, then that over the positions.
    """
    xp, rule = fusable(xp), rule or itself

    def ended(total: Array, entries: float) -> Array:
        total = total / entries if mean else total
        return total if finish is None else finish(xp, total)

    def whole(entries: float, *arrays: Array) -> Array:
        return ended(xp.sum(_wide(rule(xp, *arrays), xp), axis=0 if features else -1), entries)

    def first(*arrays: Array) -> Array:
        return xp.sum(_wide(rule(xp, *arrays), xp), axis=0)

    def second(entries: float, sums: Array) -> Array:
        return ended(xp.sum(sums, axis=0), entries)

    whole, first, second = (fused(one, rule) for one in (whole, first, second))

    def call(*arrays: Array) -> Array:
        largest = max((array for array in arrays), key=lambda array: array.size)
        entries = float(count(largest.shape, features))
        if not features:
            return whole(entries, *arrays)[..., None]
        if largest.ndim == 2:
            return whole(entries, *arrays)
        sums = first(*arrays)
        return second(entries, xp.reshape(sums, (-1, sums.shape[-1])))

    return call


def itself(xp: Namespace, x: Array) -> Array:
    """The rule of a plain sum."""
    return x


def _wide(values: Array, xp: Namespace) -> Array:
    return xp.astype(values, xp.float32) if values.dtype == xp.float16 else values


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
            return xp.exp(seen(x, *barred) - top) / total

        def log_shares(x: Array, top: Array, total: Array) -> Array:
            return (x - top) - xp.log(total)

        def seen(x: Array, *barred: Array) -> Array:
            return x + xp.astype(barred[0], x.dtype) * BARRED if barred else x

        self._top, self._powers = fused(top, top), fused(powers, powers)
        self._shares, self._log_shares = fused(shares, shares), fused(log_shares, log_shares)

    def softmax(self, x: Array, *barred: Array) -> Array:
        top, total = self._top_and_total(x, *barred)
        return self._shares(x, top, total, *barred)

    def log_softmax(self, x: Array) -> Array:
        return self._log_shares(x, *self._top_and_total(x))

    def _top_and_total(self, x: Array, *barred: Array) -> tuple[Array, Array]:
        top = self._top(x, *barred)[..., None]
        return top, self._powers(x, top, *barred)[..., None]
