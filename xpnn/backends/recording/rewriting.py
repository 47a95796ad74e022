"""The calls of a recording as kernels want them.

Each array is written once, constants lie in memory as all else does, and casts to wider numbers
stand with those who read them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, NotRecordable, View
from xpnn.backends.recording.shapes import cast, is_float
from xpnn.backends.recording.sums import first_axes
from xpnn.trees import tree_map

LONGEST_ROW = 16_384  # numbers: 16 in the registers of each of 1,024 threads


def written_once(calls: Sequence[Call]) -> tuple[list[Call], dict[Memory, Memory]]:
    """The same calls, each into memory of its own; and where what was written over lies then.

    Raises:
        NotRecordable: a part of an array is written over.
    """
    now: dict[Memory, Memory] = {}

    def current(view: View) -> View:
        return view._replace(memory=now.get(view.memory, view.memory))

    found = []
    for call in calls:
        reads = call.with_views(current)
        if not call.in_place:
            found.append(reads)
            continue
        (target,) = call.results
        if target.nbytes != target.memory.nbytes:
            raise NotRecordable("a part of an array is written over")
        now[target.memory] = Memory(target.memory.nbytes)
        found.append(replace(reads, results=[current(target)], in_place=False))
    return found, now


def with_constants(calls: Sequence[Call]) -> tuple[list[Call], dict[Memory, np.ndarray]]:
    """The same calls, of views in place of constant arrays; and what lies there.

    Of an array of one number, such as the zeros that rows are added to, there is that number.
    """
    views: dict[Any, View] = {}
    arrays: dict[Memory, np.ndarray] = {}

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if not leaf.ndim:
            return leaf[()]
        array = np.ascontiguousarray(leaf)
        strides = array.strides
        if array.size and (array == array.flat[0]).all():
            array, strides = array.reshape(-1)[:1], (0,) * leaf.ndim
        key = leaf.shape, strides, array.dtype.char, array.tobytes()
        if key not in views:
            memory = Memory(array.nbytes)
            views[key] = View(memory, 0, leaf.shape, strides, array.dtype)
            arrays[memory] = array
        return views[key]

    changed = [
        replace(
            call, arguments=tree_map(change, call.arguments), options=tree_map(change, call.options)
        )
        for call in calls
    ]
    return changed, arrays


def joined_where_it_lies(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """Without the calls that join what lies side by side in one memory already, or one array."""
    found: list[Call] = []
    moved: dict[Memory, Memory] = {}
    for call in (_moved(call, moved) for call in calls):
        source = _joined_already(call)
        if source is None or call.results[0].memory in kept:
            found.append(call)
        else:
            moved[call.results[0].memory] = source
    return found


def _joined_already(call: Call) -> Memory | None:
    """The memory that holds, from its first byte to its last, what a call would join."""
    if call.function not in (np.stack, np.concatenate):
        return None
    places = [(piece, place) for piece, place in call.placements() if place.nbytes]
    sources = {getattr(piece, "memory", None) for piece, _ in places}
    source = sources.pop() if len(sources) == 1 else None
    if source is None or not call.results[0].is_whole:
        return None
    lies = all(place._replace(memory=source) == piece for piece, place in places)
    return source if lies and source.nbytes == call.results[0].nbytes else None


def rounded_where_summed(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """Sums over the first axes whose only reader rounds them to half precision: as one call."""
    readers = Counter(view.memory for call in calls for view in call.reads())
    sums: dict[View, int] = {}
    found: list[Call | None] = []
    for call in calls:
        source = call.arguments[0] if call.function is cast else None
        (result, *_) = call.results
        if (
            isinstance(source, View)
            and source in sums
            and readers[source.memory] == 1
            and source.memory not in kept
        ):
            number = sums[source]
            if is_float(result.dtype) and result.dtype.itemsize == 2:
                total = found[number]
                assert total is not None
                found[number] = None
                call = replace(total, results=[result])
        elif result.dtype == np.float32 and 0 < first_axes(call) < len(call.arguments[0].shape):
            sums[result] = len(found)
        found.append(call)
    return [call for call in found if call is not None]


def widened_where_read(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """Casts to a wider dtype once for each call that reads the result.

    So what lies in memory is what was cast: halves, booleans.
    """
    casts: dict[Memory, Call] = {}
    found: list[Call] = []
    for call in calls:
        own: dict[Memory, Memory] = {}
        for view in call.reads():
            cast_call = casts.get(view.memory)
            if cast_call is not None and view.memory not in own:
                own[view.memory] = Memory(view.memory.nbytes)
                found.append(_moved(cast_call, own))
        call = _moved(call, own)
        if is_widening(call) and call.results[0].memory not in kept:
            casts[call.results[0].memory] = call
        else:
            found.append(call)
    return found


def is_widening(call: Call) -> bool:
    """Whether it is a cast to a dtype of more bytes."""
    if call.function is not cast or not isinstance(call.arguments[0], View):
        return False
    return call.arguments[0].dtype.itemsize < call.results[0].dtype.itemsize


def _moved(call: Call, now: dict[Memory, Memory]) -> Call:
    return call.with_views(
        lambda view: view._replace(memory=now.get(view.memory, view.memory)), now
    )
