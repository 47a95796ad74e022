"""Recording: the calls that a step makes, and what becomes of its arguments, on any machine."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xpnn.backends.portable.compiled_step import successors
from xpnn.backends.recording.calls import Call, Memory, NotRecordable, View
from xpnn.backends.recording.lifetimes import MemoryPlan, join_arguments, needed, relocated
from xpnn.backends.recording.ordering import Ordering
from xpnn.backends.recording.passes import merged
from xpnn.backends.recording.stand_ins import Recorded, RecordedNumber
from xpnn.backends.recording.tape import Tape
from xpnn.trees import Structure

WORTHWHILE = 0.98  # of the memory; for less, calls stay where what they read is in the cache
PLAIN = (type(None), bool, int, float, str, np.generic)


class Recording:
    """One run of a step on stand-ins for its arguments.

    Which bytes its arrays are, and what is called in place of NumPy, is for a backend to say.

    Args:
        step: pure: what it returns depends on its arguments alone, and it changes nothing else.
        form: that of the arguments.
        leaves: the arguments themselves; arrays are all of their memory, row by row, and no two
            overlap.
        donate: positions of arguments that may be written over. The first results take their
            place, in their order.

    Attributes:
        calls: those that something depends on, each once, in their order.
        views: where each argument that is an array lies, by its number among the leaves. Donated
            ones that the step would put behind each other lie so in one joint memory.
        joints: these joint memories.
        slots: the slot of each argument that is a number.
        number_count: how many slots there are.
        result_form: the form of ``(results,)``.
        results: for each of their leaves the view, the slot, or the constant itself.
        replaced: for each of them the number of the argument that it takes the place of, or None.
        kept: memory that is read before the first call or after the last one.
        aliases: for each result that can be made in the memory of the argument that it replaces,
            that memory.

    Raises:
        NotRecordable: the step does what cannot be replayed.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        form: Structure,
        leaves: Sequence[Any],
        donate: Iterable[int] = (),
    ):
        donate = frozenset(donate)
        self.form = form
        tape = Tape()
        stand_ins = [tape.stand_in_for(leaf) for leaf in leaves]
        results = (step(*form.rebuild(stand_ins)),)
        self.result_form = Structure(results)
        outputs = [_described(one) for one in self.result_form.flatten(results)]

        views = {k: one.view for k, one in enumerate(stand_ins) if isinstance(one, Recorded)}
        mine = {views[k].memory for k in views if form.paths[k][0] in donate}
        returned = {one.memory for one in outputs if isinstance(one, View)}
        moved = join_arguments(tape.calls, mine, returned)
        self.views, self.results = relocated(views, moved), relocated(outputs, moved)
        self.joints = list(dict.fromkeys(memory for memory, _ in moved.values()))
        self.kept = {
            one.memory for one in (*self.views.values(), *self.results) if isinstance(one, View)
        }
        self.calls = needed(merged(tape.calls, self.kept), self.kept)

        tape.counted.clear()  # stand-ins, which hold the tape
        numbers = {k: one for k, one in enumerate(stand_ins) if isinstance(one, RecordedNumber)}
        self.slots = {k: one.slot for k, one in numbers.items()}
        self.number_count = tape.numbers
        self.replaced = [
            old if old in self.views else None for old in successors(form, self.result_form, donate)
        ]
        self._check_replaced()
        self.aliases = self._find_aliases(
            {view.memory for k, view in self.views.items() if form.paths[k][0] in donate}
        )

    def rename_dtype(self, recorded: np.dtype[Any], dtype: Any) -> None:
        """Let all that was recorded in one dtype be in another one, of as many bytes."""

        def renamed(leaf: Any) -> Any:
            if isinstance(leaf, View):
                return leaf._replace(dtype=dtype) if leaf.dtype == recorded else leaf
            if isinstance(leaf, np.ndarray | np.generic):
                return leaf.astype(dtype) if leaf.dtype == recorded else leaf
            is_dtype = isinstance(leaf, np.dtype) or leaf is recorded.type
            return dtype if is_dtype and leaf == recorded else leaf

        self.calls = [call.with_leaves(renamed) for call in self.calls]
        self.views = {k: renamed(view) for k, view in self.views.items()}
        self.results = [renamed(one) for one in self.results]

    def plan(self, calls: Sequence[Call], blocks: list[Memory]) -> MemoryPlan:
        """A place for each array of these calls, which may be the recording's own, rewritten.

        They run in another order, ``plan.calls``, where that takes less memory and no more copies.
        """
        fixed = {view.memory for view in self.views.values()}
        outputs = {one.memory for one in self.results if isinstance(one, View)}
        plan = MemoryPlan(calls, fixed, outputs, self.aliases)
        calls, part = Ordering(calls, self.aliases, plan.lies_in, outputs).best()
        if part < WORTHWHILE:
            other = MemoryPlan(calls, fixed, outputs, self.aliases)
            less = other.highest < WORTHWHILE * plan.highest
            plan = other if less and len(other.aliased) >= len(plan.aliased) else plan
        plan.pack(blocks)
        return plan

    def _check_replaced(self) -> None:
        """Refuse results that cannot take the place of their argument."""
        for one, old in zip(self.results, self.replaced, strict=True):
            if old is None or not isinstance(one, View | np.ndarray):
                continue
            if one.shape != self.views[old].shape or one.dtype != self.views[old].dtype:
                raise NotRecordable("what is returned in place of an argument differs in form")

    def _find_aliases(self, donated: set[Memory]) -> dict[Memory, Memory]:
        """Results that can lie where arguments lie: all of what is read of them has room there."""
        fixed = {view.memory for view in self.views.values()}
        lent = fixed - donated
        aliases: dict[Memory, Memory | None] = {}
        for view, old in zip(self.results, self.replaced, strict=True):
            if not isinstance(view, View):
                continue
            argument = None if old is None else self.views[old]
            if view.memory in fixed:
                if view != argument and not (argument is None and view.memory in lent):
                    raise NotRecordable("an argument is returned in the place of another one")
                continue
            alike = (
                argument is not None
                and view._replace(memory=argument.memory) == argument
                and view.memory.nbytes == argument.memory.nbytes
                and aliases.get(view.memory, argument.memory) is argument.memory
            )
            aliases[view.memory] = argument.memory if alike and argument else None
        found = {result: old for result, old in aliases.items() if old is not None}
        taken = Counter(found.values())
        return {result: old for result, old in found.items() if taken[old] == 1}


def _described(output: Any) -> Any:
    """What stands for a result on the tape."""
    if isinstance(output, Recorded):
        return output.view
    if isinstance(output, RecordedNumber):
        return output.slot
    if isinstance(output, PLAIN):
        return output
    if isinstance(output, np.ndarray) and not output.dtype.hasobject:
        return output
    raise NotRecordable(f"a {type(output).__name__} is returned")
