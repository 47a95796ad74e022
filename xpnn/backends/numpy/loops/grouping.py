"""Calls that one loop can do for one row after the other, found among the calls of a recording.

A group grows over calls that walk over the same rows and columns, whatever the shapes of their
arrays: elementwise ones, with rows and columns repeated; sums and extremes of each row, and what
becomes of these; sums over all rows. What is made inside of a group and read there alone never gets
memory of its own, so groups are found before memory is planned.

A call joins a group that stands before others if these neither make what it reads nor read what it
writes over. Sums may do so past any call, as they end with few numbers; what makes whole arrays may
not, so that nothing is kept for long that is cheaply made later.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from xpnn.backends.numpy.layout import laid_by_columns
from xpnn.backends.numpy.loops.loop import Loop
from xpnn.backends.numpy.loops.places import Place
from xpnn.backends.numpy.loops.rows import add_rows_in_loop
from xpnn.backends.numpy.loops.steps import FORMULAS, Load, Number, Step, loop_walk_of, memory_of
from xpnn.backends.numpy.rows import add_rows
from xpnn.backends.recording.calls import Call, Memory, Slot, View
from xpnn.backends.recording.groups import Group, Groups
from xpnn.backends.recording.joins import laid_as_joined
from xpnn.backends.recording.lifetimes import needed
from xpnn.backends.recording.pieces import in_pieces
from xpnn.backends.recording.sums import parts_of, with_joined_sums
from xpnn.backends.recording.walks import Walk, is_array

LOOK_BACK = 16  # groups and calls that a call may pass by to join a group
MOST_STEPS = 64  # in one loop: hundreds take long to compile
MOST_ARRAYS = 40
LONGEST_ROW = 16_384  # items: of longer rows sums would lose digits, and nothing stays in the cache
LEAST_WORK = 4096  # below, calling a loop costs as much as it saves; so does compiling it
CALL = 400  # items that NumPy works on in the time of one call
MOST_COLUMNS = 2048  # in rows that were short
FEW_BYTES = 256  # of sums of columns, for which a loop over a row is too short
LEAST_PAIR = 16_384  # items for which two calls make a loop


def bind_fused(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The calls to bind, those in its place that one loop can do.

    Args:
        calls: of a recording.
        kept: memory that is read before or after them.
    """
    calls = [
        replace(call, function=add_rows_in_loop) if call.function is add_rows else call
        for call in calls
    ]
    calls = with_joined_sums(laid_by_columns(calls, kept, few_columns=0), kept)
    calls = in_pieces(calls, kept, lambda call: call.function in FORMULAS)
    calls = laid_as_joined(needed(calls, kept), kept)  # not all pieces are
    groups = LoopGroups(calls)
    return [call for group in groups.in_order() for call in groups.bound(group, kept)]


