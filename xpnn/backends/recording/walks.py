"""How a call walks over its arrays: along their axes as they lie, adding some of them up.

Calls that walk alike can be one loop or one kernel, whatever the shapes of their arrays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.stride_tricks import as_strided

from xpnn.backends.recording.calls import Call, View, kind_of, packed
from xpnn.backends.recording.shapes import cast
from xpnn.typing import Shape

OneArray = TypeVar("OneArray", View, np.ndarray)

FOLDS: dict[Any, str] = {np.add: "sum", np.maximum: "maximum", np.minimum: "minimum"}


@dataclass(eq=False)
class Walk:
    """A call by the items that it meets.

    Attributes:
        call: as recorded.
        shape: of all that it meets, the axes in the order in which they lie; one at least.
        operands: arrays of that shape, with strides of 0 where they are repeated; numbers.
        result: as an array of that shape, with strides of 0 where items are added up.
        folded: over which of the axes a sum or an extreme goes.
    """

    call: Call
    shape: Shape
    operands: list[Any]
    result: View
    folded: tuple[bool, ...]

    @cached_property
    def items(self) -> int:
        """How many it meets."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """How long the last axis is, along which a row goes."""
        return self.shape[-1]

    @property
    def kind(self) -> str | None:
        """What it makes of rows and columns; None if it is none of these.

        "cells" for one result in each row and column, "fold" for one in each row, made of all of
        its items; "column sum" for one in each column, made of all rows; "total" for a single one.
        """
        *rows, last = self.folded
        if not any(rows):
            return "fold" if last else "cells"
        if all(rows) and self.call.function is np.add:
            return "total" if last else "column sum"
        return None

    @cached_property
    def dtypes(self) -> list[np.dtype[Any]]:
        """In which the call works with its operands."""
        function, own = self.call.function, self.result.dtype
        kinds = [kind_of(one) for one in self.operands]
        if function is np.where:
            return [np.dtype(bool), own, own]
        if self.call.method == "reduce" or not isinstance(function, np.ufunc):
            return [one if isinstance(one, np.dtype) else own for one in kinds]
        return list(function.resolve_dtypes((*kinds, None)))[: len(kinds)]

    @property
    def made(self) -> View:
        """The result without the axes that are added up."""
        if True not in self.folded:
            return self.result
        left = [axis for axis, folded in enumerate(self.folded) if not folded]
        return _along(self.result, left, self.shape)

    @property
    def usual_columns(self) -> int:
        """Its last axis, or of what is kept of a sum all axes that lie at its end."""
        if self.folded[-1] or True not in self.folded:
            return self.columns
        last = max(axis for axis, folded in enumerate(self.folded) if folded)
        return math.prod(self.shape[last + 1 :])

    def at(self, columns: int) -> "Walk | None":
        """The same walk with so many columns; None if they do not lie at one step everywhere.

        Axes that go on at one step are joined first.
        """
        if columns == self.columns:
            return self
        arrays = [one for one in (self.result, *self.operands) if is_array(one)]
        strides = [one.strides for one in arrays]
        axes: list[tuple[int, bool, list[int]]] = []
        for length, folded, *steps in zip(self.shape, self.folded, *strides, strict=True):
            if axes and axes[-1][1:] == (folded, [length * step for step in steps]):
                length *= axes.pop()[0]
            axes.append((length, folded, steps))
        *rows, (length, folded, steps) = axes
        if length % columns:
            return None
        if length > columns:
            rows.append((length // columns, folded, [columns * step for step in steps]))
        axes = [*rows, (columns, folded, steps)]
        shape = tuple(length for length, _, _ in axes)
        steps_of = zip(*(steps for _, _, steps in axes), strict=True)
        cut = (_laid(one, shape, steps) for one, steps in zip(arrays, steps_of, strict=True))
        result = next(cut)
        operands = [next(cut) if is_array(one) else one for one in self.operands]
        return Walk(self.call, shape, operands, result, tuple(folded for _, folded, _ in axes))


def walk_of(call: Call) -> Walk | None:
    """How a call walks that goes item by item, or is a sum or an extreme; None if in no such way.

    Whether its function goes item by item is for those to know who ask.
    """
    if len(call.results) != 1 or not isinstance(call.results[0], View):
        return None
    if 0 in call.results[0].shape:
        return None
    walk = _fold(call) if call.method == "reduce" else _item_by_item(call)
    return walk if walk is not None and walk.items else None


def _item_by_item(call: Call) -> Walk:
    (result,) = call.results
    operands = call.arguments
    if call.function in (cast, np.reshape):  # of which a reshape that is a call copies
        operands = operands[:1]
    if call.function is np.reshape:
        shape = operands[0].shape
        result = result._replace(shape=shape, strides=packed(shape, result.dtype.itemsize))
    axes, shape = _as_they_lie(result), result.shape
    along = [_along(one, axes, shape) if is_array(one) else one for one in operands]
    made = _along(result, axes, shape)
    return Walk(call, made.shape, along, made, (False,) * len(made.shape))


def _fold(call: Call) -> Walk | None:
    (source,), (result,) = call.arguments, call.results
    if call.function not in FOLDS or not isinstance(source, View) or not source.shape:
        return None
    if call.options.keys() - {"axis", "dtype", "keepdims"}:
        return None
    axis, every = call.options.get("axis", 0), range(len(source.shape))
    gone = set(every) if axis is None else set(normalize_axis_tuple(axis, len(every)))
    if not gone:
        return None
    axes = _as_they_lie(source)
    if gone.isdisjoint(axes):  # rows of one number
        axes.append(min(gone))
    kept = [k for k in every if k not in gone]
    places = every if len(result.shape) == len(every) else kept
    steps = dict(zip(places, result.strides, strict=True))
    strides = tuple(steps[k] if k in kept else 0 for k in every)
    made = _along(result._replace(shape=source.shape, strides=strides), axes, source.shape)
    folded = tuple(axis in gone for axis in axes)
    return Walk(call, made.shape, [_along(source, axes, source.shape)], made, folded)


def is_array(one: Any) -> bool:
    """Whether an operand is an array, not a number."""
    return isinstance(one, View | np.ndarray)


def long_axes(array: View) -> View:
    """The same array without axes of one item."""
    return _along(array, [axis for axis, n in enumerate(array.shape) if n > 1], array.shape)


def _as_they_lie(array: View) -> list[int]:
    """The axes of more than one item, the outermost first."""
    long = [axis for axis, length in enumerate(array.shape) if length > 1]
    return sorted(long, key=lambda axis: -array.strides[axis])


def _along(array: OneArray, axes: Sequence[int], shape: Shape) -> OneArray:
    """The array, repeated to fill that shape, along some of its axes; a number is a row of one."""
    missing = len(shape) - len(array.shape)
    pairs = zip(array.shape, array.strides, strict=True)
    strides = [0] * missing + [0 if length == 1 else stride for length, stride in pairs]
    if not axes:
        return _laid(array, (1,), (0,))
    return _laid(array, tuple(shape[k] for k in axes), tuple(strides[k] for k in axes))


def _laid(array: OneArray, shape: Shape, strides: tuple[int, ...]) -> OneArray:
    if isinstance(array, View):
        return array._replace(shape=shape, strides=strides)
    return as_strided(array, shape, strides)
