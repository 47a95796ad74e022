"""How long the arrays of a tape live, and which block of bytes each may lie in, on any machine.

The plan wants as few bytes as possible, and as few copies. Blocks have a size and nothing else:
what they are made of is for a backend to say.

Arrays that are never needed at one time share memory (``packing.py``). An elementwise call writes
over an operand that nobody reads again. What is only made to become part of a stack is made in its
place there, and a result that replaces a donated argument is made on top of it, once nobody reads
the argument any more; what lies between the two may lie there, too.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.packing import packed_into
from xpnn.backends.recording.shapes import cast
from xpnn.trees import tree_map


def join_arguments(
    calls: list[Call], donated: set[Memory], returned: set[Memory]
) -> dict[Memory, tuple[Memory, int]]:
    """Let arguments that the calls put behind each other lie behind each other from the start.

    Drops the calls that only do so, and moves all views of these arguments to the joint memory.

    Args:
        calls: of a tape; changed in place.
        donated: the memory of arguments, which may be put anywhere.
        returned: the memory of results.

    Returns:
        For each of the arguments its joint memory, and from which byte on it lies there; the same
        for what was made of arguments that are joined already.
    """
    moved: dict[Memory, tuple[Memory, int]] = {}
    again: dict[Memory, tuple[Memory, int]] = {}
    joints: set[Call] = set()
    written = {view.memory for call in calls if call.in_place for view in call.writes()}
    for call in calls:
        pieces = call.arguments[0] if call.stacks_along_first_axis() else ()
        memories = {piece.memory for piece in pieces if isinstance(piece, View) and piece.is_whole}
        if not len(memories) == len(pieces) > 0 or call.results[0].memory in written:
            continue
        starts = [0, *accumulate(piece.nbytes for piece in pieces)][:-1]
        joint = call.results[0].memory
        if memories <= donated and moved.keys().isdisjoint(memories):
            for piece, start in zip(pieces, starts, strict=True):
                moved[piece.memory] = joint, start
            joints.add(call)
            continue
        first = moved.get(next(iter(pieces)).memory)
        behind = first and [(first[0], first[1] + start) for start in starts]
        if joint not in returned and [moved.get(piece.memory) for piece in pieces] == behind:
            assert first is not None
            again[joint] = first  # they are behind each other already
            joints.add(call)
    calls[:] = [relocated(call, moved | again) for call in calls if call not in joints]
    return moved | again


def relocated(tree: Any, moved: dict[Memory, tuple[Memory, int]]) -> Any:
    """The same with every view of memory that has moved at its new place."""

    def move(view: View) -> View:
        if view.memory not in moved:
            return view
        memory, start = moved[view.memory]
        return view._replace(memory=memory, offset=start + view.offset)

    if isinstance(tree, Call):
        return tree.with_views(move, among=moved)
    return tree_map(lambda leaf: move(leaf) if isinstance(leaf, View) else leaf, tree)


SURE = {cast, np.concatenate, np.stack, np.matmul, np.reshape, np.where}


def may_raise(call: Call) -> bool:
    """Whether numbers in its arguments could end the call with an error, as ids out of range do."""
    sure = isinstance(call.function, np.ufunc) or call.function in SURE
    return not (sure or call.never_raises)


def needed(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The calls that fill memory which is read, by other calls or behind them, and all others.

    Args:
        calls: of a tape.
        kept: memory that is read from outside.
    """
    read, found = set(kept), []
    for call in reversed(calls):
        filled = {view.memory for view in call.writes()}
        if not filled or may_raise(call) or filled & read:
            read |= {view.memory for view in call.reads()}
            found.append(call)
    return found[::-1]


