"""Calls that one loop can do for one row after the other, found among the calls of a recording.

A group grows over calls that walk over the same rows and columns, whatever the shapes of their
arrays: elementwise ones, with rows and columns repeated; sums and extremes of each row, and what
becomes of these; sums over all rows. What is made inside of a group and read there alone never gets
memory of its own, so groups are found before memory is planned.

A call joins a group that stands before others if these neither make what it reads nor read what it
writes over. Sums may do so past any call, as they end with few numbers; what makes whole arrays may
not, so that nothing is kept for long that is cheaply made later.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xpnn.backends.numpy.layout import laid_by_columns
from xpnn.backends.numpy.loops.joined_sums import parts_of, with_joined_sums
from xpnn.backends.numpy.loops.loop import Loop
from xpnn.backends.numpy.loops.places import Place, offset_of
from xpnn.backends.numpy.loops.rows import add_rows_in_loop
from xpnn.backends.numpy.loops.steps import FORMULAS, Load, Number, Step, Walk, walk_of
from xpnn.backends.numpy.rows import add_rows
from xpnn.backends.recording.calls import Call, Memory, Slot, View
from xpnn.backends.recording.joins import laid_as_joined
from xpnn.backends.recording.lifetimes import needed
from xpnn.backends.recording.pieces import in_pieces
from xpnn.trees import leaves

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
    entries: list[Group | Call] = []
    placed: list[Call] = []
    for call in calls:
        first, *others = parts_of(call)
        few = others and call.results[0].nbytes <= FEW_BYTES
        if few and _joins(entries, first, len(placed)):
            placed.append(first)  # of more columns, which fill a vector
        else:
            others = [call]
        for one in others:
            _put(entries, one, len(placed))
            placed.append(one)
    last_read: dict[Memory, dict[Any, int]] = {}
    owner = {call: entry for entry in entries if isinstance(entry, Group) for call in entry.calls}
    for number, call in enumerate(placed):
        for view in call.reads():
            last_read.setdefault(view.memory, {})[owner.get(call, call)] = number
    found: list[Call] = []
    for entry in entries:
        if isinstance(entry, Call):
            found += parts_of(entry)
        elif not entry.pays:
            found += [part for call in entry.calls for part in parts_of(call)]
        else:
            found.append(entry.loop(kept, last_read))
    return found


def _put(entries: "list[Group | Call]", call: Call, number: int) -> None:
    """Let a call join one of the groups, or begin one, or stand by itself."""
    walk = walk_of(call)
    if walk is None:
        entries.append(call)
        return
    _merge_sources(entries, call)
    if _joins(entries, call, number):
        return
    group = Group(walk.size, walk.usual_columns)
    step = group.step_for(walk)
    if step is None:
        entries.append(call)
    else:
        group.add(step, number)
        entries.append(group)


def _joins(entries: "list[Group | Call]", call: Call, number: int) -> bool:
    """Let a call join one of the groups, if there is one for it."""
    walk = walk_of(call)
    if walk is None:
        return False
    for at in range(len(entries) - 1, max(len(entries) - LOOK_BACK, 0) - 1, -1):
        entry = entries[at]
        if isinstance(entry, Group):
            for group in (entry, entry.at(walk.usual_columns)):
                step = group and group.step_for(walk)
                if group and step:
                    group.add(step, number)
                    entries[at] = group
                    return True
        elif walk.folded is None and not _is_count(entry):
            return False
        if _minds(entry, call):
            return False
    return False


def _merge_sources(entries: "list[Group | Call]", call: Call) -> None:
    """Make one group of the last two that make what a call reads, if both may run at once."""
    read = memories(call.reads())
    found: list[int] = []
    for at in range(len(entries) - 1, max(len(entries) - LOOK_BACK, 0) - 1, -1):
        entry = entries[at]
        if isinstance(entry, Group):
            if not read.isdisjoint(entry.made):
                found.append(at)
        elif not _is_count(entry):
            break
        if len(found) == 2:
            break
    if len(found) < 2:
        return
    later, earlier = found
    both = _merged(entries[earlier], entries[later])
    between = entries[earlier + 1 : later]
    if both is not None and not any(_minds(one, call) for one in between for call in both.calls):
        entries[earlier] = both
        del entries[later]


def _merged(one: Any, other: Any) -> "Group | None":
    """The steps of two groups as one; None if they do not fit."""
    for columns in (one.columns, other.columns):
        both = one.at(columns)
        if both is not None and both.takes_all(other):
            return both
    return None


def _is_count(call: "Group | Call") -> bool:
    """Whether it is of Python numbers alone."""
    return isinstance(call, Call) and all(isinstance(one, Slot) for one in call.results)


def _minds(earlier: "Group | Call", call: Call) -> bool:
    """Whether a call must not run before an earlier one."""
    if isinstance(earlier, Group):
        return earlier.minds(call)
    read, written = memories(earlier.reads()), memories(earlier.writes())
    touched = memories(call.reads()), memories(call.writes())
    counted = {one for one in earlier.results if isinstance(one, Slot)}
    return bool(
        counted & {one for one in leaves(call.arguments) if isinstance(one, Slot)}
        or written & (touched[0] | touched[1])
        or read & touched[1]
    )


def memories(views: Sequence[View]) -> set[Memory]:
    """The memory of each."""
    return {view.memory for view in views}


class Group:
    """Calls that walk over the same rows and columns, while they grow into a loop."""

    def __init__(self, size: int, columns: int):
        self.rows, self.columns = size // columns, columns
        self.steps: list[Step] = []
        self.made: dict[Memory, Step] = {}
        self._numbers: dict[Step, int] = {}
        self._loads: dict[Any, Load] = {}
        self._read: set[Memory] = set()
        self._cells: set[Any] = set()

    @property
    def calls(self) -> list[Call]:
        """In their order."""
        return [step.call for step in self.steps]

    @property
    def pays(self) -> bool:
        """Whether a loop is worth to be compiled and called."""
        size, count = self.rows * self.columns, len(self.steps)
        if count < 3:
            return count == 2 and size >= LEAST_PAIR
        return count * (size + CALL) >= LEAST_WORK

    def minds(self, call: Call) -> bool:
        """Whether a call must not run before this group."""
        read, written = memories(call.reads()), memories(call.writes())
        made = self.made.keys()
        return not (made.isdisjoint(read | written) and self._read.isdisjoint(written))

    def at(self, columns: int) -> "Group | None":
        """The same calls in other columns, as a group of its own; None if these do not fit."""
        size = self.rows * self.columns
        if size % columns:
            return None
        found = Group(size, columns)
        return found if found.takes_all(self) else None

    def takes_all(self, other: "Group") -> bool:
        """Take the calls of another group, in their order; False as soon as one does not fit."""
        for step in other.steps:
            again = self.step_for(step.walk, alone=True)
            if again is None:
                return False
            self.add(again, other._numbers[step])
        return True

    def _widened(self) -> "Group":
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

    def step_for(self, walk: Walk, alone: bool = False) -> Step | None:
        """The call as a step of this group; None if it does not fit.

        Args:
            alone: whether it may have nothing in common with the others.
        """
        if len(self.steps) >= MOST_STEPS or len(self._loads) + len(self.made) >= MOST_ARRAYS:
            return None
        if walk.size == self.rows * self.columns:
            own = walk.at(self.columns)
            if own is None or own.kind is None:
                return None
            if own.kind == "fold" and self.columns > LONGEST_ROW:
                return None
            step = self._step(own, walk, own.kind, Place.of)
        elif walk.folded is None and walk.size == self.rows:
            step = self._step(walk, walk, "row", Place.of_rows)
        else:
            return None
        return step if step is not None and (alone or self._goes_with(step)) else None

    def _step(
        self, walk: Walk, whole: Walk, kind: str, place_of: Callable[..., Place]
    ) -> Step | None:
        operands: list[Step | Load | Number] = []
        for (source, strides), dtype in zip(walk.operands, walk.dtypes, strict=True):
            if strides is None:
                operands.append(Number(source, dtype))
                continue
            place = place_of(offset_of(source), walk.lengths, strides)
            load = Load(source, place)
            made = self.made.get(source.memory) if isinstance(source, View) else None
            if made is not None and (made.key != load.key or made.kind in ("column sum", "total")):
                return None
            operands.append(made or load)
        (out,) = walk.call.results
        place = place_of(out.offset, walk.lengths, walk.out)
        step = Step(whole, kind, operands, place)
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

    def add(self, step: Step, number: int) -> None:
        """Take one more step, of the call of that number."""
        self.steps.append(step)
        self.made[step.view.memory] = step
        self._numbers[step] = number
        for one in step.operands:
            if isinstance(one, Load):
                self._loads.setdefault(one.key, one)
                if isinstance(one.source, View):
                    self._read.add(one.source.memory)
                if 0 not in one.place.strides:
                    self._cells.add(one.key)

    def loop(self, kept: set[Memory], last_read: dict[Memory, dict[Any, int]]) -> Loop:
        """The loop, with the results that are read elsewhere."""
        wide = self._widened()

        def is_read(step: Step) -> bool:
            readers = last_read.get(step.view.memory, {})
            return step.view.memory in kept or any(
                reader is not self and number > wide._numbers[step]
                for reader, number in readers.items()
            )

        stored = [step for step in wide.made.values() if is_read(step)]
        return Loop.of(wide.steps, stored, wide.rows, wide.columns)
