"""Replica: what a layer sees of the other processes that train the same network."""

from xpnn.backends import Backend, Communicator
from xpnn.local_rows import LocalRows
from xpnn.typing import Array


class Replica:
    """One of several networks that are alike, each of which sees some rows of a batch.

    A training step lends it to the layers, as ``layer.replica``. What goes over all samples of a
    batch is summed by it; what is drawn for each sample goes by ``rows``.

    Attributes:
        parts: which rows of each part of the batch this process has.
        rows: those of the part that the layers see.
    """

    parts: tuple[LocalRows, ...]
    rows: LocalRows

    def __init__(self, communicator: Communicator, backend: Backend):
        self.communicator, self.backend = communicator, backend
        self._last: Array | None = None

    def begin(self, parts: tuple[LocalRows, ...]) -> None:
        """A step begins, on these rows."""
        self.parts, self.rows, self._last = parts, parts[0], None

    @property
    def total(self) -> int:
        """How many rows the batch has, in all processes."""
        return sum(part.total for part in self.parts)

    def all_sum(self, array: Array) -> Array:
        """The sum of the arrays of all processes.

        A recorded step may run its calls in another order, and in each process in one of its own.
        So each sum is given the one before it, and comes behind it in all of them.
        """
        self._last = self.backend.all_sum(array, self.communicator, self._last)
        return self._last
