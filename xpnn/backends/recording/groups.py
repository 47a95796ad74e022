"""Which calls of a recording become one kernel: elementwise ones, sums of rows and of columns.

A kernel goes through the items of one domain, an array without gaps, item by item or row by row. A
call belongs to it if what it reads of the kernel's own results lies under the same item, or is one
number for its row. So all of these stay in registers; what others read is written to memory. Sums
of columns are added up beside, and known when the kernel has ended.

A kernel runs as a whole. A call may join one only if nothing that it reads waits for that kernel,
but for what the kernel makes itself.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View, packed
from xpnn.backends.recording.lifetimes import needed
from xpnn.backends.recording.pieces import in_pieces
from xpnn.backends.recording.recording import Recording
from xpnn.backends.recording.rewriting import (
    LONGEST_ROW,
    is_widening,
    joined_where_it_lies,
    rounded_where_summed,
    sums_by_rows,
    widened_where_read,
    with_constants,
    written_once,
)
from xpnn.backends.recording.shapes import cast, is_float
from xpnn.typing import Shape

MOST_ARRAYS = 48  # of one kernel, what its calls make among them
MOST_NUMBERS = 40_960  # that wait for a sum of their row: in the registers of 1,024 threads
MOST_WAITING = 12  # of one item, in the registers of a thread that has up to 16 items
ROW_SUMS = {np.add, np.maximum, np.minimum}


@dataclass(eq=False)
class Walk:
    """A call by the domain that it goes through.

    Attributes:
        call: as recorded.
        shape: of the domain, its axes in the order in which they lie in memory; one at least.
        operands: views of that shape, with strides of 0 where they are repeated, and constants.
        result: what is made, as a view of that shape; of a sum, of one number for each row or
            column.
        sums: "rows" or "columns" where these are added up; rows may also be searched for their
            largest or smallest number.
    """

    call: Call
    shape: Shape
    operands: list[Any]
    result: View
    sums: str = ""

    @property
    def items(self) -> int:
        """How many there are in the domain."""
        return math.prod(self.shape)

    def reads_in_order(self, memory: Memory) -> bool:
        """Whether what it reads there lies item for item where its result does."""
        read = [view for view in self.operands if getattr(view, "memory", None) is memory]
        return all(_is_packed(view, self.shape) for view in read)

    @property
    def row(self) -> int:
        """How long a row is."""
        return self.shape[-1]


def walk_of(call: Call, known: Callable[[Call], bool]) -> Walk | None:
    """The call as a walk, if it is elementwise or a sum of rows that is ``known``; else None."""
    if call.in_place or len(call.results) != 1 or not isinstance(call.results[0], View):
        return None
    (result,) = call.results
    if not math.prod(result.shape) or not known(call):
        return None
    if call.method == "reduce":
        return _sum_along(call, result)
    operands = call.arguments
    if call.function in (cast, np.reshape):  # of which a reshape that is a call copies
        operands = operands[:1]
    if call.function is np.reshape:
        shape = operands[0].shape
        result = result._replace(shape=shape, strides=packed(shape, result.dtype.itemsize))
    shape = result.shape or (1,)  # a number is a row of one
    result = _spread(result, shape)
    order = sorted(range(len(shape)), key=lambda axis: (-result.strides[axis], axis))
    result = _turned(result, order)
    if not _is_packed(result, result.shape) or result.nbytes != result.memory.nbytes:
        return None
    spread = [
        _turned(_spread(one, shape), order) if isinstance(one, View) else one for one in operands
    ]
    return Walk(call, result.shape, spread, result)


def _sum_along(call: Call, result: View) -> Walk | None:
    """A sum over the last axis, or over all axes up to one, of an array that it reads in order."""
    (array,) = call.arguments
    if call.function not in ROW_SUMS or not isinstance(array, View) or not array.shape:
        return None
    axis, dtype = call.options.get("axis", 0), call.options.get("dtype")
    last, shape = len(array.shape) - 1, array.shape
    axis = tuple(range(len(shape))) if axis is None else axis
    axes = sorted(one % len(shape) for one in (axis if isinstance(axis, tuple) else (axis,)))
    if not is_float(array.dtype) or not _is_rounded_once(dtype, result.dtype):
        return None
    if axes == [last] and shape[-1] <= LONGEST_ROW:
        rows = result._replace(shape=shape[:-1], strides=result.strides[:last])
        order = sorted(range(last), key=lambda one: (-rows.strides[one], one))
        rows, array = _turned(rows, order), _turned(array, [*order, last])
        is_whole = _is_packed(rows, rows.shape) and rows.nbytes == rows.memory.nbytes
        return Walk(call, array.shape, [array], rows, sums="rows") if is_whole else None
    if not result.is_whole:
        return None
    if axes == list(range(len(axes))) and len(axes) <= last and call.function is np.add:
        order = sorted(axes, key=lambda one: -array.strides[one])  # in which they are added up
        array = _turned(array, [*order, *range(len(axes), len(shape))])
        shape = array.shape
        domain = (*shape[: len(axes)], math.prod(shape[len(axes) :]))
        if len(domain) < len(shape):
            if not _is_packed(array, shape):
                return None
            array = array._replace(shape=domain, strides=packed(domain, array.dtype.itemsize))
        columns = result._replace(shape=domain[-1:], strides=(result.dtype.itemsize,))
        return Walk(call, domain, [array], columns, sums="columns")
    return None


def _is_rounded_once(dtype: Any, result: np.dtype[Any]) -> bool:
    """Whether a sum in that dtype is what a kernel gives, which adds up halves in float32."""
    is_half = is_float(result) and result.itemsize == 2
    return dtype is None or np.dtype(dtype) == (np.float32 if is_half else result)


def _spread(view: View, shape: Shape) -> View:
    """The view repeated along the axes of a shape that it broadcasts to."""
    missing = len(shape) - len(view.shape)
    strides = (0,) * missing + tuple(
        0 if n == 1 and long != 1 else stride
        for n, stride, long in zip(view.shape, view.strides, shape[missing:], strict=True)
    )
    return view._replace(shape=shape, strides=strides)


def _turned(view: View, order: Sequence[int]) -> View:
    shape, strides = (tuple(one[axis] for axis in order) for one in (view.shape, view.strides))
    return view._replace(shape=shape, strides=strides)


def _is_packed(view: View, shape: Shape) -> bool:
    """Whether items lie behind each other, axis for axis."""
    pairs = zip(shape, view.strides, packed(shape, view.dtype.itemsize), strict=True)
    return view.offset == 0 and all(n == 1 or has == wants for n, has, wants in pairs)


@dataclass(eq=False)
class Group:
    """Calls that run together: a kernel, or a single call of any kind.

    Attributes:
        calls: by their number in the recording.
        walks: the same as walks; none where it is a single call that is no walk.
        items: how many items the domain has.
        row: the length of rows, where some are added up.
        before: groups that have to run before.
        behind: groups that have to run behind.
        first: the number of its first call.
        highest: the greatest number of a call in it, or in what has to run before.
    """

    calls: dict[int, Call]
    walks: dict[int, Walk] = field(default_factory=dict)
    items: int = 0
    row: int | None = None
    before: set["Group"] = field(default_factory=set)
    behind: set["Group"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.first = self.highest = next(iter(self.calls))
        for group in self.before:
            self._wait_for(group)

    def absorb(self, other: "Group") -> None:
        """Take over the calls of another group, and its place in the order."""
        self.calls |= other.calls
        self.walks |= other.walks
        self.first = min(self.first, other.first)
        for group in other.before:
            group.behind.discard(other)
            if group is not self:
                group.behind.add(self)
        for group in other.behind:
            group.before.discard(other)
            if group is not self:
                group.before.add(self)
        self.before = (self.before | other.before) - {self, other}
        self.behind = (self.behind | other.behind) - {self, other}
        self._reach(other.highest)

    def waits_for(self, other: "Group") -> bool:
        """Whether it is the other group, or has to run behind it."""
        seen, left = set(), [self]
        while left:
            group = left.pop()
            if group is other:
                return True
            if group not in seen and group.highest > other.first:  # else all of it stands before
                seen.add(group)
                left += group.before
        return False

    def _wait_for(self, group: "Group") -> None:
        self.before.add(group)
        group.behind.add(self)
        self._reach(group.highest)

    def _reach(self, number: int) -> None:
        left = [self]
        while left:
            group = left.pop()
            if group.highest < number or group is self:
                group.highest = max(group.highest, number)
                left += [one for one in group.behind if one.highest < number]

    @property
    def call(self) -> Call:
        """Its only one."""
        (call,) = self.calls.values()
        return call

    def reads(self) -> list[Memory]:
        """What it reads, its own results among it, in the order of the calls."""
        calls = (self.calls[number] for number in sorted(self.calls))
        return list(dict.fromkeys(view.memory for call in calls for view in call.reads()))

    def writes(self) -> dict[Memory, View]:
        """What it makes."""
        return {view.memory: view for call in self.calls.values() for view in call.writes()}

    def in_order(self) -> Iterator[Walk]:
        """The walks, each behind those whose results it reads."""
        return (self.walks[number] for number in sorted(self.walks))

    def per_row(self) -> set[Memory]:
        """Those of its results that are one number for each row."""
        row = self.row or 0
        return {
            walk.result.memory
            for walk in self.walks.values()
            if row and (walk.sums == "rows" or walk.items != self.items)
        }

    def takes(self, walks: dict[int, Walk]) -> int | None:
        """The length of rows with these walks among its own (0: none is added up), if they fit."""
        row = self.row
        for walk in walks.values():
            if walk.sums:
                if walk.items != self.items or (row or walk.row) != walk.row:
                    return None
                row = walk.row
        for walk in walks.values():
            if walk.items != self.items and not (row and walk.items * row == self.items):
                return None
        together = self.walks | walks
        views = [view for walk in together.values() for view in walk.call.views()]
        if len({view.memory for view in views}) > MOST_ARRAYS:
            return None
        if row and any(walk.sums == "rows" for walk in together.values()):
            waiting = _most_waiting([together[number] for number in sorted(together)], self.items)
            if row > LONGEST_ROW or waiting > MOST_WAITING or row * waiting > MOST_NUMBERS:
                return None
        return row or 0

    def lies_right(self, walks: Iterable[Walk], row: int) -> bool:
        """Whether all that walks of the group read of its results is under the same item."""
        together = [*self.walks.values(), *walks]
        made = {walk.result.memory: walk for walk in together}
        for walk in together:
            for view in walk.operands:
                maker = made.get(view.memory) if isinstance(view, View) else None
                if maker and not _under_same_item(view, walk, maker, self.items, row):
                    return False
        return True


def _most_waiting(walks: Sequence[Walk], items: int) -> int:
    """How many numbers of an item are there at once while a sum of its row is worked out.

    Sums of columns are among them, as they are there from the first row to the last.
    """
    phase, seen, columns = 0, dict[Any, list[int]](), 0
    for walk in walks:
        columns += walk.sums == "columns"
        if walk.items == items:
            for view in walk.operands if walk.sums else (*walk.operands, walk.result):
                if isinstance(view, View) and view.strides[-1]:
                    seen.setdefault((view.memory, view.offset), []).append(phase)
        phase += walk.sums == "rows" or walk.items != items
    waiting = [0] * (phase + 1)
    for phases in seen.values():
        for one in range(phases[0], phases[-1]):
            waiting[one] += 1
    return max(waiting) + columns


def _under_same_item(view: View, reader: Walk, maker: Walk, items: int, row: int) -> bool:
    if view.dtype != maker.result.dtype or maker.sums == "columns":
        return False
    made_per_row = maker.sums == "rows" or maker.items != items
    if not made_per_row:
        return reader.items == items and _is_packed(view, reader.shape)
    if reader.items != items:
        return _is_packed(view, reader.shape)
    rows = view._replace(shape=reader.shape[:-1], strides=view.strides[:-1])
    return reader.row == row and view.strides[-1] == 0 and _is_packed(rows, rows.shape)


class Grouping:
    """The groups of a recording.

    Args:
        recording: of any step.
        known: whether a kernel can do what a call does.

    Attributes:
        groups: in an order in which they can run: each behind those that it waits for.
        results: those of the recording, where they now lie.
        constants: arrays that the calls read.
        aliases: for a result, the argument whose place it takes, if it can lie there.
        shared: what a group makes for others, or as a result.

    Raises:
        NotRecordable: a part of an array is written over.
    """

    def __init__(self, recording: Recording, known: Callable[[Call], bool]):
        calls, now = written_once(recording.calls)
        self.results = [
            one._replace(memory=now.get(one.memory, one.memory)) if isinstance(one, View) else one
            for one in recording.results
        ]
        self.aliases = {now.get(new, new): old for new, old in recording.aliases.items()}
        kept = {one.memory for one in self.results if isinstance(one, View)}
        calls = needed(joined_where_it_lies(sums_by_rows(calls), kept), kept)
        calls = rounded_where_summed(calls, kept)
        calls = in_pieces(calls, kept, known)
        calls, self.constants = with_constants(widened_where_read(calls, kept))
        self._owner: dict[Memory, Group] = {}
        self._groups: dict[Group, None] = {}
        self._widening: list[Group] = []  # casts in front of the call that reads them
        for number, call in enumerate(calls):
            self._add(number, call, walk_of(call, known))
        self._merge_readers()
        self.groups = self._in_order()
        self.shared = kept | self._read_elsewhere()

    def _in_order(self) -> list[Group]:
        left = {group: len(group.before) for group in self._groups}
        ready = [(group.first, group) for group, count in left.items() if not count]
        heapq.heapify(ready)
        found = []
        while ready:
            _, group = heapq.heappop(ready)
            found.append(group)
            for other in group.behind:
                left[other] -= 1
                if not left[other]:
                    heapq.heappush(ready, (other.first, other))
        assert len(found) == len(self._groups)
        return found

    def _read_elsewhere(self) -> set[Memory]:
        return {
            memory
            for group in self._groups
            for memory in group.reads()
            if memory in self._owner and self._owner[memory] is not group
        }

    def _add(self, number: int, call: Call, walk: Walk | None) -> None:
        before = {self._owner[view.memory] for view in call.reads() if view.memory in self._owner}
        group = Group({number: call}, before=set(before))
        if walk is not None:
            group.walks, group.items = {number: walk}, walk.items
            group.row = walk.row if walk.sums else None
        self._groups[group] = None
        for view in call.writes():
            self._owner[view.memory] = group
        widening = list(self._widening)
        self._widening.clear()
        if is_widening(call):
            self._widening += [*widening, group]
            return
        for cast_group in widening:  # they go with who reads them, or else with who made the rest
            merged = self._merged(cast_group, group)
            if merged is group and cast_group in self._groups:
                self._join_makers(cast_group)
            group = merged
        self._join_makers(group)

    def _join_makers(self, group: Group) -> None:
        """Let a group be one with those whose results it reads, the latest first."""
        for other in sorted(group.before, key=lambda one: one.first, reverse=True):
            if other in self._groups:
                group = self._merged(other, group)

    def _merge_readers(self) -> None:
        """Kernels that read the same, and of which neither waits for the other, as one."""
        readers: dict[tuple[Memory, int], Group] = {}
        for group in list(self._groups):
            for memory in sorted(group.reads(), key=lambda one: -one.nbytes):
                key = memory, group.items
                earlier = readers.get(key)
                if earlier in self._groups and memory.nbytes >= group.items:
                    group = self._merged(earlier, group)
                if group.walks:
                    readers[key] = group

    def _merged(self, one: Group, other: Group) -> Group:
        """Both as one group, if that can be; else the second of them."""
        if one is other or not (one.walks and other.walks):
            return other
        large, small = (one, other) if one.items >= other.items else (other, one)
        row = large.takes(small.walks)
        if row is None or not large.lies_right(small.walks.values(), row):
            return other
        outside = (one.before | other.before) - {one, other}
        if any(between.waits_for(one) or between.waits_for(other) for between in outside):
            return other
        large.absorb(small)
        large.row = row or None
        del self._groups[small]
        for call in small.calls.values():
            for view in call.writes():
                self._owner[view.memory] = large
        return large
