"""Sums as loops and kernels want them: over all of their axes at once, or rows first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View, packed
from xpnn.backends.recording.shapes import is_float


def first_axes(call: Call) -> int:
    """How many axes, from the first on, a call adds up; 0 if it does something else."""
    axis = call.options.get("axis", 0)
    axes = axis if isinstance(axis, tuple) else (axis,)
    is_sum = call.method == "reduce" and call.function is np.add and not call.in_place
    plain = is_sum and not call.options.get("keepdims") and isinstance(call.arguments[0], View)
    return len(axes) if plain and axes == tuple(range(len(axes))) else 0


def with_joined_sums(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The same calls, sums over first axes of such sums as one sum over all of these axes.

    Args:
        calls: of a recording.
        kept: memory that is read before or after them.
    """
    readers = Counter(view.memory for call in calls for view in call.reads())
    found: list[Call] = []
    for call in calls:
        more = _more_axes(found[-1], call) if found else 0
        if more and all(
            readers[one.memory] == 1 and one.memory not in kept for one in call.reads()
        ):
            before = found.pop()
            options = {**before.options, "axis": tuple(range(first_axes(before) + more))}
            call = replace(before, options=options, results=call.results)
        found.append(call)
    return found


def _more_axes(before: Call, call: Call) -> int:
    """How many axes of the sums of the call before it a call adds up, which may see them as one."""
    if not (first_axes(before) and first_axes(call) == 1):
        return 0
    (made,), (read,), (total,) = before.writes(), call.reads(), call.writes()
    if len(read.shape) < 2:
        return 0
    count = len(made.shape) - len(read.shape) + 1
    whole = made.memory is read.memory and made.is_whole and read.is_whole
    same = made.dtype == read.dtype == total.dtype and made.shape[count:] == read.shape[1:]
    return count if whole and same else 0


def parts_of(call: Call) -> list[Call]:
    """A sum over several of the first axes as one over the very first, and one over the others.

    Any other call is its only part.
    """
    count = first_axes(call)
    if count < 2:
        return [call]
    (source,), item = call.arguments, call.results[0].dtype.itemsize
    shape = source.shape[1:]
    rows = math.prod(shape[: count - 1]), *shape[count - 1 :]
    memory = Memory(math.prod(shape) * item)
    made = View(memory, 0, shape, packed(shape, item), call.results[0].dtype)
    read = made._replace(shape=rows, strides=packed(rows, item))
    options = {**call.options, "axis": 0}
    first = replace(call, options=options, results=[made])
    return [first, replace(call, options=options, arguments=(read,))]


def totals_by_rows(calls: Sequence[Call], longest: int) -> list[Call]:
    """Sums of all numbers as sums of rows, and then of these.

    Args:
        calls: of a recording.
        longest: how many numbers a row may have.
    """
    return [part for call in calls for part in _by_rows(call, longest)]


def _by_rows(call: Call, longest: int) -> list[Call]:
    if call.method != "reduce" or call.function is not np.add or call.in_place:
        return [call]
    (array,), (result,) = call.arguments, call.results
    if not isinstance(array, View) or not is_float(array.dtype) or array.dtype != result.dtype:
        return [call]
    all_axes = call.options.get("axis", 0) is None
    if not all_axes or len(array.shape) < 2 or array.shape[-1] > longest:
        return [call]
    shape, item = (*array.shape[:-1], 1), array.dtype.itemsize
    rows = View(Memory(math.prod(shape) * item), 0, shape, packed(shape, item), array.dtype)
    options = {**call.options, "axis": -1, "keepdims": True}
    return [replace(call, options=options, results=[rows]), replace(call, arguments=(rows,))]
