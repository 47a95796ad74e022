"""Where in a block of bytes arrays lie that are there for a time each.

The largest are placed first, each at the lowest address at which nothing lies while it is there:
first fit by decreasing size (Pisarchyk and Lee, 2020, arXiv:2001.03288, "greedy by size"). On the
steps of ``benchmarks.works`` the block ends up to 15 % above the highest moment, where blocks that
hold one array after another were up to 76 % above it.
"""

from collections.abc import Sequence

import numpy as np

from xpnn.backends.recording.calls import Memory

ALIGNMENT = 64  # bytes: a cache line, and the width of the widest vector unit


class Room:
    """Addresses from 0 up, and what lies at them when.

    Args:
        size: how many addresses there are; None for as many as it takes.
        count: how many arrays may come.
    """

    def __init__(self, size: int | None, count: int):
        self.size, self.used, self._count = size, 0, 0
        # of each array: its first and last moment, its first address and that behind it
        self._placed = np.empty((4, count), np.int64)

    def place(self, nbytes: int, first: int, last: int) -> int | None:
        """The lowest address with room for so many bytes between two moments; None without any."""
        nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        firsts, lasts, starts, ends = self._placed[:, : self._count]
        beside = np.flatnonzero((firsts <= last) & (lasts >= first))
        beside = beside[starts[beside].argsort(kind="stable")]
        # an end of 0 in front, so that a gap lies between each end and the start behind it
        covered = np.maximum.accumulate(np.concatenate(([0], ends[beside])))
        fits = np.flatnonzero(starts[beside] - covered[:-1] >= nbytes)
        found = int(covered[fits[0] if len(fits) else -1])
        if self.size is not None and found + nbytes > self.size:
            return None
        self._placed[:, self._count] = first, last, found, found + nbytes
        self._count += 1
        self.used = max(self.used, found + nbytes)
        return found


def packed_into(
    blocks: list[Memory], lives: Sequence[tuple[Memory, int, int]]
) -> dict[Memory, tuple[Memory, int]]:
    """A block for each array, and the byte of it at which it begins.

    Args:
        blocks: all of them free; one is added if there is not room enough.
        lives: each array with the first and the last moment at which it is there.
    """
    largest = sorted(blocks, key=lambda block: -block.nbytes)
    rooms = [Room(block.nbytes, len(lives)) for block in largest]
    rooms.append(Room(None, len(lives)))
    at: dict[Memory, tuple[int, int]] = {}
    for memory, first, last in sorted(lives, key=lambda life: (-life[0].nbytes, life[1])):
        for number, room in enumerate(rooms):
            start = room.place(memory.nbytes, first, last)
            if start is not None:
                at[memory] = number, start
                break
    if any(number == len(blocks) for number, _ in at.values()):
        largest.append(Memory(rooms[-1].used))
        blocks.append(largest[-1])
    return {memory: (largest[number], start) for memory, (number, start) in at.items()}
