"""What a loop does, call by call: where results and operands lie along rows and columns."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends.numpy.loops.places import Place, Source
from xpnn.backends.recording.calls import Call, Slot, View, kind_of
from xpnn.backends.recording.shapes import cast
from xpnn.backends.recording.stand_ins import address_of
from xpnn.backends.recording.walks import Walk, is_array, walk_of

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
        return memory_of(self.source), self.place, self.source.dtype


def memory_of(source: Source) -> Any:
    """The memory that an array lies in; of a constant its address."""
    return source.memory if isinstance(source, View) else address_of(source)


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


def loop_walk_of(call: Call) -> Walk | None:
    """How a loop would walk over the arrays of a call; None if it cannot do the call."""
    is_sum = call.method == "reduce"
    if not is_sum and (
        call.function not in FORMULAS or call.method not in ("", "__call__") or call.options
    ):
        return None
    walk = walk_of(call)
    if walk is None or walk.columns == 1 or not _has_known_dtypes(walk):
        return None
    source = walk.operands[0] if is_sum else walk.result
    if 0 in source.strides or (is_sum and len(walk.shape) == 1):
        return None
    arrays = [one for one in (walk.result, *walk.operands) if is_array(one)]
    plain = all(
        one.dtype.isnative
        and all(stride >= 0 and stride % one.dtype.itemsize == 0 for stride in one.strides)
        for one in arrays
    )
    return walk if plain else None


def _has_known_dtypes(walk: Walk) -> bool:
    """Whether a loop can do what the call does with numbers such as these."""
    function, own = walk.call.function, walk.result.dtype
    operands = [walk.result, *walk.operands]
    known = (Slot, bool, int, float, np.generic)
    if not all(
        one.dtype.char in KINDS if is_array(one) else isinstance(one, known) for one in operands
    ):
        return False
    if walk.call.method == "reduce":
        dtypes = {walk.operands[0].dtype, walk.call.options.get("dtype") or own}
        return own.char in "fd" and dtypes == {own}
    if function is np.where:
        return bool(kind_of(walk.operands[0]) == np.dtype(bool))
    compares = function is cast or function in TESTS - OF_FLAGS
    allowed = KINDS if compares else "?" if function in OF_FLAGS else "fd"
    return {one.char for one in walk.dtypes} <= set(allowed)
