"""What stands on a tape: calls, and arrays by where they lie."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends.portable.compiled_step import NotCompilable
from xpnn.trees import leaves, tree_map


class NotRecordable(NotCompilable):
    """The function does something that cannot be replayed from a tape."""


class Memory:
    """A stretch of bytes: what one call fills, what comes in from outside, a block of an arena."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int):
        self.nbytes = nbytes


class View(NamedTuple):
    """An array by where it lies: what stands for it on a tape."""

    memory: Memory
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """How many bytes its items take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def without(self, axis: int) -> "View":
        """The same without an axis, of which it has the first items."""
        shape, strides = (one[:axis] + one[axis + 1 :] for one in (self.shape, self.strides))
        return self._replace(shape=shape, strides=strides)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its memory, in the order of the axes."""
        strides = packed(self.shape, self.dtype.itemsize)
        return self.nbytes == self.memory.nbytes and self.strides == strides


class Slot(NamedTuple):
    """A Python number by its number among all numbers of a tape, int or float."""

    number: int
    kind: type


@dataclass(eq=False)
class Call:
    """One call: views, slots and constants in ``arguments``; what it makes in ``results``.

    Attributes:
        method: "" for a function, else the method of a ufunc: "__call__" or "reduce".
        in_place: whether the results are memory that earlier calls have filled.
        returns_one: whether the function returns its result itself, not a tuple with it inside.
        never_raises: whether no numbers in its arguments could end it with an error.
    """

    function: Any
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: list[Any]
    in_place: bool = False
    returns_one: bool = True
    never_raises: bool = False

    @cached_property
    def _read(self) -> list[View]:
        return [one for one in leaves((self.arguments, self.options)) if isinstance(one, View)]

    def reads(self) -> list[View]:
        """All views among the arguments."""
        return self._read

    @cached_property
    def sources(self) -> frozenset["Memory | Slot"]:
        """What it reads: the memory of arrays, and numbers."""
        numbers = [one for one in leaves(self.arguments) if isinstance(one, Slot)]
        return frozenset([*(view.memory for view in self.reads()), *numbers])

    @property
    def targets(self) -> frozenset["Memory | Slot"]:
        """What it makes: the memory of arrays, and numbers."""
        numbers = [one for one in self.results if isinstance(one, Slot)]
        return frozenset([*(view.memory for view in self.writes()), *numbers])

    def writes(self) -> list[View]:
        """All views among the results."""
        return [one for one in self.results if isinstance(one, View)]

    def views(self) -> list[View]:
        """All views of the call."""
        return [*self.reads(), *self.writes()]

    def with_views(
        self, change: Callable[[View], View], among: Collection[Memory] | None = None
    ) -> "Call":
        """The same call of other views.

        Args:
            change: gives what takes the place of each view.
            among: the only memory of which views may change.
        """
        if among is not None and (
            not among or not any(view.memory in among for view in self.views())
        ):
            return self
        return self.with_leaves(lambda leaf: change(leaf) if isinstance(leaf, View) else leaf)

    def with_leaves(self, change: Callable[[Any], Any]) -> "Call":
        """The same call of other views, numbers and constants."""
        fields = ("arguments", "options", "results")
        return replace(self, **{name: tree_map(change, getattr(self, name)) for name in fields})

    @property
    def is_elementwise(self) -> bool:
        """Whether it is a ufunc that goes through its operands item by item."""
        return self.method == "__call__" and self.function is not np.matmul

    def may_overwrite(self, memory: Memory, target: View) -> bool:
        """Whether the call may write into memory that it reads: elementwise, item over item."""
        if not self.is_elementwise or len(self.results) > 1:
            return False
        same = [one for one in self.reads() if one.memory is memory]
        return all(
            one.offset == 0
            and one.shape == target.shape
            and one.strides == target.strides
            and one.dtype.itemsize == target.dtype.itemsize
            and one.nbytes == memory.nbytes
            for one in same
        )

    def placements(self) -> list[tuple[Any, View]]:
        """Of a call that copies arrays into one: each, and where it goes; of others nothing."""
        if len(self.results) != 1 or not isinstance(self.results[0], View) or self.in_place:
            return []
        (result,) = self.results
        if self.function is np.reshape:  # a call where it copies
            source = self.arguments[0]
            if not result.is_whole:
                return []
            strides = packed(source.shape, result.dtype.itemsize)
            return [(source, result._replace(shape=source.shape, strides=strides))]
        if self.function not in (np.stack, np.concatenate) or set(self.options) - {"axis"}:
            return []
        pieces, *others = self.arguments
        axis = (others or [self.options.get("axis", 0)])[0]
        if axis is None or isinstance(pieces, View):  # flat, or the rows of one array
            return []
        axis %= len(result.shape)
        step, at, found = result.strides[axis], 0, []
        for piece in pieces:
            length = 1 if self.function is np.stack else piece.shape[axis]
            shape = (*result.shape[:axis], length, *result.shape[axis + 1 :])
            place = result._replace(offset=result.offset + at * step, shape=shape)
            found.append((piece, place.without(axis) if self.function is np.stack else place))
            at += length
        return found

    def stacks_along_first_axis(self) -> bool:
        """Whether the call puts arrays behind each other in one piece of memory."""
        if self.function not in (np.stack, np.concatenate) or set(self.options) - {"axis"}:
            return False
        (result,), (pieces, *axis) = self.results, self.arguments
        return (
            (axis or [self.options.get("axis", 0)])[0] == 0
            and result.is_whole
            and all(getattr(piece, "dtype", None) == result.dtype for piece in pieces)
        )


def kind_of(leaf: Any) -> Any:
    """What decides how a ufunc treats an operand: a dtype, or int or float for Python numbers."""
    if isinstance(leaf, Slot):
        return leaf.kind
    if isinstance(leaf, int | float) and not isinstance(leaf, bool | np.generic):
        return type(leaf)
    return leaf.dtype if isinstance(leaf, View) else np.asarray(leaf).dtype


def packed(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides of an array that fills its memory in the order of its axes."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def outer_first(array: np.ndarray) -> list[int]:
    """The axes in the order in which they lie."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def is_dense(array: np.ndarray) -> bool:
    """Whether the array fills its memory without gaps, in any order of its axes."""
    return array.transpose(outer_first(array)).flags.c_contiguous
