"""Which calls of a recording become one kernel: elementwise ones, sums of rows and of columns.

A kernel goes through the items of one domain, an array without gaps, item by item or row by row. A
call belongs to it if what it reads of the kernel's own results lies under the same item, or is one
number for its row. So all of these stay in registers; what others read is written to memory. Sums
of columns are added up beside, and known when the kernel has ended.

A kernel runs as a whole. A call may join one only if nothing that it reads waits for that kernel,
but for what the kernel makes itself.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View, packed
from xpnn.backends.recording.groups import Group, Groups
from xpnn.backends.recording.lifetimes import needed
from xpnn.backends.recording.pieces import in_pieces
from xpnn.backends.recording.recording import Recording
from xpnn.backends.recording.rewriting import (
    LONGEST_ROW,
    is_widening,
    joined_where_it_lies,
    rounded_where_summed,
    widened_where_read,
    with_constants,
    written_once,
)
from xpnn.backends.recording.shapes import is_float
from xpnn.backends.recording.sums import totals_by_rows, with_joined_sums
from xpnn.backends.recording.walks import Walk, walk_of

MOST_ARRAYS = 48  # of one kernel, what its calls make among them
MOST_NUMBERS = 40_960  # that wait for a sum of their row: in the registers of 1,024 threads
MOST_WAITING = 12  # of one item, in the registers of a thread that has up to 16 items


def kernel_walk_of(call: Call) -> Walk | None:
    """How a kernel would walk through what a call reads; None if it cannot."""
    if call.in_place:
        return None
    walk = walk_of(call)
    if walk is not None and call.method == "reduce":
        walk = _sum_along(walk)
    if walk is None or not lies_in_order(walk.made):
        return None
    return walk if walk.made.nbytes == walk.made.memory.nbytes else None


def _sum_along(walk: Walk) -> Walk | None:
    """A sum over the last axis, or over all axes up to one."""
    (array,), call = walk.operands, walk.call
    dtype, all_axes = call.options.get("dtype"), call.options.get("axis", 0) is None
    if not is_float(array.dtype) or not _is_rounded_once(dtype, walk.result.dtype):
        return None
    if all_axes and len(call.arguments[0].shape) > 1:  # of the sums of all rows: by one block
        return None
    found = walk.at(walk.usual_columns)
    if found is None or found.kind not in ("fold", "column sum"):
        return None
    return None if found.kind == "fold" and found.columns > LONGEST_ROW else found


def _is_rounded_once(dtype: Any, result: np.dtype[Any]) -> bool:
    """Whether a sum in that dtype is what a kernel gives, which adds up halves in float32."""
    is_half = is_float(result) and result.itemsize == 2
    return dtype is None or np.dtype(dtype) == (np.float32 if is_half else result)


def lies_in_order(view: View) -> bool:
    """Whether its items lie behind each other, axis for axis, from the first byte on."""
    pairs = zip(view.shape, view.strides, packed(view.shape, view.dtype.itemsize), strict=True)
    return view.offset == 0 and all(n == 1 or has == wants for n, has, wants in pairs)


@dataclass(eq=False)
class KernelGroup(Group):
    """A kernel, or a single call of any kind.

    Attributes:
        walks: the calls of a kernel as walks, by their numbers.
        items: how many items the domain has.
        row: the length of rows, where some are added up.
    """

    walks: dict[int, Walk] = field(default_factory=dict)
    items: int = 0
    row: int | None = None

    @classmethod
    def of(cls, number: int, call: Call, walk: Walk | None) -> "KernelGroup":
        """A call by itself."""
        if walk is None:
            return cls({number: call})
        row = None if walk.kind == "cells" else walk.columns
        return cls({number: call}, walks={number: walk}, items=walk.items, row=row)

    def absorb(self, other: "KernelGroup") -> None:
        super().absorb(other)
        self.walks |= other.walks

    def reads_in_order(self, memory: Memory) -> bool:
        """Whether its calls read what lies there item for item where their results lie."""
        views = [view for walk in self.walks.values() for view in walk.operands]
        return all(lies_in_order(one) for one in views if getattr(one, "memory", None) is memory)

    def walks_in_order(self) -> Iterator[Walk]:
        """The walks, each behind those whose results it reads."""
        return (self.walks[number] for number in sorted(self.walks))

    def per_row(self) -> set[Memory]:
        """Those of its results that are one number for each row."""
        row = self.row or 0
        return {
            walk.result.memory
            for walk in self.walks.values()
            if row and (walk.kind == "fold" or walk.items != self.items)
        }

    def takes(self, walks: dict[int, Walk]) -> int | None:
        """The length of rows with these walks among its own (0: none is added up), if they fit."""
        row = self.row
        for walk in walks.values():
            if walk.kind != "cells":
                if walk.items != self.items or (row or walk.columns) != walk.columns:
                    return None
                row = walk.columns
        for walk in walks.values():
            if walk.items != self.items and not (row and walk.items * row == self.items):
                return None
        together = self.walks | walks
        views = [view for walk in together.values() for view in walk.call.views()]
        if len({view.memory for view in views}) > MOST_ARRAYS:
            return None
        if row and any(walk.kind == "fold" for walk in together.values()):
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
        columns += walk.kind == "column sum"
        if walk.items == items:
            for view in walk.operands if walk.kind != "cells" else (*walk.operands, walk.result):
                if isinstance(view, View) and view.strides[-1]:
                    seen.setdefault((view.memory, view.offset), []).append(phase)
        phase += walk.kind == "fold" or walk.items != items
    waiting = [0] * (phase + 1)
    for phases in seen.values():
        for one in range(phases[0], phases[-1]):
            waiting[one] += 1
    return max(waiting) + columns


def _under_same_item(view: View, reader: Walk, maker: Walk, items: int, row: int) -> bool:
    if view.dtype != maker.result.dtype or maker.kind == "column sum":
        return False
    made_per_row = maker.kind == "fold" or maker.items != items
    if not made_per_row:
        return reader.items == items and lies_in_order(view)
    if reader.items != items:
        return lies_in_order(view)
    rows = view._replace(shape=reader.shape[:-1], strides=view.strides[:-1])
    return reader.columns == row and view.strides[-1] == 0 and lies_in_order(rows)


class KernelGroups(Groups[KernelGroup]):
    """The kernels of a recording, and its other calls.

    Args:
        recording: of any step.
        known: whether a kernel can do what a call does.

    Attributes:
        results: those of the recording, where they now lie.
        constants: arrays that the calls read.
        aliases: for a result, the argument whose place it takes, if it can lie there.
        shared: what a group makes for others, or as a result.

    Raises:
        NotRecordable: a part of an array is written over.
    """

    def __init__(self, recording: Recording, known: Callable[[Call], bool]):
        super().__init__()
        calls, now = written_once(recording.calls)
        self.results = [
            one._replace(memory=now.get(one.memory, one.memory)) if isinstance(one, View) else one
            for one in recording.results
        ]
        self.aliases = {now.get(new, new): old for new, old in recording.aliases.items()}
        kept = {one.memory for one in self.results if isinstance(one, View)}
        calls = with_joined_sums(totals_by_rows(calls, LONGEST_ROW), kept)
        calls = needed(joined_where_it_lies(calls, kept), kept)
        calls = rounded_where_summed(calls, kept)
        calls = in_pieces(calls, kept, known)
        calls, self.constants = with_constants(widened_where_read(calls, kept))
        self._widening: list[KernelGroup] = []  # casts in front of the call that reads them
        for number, call in enumerate(calls):
            walk = kernel_walk_of(call) if known(call) else None
            self._put(self.add(KernelGroup.of(number, call, walk)))
        self._merge_readers()
        self.shared = kept.union(*map(self.read_elsewhere, self.groups))

    def _put(self, group: KernelGroup) -> None:
        """Let a group of one call be one with those around it."""
        widening = list(self._widening)
        self._widening.clear()
        if is_widening(group.call):
            self._widening += [*widening, group]
            return
        for cast_group in widening:  # they go with who reads them, or else with who made the rest
            merged = self._merged(cast_group, group)
            if merged is group and cast_group in self.groups:
                self._join_makers(cast_group)
            group = merged
        self._join_makers(group)

    def _join_makers(self, group: KernelGroup) -> None:
        """Let a group be one with those whose results it reads, the latest first."""
        for other in sorted(group.before, key=lambda one: one.first, reverse=True):
            if other in self.groups:
                group = self._merged(other, group)

    def _merge_readers(self) -> None:
        """Kernels that read the same, and of which neither waits for the other, as one."""
        readers: dict[tuple[Memory, int], KernelGroup] = {}
        for group in list(self.groups):
            for memory in sorted(group.reads(), key=lambda one: -one.nbytes):
                key = memory, group.items
                earlier = readers.get(key)
                if earlier in self.groups and memory.nbytes >= group.items:
                    group = self._merged(earlier, group)
                if group.walks:
                    readers[key] = group

    def _merged(self, one: KernelGroup, other: KernelGroup) -> KernelGroup:
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
        self.merge(large, small)
        large.row = row or None
        return large
