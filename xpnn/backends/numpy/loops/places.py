"""Where the items of an array lie, as a loop over rows and columns meets them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xpnn.backends.recording.calls import View

Source = View | np.ndarray
Lead = tuple[tuple[int, int], ...]


class Place(NamedTuple):
    """Where the item of each row and column lies.

    Two views of one memory are the same to a loop if their places are equal, whatever their shapes.

    Attributes:
        offset: of the first item, in bytes.
        lead: length and stride, in bytes, of the axes that the rows are made of. Axes that go on
            at one step are one, so (16, 64) rows that lie behind each other are 1024.
        step: from one column to the next, in bytes.
    """

    offset: int
    lead: Lead
    step: int

    @classmethod
    def of(cls, array: Source) -> "Place":
        """Of an array whose last axis are the columns, all others the rows."""
        lead = joined(array.shape[:-1], array.strides[:-1])
        return cls(_offset_of(array), lead, array.strides[-1])

    @classmethod
    def of_rows(cls, array: Source) -> "Place":
        """Of an array that has one item for each row."""
        return cls(_offset_of(array), joined(array.shape, array.strides), 0)

    @property
    def strides(self) -> list[int]:
        """Of all axes."""
        return [*(stride for _, stride in self.lead), self.step]

    def form(self, rows: int, columns: int, item: int) -> str:
        """ "cells" or "column" if it lies row by row without gaps, "row" if all rows meet the same.

        "number" if all items are the same one; "strided" else.
        """
        steps = [stride for _, stride in self.lead]
        step = -1 if len(steps) > 1 else sum(steps)
        if self.step == 0:
            packed = {0: "number", item: "column"}
            return "column" if rows == 1 and step else packed.get(step, "strided")
        if self.step != item:
            return "strided"
        if step == columns * item or rows == 1:
            return "cells"
        return "row" if step == 0 else "strided"

    def row_starts(self) -> np.ndarray:
        """Where each row begins, in bytes from the offset."""
        starts = np.zeros(1, np.int64)
        for length, stride in self.lead:
            starts = np.add.outer(starts, np.arange(length) * stride).reshape(-1)
        return starts


def joined(lengths: Sequence[int], strides: Sequence[int]) -> Lead:
    """Axes as (length, stride), those that go on at one step joined."""
    lead: list[tuple[int, int]] = []
    for length, stride in zip(lengths, strides, strict=True):
        if length == 1:
            continue
        if lead and lead[-1][1] == length * stride:
            lead[-1] = lead[-1][0] * length, stride
        else:
            lead.append((length, stride))
    return tuple(lead)


def _offset_of(array: Source) -> int:
    """Of its first item in its memory."""
    return array.offset if isinstance(array, View) else 0
