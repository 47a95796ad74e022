"""A group of calls as one call, which goes over rows in one or more sweeps over their columns.

A sum of a row is known when all of its columns were seen; what depends on it is worked out in the
next sweep over the row, which is in the cache. What a later sweep needs of an earlier one is read
back where it was written anyway, worked out again if that is cheap, or kept in a buffer of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xpnn.backends.numpy.loops.steps import DEAR, Load, Step
from xpnn.backends.recording.calls import Call, Memory, View

DEAR_WORK = 8  # additions that exp, a division and their like take as long as
CHEAP = 4  # operations, up to which something is worked out again


def run_loop() -> None:
    """Stands for a loop among the functions of calls."""


@dataclass(eq=False)
class Loop(Call):
    """A group of calls.

    Attributes:
        steps: its calls.
        stored: those whose results are read elsewhere.
        sweeps: what is worked out of the steps in each sweep over a row.
    """

    steps: list[Step] = field(default_factory=list)
    stored: list[Step] = field(default_factory=list)
    rows: int = 1
    columns: int = 1
    sweeps: list["Sweep"] = field(default_factory=list)

    @classmethod
    def of(cls, steps: list[Step], stored: list[Step], rows: int, columns: int) -> "Loop":
        """The loop of these steps."""
        loads = [one for step in steps for one in step.operands if isinstance(one, Load)]
        views = [load.source for load in loads if isinstance(load.source, View)]
        return cls(
            function=run_loop,
            method="",
            arguments=tuple(dict.fromkeys(views)),
            options={},
            results=[step.view for step in stored],
            in_place=any(step.call.in_place for step in stored),
            never_raises=True,
            steps=steps,
            stored=stored,
            rows=rows,
            columns=columns,
            sweeps=sweeps_of(steps, stored),
        )

    @property
    def work(self) -> int:
        """How many operations it takes, about."""
        each = sum(DEAR_WORK if one.call.function in DEAR else 1 for one in self.steps)
        return each * self.rows * self.columns

    def loads(self) -> list[Load]:
        """All of the steps."""
        return [one for step in self.steps for one in step.operands if isinstance(one, Load)]

    def may_overwrite(self, memory: Memory, target: View) -> bool:
        """Whether a result may be written into memory that is read: each item once it is read."""
        (step,) = (one for one in self.stored if one.view.memory is target.memory)
        if step.kind not in ("cells", "row", "fold") or any(
            view.memory is memory for view in self.results
        ):
            return False
        loads = [one for one in self.loads() if one.key[0] is memory]
        return step.place.offset == 0 and all(
            (load.place, load.source.dtype) == (step.place, target.dtype)
            and target.nbytes == memory.nbytes
            and self._last_sweep_of(load) <= self._sweep_of_store(step)
            for load in loads
        )

    def _last_sweep_of(self, load: Load) -> int:
        reads = [-1]
        for number, sweep in enumerate(self.sweeps):
            if any(load.key == one.key for one in sweep.loads()):
                reads.append(number)
        return max(reads)

    def _sweep_of_store(self, step: Step) -> int:
        if step.is_of_rows:
            return step.sweep
        return next(k for k, sweep in enumerate(self.sweeps) if step in sweep.stores)


@dataclass
class Sweep:
    """What is done for each column in one sweep over a row.

    Attributes:
        steps: what is worked out, in its order; sums that are added to are among them.
        read_back: results of earlier sweeps that are read from where they were written.
        buffered: the same from a buffer of the row.
        stores: results that are written.
        fills: buffers that are written.
    """

    steps: list[Step] = field(default_factory=list)
    read_back: list[Step] = field(default_factory=list)
    buffered: list[Step] = field(default_factory=list)
    stores: list[Step] = field(default_factory=list)
    fills: list[Step] = field(default_factory=list)

    def loads(self) -> list[Load]:
        """What the steps read from memory."""
        return [one for step in self.steps for one in step.operands if isinstance(one, Load)]


def sweeps_of(steps: Sequence[Step], stored: Sequence[Step]) -> list[Sweep]:
    """As few sweeps over a row as the steps need, and what is done in each."""
    for step in steps:
        step.sweep = max((_from_sweep(one, step) for one in step.operands), default=0)
        if step.kind != "row":
            step.sweep = max(step.sweep, 0)
    count = 1 + max(step.sweep for step in steps if step.kind != "row")
    plan = _Sweeps(count, steps, stored)
    for number in reversed(range(count)):
        plan.fill(number)
    for sweep in plan.sweeps:
        sweep.steps.sort(key=plan.order.__getitem__)
    return plan.sweeps


def _from_sweep(operand: Any, step: Step) -> int:
    """From which sweep on an operand can be read by a step."""
    if not isinstance(operand, Step):
        return -1
    return operand.sweep + (operand.is_of_rows and step.kind != "row")


class _Sweeps:
    """What is done in each sweep, found from the last to the first."""

    def __init__(self, count: int, steps: Sequence[Step], stored: Sequence[Step]):
        self.sweeps = [Sweep() for _ in range(count)]
        self.order = {step: number for number, step in enumerate(steps)}
        self.steps = steps
        read = {one.key[0] for step in steps for one in step.operands if isinstance(one, Load)}
        self.stored_in = {  # what is written over where it was read waits for the last sweep
            step: count - 1 if step.view.memory in read else step.sweep
            for step in stored
            if step.kind == "cells"
        }
        self.to_buffer: set[Step] = set()

    def fill(self, number: int) -> None:
        """All of one sweep, given those behind it."""
        sweep = self.sweeps[number]
        sweep.stores = [step for step, at in self.stored_in.items() if at == number]
        sweep.fills = [
            step for step in self.steps if step in self.to_buffer and step.sweep == number
        ]
        for step in self.steps:
            if step.kind in ("fold", "column sum", "total") and step.sweep == number:
                self._work_out(step, number)
        for step in (*sweep.stores, *sweep.fills):
            self._want(step, number)

    def _want(self, step: Step, number: int) -> None:
        sweep = self.sweeps[number]
        if step.is_of_rows or step in (*sweep.steps, *sweep.read_back, *sweep.buffered):
            return
        if step.sweep == number:
            self._work_out(step, number)
        elif self.stored_in.get(step, number) < number:
            sweep.read_back.append(step)
        elif self._cost(step, number) <= CHEAP:
            self._work_out(step, number)
        else:
            sweep.buffered.append(step)
            self.to_buffer.add(step)

    def _work_out(self, step: Step, number: int) -> None:
        self.sweeps[number].steps.append(step)
        for one in step.operands:
            if isinstance(one, Step):
                self._want(one, number)

    def _cost(self, step: Step, number: int) -> int:
        """How many operations it takes to work out a step again in that sweep."""
        if step.is_of_rows or self.stored_in.get(step, number) < number:
            return 0
        if step.call.function in DEAR:
            return CHEAP + 1
        inner = (self._cost(one, number) for one in step.operands if isinstance(one, Step))
        return 1 + sum(inner)