class MemoryPlan:
    """A block for each memory of a tape, and at which byte of it the memory begins.

    What is made over what it reads has one place with that, which is there as long as one of them.

    Args:
        calls: of the tape.
        fixed: the memory of arrays that were passed in, each a block by itself.
        kept: memory that is read after the last call.
        aliases: for a result, the donated argument in whose memory it should be made.

    Attributes:
        calls: as given, in the order for which it holds.
        aliased: the results that are made there.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        fixed: set[Memory],
        kept: set[Memory],
        aliases: dict[Memory, Memory],
    ):
        self.calls, self.aliases = calls, aliases
        self._place_of = {memory: memory for memory in fixed}
        self.inside: dict[Memory, tuple[Memory, int]] = {}
        self.aliased: set[Memory] = set()
        self.last_use = dict.fromkeys(kept, len(calls))
        self._fixed = fixed
        # of what lies in the memory of a donated argument: the result that will be made there
        self._successors = {old: result for result, old in aliases.items()}
        self._sure_from = max((k + 1 for k, call in enumerate(calls) if may_raise(call)), default=0)
        self._find_uses()
        self._find_parts_of_stacks()
        self._assign()
        self._lives = self._find_lives()
        self._at: dict[Memory, tuple[Memory, int]] = {}

    @property
    def highest(self) -> int:
        """The most bytes that are needed at once, beside the arguments."""
        change = np.zeros(len(self.calls) + 2, np.int64)
        for place, first, last in self._lives:
            change[first] += place.nbytes
            change[last + 1] -= place.nbytes
        return int(change.cumsum().max())

    def pack(self, blocks: list[Memory]) -> None:
        """Give each array its place in a block.

        Args:
            blocks: to use again, all of them free; one that the plan wants beside them is added.
        """
        self._at = packed_into(blocks, self._lives)

    def lies_in(self, memory: Memory) -> Memory | None:
        """The memory that it is made in as a part; None where that is an argument's."""
        memory = self._outermost(memory)
        return None if self._place_of[memory] in self._fixed else memory

    def in_block(self, view: View) -> View:
        """The same array as a view of the block that it lies in."""
        memory, offset = view.memory, view.offset
        while memory in self.inside:
            memory, start = self.inside[memory]
            offset += start
        place = self._place_of[memory]
        block, start = self._at.get(place, (place, 0))
        return view._replace(memory=block, offset=start + offset)

    def made_in_place(self, piece: View, place: View) -> bool:
        """Whether a piece of what is joined already lies in its place."""
        return self.inside.get(piece.memory) == (place.memory, place.offset)

    def outlives(self, memory: Memory, call: int) -> bool:
        """Whether what lies there is read by that call or a later one, or after all of them."""
        return self.last_use[self._outermost(memory)] >= call

    def _find_uses(self) -> None:
        self._made_by: dict[Memory, int] = {}
        for number, call in enumerate(self.calls):
            for view in call.views():
                self.last_use[view.memory] = max(self.last_use.get(view.memory, 0), number)
            for view in call.writes():
                self._made_by.setdefault(view.memory, number)

    def _find_parts_of_stacks(self) -> None:
        written_last = {
            view.memory: number
            for number, call in enumerate(self.calls)
            if call.in_place
            for view in call.writes()
        }
        for number, call in enumerate(self.calls):
            for piece, place in call.placements():  # constants among the pieces have to be copied
                memory = piece.memory if isinstance(piece, View) else None
                if (
                    memory is not None
                    and _fills(piece, place)
                    and place.memory not in self.aliases
                    and memory not in self._fixed
                    and memory not in self.aliases
                    and memory not in self.inside
                    and written_last.get(memory, 0) < number
                    and min(written_last.get(place.memory, 0), self.last_use[memory]) <= number
                ):
                    self.inside[memory] = place.memory, place.offset
                    last = max(self.last_use[memory], self.last_use[place.memory])
                    self.last_use[place.memory] = last

    def _assign(self) -> None:
        for number, call in enumerate(self.calls):
            taken: set[Memory] = set()
            for view in call.writes():
                memory = self._outermost(view.memory)
                if memory in self._place_of:
                    continue
                if memory in self.aliases and self._may_alias(number, call, view):
                    self._place_of[memory] = self._place_of[self.aliases[memory]]
                    self.aliased.add(memory)
                    continue
                operand = self._operand_to_overwrite(number, call, view, taken)
                if operand is None:
                    self._place_of[memory] = Memory(memory.nbytes)
                    continue
                taken.add(operand)
                self._place_of[memory] = self._place_of[operand]
                if operand in self._successors:
                    self._successors[memory] = self._successors[operand]

    def _find_lives(self) -> list[tuple[Memory, int, int]]:
        """Each place that is no argument's, from the first call that writes there on."""
        lives: dict[Memory, tuple[Memory, int, int]] = {}
        for number, call in enumerate(self.calls):
            for view in call.writes():
                memory = self._outermost(view.memory)
                place = self._place_of[memory]
                if place in self._fixed:
                    continue
                _, first, last = lives.get(place, (place, number, number))
                lives[place] = place, first, max(last, self.last_use[memory])
        return list(lives.values())

    def _outermost(self, memory: Memory) -> Memory:
        while memory in self.inside:
            memory, _ = self.inside[memory]
        return memory

    def _may_alias(self, number: int, call: Call, view: View) -> bool:
        """Whether nobody reads the donated argument after this call, and this call may write it.

        Before the last call that may raise, nothing is written over: an error changes nothing.
        """
        if number < self._sure_from:
            return False
        old = self.aliases[self._outermost(view.memory)]
        last = self.last_use.get(old, -1)
        return last < number or (last == number and call.may_overwrite(old, view))

    def _operand_to_overwrite(
        self, number: int, call: Call, view: View, taken: set[Memory]
    ) -> Memory | None:
        if view.memory in self.inside:
            return None
        for operand in call.reads():
            memory = operand.memory
            if (
                self.last_use[memory] == number
                and memory not in taken
                and memory not in self.inside
                and memory.nbytes == view.memory.nbytes
                and call.may_overwrite(memory, view)
                and self._may_be_overwritten(number, memory, view.memory)
            ):
                return memory
        return None

    def _may_be_overwritten(self, number: int, memory: Memory, other: Memory) -> bool:
        """Whether other memory may take the block of this one, which no later call reads.

        The block of a donated argument is free until the result comes that is made there.
        """
        successor = self._successors.get(memory)
        if successor is None:
            return memory not in self._fixed
        until, last = self._made_by[successor], self.last_use[other]
        if number < self._sure_from or last > until:
            return False
        views = [view for view in self.calls[until].writes() if view.memory is successor]
        return last < until or all(self.calls[until].may_overwrite(other, view) for view in views)


def _fills(piece: View, place: View) -> bool:
    """Whether all of a piece's memory could lie in its place, item over item."""
    strides = [
        (one, other)
        for length, one, other in zip(piece.shape, piece.strides, place.strides, strict=True)
        if length > 1
    ]
    size = piece.dtype.itemsize + sum(
        (length - 1) * stride for length, stride in zip(piece.shape, piece.strides, strict=True)
    )
    return (
        piece.offset == 0
        and piece.dtype == place.dtype
        and piece.nbytes > 0
        and size == piece.memory.nbytes
        and all(one == other for one, other in strides)
    )
