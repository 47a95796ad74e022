"""What makes a recording shorter and changes no result, on any machine."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.lifetimes import relocated
from xpnn.trees import leaves


def merged(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The calls without those that make once more what an earlier one has made.

    What is larger than all that it is made of is made again: it would lie there all the while, as
    the windows of a convolution.

    Args:
        calls: of a tape.
        kept: memory that is read before the first call or after the last one.
    """
    written = {view.memory for call in calls if call.in_place for view in call.writes()}
    known: dict[Hashable, Call] = {}
    moved: dict[Memory, tuple[Memory, int]] = {}
    found = []
    for call in (relocated(one, moved) for one in calls):
        made = {view.memory for view in call.writes()}
        lasting = len(made) == len(call.results) and made.isdisjoint(written | kept)
        steady = written.isdisjoint(view.memory for view in call.reads())
        earlier = (
            known.setdefault(_key(call), call) if lasting and steady and _small(call) else call
        )
        if earlier is call:
            found.append(call)
            continue
        for view, same in zip(call.writes(), earlier.writes(), strict=True):
            moved[view.memory] = same.memory, 0
    return found


def _small(call: Call) -> bool:
    """Whether what it makes takes no more memory than the largest of what it reads."""
    most = max((view.nbytes for view in call.reads()), default=0)
    return sum(view.nbytes for view in call.writes()) <= most


def _key(call: Call) -> Hashable:
    """Equal for calls that give the same."""
    given = tuple(map(_constant, leaves((call.arguments, call.options))))
    return call.function, call.method, *call.options, given


def _constant(leaf: Any) -> Hashable:
    if isinstance(leaf, View):
        return leaf
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.char, leaf.shape, leaf.tobytes()
    return type(leaf), repr(leaf)
