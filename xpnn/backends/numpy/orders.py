"""In which order the items of an array lie in memory, and arrays seen in that order."""

from collections.abc import Sequence

import numpy as np

from xpnn.backends.recording.calls import outer_first


def lies_by_columns(array: np.ndarray) -> bool:
    """Whether it is a matrix whose columns lie behind each other."""
    return array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous


def in_order(array: np.ndarray) -> np.ndarray:
    """All items of an array in one piece, in the order in which they lie."""
    return array.transpose(outer_first(array)).reshape(-1)


def as_equal_rows(arrays: Sequence[np.ndarray], longest: int) -> list[np.ndarray] | None:
    """Arrays that lie alike and in one piece as rows of at most so many items, or as a single one.

    What is one object stays one. 0-d arrays stay as they are. None if the others do not lie so, or
    if there are no such rows.
    """
    first, count = arrays[0], 1
    order = outer_first(first)
    while first.size > count * longest:
        count *= 2
    if first.size % count:
        return None
    rows: dict[int, np.ndarray] = {}
    for one in (one for one in arrays if one.ndim):
        if one.shape != first.shape or not one.transpose(order).flags.c_contiguous:
            return None
        flat = in_order(one)
        rows[id(one)] = flat.reshape(count, -1) if count > 1 else flat
    return [rows.get(id(one), one) for one in arrays]
