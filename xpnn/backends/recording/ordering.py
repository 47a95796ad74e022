"""In which order calls run, so that less memory is needed at once.

What takes more memory than it gives back runs late, right before the first call that waits for it;
what gives back more runs early, right behind the last that it waits for. So a gradient of weights
is not worked out long before the update, nor a loss kept in pieces while its slope is made. Both
ways and in turns, as one opens up what the other could not do, and of all orders on the way the
best: to find the very best one is hard (NP-complete, Sethi 1975).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from xpnn.backends.recording.calls import Call, Memory, Slot, View
from xpnn.backends.recording.lifetimes import may_raise
from xpnn.trees import leaves

ROUNDS = 2
WAYS = (("late", "shrinking"), ("early", "late"))
"""Sweeps in turns: what grows late; what does not grow early, or only what shrinks."""


class Dependences:
    """What each call has to run behind, and what has to run behind it.

    Args:
        calls: of a recording, or loops of several, in an order in which they can run.
        aliases: for a result, the argument in whose memory it may be made: behind all that read
            it, and behind the last call that may raise.
    """

    def __init__(self, calls: Sequence[Call], aliases: dict[Memory, Memory]):
        self.before: list[set[int]] = [set() for _ in calls]
        self.behind: list[list[int]] = [[] for _ in calls]
        writers: dict[Memory | Slot, set[int]] = {}
        readers: dict[Memory | Slot, set[int]] = {}
        risky = [number for number, call in enumerate(calls) if may_raise(call)]
        for earlier, later in pairwise(risky):
            self.before[later].add(earlier)
        for number, call in enumerate(calls):
            before = self.before[number]
            for one in _read(call):
                before |= writers.get(one, set())
                readers.setdefault(one, set()).add(number)
            for one in _written(call):
                if one in writers:  # and is written over
                    before |= writers[one] | readers.get(one, set())
                writers.setdefault(one, set()).add(number)
                if one in aliases:
                    before |= readers.get(aliases[one], set())
                    before |= {risk for risk in risky[-1:] if risk < number}
            before.discard(number)
            for earlier in before:
                self.behind[earlier].append(number)


def _read(call: Call) -> set[Memory | Slot]:
    """The memory and the numbers that a call reads."""
    given = leaves((call.arguments, call.options))
    return {_origin(one) for one in given if isinstance(one, View | Slot)}


def _written(call: Call) -> list[Memory | Slot]:
    return [_origin(one) for one in call.results if one is not None]


def _origin(one: View | Slot) -> Memory | Slot:
    return one.memory if isinstance(one, View) else one


class Ordering:
    """Orders of the same calls, compared by the memory that is needed at once.

    Args:
        calls: in an order in which they can run.
        aliases: as for ``Dependences``.
        lies_in: of some memory the one that it is a part of; None where that takes no bytes.
        kept: memory that is read behind the last call.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        aliases: dict[Memory, Memory],
        lies_in: Callable[[Memory], Memory | None],
        kept: set[Memory],
    ):
        self._calls, self._kept = calls, kept
        self._waits = Dependences(calls, aliases)
        self._touched: list[list[Memory]] = []
        self._writes_over: list[bool] = []
        for call in calls:
            read, made = call.reads(), call.writes()
            found = {lies_in(view.memory): None for view in (*read, *made)}
            self._touched.append([memory for memory in found if memory is not None])
            sizes = {view.nbytes for view in made}
            alike = dict.fromkeys(view.memory for view in read if view.nbytes in sizes)
            self._writes_over.append(any(call.may_overwrite(one, made[0]) for one in alike))

    def best(self) -> tuple[list[Call], float]:
        """The calls in the best order that is found, and its memory as a part of that of all."""
        given = best = list(range(len(self._calls)))
        change = self._change(given)
        first = least = self._highest(given, change)
        for way in WAYS:
            order, grown = given, change
            for sweep in way * ROUNDS:
                order = self._swept(order, grown, sweep)
                grown = self._change(order)
                highest = self._highest(order, grown)
                if highest < least:
                    best, least = order, highest
        return [self._calls[number] for number in best], least / max(first, 1)

    def _swept(self, order: list[int], change: list[tuple[int, int]], sweep: str) -> list[int]:
        """The order with each call as late or as early as it pays."""
        late = sweep == "late"
        waits = self._waits.behind if late else self._waits.before
        nearest, further = (min, -1) if late else (max, 1)
        most = -1 if sweep == "shrinking" else 0
        place: dict[int, tuple[int, int]] = {}
        where = {number: at for at, number in enumerate(order)}
        for number in reversed(order) if late else order:
            made, freed = change[number]
            moves = made > freed if late else made - freed <= most
            if moves and waits[number]:
                base, step = nearest(place[other] for other in waits[number])
                place[number] = base, step + further
            else:
                place[number] = where[number], 0
        return sorted(order, key=lambda number: (*place[number], where[number]))

    def _change(self, order: list[int]) -> list[tuple[int, int]]:
        """By its number, bytes that each call is the first to touch, and the last."""
        first: dict[Memory, int] = {}
        last: dict[Memory, int] = {}
        for number in order:
            for memory in self._touched[number]:
                first.setdefault(memory, number)
                last[memory] = number
        made, freed = [0] * len(order), [0] * len(order)
        for memory, number in first.items():
            made[number] += memory.nbytes
            if memory not in self._kept:
                freed[last[memory]] += memory.nbytes
        return list(zip(made, freed, strict=True))

    def _highest(self, order: list[int], change: list[tuple[int, int]]) -> int:
        """The most bytes at once."""
        highest = there = 0
        for number in order:
            made, freed = change[number]
            over = min(made, freed) if self._writes_over[number] else 0
            highest = max(highest, there + made - over)
            there += made - freed
        return highest
