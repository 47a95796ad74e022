"""Batches: the rows of an epoch, in order, on the device."""

from collections.abc import Iterator
from typing import Any

from xpnn.backends import Backend
from xpnn.data.splits import shuffled_order
from xpnn.typing import Array


class Batches:
    """Rows of several arrays, ``batch_size`` at a time; the last batch may be smaller.

    In order, batches are slices and nothing is copied. Shuffled, the order is drawn on the host,
    moved to the device once, and each batch is gathered there.

    Args:
        arrays: on ``backend``, of equal length; None stays None.
        batch_size: rows in a batch.
        backend: where the arrays live.
        seed, epoch: what the order is drawn from.
        shuffle: whether there is an order to draw.
    """

    def __init__(
        self,
        arrays: tuple[Array | None, ...],
        batch_size: int,
        backend: Backend,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
    ):
        self.arrays, self.batch_size, self.xp = arrays, batch_size, backend.xp
        self.rows = next(array.shape[0] for array in arrays if array is not None)
        self.order = (
            backend.from_numpy(shuffled_order(self.rows, seed, epoch + 1)) if shuffle else None
        )

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """Batch ``number``, counted from 0."""
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} batches, numbered from 0, got {number}")
        return self._rows_from(number * self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return map(self._rows_from, range(0, self.rows, self.batch_size))

    def _rows_from(self, start: int) -> tuple[Any, ...]:
        rows = slice(start, min(start + self.batch_size, self.rows))
        if self.order is None:
            return tuple([None if a is None else a[rows, ...] for a in self.arrays])
        take, chosen = self.xp.take, self.order[rows]
        return tuple([None if a is None else take(a, chosen, axis=0) for a in self.arrays])