class LoopGroups(Groups["LoopGroup"]):
    """The loops that calls become, and the calls that stay by themselves."""

    def __init__(self, calls: Sequence[Call]):
        super().__init__()
        for call in calls:
            first, *others = parts_of(call)
            few = others and call.results[0].nbytes <= FEW_BYTES
            # the first sum is of more columns, which fill a vector
            for one in others if few and self._joins_first(first) else [call]:
                self._put(one)

    def _joins_first(self, call: Call) -> bool:
        walk = loop_walk_of(call)
        return walk is not None and self._joins(call, walk, self.waited_for(call))

    def _put(self, call: Call) -> None:
        """Let a call join one of the groups, or begin one, or stand by itself."""
        walk = loop_walk_of(call)
        if walk is not None:
            self._merge_makers(call)
        waited_for = self.waited_for(call)
        if walk is None or not self._joins(call, walk, waited_for):
            self.add(LoopGroup({self.count: call}, rows=Rows.of(walk)), waited_for)

    def _joins(self, call: Call, walk: Walk, waited_for: set["LoopGroup"]) -> bool:
        """Let a call join one of the last groups, if there is one for it."""
        for group in self._last():
            if group.rows is not None:
                rows = group.rows.with_walk(walk)
                if rows is not None:
                    self.merge(group, self.add(LoopGroup({self.count: call}), waited_for))
                    group.rows = rows
                    return True
            elif True not in walk.folded and group.is_call:
                return False
            if group in waited_for:
                return False
        return False

    def _merge_makers(self, call: Call) -> None:
        """Make one group of the last two that make what a call reads, if both may run at once."""
        makers, last = self.makers(call), list(self._last())
        if len(makers) < 2:
            return
        stop = next((k for k, one in enumerate(last) if one.is_call), len(last))
        found = [k for k, group in enumerate(last[:stop]) if group.rows and group in makers][:2]
        if len(found) < 2:
            return
        later, earlier = (last[k] for k in found)
        between = last[found[0] + 1 : found[1]]
        assert earlier.rows is not None
        assert later.rows is not None
        if later.before.isdisjoint(between) and earlier.behind.isdisjoint(between):
            rows = earlier.rows.with_rows(later.rows)
            if rows is not None:
                self.merge(earlier, later).rows = rows

    def bound(self, group: "LoopGroup", kept: set[Memory]) -> list[Call]:
        """The loop, if one is worth to be compiled and called, or else the calls."""
        if group.rows is None or not group.rows.pays:
            return [part for call in group.in_order() for part in parts_of(call)]
        return [group.rows.loop(kept | self.read_elsewhere(group))]

    def _last(self) -> Iterator["LoopGroup"]:
        """The last groups, the very last first."""
        return islice(reversed(self.groups), LOOK_BACK)


@dataclass(eq=False)
class LoopGroup(Group):
    """What may become a loop, or a single call of any kind.

    Attributes:
        rows: what the loop does; None if it is a call by itself.
    """

    rows: "Rows | None" = None

    @property
    def is_call(self) -> bool:
        """Whether it is a call by itself, and not of Python numbers alone."""
        return self.rows is None and not all(isinstance(one, Slot) for one in self.call.results)


