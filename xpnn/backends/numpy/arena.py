"""The bytes behind a recording: blocks of a plan as memory of NumPy, and its views as arrays."""

from collections.abc import Mapping

import numpy as np

from xpnn.backends.recording.calls import Memory, View
from xpnn.backends.recording.lifetimes import MemoryPlan

ALIGNMENT = 64  # bytes: a cache line, and the width of the widest vector unit


def aligned_bytes(nbytes: int) -> np.ndarray:
    """Fresh bytes at an address that vector units like."""
    room = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -room.__array_interface__["data"][0] % ALIGNMENT
    return room[start : start + nbytes]


def array_in(block: np.ndarray, view: View) -> np.ndarray:
    """The array that a view describes, in a block of bytes."""
    return np.ndarray(view.shape, view.dtype, block, view.offset, view.strides)


class Arena:
    """The blocks that all recordings of one step share, as only one of them runs at a time."""

    def __init__(self) -> None:
        self.blocks: list[Memory] = []
        self._bytes: dict[Memory, np.ndarray] = {}

    def bytes_of(self, block: Memory) -> np.ndarray:
        """The bytes of a block, made when they are first asked for."""
        if block not in self._bytes:
            self._bytes[block] = aligned_bytes(block.nbytes)
        return self._bytes[block]

    @property
    def nbytes(self) -> int:
        """How many bytes there are in all."""
        return sum(one.size for one in self._bytes.values())


class Arrays:
    """The arrays of one recording, where its plan wants them.

    Args:
        plan: which block each lies in.
        fixed: the bytes of the arguments.
        arena: has the bytes of all other blocks.
    """

    def __init__(self, plan: MemoryPlan, fixed: Mapping[Memory, np.ndarray], arena: Arena):
        self.plan, self.fixed, self.arena = plan, fixed, arena
        self._made: dict[View, np.ndarray] = {}

    def __getitem__(self, view: View) -> np.ndarray:
        """The array itself, one object for all that lie alike.

        A call that writes over an operand is told so at once by an object that is both. Of two,
        NumPy first works out how they overlap, which takes as long as 300 numbers.
        """
        placed = self.plan.in_block(view)
        if placed not in self._made:
            fixed, block = self.fixed, placed.memory
            own = fixed[block] if block in fixed else self.arena.bytes_of(block)
            self._made[placed] = array_in(own, placed)
        return self._made[placed]
