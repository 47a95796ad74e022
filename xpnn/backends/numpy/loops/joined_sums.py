"""Sums over the first axis, one after the other, as one sum over several axes.

By itself NumPy is better at the single ones; in a loop the one is a sum of columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View


@dataclass(eq=False)
class JoinedSum(Call):
    """A sum over the first axes, and the calls that it stands for."""

    parts: tuple[Call, ...] = ()


def parts_of(call: Call) -> Sequence[Call]:
    """The calls that a joined sum stands for; any other call by itself."""
    return call.parts if isinstance(call, JoinedSum) else (call,)


def with_joined_sums(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The same calls, sums over the first axis of such sums joined with them."""
    readers: dict[Memory, int] = {}
    for call in calls:
        for view in call.reads():
            readers[view.memory] = readers.get(view.memory, 0) + 1
    found: list[Call] = []
    for call in calls:
        before = found[-1] if found else None
        if before is not None and _goes_on(before, call) and _reads_alone(call, readers, kept):
            found[-1] = _joined(before, call)
        else:
            found.append(call)
    return found


def _goes_on(before: Call, call: Call) -> bool:
    """Whether a call adds up the sums of the one before it."""
    if not (_sums_first_axes(before) and _sums_first_axes(call)):
        return False
    (made,), (read,) = before.results, call.reads()
    return bool(made == read and made.is_whole and len(made.shape) > 1)


def _reads_alone(call: Call, readers: dict[Memory, int], kept: set[Memory]) -> bool:
    (view,) = call.reads()
    return readers[view.memory] == 1 and view.memory not in kept


def _sums_first_axes(call: Call) -> bool:
    """Whether it adds up over the first axis alone, or is a joined sum."""
    if isinstance(call, JoinedSum):
        return True
    options = {"axis": 0, "dtype": None, "keepdims": False} | call.options
    return (
        call.method == "reduce"
        and call.function is np.add
        and options == {"axis": 0, "dtype": None, "keepdims": False}
        and [type(one) for one in (*call.arguments, *call.results)] == [View, View]
        and call.arguments[0].dtype == call.results[0].dtype
    )


def _joined(before: Call, call: Call) -> JoinedSum:
    parts = (*parts_of(before), *parts_of(call))
    options = {"axis": tuple(range(len(parts))), "dtype": None, "keepdims": False}
    return JoinedSum(np.add, "reduce", before.arguments, options, call.results, parts=parts)
