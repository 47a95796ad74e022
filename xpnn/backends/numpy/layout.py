"""Matrices lie column by column where that is faster and no call minds.

To subtract a number from each row of (batch, 10), NumPy loops over ten items for each sample. Where
columns lie behind each other, it loops over the batch ten times, in vectors; and it finds the
greatest item of each row in ten passes. Large products are faster, too, if their result lies so: a
delta times a turned matrix of weights takes OpenBLAS half to nine tenths of the time.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.shapes import cast
from xpnn.typing import Shape

FEW_COLUMNS = 16
LONG = 512  # items of the rows of a product, and of the sums in it


def laid_by_columns(
    calls: Sequence[Call], kept: set[Memory], few_columns: int = FEW_COLUMNS
) -> list[Call]:
    """The same calls, with matrices of few columns turned, and results of large products.

    A matrix stays as it is where a call minds, or where an elementwise one walks through both it
    and a matrix that stays. It is turned with those that are walked through beside it.

    Args:
        calls: of a tape.
        kept: memory that is read after the calls.
        few_columns: up to how many of them are turned.
    """
    shapes: dict[Memory, set[Shape | None]] = {}
    for view in (view for call in calls for view in call.views()):
        shapes.setdefault(view.memory, set()).add(_in_memory(view))
    free = {view.memory for call in calls for view in call.writes()} - kept
    free = {memory for memory in free if len(shapes[memory]) == 1 and None not in shapes[memory]}
    free = free.difference(*map(_minded, calls))
    paying = {
        view.memory for call in calls for view in call.writes() if _pays(call, view, few_columns)
    }
    together = connected([_walked_through(call) for call in calls])
    turned = (paying & free).difference(*together)
    turned = turned.union(*(group for group in together if group <= free and group & paying))

    def turn(view: View) -> View:
        if view.memory not in turned:
            return view
        (rows, columns), item = view.shape, view.dtype.itemsize
        by_columns = view.strides == (item, item * rows)
        strides = (item * columns, item) if by_columns else (item, item * rows)
        return view._replace(strides=strides)

    return [call.with_views(turn, turned) for call in calls]


def connected(sets: Iterable[set[Any]]) -> list[set[Any]]:
    """The sets, those that have members in common joined into one.

    >>> connected([{1, 2}, {3, 4}, {5}, {2, 3}])
    [{1, 2, 3, 4}, {5}]
    """
    group_of: dict[Any, set[Any]] = {}
    for one in sets:
        found = {id(group_of[member]): group_of[member] for member in one if member in group_of}
        largest = max(found.values(), key=len, default=set())
        for part in (one, *found.values()):
            if part is not largest:
                largest |= part
                group_of.update(dict.fromkeys(part, largest))
    return list({id(group): group for group in group_of.values()}.values())


def _in_memory(view: View) -> Shape | None:
    """The shape of the matrix that fills the memory row by row, if this is it, or it turned."""
    if len(view.shape) != 2 or min(view.shape) < 2 or view.nbytes != view.memory.nbytes:
        return None
    (rows, columns), item = view.shape, view.dtype.itemsize
    as_it_lies: dict[Shape, Shape] = {
        (item * columns, item): (rows, columns),
        (item, item * rows): (columns, rows),
    }
    return as_it_lies.get(view.strides)


def _pays(call: Call, made: View, few_columns: int) -> bool:
    """Whether what the call makes is of few columns, or is a large product."""
    if len(made.shape) != 2:
        return False
    rows, columns = made.shape
    if columns <= few_columns and 2 * columns <= rows:
        return True
    inner = call.arguments[0].shape[-1] if call.function is np.matmul else 0
    return min(columns, inner) >= LONG


def _minded(call: Call) -> set[Memory]:
    """The memory that has to lie row by row for a call."""
    if call.method == "reduce":
        return {view.memory for view in call.writes()}
    of_matrices = call.function is np.matmul and all(len(one.shape) == 2 for one in call.views())
    if of_matrices or _goes_item_by_item(call):
        return set()
    return {view.memory for view in call.views()}


def _walked_through(call: Call) -> set[Any]:
    """What an elementwise call walks through side by side; None stands for constants."""
    if not _goes_item_by_item(call):
        return set()
    shapes = [view.shape for view in call.writes()]
    operands = [*call.arguments, *call.results]
    return {getattr(one, "memory", None) for one in operands if getattr(one, "shape", 0) in shapes}


def _goes_item_by_item(call: Call) -> bool:
    return call.is_elementwise or call.function in (cast, np.where)
