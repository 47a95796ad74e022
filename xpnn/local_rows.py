"""Which rows of a batch a process has, where several train one network together."""

import math
from dataclasses import dataclass

import numpy as np

from xpnn.errors import ShapeError
from xpnn.trees import Static
from xpnn.typing import Shape


@dataclass(frozen=True)
class LocalRows(Static):
    """The rows of a batch, or of a part of one, that a process has.

    Attributes:
        first: the number of the first of them.
        count: how many they are; none, where there are fewer rows than processes.
        total: how many rows all processes have.
    """

    first: int
    count: int
    total: int

    def stretch(self, shape: Shape, axis: int = 0) -> "Stretch":
        """Where an array of these rows lies in that of the rows of all processes.

        Args:
            shape: of the array.
            axis: that numbers the rows; there may be several entries for each of them.

        Raises:
            ShapeError: that axis has no entries for some rows.

        >>> LocalRows(first=2, count=3, total=5).stretch((2, 3, 10), axis=1)
        Stretch(start=20, length=30, step=50)
        """
        entries, length = shape[axis], math.prod(shape[axis:])
        if entries == 0 or self.count == 0:
            if entries != self.count:
                raise self._unfit(shape, axis)
            return Stretch(0, 1, 1)
        if entries % self.count:
            raise self._unfit(shape, axis)
        each = length // self.count
        return Stretch(self.first * each, max(length, 1), self.total * each)

    def _unfit(self, shape: Shape, axis: int) -> ShapeError:
        return ShapeError(
            f"wanted an array of the {self.count} rows that this process has of a batch on axis "
            f"{axis}, got one of shape {tuple(shape)}; say by axis= which one numbers the samples, "
            f"or axis=None where none does"
        )


@dataclass(frozen=True)
class Stretch(Static):
    """Where the items of an array lie in a larger one: in pieces of one length.

    Item i is number ``start + i // length * step + i % length`` of the larger one.

    Attributes:
        start: where the first piece begins.
        length: how many items a piece has.
        step: from the beginning of a piece to that of the next.
    """

    start: int
    length: int
    step: int


@dataclass(frozen=True)
class Portion:
    """What one of several processes takes of each batch: its share of each part of it.

    Attributes:
        rank, size: which process of how many.
        parts: in how many parts a batch is gone through.

    >>> Portion(rank=1, size=2).of(5)
    (LocalRows(first=2, count=3, total=5),)
    """

    rank: int
    size: int
    parts: int = 1

    def of(self, total: int) -> tuple[LocalRows, ...]:
        """The rows of this process in each part of a batch of ``total`` rows."""
        found = []
        for rows in part_sizes(total, self.parts):
            first, stop = (rows * k // self.size for k in (self.rank, self.rank + 1))
            found.append(LocalRows(first, stop - first, rows))
        return tuple(found)

    def chosen(self, total: int) -> slice | np.ndarray:
        """The numbers of these rows in the whole batch; a stretch, where there is one part."""
        own, start, numbers = self.of(total), 0, []
        for part in own:
            numbers.append(slice(start + part.first, start + part.first + part.count))
            start += part.total
        if len(numbers) == 1:
            return numbers[0]
        return np.concatenate([np.arange(one.start, one.stop) for one in numbers])


def part_sizes(size: int, parts: int) -> list[int]:
    """The lengths of at most so many parts of a batch: all equal, but for a shorter last one.

    >>> part_sizes(10, 4), part_sizes(2, 4)
    ([3, 3, 3, 1], [1, 1])
    """
    length = -(-size // parts)
    return [min(length, size - start) for start in range(0, size, length)]
