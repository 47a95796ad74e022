"""Loops bound to their arrays, in parts where they are large."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnn.backends.numpy.arena import Arrays
from xpnn.backends.numpy.cores import Cores, ranges
from xpnn.backends.numpy.loops.compiling import compiled
from xpnn.backends.numpy.loops.loop import Loop
from xpnn.backends.numpy.loops.steps import Step
from xpnn.backends.numpy.loops.text import letter, written
from xpnn.backends.numpy.numbers import Numbers
from xpnn.backends.numpy.orders import in_order
from xpnn.backends.recording.calls import Call

Bound = Callable[[], Any]

BLOCK = 32_768  # items that are gone over in one piece
FEWEST_ROWS = 16  # in a block, so that its sums are few beside its items
LEAST_WORK = 2_000_000  # operations of a part: 60 us; handing it to another thread takes 10 to 30
MOST_ROWS = 256  # in a block, so that its sums, one row after another, keep their digits


def has_large_loops(calls: Sequence[Call]) -> bool:
    """Whether any of the loops is worth to be done in parts."""
    return any(isinstance(call, Loop) and call.work >= 2 * LEAST_WORK for call in calls)


def bound_loop(
    loop: Loop, arrays: Arrays, numbers: Numbers, cores: Cores | None = None
) -> list[Bound]:
    """What runs a loop, and what adds up its partial sums."""
    text = written(loop, arrays, numbers)
    if text.is_flat:
        per_block = BLOCK
        blocks = -(-loop.rows * loop.columns // BLOCK)
    else:
        per_block = min(max(BLOCK // loop.columns, FEWEST_ROWS), MOST_ROWS)
        blocks = -(-loop.rows // per_block)
    sums, finish = _partial_sums(loop, arrays, text.sums, blocks)
    types = [*text.arguments, *(np.empty(0, one) for one in text.buffers), *sums]
    bind = compiled(text.source, tuple(map(_type_name, types)))
    count = 1 if cores is None else min(cores.count, blocks, loop.work // LEAST_WORK)
    tasks: list[Bound] = []
    for part in ranges(blocks, max(count, 1)):
        buffers = [np.empty(loop.columns, one) for one in text.buffers]
        shape = part.start, part.stop, per_block, loop.rows, loop.columns
        tasks.append(bind(*shape, *text.arguments, *buffers, *sums))
    if cores is None or len(tasks) == 1:
        return [*tasks, *finish]
    return [partial(cores.run, tasks), *finish]


def _partial_sums(
    loop: Loop, arrays: Arrays, steps: Sequence[Step], blocks: int
) -> tuple[list[np.ndarray], list[Bound]]:
    """Room for the sums of each block, and what adds these up, in their order."""
    rooms: list[np.ndarray] = []
    finish: list[Bound] = []
    for step in steps:
        length = 1 if step.kind == "total" else loop.columns
        out = in_order(arrays[step.view]).reshape(length)
        if blocks == 1:
            rooms.append(out)
            continue
        sums = np.empty((blocks, length), out.dtype)
        rooms.append(sums.reshape(-1))
        finish.append(partial(np.add.reduce, sums, 0, None, out))
    return rooms, finish


def _type_name(argument: Any) -> str:
    if isinstance(argument, np.ndarray):
        return letter(argument.dtype)
    return "step"