class Rows:
    """Calls that walk over the same rows and columns, while they grow into a loop."""

    def __init__(self, size: int, columns: int):
        self.rows, self.columns = size // columns, columns
        self.steps: list[Step] = []
        self.made: dict[Memory, Step] = {}
        self._loads: dict[Any, Load] = {}
        self._cells: set[Any] = set()
        self._met: set[Any] = set()  # memory and constants that are read or made

    @classmethod
    def of(cls, walk: Walk | None) -> "Rows | None":
        """Those of one call; None if it cannot be part of a loop."""
        if walk is None:
            return None
        rows = cls(walk.items, walk.usual_columns)
        return rows if rows._takes(walk) else None

    @property
    def pays(self) -> bool:
        """Whether a loop is worth to be compiled and called."""
        size, count = self.rows * self.columns, len(self.steps)
        if count < 3:
            return count == 2 and size >= LEAST_PAIR
        return count * (size + CALL) >= LEAST_WORK

    def with_walk(self, walk: Walk) -> "Rows | None":
        """The same with one more call, in other columns if need be; None if it does not fit."""
        size, columns = self.rows * self.columns, walk.usual_columns
        if len(self.steps) >= MOST_STEPS or not self._meets(walk):
            return None
        if self._takes(walk, related=True):
            return self
        if columns == self.columns or walk.items not in (size, size // columns):
            return None
        found = self.at(columns)
        return found if found is not None and found._takes(walk, related=True) else None

    def with_rows(self, other: "Rows") -> "Rows | None":
        """The calls of both; None if they do not fit."""
        if len(self.steps) + len(other.steps) > MOST_STEPS:
            return None
        for columns in dict.fromkeys((self.columns, other.columns)):
            both = self.at(columns)
            if both is not None and all(both._takes(step.walk) for step in other.steps):
                return both
        return None

    def at(self, columns: int) -> "Rows | None":
        """The same calls in other columns; None if these do not fit."""
        size = self.rows * self.columns
        found = Rows(size, columns)
        fits = size % columns == 0 and all(found._takes(step.walk) for step in self.steps)
        return found if fits else None

    def _takes(self, walk: Walk, related: bool = False) -> bool:
        """Take one more call; False if it does not fit.

        Args:
            related: whether it has to have something in common with the others.
        """
        step = self._step_of(walk)
        if step is None or (related and not self._goes_with(step)):
            return False
        self.steps.append(step)
        self.made[step.view.memory] = step
        self._met.add(step.view.memory)
        for one in step.operands:
            if isinstance(one, Load):
                self._met.add(one.key[0])
                self._loads.setdefault(one.key, one)
                if 0 not in one.place.strides:
                    self._cells.add(one.key)
        return True

    def _meets(self, walk: Walk) -> bool:
        """Whether a call reads what one of these reads or makes."""
        return any(memory_of(one) in self._met for one in walk.operands if is_array(one))

    def _widened(self) -> "Rows":
        """The same calls in rows that are not short, if rows lie behind each other everywhere."""
        most = MOST_COLUMNS // self.columns
        places = {step.place for step in self.steps}
        places |= {load.place for load in self._loads.values()}
        for times in range(min([most, *(self._rows_behind(one) for one in places)]), 1, -1):
            wide = self.at(times * self.columns) if self.rows % times == 0 else None
            if wide is not None:
                return wide
        return self

    def _rows_behind(self, place: Place) -> int:
        """How many rows go on at the step of their columns."""
        length, stride = place.lead[-1] if place.lead else (self.rows, 0)
        return length if stride == self.columns * place.step else 1

    def _step_of(self, walk: Walk) -> Step | None:
        """The call as a step; None if it does not fit."""
        if len(self.steps) >= MOST_STEPS or len(self._loads) + len(self.made) >= MOST_ARRAYS:
            return None
        if walk.items == self.rows * self.columns:
            own = walk.at(self.columns)
            if own is None or own.kind is None:
                return None
            if own.kind == "fold" and self.columns > LONGEST_ROW:
                return None
            if own.kind != "cells" and self.rows == 1:
                return None
            return self._step(own, walk, own.kind, Place.of)
        if walk.kind == "cells" and walk.items == self.rows:
            return self._step(walk, walk, "row", Place.of_rows)
        return None

    def _step(
        self, walk: Walk, whole: Walk, kind: str, place_of: Callable[..., Place]
    ) -> Step | None:
        operands: list[Step | Load | Number] = []
        for one, dtype in zip(walk.operands, whole.dtypes, strict=True):
            if not is_array(one):
                operands.append(Number(one, dtype))
                continue
            load = Load(one, place_of(one))
            made = self.made.get(one.memory) if isinstance(one, View) else None
            if made is not None and (made.key != load.key or made.kind in ("column sum", "total")):
                return None
            operands.append(made or load)
        step = Step(whole, kind, operands, place_of(walk.result))
        return step if self._may_write(step) else None

    def _may_write(self, step: Step) -> bool:
        """Whether nothing else in the memory that it writes is read or written here."""
        item, memory = step.view.dtype.itemsize, step.view.memory
        form = step.place.form(self.rows, self.columns, item)
        wanted = {"cells": ("cells", "strided"), "row": ("column",), "fold": ("column",)}
        if form not in wanted.get(step.kind, ("row", "number")):
            return False
        same = [load for load in self._loads.values() if load.key[0] is memory]
        same += [one for one in step.operands if isinstance(one, Load) and one.key[0] is memory]
        made = self.made.get(memory)
        if made is not None and made.key != step.key:
            return False
        return all(load.key == step.key for load in same)

    def _goes_with(self, step: Step) -> bool:
        """Whether it reads what the group makes, or whole arrays that it reads."""
        if not self.steps:
            return step.kind != "row"
        if any(isinstance(one, Step) for one in step.operands):
            return True
        loads = [one for one in step.operands if isinstance(one, Load)]
        return step.kind != "row" and any(load.key in self._cells for load in loads)

    def loop(self, shared: set[Memory]) -> Loop:
        """The loop, with the results that are read elsewhere."""
        wide = self._widened()
        stored = [step for step in wide.made.values() if step.view.memory in shared]
        return Loop.of(wide.steps, stored, wide.rows, wide.columns)
