"""Batches on their way to an NVIDIA GPU: pinned memory, a stream for copies, events between them.

::

    host         gather k+1 into pinned memory      launch step k      gather k+2 ...
    copies                               copy k+1 (after step k-1)
    compute      ... step k-1                       step k             step k+1 (after copy k+1)

Three things must not happen, and an event stands before each:

* pinned memory is written to before its last copy has been made: the host waits for the event
  behind that copy, two batches back;
* a batch is read before it is there: the computing stream waits for the same event;
* a copy goes into memory that a step still reads. The arrays of a batch come from CuPy's pool for
  the computing stream, where memory is free again as soon as the host lets go of it, and only that
  stream's order protects its last reader. So the copying stream waits for all that the computing
  stream was asked to do up to then.

A copy that nobody waits for any more, as a run was stopped or the data set dropped, is waited for
before its memory, on either side, goes back to CuPy's pools.
"""

import math
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnn.backends.cupy.accesses import HOST, tell
from xpnn.backends.portable.staging import Parts, Rows, Staging, batch_shape, copy_rows, native
from xpnn.typing import Array

if TYPE_CHECKING:
    from xpnn.backends.portable.base import Backend

SLOTS = 2  # one is filled while the other is copied
PIECE = 1 << 26  # bytes: CuPy would pin as much memory as an array has, and keep it


class Sent(NamedTuple):
    """A batch whose copy was started."""

    arrays: Parts
    copied: Any


class CupyStaging(Staging):
    """Copies from reused pinned memory, on a stream of its own."""

    def __init__(self, backend: "Backend"):
        import cupy

        super().__init__(backend)
        with backend.on_device():
            # a blocking stream would wait for the default stream, and that one for it
            self.copying = cupy.cuda.Stream(non_blocking=True)
            self.slots = [PinnedSlot() for _ in range(SLOTS)]
            self.allocated = cupy.cuda.Event(disable_timing=True)
        weakref.finalize(self, _end, self.copying).atexit = False

    def send(self, parts: Parts, rows: Rows = None) -> Sent:
        import cupy

        on_host = {k: one for k, one in enumerate(parts) if isinstance(one, np.ndarray)}
        arrays: list[Any] = [
            None if k in on_host else self._passed(one, rows) for k, one in enumerate(parts)
        ]
        if not on_host:
            return Sent(tuple(arrays), None)
        slot = self.slots.pop(0)
        self.slots.append(slot)
        with self.backend.on_device():
            slot.copied.synchronize()
            gathered = {}
            for k, one in on_host.items():  # all before the first copy: reading a file may fail
                gathered[k] = slot.array(k, batch_shape(one, rows), native(one.dtype))
                tell("rows of a batch, gathered", writes=[gathered[k]], on=HOST)
                copy_rows(one, rows, gathered[k])
            for k, pinned in gathered.items():
                arrays[k] = cupy.empty(pinned.shape, pinned.dtype)
            self.allocated.record(cupy.cuda.get_current_stream())
            self.copying.wait_event(self.allocated)
            for k, pinned in gathered.items():
                tell("the copy of a batch", [pinned], [arrays[k]], on=self.copying)
                arrays[k].data.copy_from_host_async(pinned.ctypes.data, pinned.nbytes, self.copying)
            slot.copied.record(self.copying)
        return Sent(tuple(arrays), slot.copied)

    def receive(self, sent: Sent) -> tuple[Array | None, ...]:
        import cupy

        if sent.copied is not None:
            # recorded anew since, it stands behind a later copy of the same stream: late, not wrong
            cupy.cuda.get_current_stream().wait_event(sent.copied)
        tell("a batch, handed over", sent.arrays)
        return sent.arrays

    def close(self) -> None:
        self.copying.synchronize()


def _end(copying: Any) -> None:
    """Wait for the last copies: pinned memory that is let go of may be written to at once."""
    copying.synchronize()


class PinnedSlot:
    """Pinned memory for one batch, and the event behind the copies from it."""

    def __init__(self) -> None:
        import cupy

        self.copied = cupy.cuda.Event(disable_timing=True)
        self._blocks: dict[int, np.ndarray] = {}

    def array(self, key: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Memory of that shape; the same again for the same ``key``, unless it is too small."""
        import cupy

        nbytes = math.prod(shape) * dtype.itemsize
        if key not in self._blocks or self._blocks[key].nbytes < nbytes:
            memory = cupy.cuda.alloc_pinned_memory(max(nbytes, 1))
            self._blocks[key] = np.frombuffer(memory, np.uint8, max(nbytes, 1))
        return self._blocks[key][:nbytes].view(dtype).reshape(shape)


def copied_in_pieces(array: np.ndarray) -> Array:
    """A large NumPy array on the current device, a bounded stretch of rows at a time."""
    import cupy

    made = cupy.empty(array.shape, array.dtype)
    step = max(1, PIECE * array.shape[0] // array.nbytes)
    for start in range(0, array.shape[0], step):
        rows = slice(start, start + step)
        made[rows].set(np.ascontiguousarray(array[rows]))
    return made
