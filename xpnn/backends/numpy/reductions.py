"""Sums and extremes of a tape, bound in the form in which NumPy is fastest at them.

A sum over one axis is a product with ones; short rows are turned before their extremes are found.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.backends.numpy.orders import lies_by_columns
from xpnn.backends.numpy.products import LONGEST_PLAIN_SUM
from xpnn.backends.recording.calls import Call

if TYPE_CHECKING:
    from xpnn.backends.numpy.binding import Binder, Bound

SHORT_ROW = 16  # items: reducing each row of so few by itself takes longer than turning them
FOLDED_ROW = 128  # items: up to so many rows are folded to short ones; more are faster as they are
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
        return [_sum_as_product(binder, array, axis, out) or usual]
    last = array.ndim > 1 and axis in (-1, array.ndim - 1)
    if call.function in EXTREMES and last:
        if lies_by_columns(array):
            return [partial(call.function.reduce, array.T, 0, None, out.reshape(-1))]
        if array.flags.c_contiguous:
            rows = array.reshape(-1, array.shape[-1])
            return _extremes_of_rows(binder, call.function, rows, out.reshape(-1)) or [usual]
    return [usual]


def _extremes_of_rows(
    binder: "Binder", extreme: np.ufunc, rows: np.ndarray, out: np.ndarray
) -> "list[Bound]":
    """Maxima or minima of short rows: halves are laid over each other, the rest is turned.

    Reduced by itself, each row would take a call inside of NumPy. Nothing for rows that are
    long, that do not fold to short ones, or that are few.
    """
    if rows.shape[1] > min(FOLDED_ROW, len(rows)):
        return []
    bound: list[Bound] = []
    while rows.shape[1] > SHORT_ROW and rows.shape[1] % 2 == 0:
        left, right = np.split(rows, 2, axis=1)
        rows = binder.scratch(left.shape, rows.dtype)
        bound.append(partial(extreme, left, right, out=rows))
    if not 0 < rows.shape[1] <= SHORT_ROW:
        return []
    turned = binder.scratch(rows.shape[::-1], rows.dtype)
    turn = partial(np.copyto, turned, rows.T)
    return [*bound, turn, partial(extreme.reduce, turned, 0, None, out)]


def _sum_as_product(
    binder: "Binder", array: np.ndarray, axis: Any, out: np.ndarray
) -> "Bound | None":
    """A sum over one or all axes as a product with ones, up to ten times as fast."""
    if axis is None and array.size <= LONGEST_PLAIN_SUM and array.flags.c_contiguous:
        ones = binder.filled(array.dtype.type(1), (array.size,))
        return partial(array.reshape(-1).dot, ones, out) if out.ndim == 0 else None
    if not (array.ndim > 1 and array.size and array.flags.c_contiguous):
        return None
    if axis == 0:
        rows = array.reshape(array.shape[0], -1)
        return partial(binder.filled(rows.dtype.type(1), rows.shape[:1]).dot, rows, out.reshape(-1))
    if axis in (-1, array.ndim - 1) and array.shape[-1] <= LONGEST_PLAIN_SUM:
        rows = array.reshape(-1, array.shape[-1])
        return partial(rows.dot, binder.filled(rows.dtype.type(1), rows.shape[1:]), out.reshape(-1))
    if axis in (-2, array.ndim - 2) and array[0].size >= LEAST_STACKED_SUM and array.ndim == 3:
        ones = binder.filled(array.dtype.type(1), (1, array.shape[1]))
        return partial(np.matmul, ones, array, out=out.reshape(len(array), 1, -1))
    return None
