"""What a loop does, call by call: where results and operands lie along rows and columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from xpnn.backends.numpy.loops.places import (
    Place,
    Source,
    axes_as_they_lie,
    strides_for,
)
from xpnn.backends.recording.calls import Call, Slot, View
from xpnn.backends.recording.shapes import cast

FORMULAS: dict[Any, str] = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.negative: "-{}",
    np.positive: "{}",
    np.square: "{0} * {0}",
    np.absolute: "abs({})",
    np.sqrt: "sqrt({})",
    np.exp: "exp_{real}({})",
    np.expm1: "expm1_{real}({})",
    np.log: "log_{real}({})",
    np.log1p: "log1p_{real}({})",
    np.tanh: "tanh_{real}({})",
    np.sign: "sign_{real}({})",
    np.maximum: "larger({}, {})",
    np.minimum: "smaller({}, {})",
    np.equal: "{} == {}",
    np.not_equal: "{} != {}",
    np.greater: "{} > {}",
    np.greater_equal: "{} >= {}",
    np.less: "{} < {}",
    np.less_equal: "{} <= {}",
    np.logical_and: "{} & {}",
    np.logical_or: "{} | {}",
    np.logical_xor: "{} ^ {}",
    np.logical_not: "not {}",
    np.bitwise_and: "{} & {}",
    np.bitwise_or: "{} | {}",
    np.bitwise_xor: "{} ^ {}",
    np.invert: "not {}",
    np.where: "{1} if {0} else {2}",
    cast: "{}",
}
OF_FLAGS = {
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert),
}
TESTS = OF_FLAGS | {
    *(np.equal, np.not_equal, np.greater, np.greater_equal, np.less, np.less_equal)
}  # whose results are flags
DEAR = {np.sqrt, np.exp, np.expm1, np.log, np.log1p, np.tanh, np.divide}
FOLDS = {np.add: "sum", np.maximum: "maximum", np.minimum: "minimum"}
KINDS = "fd?ilqBI"  # dtypes by their letters


class Number(NamedTuple):
    """An operand that is one number: a constant, or one that changes from run to run."""

    value: Any
    dtype: np.dtype[Any]


class Load(NamedTuple):
    """An operand that is read from memory."""

    source: Source
    place: Place

    @property
    def key(self) -> Any:
        """The same for loads of the same items."""
        memory = self.source.memory if isinstance(self.source, View) else id(self.source)
        return memory, self.place, self.source.dtype


@dataclass
class Walk:
    """A call as it walks over its arrays: lengths of axes as they lie, strides of all operands.

    Attributes:
        folded: for a sum or an extreme, which of the axes it goes over.
    """

    call: Call
    lengths: list[int]
    out: list[int]
    operands: list[tuple[Any, list[int] | None]]
    dtypes: list[np.dtype[Any]]
    folded: list[bool] | None = None

    @property
    def size(self) -> int:
        """How many items it meets."""
        return math.prod(self.lengths)

    @property
    def rows(self) -> int:
        return math.prod(self.lengths[:-1])

    @property
    def columns(self) -> int:
        return self.lengths[-1]

    @property
    def usual_columns(self) -> int:
        """Its last axis, or of what is kept of a sum all axes that lie at its end."""
        if self.folded is None or self.folded[-1] or not any(self.folded):
            return self.columns
        last = max(k for k, one in enumerate(self.folded) if one)
        return math.prod(self.lengths[last + 1 :])

    def at(self, columns: int) -> "Walk | None":
        """The same walk with so many columns; None if they do not lie at one step everywhere."""
        if columns == self.columns:
            return self
        strides = [self.out, *(one for _, one in self.operands if one is not None)]
        found = _split(self.lengths, strides, self.folded, columns)
        if found is None:
            return None
        lengths, (out, *others), folded = found
        left = iter(others)
        operands = [(one, None if s is None else next(left)) for one, s in self.operands]
        return Walk(self.call, lengths, out, operands, self.dtypes, folded)

    @property
    def kind(self) -> str | None:
        """That of the step, if it walks over rows and columns; None if it is none of them."""
        if self.folded is None:
            return "cells"
        *rows, last = self.folded
        if self.rows == 1:
            return None
        if last and not any(rows):
            return "fold"
        if all(rows) and self.call.function is np.add:
            return "total" if last else "column sum"
        return None


def _split(
    lengths: Sequence[int],
    strides: Sequence[Sequence[int]],
    folded: Sequence[bool] | None,
    columns: int,
) -> tuple[list[int], list[list[int]], list[bool] | None] | None:
    """Axes as rows and one of so many columns; None if that cannot be.

    Axes are (length, flag, strides in all arrays); those that go on at one step are joined first.
    """
    flags = folded or [False] * len(lengths)
    axes: list[tuple[int, bool, list[int]]] = []
    for length, flag, *steps in zip(lengths, flags, *strides, strict=True):
        if axes and axes[-1][1:] == (flag, [length * one for one in steps]):
            length *= axes.pop()[0]
        axes.append((length, flag, steps))
    *rows, (length, flag, steps) = axes
    if length % columns:
        return None
    if length > columns:
        rows.append((length // columns, flag, [columns * one for one in steps]))
    axes = [*rows, (columns, flag, steps)]
    own = [[one[2][k] for one in axes] for k in range(len(strides))]
    lengths = [one[0] for one in axes]
    return lengths, own, None if folded is None else [one[1] for one in axes]


@dataclass(eq=False)
class Step:
    """One call of a loop.

    Attributes:
        kind: "cells" for one result in each row and column, "row" for one in each row; "fold" for
            one in each row, made of all of its items; "column sum" for one in each column, made of
            all rows; "total" for a single one.
        sweep: in which sweep over a row it is worked out, or behind which.
    """

    walk: Walk
    kind: str
    operands: list["Step | Load | Number"]
    place: Place
    sweep: int = 0

    @property
    def call(self) -> Call:
        return self.walk.call

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        """In which its operands are worked with."""
        return self.walk.dtypes

    @property
    def view(self) -> View:
        """Its result."""
        return self.call.results[0]

    @property
    def is_of_rows(self) -> bool:
        """Whether there is one result for each row."""
        return self.kind in ("row", "fold")

    @property
    def key(self) -> Any:
        """That of a load of what it makes."""
        return self.view.memory, self.place, self.view.dtype


def walk_of(call: Call) -> Walk | None:
    """How a loop would walk over the arrays of a call; None if it cannot do the call."""
    if len(call.results) != 1 or not isinstance(call.results[0], View):
        return None
    (out,) = call.results
    if 0 in out.shape or out.dtype.char not in KINDS:
        return None
    walk = _fold(call, out) if call.method == "reduce" else _elementwise(call, out)
    if walk is None:
        return None
    arrays = [(out, walk.out), *((one, s) for one, s in walk.operands if s is not None)]
    plain = all(
        one.dtype.char in KINDS
        and one.dtype.isnative
        and all(stride >= 0 and stride % one.dtype.itemsize == 0 for stride in strides)
        for one, strides in arrays
    )
    return walk if plain else None


def _elementwise(call: Call, out: View) -> Walk | None:
    if call.function not in FORMULAS or call.method not in ("", "__call__") or call.options:
        return None
    arguments = call.arguments[:1] if call.function is cast else call.arguments
    axes = axes_as_they_lie(out)
    if not axes or any(out.strides[axis] == 0 for axis in axes):
        return None
    dtypes = _dtypes(call, arguments, out)
    if dtypes is None:
        return None
    operands: list[tuple[Any, list[int] | None]] = []
    for one in arguments:
        if isinstance(one, View | np.ndarray):
            strides = strides_for(one, out.shape)
            operands.append((one, [strides[axis] for axis in axes]))
        elif isinstance(one, Slot | bool | int | float | np.generic):
            operands.append((one, None))
        else:
            return None
    lengths, strides = [out.shape[k] for k in axes], [out.strides[k] for k in axes]
    return Walk(call, lengths, strides, operands, dtypes)


def _fold(call: Call, out: View) -> Walk | None:
    (source,) = call.arguments
    options = dict(call.options)
    axis, dtype = options.pop("axis", 0), options.pop("dtype", None)
    options.pop("keepdims", None)
    if call.function not in FOLDS or options or not isinstance(source, View):
        return None
    if source.dtype != out.dtype or out.dtype.char not in "fd" or dtype not in (None, out.dtype):
        return None
    axes = axes_as_they_lie(source)
    if len(axes) < 2 or any(source.strides[k] == 0 for k in axes):
        return None
    every = range(len(source.shape))
    gone = set(every) if axis is None else set(normalize_axis_tuple(axis, len(source.shape)))
    kept = iter(out.strides)
    if len(out.shape) == len(source.shape):
        along = [0 if k in gone else stride for k, stride in enumerate(out.strides)]
    else:
        along = [0 if k in gone else next(kept) for k in every]
    return Walk(
        call,
        [source.shape[k] for k in axes],
        [along[k] for k in axes],
        [(source, [source.strides[k] for k in axes])],
        [out.dtype],
        [k in gone for k in axes],
    )


def _dtypes(call: Call, arguments: Sequence[Any], out: View) -> list[np.dtype[Any]] | None:
    """In which dtypes the call works with its operands; None if in others than those here."""
    function = call.function
    kinds = [kind_of(one) for one in arguments]
    if function is cast:
        return [one if isinstance(one, np.dtype) else out.dtype for one in kinds]
    if function is np.where:
        flags = kinds[0] == np.dtype(bool)
        return [np.dtype(bool), out.dtype, out.dtype] if flags else None
    *dtypes, _ = function.resolve_dtypes((*kinds, None))
    letters = {one.char for one in dtypes}
    compares = function in TESTS - OF_FLAGS
    allowed = KINDS if compares else "?" if function in OF_FLAGS else "fd"
    return dtypes if letters <= set(allowed) else None


def kind_of(leaf: Any) -> Any:
    """What decides how a ufunc treats an operand: a dtype, or int or float for Python numbers."""
    if isinstance(leaf, Slot):
        return leaf.kind
    if isinstance(leaf, int | float) and not isinstance(leaf, bool):
        return type(leaf)
    return leaf.dtype if isinstance(leaf, View) else np.asarray(leaf).dtype
