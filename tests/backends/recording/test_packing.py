"""Arrays that are there for a time each, in as few bytes as that takes."""

import itertools

import numpy as np
import pytest

from xpnn.backends.recording.calls import Memory
from xpnn.backends.recording.packing import packed_into


def drawn(seed, count=40):
    """Arrays of random sizes, some of none, with the moments at which they come and go."""
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, 30, count)
    lasts = firsts + rng.integers(0, 12, count)
    sizes = rng.choice([0, 1, 64, 100, 256, 1000, 5000], count)
    return [(Memory(int(n)), int(a), int(b)) for n, a, b in zip(sizes, firsts, lasts, strict=True)]


def highest_moment(lives):
    return max(
        sum(-(-memory.nbytes // 64) * 64 for memory, first, last in lives if first <= now <= last)
        for now in range(50)
    )


@pytest.mark.parametrize("seed", range(8))
def test_nothing_lies_where_something_else_lies_at_that_time(seed):
    lives, blocks = drawn(seed), [Memory(700), Memory(4096)]
    placed = packed_into(blocks, lives)
    for (one, *when), (other, *then) in itertools.combinations(lives, 2):
        (block, start), (beside, at) = placed[one], placed[other]
        if block is beside and when[0] <= then[1] and then[0] <= when[1]:
            assert start + one.nbytes <= at or at + other.nbytes <= start
    for memory, _, _ in lives:
        block, start = placed[memory]
        assert block in blocks
        assert 0 <= start <= block.nbytes - memory.nbytes
        assert start % 64 == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_block_is_hardly_larger_than_the_highest_moment(seed):
    lives, blocks = drawn(seed), []
    packed_into(blocks, lives)
    (block,) = blocks
    assert highest_moment(lives) <= block.nbytes <= 1.2 * highest_moment(lives)


def test_large_arrays_are_placed_first_and_small_ones_where_these_leave_room():
    """The small one comes first, and lies behind both large ones, which take turns."""
    small, one, other = (Memory(n) for n in (64, 640, 640))
    blocks = []
    placed = packed_into(blocks, [(small, 0, 9), (one, 1, 4), (other, 5, 8)])
    (block,) = blocks
    assert placed == {one: (block, 0), other: (block, 0), small: (block, 640)}
    assert block.nbytes == 704


def test_blocks_that_are_there_are_used_again():
    lives, blocks = drawn(0), []
    packed_into(blocks, lives)
    packed_into(blocks, drawn(0))
    assert len(blocks) == 1
    placed = packed_into(blocks, [*lives, (more := Memory(99_999), 0, 1)])
    assert len(blocks) == 2
    assert placed[more] == (blocks[1], 0)
