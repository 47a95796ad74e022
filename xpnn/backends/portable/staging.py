"""Staging: batches on their way from the host to the device."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.typing import Array

if TYPE_CHECKING:
    from xpnn.backends.portable.base import Backend

Rows = np.ndarray | slice | None
"""Which rows of an array make a batch: their numbers, a stretch of them, or all."""
Parts = tuple[Any, ...]
"""Of a batch: NumPy arrays, arrays of the backend, and None."""


class Staging:
    """Brings batches to the device; the portable version copies each at once.

    A batch is sent, then received: between the two its copy may run beside other work of the
    device. Arrays of the backend pass through as they are.

    Args:
        backend: where the batches are wanted.
    """

    def __init__(self, backend: "Backend"):
        self.backend = backend

    def send(self, parts: Parts, rows: Rows = None) -> Any:
        """Start to bring over ``rows`` of each NumPy array; the source may change afterwards."""
        return tuple([self._sent(one, rows) for one in parts])

    def receive(self, sent: Any) -> tuple[Array | None, ...]:
        """The arrays of a batch that was sent, ready for the steps that are issued from now on."""
        return sent

    def close(self) -> None:
        """Wait until no copy runs any more."""

    def _sent(self, part: Any, rows: Rows) -> Any:
        if not isinstance(part, np.ndarray):
            return self._passed(part, rows)
        if self.backend.owns(part) and not isinstance(rows, np.ndarray):
            return part if rows is None else part[rows]
        out = np.empty(batch_shape(part, rows), native(part.dtype))
        copy_rows(part, rows, out)
        return self._put(out)

    def _put(self, batch: np.ndarray) -> Array:
        """What was gathered on the host, on the device."""
        return self.backend.from_numpy(batch)

    def _passed(self, part: Array | None, rows: Rows) -> Array | None:
        """An array that is on the device already, or its rows."""
        if part is None or rows is None:
            return part
        if isinstance(rows, slice):
            return part[rows, ...]
        return self.backend.xp.take(part, self.backend.from_numpy(rows), axis=0)

    def one_ahead(self, batches: Iterable[tuple[Parts, Rows]]) -> Iterator[tuple[Array, ...]]:
        """Each batch on the device, while the next one is on its way.

        A batch that is handed on as it is, without a copy, is handed on before the next one is
        asked for, as whoever makes batches may write the next one into the same memory. An error of
        theirs is raised when the batches before it are handed on.
        """
        waiting, failed, left = None, None, iter(batches)
        try:
            while True:
                try:
                    batch = next(left, None)
                except Exception as error:
                    batch, failed = None, error
                sent = None if batch is None else self.send(*batch)
                if waiting is not None:
                    yield self.receive(waiting)
                if batch is None:
                    break
                waiting, (parts, rows) = sent, batch
                if rows is None and any(
                    one is not None and self.backend.owns(one) for one in parts
                ):
                    waiting = None
                    yield self.receive(sent)
        finally:
            self.close()
        if failed is not None:
            raise failed


def is_mapped(values: Any) -> bool:
    """Whether ``values`` are numbers in a file, of which only what is read comes into memory."""
    base = values
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return values.dtype.kind in "biuf" and values.dtype.char != "g"
        base = base.base
    return False


def batch_shape(array: np.ndarray, rows: Rows) -> tuple[int, ...]:
    """The shape of ``rows`` of ``array``."""
    if isinstance(rows, slice):
        return (len(range(*rows.indices(array.shape[0]))), *array.shape[1:])
    return array.shape if rows is None else (len(rows), *array.shape[1:])


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in this machine's byte order."""
    return dtype.newbyteorder("=")


def copy_rows(array: np.ndarray, rows: Rows, out: np.ndarray) -> None:
    """Write ``rows`` of ``array`` into ``out``, and read nothing else of it."""
    if not isinstance(rows, np.ndarray):
        np.copyto(out, array if rows is None else array[rows])
    elif array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        # "clip" writes straight into out; "raise" would go through a copy of it
        np.take(array, rows, axis=0, out=out, mode="clip")
    else:  # which take would copy as a whole first
        np.copyto(out, array[rows])
