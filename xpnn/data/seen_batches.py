"""What was seen of a pass over batches, in one number that processes can compare."""

import zlib
from collections.abc import Sequence
from typing import Any

from xpnn.data.first_batch import FirstBatch

FIRST, EVERY = 4, 16  # batches whose numbers are looked at: the first ones, and each so many

COMPARED = 64  # batches from one comparison to the next


class SeenBatches:
    """The sizes of all batches of a pass, and the numbers of some of them.

    Args:
        first: tells figures of the numbers of an array.

    Attributes:
        batches, samples: how many there were.
        checksum: of all that was seen, in 32 bits.
    """

    def __init__(self, first: FirstBatch):
        self.figures_of = first.figures_of
        self.batches = self.samples = self.checksum = 0

    def note(self, parts: Sequence[Any]) -> None:
        """Take note of the next batch."""
        size = int(parts[0].shape[0])
        seen: Any = [None if one is None else tuple(one.shape) for one in parts]
        if self.batches < FIRST or self.batches % EVERY == 0:
            seen = seen, [self.figures_of(one) for one in parts]
        self.checksum = zlib.crc32(repr(seen).encode(), self.checksum)
        self.batches, self.samples = self.batches + 1, self.samples + size

    @property
    def is_due(self) -> bool:
        """Whether processes are to compare by now: often in the beginning, and then at times."""
        count = self.batches
        return count % COMPARED == 0 or (count < COMPARED and (count & (count - 1)) == 0)
