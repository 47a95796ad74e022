"""Which rows of a batch a process has, where several train one network together."""

from dataclasses import dataclass

import numpy as np

from xpnn.trees import Static


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
