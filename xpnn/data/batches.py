"""Batches: the rows of an epoch, in order, on the device."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np

from xpnn.backends import Backend
from xpnn.backends.portable.staging import Staging
from xpnn.data.splits import shuffled_order
from xpnn.local_rows import LocalRows, Portion
from xpnn.typing import Array


class Batches:
    """Rows of several arrays, ``batch_size`` at a time; the last batch may be smaller.

    Arrays of the backend stay where they are. In order, their batches are slices and nothing is
    copied; shuffled, the order is drawn on the host, moved to the device once, and each batch is
    gathered there. NumPy arrays of any numeric dtype may stay on the host: each batch is gathered
    there and brought over while the step before it runs. The order is the same.

    Args:
        arrays: of equal length; None stays None.
        batch_size: rows in a batch.
        backend: where the batches are wanted.
        seed, epoch: what the order is drawn from.
        shuffle: whether there is an order to draw.
        rows: numbers of the rows to take; all, unless given.
        staging: the way to the device for what lies on the host; one of its own unless given.

    Attributes:
        portion: which rows of each batch are taken, where other processes take the others.

    >>> import numpy as np
    >>> from xpnn import get_backend
    >>> x, y = np.arange(5), np.arange(5) ** 2
    >>> for rows, squares in Batches((x, y), 2, get_backend("numpy")):
    ...     print(rows, squares)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """

    portion: Portion | None = None
    checksum: ClassVar[int] = 0  # these are compared before the first step; see ``Stream``

    def __init__(
        self,
        arrays: tuple[Array | None, ...],
        batch_size: int,
        backend: Backend,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        rows: np.ndarray | None = None,
        staging: Staging | None = None,
    ):
        self.arrays, self.batch_size = arrays, batch_size
        self.backend, self.xp = backend, backend.xp
        self.rows = next(a.shape[0] for a in arrays if a is not None) if rows is None else len(rows)
        if shuffle:
            order = shuffled_order(self.rows, seed, epoch + 1)
            rows = order if rows is None else rows[order]
        self.shuffle, self.staging = shuffle, None
        if any(_is_staged(array, backend) for array in arrays):
            self.staging, self.order = staging or backend.staging(), rows
        else:
            self.order = None if rows is None else backend.from_numpy(rows)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __repr__(self) -> str:
        return f"<{len(self)} batches of {self.rows} samples, {self.batch_size} at a time>"

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return len(self)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """Batch ``number``, counted from 0."""
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} batches, numbered from 0, got {number}")
        start = number * self.batch_size
        if self.staging is None:
            return self._rows_from(start)
        return self.staging.receive(self.staging.send(self.arrays, self._chosen(start)))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.starting_at(0)

    def taking(self, portion: Portion | None, is_shared: bool) -> Self:
        """These batches, of which that portion is taken, if one is given; as of ``Stream``."""
        self.portion = portion
        return self

    def starting_at(self, number: int, turn: tuple[int, int] = (0, 1)) -> Iterator[tuple[Any, ...]]:
        """The batches from ``number`` on, counted from 0.

        Args:
            turn: ``(k, n)``, to have one of ``n`` batches, first that ``k`` behind ``number``.
        """
        first, every = (number + turn[0]) * self.batch_size, turn[1] * self.batch_size
        starts = range(first, self.rows, every)
        if self.staging is None:
            return map(self._rows_from, starts)
        return self.staging.one_ahead((self.arrays, self._chosen(k)) for k in starts)

    def local_rows(self, number: int) -> tuple[LocalRows, ...] | None:
        """Which rows of batch ``number`` are taken; None where all are."""
        start = number * self.batch_size
        total = min(start + self.batch_size, self.rows) - start
        return None if self.portion is None else self.portion.of(total)

    def _chosen(self, start: int) -> Any:
        rows: Any = slice(start, min(start + self.batch_size, self.rows))
        if self.portion is not None:
            rows = self._own_part(rows)
        return rows if self.order is None else self.order[rows]

    def _own_part(self, rows: slice) -> Any:
        assert self.portion is not None
        chosen = self.portion.chosen(rows.stop - rows.start)
        if isinstance(chosen, slice):
            return slice(rows.start + chosen.start, rows.start + chosen.stop)
        chosen = chosen + rows.start
        return chosen if self.staging is not None else self.backend.from_numpy(chosen)

    def _rows_from(self, start: int) -> tuple[Any, ...]:
        chosen = self._chosen(start)
        if isinstance(chosen, slice):
            return tuple([None if a is None else a[chosen, ...] for a in self.arrays])
        take = self.xp.take
        return tuple([None if a is None else take(a, chosen, axis=0) for a in self.arrays])


class Samples:
    """Arrays to train on or to measure with, and how batches are made of them.

    Args:
        arrays: of equal length, on ``backend`` or NumPy arrays on the host; None stays None.
        backend: where the batches are wanted.
        rows: see ``Batches``.
    """

    def __init__(
        self,
        arrays: tuple[Any, ...],
        backend: Backend,
        rows: np.ndarray | None = None,
    ):
        self.arrays, self.backend, self.rows = arrays, backend, rows
        self._staging: Staging | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.rows is not None else int(self.arrays[0].shape[0])

    def __repr__(self) -> str:
        return f"<{len(self)} samples for {self.backend.spec}>"

    def of_rows(self, rows: np.ndarray) -> "Samples":
        """Some of these samples, by their numbers."""
        return Samples(self.arrays, self.backend, rows)

    def batches(
        self, batch_size: int, *, seed: int = 0, epoch: int = 0, shuffle: bool = False
    ) -> Batches:
        """The batches of an epoch; all epochs share the memory that batches are staged in."""
        batches = Batches(
            self.arrays,
            batch_size,
            self.backend,
            seed=seed,
            epoch=epoch,
            shuffle=shuffle,
            rows=self.rows,
            staging=self._staging,
        )
        self._staging = batches.staging
        return batches


def _is_staged(array: Array | None, backend: Backend) -> bool:
    """Whether batches of it take the way over the host; not if the backend gathers as well."""
    if not isinstance(array, np.ndarray):
        return False
    return not (backend.owns(array) and array.flags.c_contiguous and array.flags.aligned)
