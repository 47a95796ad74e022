"""Calls on a few arrays behind each other as calls on each of them, where readers take them apart.

The gates of a recurrent layer are added up together and read one by one: as four calls they are
part of the loop or kernel that reads them. So are sums of a few arrays, as additions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.shapes import is_float
from xpnn.backends.recording.sums import first_axes

MOST_PIECES = 8


def in_pieces(
    calls: Sequence[Call], kept: set[Memory], is_fused: Callable[[Call], bool]
) -> list[Call]:
    """The same calls, those in pieces that are read in pieces.

    Args:
        calls: of a recording.
        kept: memory that is read before or after them.
        is_fused: whether an elementwise call can be part of a loop or kernel.
    """

    def goes_item_by_item(call: Call) -> bool:
        return call.method in ("", "__call__") and not call.options and is_fused(call)

    reads: dict[Memory, list[View]] = {}
    writes: dict[Memory, int] = {}
    walked = set()  # what elementwise calls read
    for call in calls:
        for view in call.reads():
            reads.setdefault(view.memory, []).append(view)
            walked |= {view.memory} if goes_item_by_item(call) else set()
        for view in call.writes():
            writes[view.memory] = writes.get(view.memory, 0) + 1
    pieces: dict[Memory, list[Memory]] = {}

    def moved(view: View) -> View:
        if view.memory not in pieces:
            return view
        parts = pieces[view.memory]
        part, offset = divmod(view.offset, parts[0].nbytes)
        return view._replace(memory=parts[part], offset=offset)

    found: list[Call] = []
    for call in (one.with_views(moved, pieces) for one in calls):
        (out, *others) = call.results
        if others or not isinstance(out, View):
            found.append(call)
        elif call.method == "reduce":
            short = _is_short_sum(call) and out.memory in walked
            found += _additions(call) if short else [call]
        elif (
            goes_item_by_item(call)
            and _has_pieces(call)
            and out.memory in reads
            and out.memory not in kept
            and writes[out.memory] == 1
            and all(_lies_in_one(view, out) for view in reads[out.memory])
        ):
            size = out.memory.nbytes // out.shape[0]
            pieces[out.memory] = [Memory(size) for _ in range(out.shape[0])]
            found += [_piece(call, k, memory) for k, memory in enumerate(pieces[out.memory])]
        else:
            found.append(call)
    return found


def _has_pieces(call: Call) -> bool:
    """Whether what it makes are a few arrays behind each other."""
    (out,) = call.results
    few = len(out.shape) > 1 and 2 <= out.shape[0] <= MOST_PIECES
    return few and out.is_whole and out.nbytes > 0 and not call.in_place


def _is_short_sum(call: Call) -> bool:
    """Whether it adds up a few arrays behind each other."""
    if first_axes(call) != 1:
        return False
    (source,), (out,) = call.arguments, call.results
    few = len(source.shape) > 1 and 2 <= source.shape[0] <= MOST_PIECES
    return few and source.dtype == out.dtype and is_float(out.dtype)


def _lies_in_one(view: View, out: View) -> bool:
    """Whether all items of a view are in one of the arrays behind each other."""
    size = out.memory.nbytes // out.shape[0]
    if 0 in view.shape or any(stride < 0 for stride in view.strides):
        return False
    last = sum((n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True))
    return view.offset // size == (view.offset + last) // size


def _piece(call: Call, k: int, memory: Memory) -> Call:
    """The call on the array of that number, into memory of its own."""
    (out,) = call.results

    def part(one: Any) -> Any:
        if not isinstance(one, View | np.ndarray) or len(one.shape) < len(out.shape):
            return one
        return _row(one, k if one.shape[0] > 1 else 0)

    result = View(memory, 0, out.shape[1:], out.strides[1:], out.dtype)
    return Call(call.function, call.method, tuple(map(part, call.arguments)), {}, [result])


def _additions(call: Call) -> list[Call]:
    """A sum over the first axis as one addition after another."""
    (source,), (out,) = call.arguments, call.results
    first, *rest = (_row(source, k) for k in range(source.shape[0]))
    found = []
    for k, one in enumerate(rest, 1):
        made = out if k == len(rest) else out._replace(memory=Memory(out.memory.nbytes))
        found.append(Call(np.add, "__call__", (first, one), {}, [made]))
        first = made
    return found


def _row(array: Any, k: int) -> Any:
    """One of the arrays along the first axis."""
    if isinstance(array, np.ndarray):
        return array[k]
    offset = array.offset + k * array.strides[0]
    return array._replace(offset=offset, shape=array.shape[1:], strides=array.strides[1:])
