"""Windows: samples that come in blocks of any length, shuffled and cut anew in bounded memory."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

Block = tuple[np.ndarray, ...]
"""Some samples: arrays of equal length, such as (x, y) or (x, y, sample_weight)."""


def draw_order(count: int, *seeds: int) -> np.ndarray:
    """An order of ``count`` things, the same on every machine."""
    return Generator(Philox(SeedSequence(seeds))).permutation(count)


def recut(blocks: Iterable[Block], rows: int, *, reuse: bool = False) -> Iterator[Block]:
    """The same samples in blocks of ``rows``; the last may be smaller.

    Args:
        blocks: of which one at a time is kept.
        reuse: write each block into the memory of the one before, which is not to be read any more.
    """
    buffer: Block = ()
    filled = 0
    for block in blocks:
        start, count = 0, len(block[0])
        while start < count:
            taken = min(rows - filled, count - start)
            buffer = _with_room(buffer, block, filled + taken, rows)
            for kept, new in zip(buffer, block, strict=True):
                kept[filled : filled + taken] = new[start : start + taken]
            start, filled = start + taken, filled + taken
            if filled == rows:
                yield buffer
                filled, buffer = 0, buffer if reuse else ()
        del block  # before the next one is read
    if filled:
        yield tuple(kept[:filled] for kept in buffer)


def _with_room(buffer: Block, block: Block, wanted: int, most: int) -> Block:
    """Memory like that of ``block`` for ``wanted`` rows, in which those of ``buffer`` stand."""
    if not buffer:
        return tuple(np.empty((wanted, *one.shape[1:]), one.dtype) for one in block)
    if (room := len(buffer[0])) < wanted:
        for kept in buffer:  # before NumPy 2.5, pages are moved and nothing is copied
            kept.resize((min(most, max(wanted, 2 * room)), *kept.shape[1:]), refcheck=False)
    return buffer


def shuffled(
    blocks: Iterable[Block], window: int, rows: int, seeds: tuple[int, ...], start: int = 0
) -> Iterator[Block]:
    """The samples in a new order, in pieces of up to ``rows``.

    A buffer is filled with the next ``window`` samples, which are handed out in an order drawn from
    ``seeds`` and the number of the window; then it is filled again.

    Args:
        blocks: the samples from the first of the window in which ``start`` lies.
        start: how many samples of the new order to leave out.
    """
    first, skip = divmod(start, window)
    for number, part in enumerate(recut(blocks, window, reuse=True), start=first):
        order = draw_order(len(part[0]), *seeds, number + 1)[skip:]
        for k in range(0, len(order), rows):
            yield tuple(one[order[k : k + rows]] for one in part)
        skip = 0
