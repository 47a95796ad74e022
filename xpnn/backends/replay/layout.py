"""Matrices of few columns lie column by column, where no call minds.

To subtract a number from each row of (batch, 10), NumPy loops over ten items for each sample. Where
columns lie behind each other, it loops over the batch ten times, in vectors; and it finds the
greatest item of each row in ten passes.
"""

from collections.abc import Sequence

import numpy as np

from xpnn.backends.replay.calls import Call, Memory, View
from xpnn.backends.replay.stand_ins import cast

FEW_COLUMNS = 16


def laid_by_columns(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The same calls, with matrices of few columns turned.

    A matrix stays as it is where a call minds, or where an elementwise one walks through both it
    and a matrix that stays.

    Args:
        calls: of a tape.
        kept: memory that is read behind the calls.
    """
    turned = {view.memory for call in calls for view in call.writes()} - kept
    for call in calls:
        turned -= {view.memory for view in call.views() if not _has_few_columns(view)}
        turned -= _minded(call)
    walks = [_walked_through(call) for call in calls]
    while mixed := [walk for walk in walks if not walk <= turned and walk & turned]:
        turned = turned.difference(*mixed)

    def turn(view: View) -> View:
        if view.memory not in turned:
            return view
        return view._replace(strides=(view.dtype.itemsize, view.dtype.itemsize * view.shape[0]))

    return [call.with_views(turn) for call in calls]


def lies_by_columns(array: np.ndarray) -> bool:
    """Whether it is a matrix whose columns lie behind each other."""
    return array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous


def _has_few_columns(view: View) -> bool:
    if len(view.shape) != 2 or not view.is_whole:
        return False
    rows, columns = view.shape
    return 1 < columns <= FEW_COLUMNS and 2 * columns <= rows


def _minded(call: Call) -> set[Memory]:
    """The memory that has to lie row by row for a call."""
    if call.method == "reduce":
        return {view.memory for view in call.writes()}
    of_matrices = call.function is np.matmul and all(len(one.shape) == 2 for one in call.views())
    if of_matrices or _goes_item_by_item(call):
        return set()
    return {view.memory for view in call.views()}


def _walked_through(call: Call) -> set[Memory | None]:
    """What an elementwise call walks through side by side; None stands for constants."""
    if not _goes_item_by_item(call):
        return set()
    shapes = [view.shape for view in call.writes()]
    operands = [*call.arguments, *call.results]
    return {getattr(one, "memory", None) for one in operands if getattr(one, "shape", 0) in shapes}


def _goes_item_by_item(call: Call) -> bool:
    return call.is_elementwise or call.function is cast
