"""What a step would record of a larger batch, carried on from recordings of two small ones.

All lengths, strides and offsets of a recording are linear in the batch, as long as the step makes
the same calls. So two recordings say what a third one would hold, and nothing has to be computed on
the larger batch, nor asked for.
"""

import copy
from dataclasses import replace
from typing import Any

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.recording import Recording
from xpnn.trees import is_leaf, leaves


def carried_on(small: Recording, large: Recording, steps: float) -> Recording | None:
    """The recording that lies as many steps behind ``large`` as it takes from ``small`` to it.

    It can be planned and not run, as the numbers in its calls are those of ``large``. None where
    the two do not make the same calls.
    """
    if [*map(_kind, small.calls)] != [*map(_kind, large.calls)]:
        return None
    line = _Line(steps)
    found = copy.copy(large)
    found.calls = [line.call(*pair) for pair in zip(small.calls, large.calls, strict=True)]
    found.views = line.tree(small.views, large.views)
    found.results = line.tree(small.results, large.results)
    pairs = zip(small.joints, large.joints, strict=True)
    found.joints = [line.memory(*pair) for pair in pairs]
    moved = line.memories
    found.kept = {moved[memory] for memory in large.kept}
    found.aliases = {moved[result]: moved[old] for result, old in large.aliases.items()}
    return found


def _kind(call: Call) -> Any:
    """What two calls that are compared have in common; a function may have been made anew."""
    forms = [
        (len(one.shape), one.dtype) if isinstance(one, View) else None
        for one in leaves((call.arguments, call.options, call.results))
    ]
    bare = getattr(call.function, "func", call.function)  # of a partial
    return bare.__name__, call.method, call.in_place, forms


class _Line:
    """Carries on what stands in two recordings, at the same place of each."""

    def __init__(self, steps: float):
        self.steps = steps
        self.memories: dict[Memory, Memory] = {}

    def number(self, small: int, large: int) -> int:
        return large + round((large - small) * self.steps)

    def memory(self, small: Memory, large: Memory) -> Memory:
        if large not in self.memories:
            self.memories[large] = Memory(self.number(small.nbytes, large.nbytes))
        return self.memories[large]

    def view(self, small: View, large: View) -> View:
        shape, strides = (
            tuple(map(self.number, *pair))
            for pair in ((small.shape, large.shape), (small.strides, large.strides))
        )
        memory = self.memory(small.memory, large.memory)
        return View(memory, self.number(small.offset, large.offset), shape, strides, large.dtype)

    def tree(self, small: Any, large: Any) -> Any:
        """Nested dicts, lists and tuples with views in them; of all else what ``large`` has."""
        if isinstance(large, View):
            return self.view(small, large)
        if is_leaf(large):
            return large
        if isinstance(large, dict):
            return {key: self.tree(small[key], one) for key, one in large.items()}
        pairs = zip(small, large, strict=True)
        return type(large)([self.tree(*pair) for pair in pairs])

    def call(self, small: Call, large: Call) -> Call:
        fields = ("arguments", "options", "results")
        pairs = {name: (getattr(small, name), getattr(large, name)) for name in fields}
        return replace(large, **{name: self.tree(*pair) for name, pair in pairs.items()})
