"""Sums and extremes of a tape, bound in the form in which NumPy is fastest at them.

A sum over one axis is a product with ones. Extremes of rows go over columns that lie in line.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.backends.numpy.orders import lies_by_columns
from xpnn.backends.recording.calls import Call
from xpnn.numerics import LONGEST_SUM

if TYPE_CHECKING:
    from xpnn.backends.numpy.binding import Binder, Bound

LONGEST_PLAIN_SUM = 1024  # addends: NumPy's own way of summing keeps more digits of longer rows
LEAST_STACKED_SUM = 4096  # items of each matrix of a stack, for a product to pay
EXTREMES = (np.maximum, np.minimum)


def reduction(binder: "Binder", call: Call) -> "list[Bound]":
    """A sum, a maximum: over some axes, into its target."""
    (source,) = call.arguments
    options = dict(call.options)
    axis, dtype = options.pop("axis", 0), options.pop("dtype", None)
    array, out = binder.array(source), binder.target(call)
    usual = partial(call.function.reduce, array, axis, dtype, out, **options)
    if options.keys() - {"keepdims"} or array.dtype != out.dtype:
        return [usual]
    if call.function is np.add and array.dtype.char in "fd":
        if lies_by_columns(array) and not isinstance(axis, tuple):
            array, axis = array.T, None if axis is None else 1 - axis % 2
        return _sum_as_product(binder, array, axis, out) or [usual]
    last = array.ndim > 1 and axis in (-1, array.ndim - 1)
    if call.function in EXTREMES and last and lies_by_columns(array):
        return [partial(call.function.reduce, array.T, 0, None, out.reshape(-1))]
    return [usual]


def _sum_as_product(
    binder: "Binder", array: np.ndarray, axis: Any, out: np.ndarray
) -> "list[Bound] | None":
    """A sum over one or all axes as a product with ones, up to ten times as fast.

    That adds one row after another: of more than ``LONGEST_SUM``, in blocks of so many.
    """
    if axis is None and array.size <= LONGEST_PLAIN_SUM and array.flags.c_contiguous:
        ones = binder.filled(array.dtype.type(1), (array.size,))
        return [partial(array.reshape(-1).dot, ones, out)] if out.ndim == 0 else None
    if not (array.ndim > 1 and array.size and array.flags.c_contiguous):
        return None
    if axis == 0:
        rows, one = array.reshape(array.shape[0], -1), array.dtype.type(1)
        blocks = [rows[k : k + LONGEST_SUM] for k in range(0, len(rows), LONGEST_SUM)]
        if len(blocks) == 1:
            return [partial(binder.filled(one, rows.shape[:1]).dot, rows, out.reshape(-1))]
        sums = binder.scratch((len(blocks), rows.shape[1]), rows.dtype)
        each = [
            partial(binder.filled(one, block.shape[:1]).dot, block, total)
            for block, total in zip(blocks, sums, strict=True)
        ]
        return [*each, partial(np.add.reduce, sums, 0, None, out.reshape(-1))]
    if axis in (-1, array.ndim - 1) and array.shape[-1] <= LONGEST_PLAIN_SUM:
        rows = array.reshape(-1, array.shape[-1])
        ones = binder.filled(rows.dtype.type(1), rows.shape[1:])
        return [partial(rows.dot, ones, out.reshape(-1))]
    if axis in (-2, array.ndim - 2) and array[0].size >= LEAST_STACKED_SUM and array.ndim == 3:
        ones = binder.filled(array.dtype.type(1), (1, array.shape[1]))
        return [partial(np.matmul, ones, array, out=out.reshape(len(array), 1, -1))]
    return None
