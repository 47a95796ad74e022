"""In which order the items of an array lie in memory, and arrays seen in that order."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from xpnn.backends.recording.calls import outer_first
from xpnn.backends.recording.stand_ins import address_of


class Stretches:
    """Stretches of memory, from one address up to another, of which no two overlap."""

    def __init__(self) -> None:
        self._sorted: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> bool:
        """Keep one more; False if it overlaps with one that is kept."""
        at = bisect_left(self._sorted, (start, stop))
        before, after = self._sorted[max(at - 1, 0) : at], self._sorted[at : at + 1]
        if any(begin < stop and start < end for begin, end in (*before, *after)):
            return False
        if start < stop:
            self._sorted.insert(at, (start, stop))
        return True


def stretch_of(array: np.ndarray) -> tuple[int, int]:
    """The addresses of the first byte, and of the one behind the last, of an array in one piece."""
    start = address_of(array)
    return start, start + array.nbytes


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
