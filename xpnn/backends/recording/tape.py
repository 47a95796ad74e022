"""Writing down which NumPy calls a function makes, while it runs.

A function is run on stand-ins for its arrays. A ``Recorded`` array notes on a ``Tape`` which call
makes which array out of which; views need no note, as they are described by where they lie. Nothing
is computed: what a call would return is told by shapes (``shapes.py``). Python's numbers are, as
they are few. ``recording.py`` says what became of the arguments.

What a tape cannot hold ends the recording with ``NotRecordable``: reading a value on the host,
writing into an array that was passed in, a call that NumPy does not show to its operands. Python's
``isinstance(x, np.ndarray)`` and ``isinstance(n, int)`` are false for stand-ins, and the order in
which a step walks through a dict is that of the recording.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnn.backends.recording import shapes
from xpnn.backends.recording.calls import (
    Call,
    Memory,
    NotRecordable,
    Slot,
    View,
    is_dense,
)
from xpnn.backends.recording.shapes import blank
from xpnn.backends.recording.stand_ins import Recorded, RecordedNumber, address_of, value_of
from xpnn.trees import Static, leaves, tree_map


@dataclass
class Tape:
    """The calls in their order, and how many numbers they use."""

    calls: list[Call] = field(default_factory=list)
    numbers: int = 0
    counted: dict[Any, Any] = field(default_factory=dict)
    passed_in: set[Memory] = field(default_factory=set)
    settings: Any = field(default_factory=np.geterr)

    def stand_in_for(self, leaf: Any) -> Any:
        """The stand-in for an argument of the recorded function."""
        if isinstance(leaf, np.ndarray):
            stand_in = self._fresh(blank(leaf.shape, leaf.dtype))
            self.passed_in.add(stand_in.view.memory)
            return stand_in
        if type(leaf) in (int, float):
            return self._number(leaf)
        if leaf is None or type(leaf) in (bool, str) or isinstance(leaf, Static):
            return leaf
        raise NotRecordable(f"an argument is a {type(leaf).__name__}")

    def call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        method: str = "",
        result_of: Callable[..., Any] | None = None,
    ) -> Any:
        """Note a call; what it returns, of shapes alone where arrays are among its arguments.

        Args:
            result_of: of its arguments, blank arrays for its results; ``shapes.result_of`` if None.
        """
        self._check_settings()
        given = leaves((arguments, options))
        sources = [one for one in given if isinstance(one, Recorded)]
        behind = tree_map(value_of, arguments), tree_map(value_of, options)
        if result_of is not None:
            result = result_of(*behind[0])
        elif sources:
            result = shapes.result_of(function, method, *behind)
        else:
            result = (getattr(function, method) if method else function)(*behind[0], **behind[1])
        if method == "reduce" and any(isinstance(one, RecordedNumber) for one in given):
            raise NotRecordable("a number that changes chooses the axes of a sum")
        note = Call(function, method, tree_map(_mark, arguments), tree_map(_mark, options), [])
        kept = tree_map(lambda one: self._kept(one, sources, note), result)
        note.returns_one = not isinstance(result, tuple | list)
        if any(one is not None for one in note.results):
            self.calls.append(note)
        return kept

    def count(self, compute: Callable[..., Any], pair: tuple[Any, Any]) -> Any:
        """An operation on two numbers, noted once however often it is done."""
        key = compute, tuple((type(one), _mark(one)) for one in pair)
        if key not in self.counted:
            self.counted[key] = self.call(compute, pair, {})
        return self.counted[key]

    def write(self, ufunc: np.ufunc, arguments: tuple[Any, ...], target: Any) -> Any:
        """An elementwise call into memory that the function has made itself."""
        if not isinstance(target, Recorded) or target.view.memory in self.passed_in:
            raise NotRecordable(f"{ufunc.__name__} writes into an array that it was given")
        if target.is_scalar:  # of which += makes another one
            return self.call(ufunc, arguments, {}, "__call__")
        self._check_settings()
        shapes.check_written(ufunc, tree_map(value_of, arguments), target.value)
        marks = tree_map(_mark, arguments)
        self.calls.append(Call(ufunc, "__call__", marks, {}, [target.view], in_place=True))
        return target

    def _check_settings(self) -> None:
        """Refuse a step that changes how NumPy treats overflow and its like: it would not last."""
        if np.geterr() != self.settings:
            raise NotRecordable("np.errstate is changed inside of the step")

    def _kept(self, result: Any, sources: Sequence[Recorded], note: Call) -> Any:
        """The stand-in for one result of a call."""
        if isinstance(result, np.ndarray | np.generic):
            array = np.asarray(result)
            for source in sources:
                if source.holds(array):
                    note.results.append(None)
                    return source.seen_as(array)
            stand_in = self._fresh(array)
            stand_in.is_scalar = isinstance(result, np.generic)
            note.results.append(stand_in.view)
            return stand_in
        if type(result) in (int, float) and not sources:
            number = self._number(result)
            note.results.append(number.slot)
            return number
        raise NotRecordable(f"{note.function.__name__} returns a {type(result).__name__}")

    def _fresh(self, array: np.ndarray) -> Recorded:
        if array.dtype.hasobject:
            raise NotRecordable("an array holds objects")
        if not is_dense(array):
            array = np.ascontiguousarray(array)
        view = View(Memory(array.nbytes), 0, array.shape, array.strides, array.dtype)
        return Recorded(self, array, view, address_of(array))

    def _number(self, value: int | float) -> RecordedNumber:
        self.numbers += 1
        return RecordedNumber(self, value, Slot(self.numbers - 1, type(value)))


def recordable(
    function: Callable[..., Any], result_of: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A function that a tape notes as one call, whatever it does inside.

    Args:
        function: of arrays and numbers by position.
        result_of: of the same arguments, blank arrays for its results. Without it, the function is
            called on blank arrays.
    """

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        for one in leaves(arguments):
            if isinstance(one, Recorded | RecordedNumber):
                return one.tape.call(function, arguments, {}, result_of=result_of)
        return function(*arguments)

    return run


def _mark(leaf: Any) -> Any:
    if isinstance(leaf, Recorded):
        return leaf.view
    if isinstance(leaf, np.ndarray) and leaf.dtype.hasobject:
        raise NotRecordable("an array holds objects")
    return leaf.slot if isinstance(leaf, RecordedNumber) else leaf
