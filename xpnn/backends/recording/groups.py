"""Groups of calls that run together, and which of them have to run before which.

What may be one group, and which calls look for one another, is for a machine to say: kernels of a
GPU (``kernels.py``), or loops of a CPU.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from xpnn.backends.recording.calls import Call, Memory, Slot, View


@dataclass(eq=False)
class Group:
    """Calls that run together: a kernel, a loop, or a single call of any kind.

    Attributes:
        calls: by their number in the recording.
        before: groups that have to run before.
        behind: groups that have to run behind.
        first: the number of its first call.
        highest: the greatest number of a call in it, or in what has to run before.
    """

    calls: dict[int, Call]
    before: set[Self] = field(default_factory=set)
    behind: set[Self] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.first = self.highest = next(iter(self.calls))

    def absorb(self, other: Self) -> None:
        """Take over the calls of another group, and its place in the order."""
        self.calls |= other.calls
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

    def wait_for(self, group: Self) -> None:
        """Run behind another group."""
        self.before.add(group)
        group.behind.add(self)
        self._reach(group.highest)

    def waits_for(self, other: Self) -> bool:
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

    def in_order(self) -> Iterator[Call]:
        """The calls in the order of the recording."""
        return (self.calls[number] for number in sorted(self.calls))

    def reads(self) -> list[Memory]:
        """What it reads, its own results among it, in the order of the calls."""
        return list(dict.fromkeys(view.memory for call in self.in_order() for view in call.reads()))

    def writes(self) -> dict[Memory, View]:
        """What it makes."""
        return {view.memory: view for call in self.calls.values() for view in call.writes()}


OneGroup = TypeVar("OneGroup", bound=Group)


class Groups(Generic[OneGroup]):
    """The groups of a recording, while they grow.

    Attributes:
        groups: those that stand first, first.
    """

    def __init__(self) -> None:
        self.groups: dict[OneGroup, None] = {}
        self._group_of: list[OneGroup] = []  # each call by its number
        self._makers: dict[Memory | Slot, list[int]] = {}
        self._readers: dict[Memory | Slot, list[int]] = {}

    @property
    def count(self) -> int:
        """How many calls there are, which is the number of the next one."""
        return len(self._group_of)

    def add(self, group: OneGroup, waited_for: set[OneGroup] | None = None) -> OneGroup:
        """Take the next call, as a group of its own.

        Args:
            waited_for: as the method of that name says of the call, where that is known.
        """
        call = group.call
        for other in self.waited_for(call) if waited_for is None else waited_for:
            group.wait_for(other)
        self.groups[group] = None
        for one in call.sources:
            self._readers.setdefault(one, []).append(self.count)
        for one in call.targets:
            self._makers.setdefault(one, []).append(self.count)
        self._group_of.append(group)
        return group

    def makers(self, call: Call) -> set[OneGroup]:
        """The groups that make what a call reads."""
        return self._groups_of(self._makers, call.sources)

    def waited_for(self, call: Call) -> set[OneGroup]:
        """The groups that have to run before a call: also those whose memory it writes over."""
        before = self.makers(call) | self._groups_of(self._makers, call.targets)
        return before | self._groups_of(self._readers, call.targets)

    def _groups_of(
        self, numbers: dict[Memory | Slot, list[int]], used: Iterable[Memory | Slot]
    ) -> set[OneGroup]:
        return {self._group_of[number] for one in used for number in numbers.get(one, ())}

    def merge(self, group: OneGroup, other: OneGroup) -> OneGroup:
        """Let a group take over another one."""
        group.absorb(other)
        del self.groups[other]
        for number in other.calls:
            self._group_of[number] = group
        return group

    def in_order(self) -> list[OneGroup]:
        """An order in which they can run: each behind those that it waits for."""
        left = {group: len(group.before) for group in self.groups}
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
        assert len(found) == len(self.groups)
        return found

    def read_elsewhere(self, group: OneGroup) -> set[Memory]:
        """What a group makes and others read behind it."""
        return {memory for memory in group.writes() if self._is_read_behind(group, memory)}

    def _is_read_behind(self, group: OneGroup, memory: Memory) -> bool:
        last = max(number for number in self._makers[memory] if self._group_of[number] is group)
        return any(
            number > last and self._group_of[number] is not group
            for number in self._readers.get(memory, ())
        )
