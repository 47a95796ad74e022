"""Functions of the array API that look at one entry of each array: their operators in ONNX."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.onnx.dtypes import kind_of, result_dtype
from xpnn.onnx.sizes import Size, is_same
from xpnn.onnx.traced import Traced
from xpnn.typing import Array, Namespace

UNARY = {
    "abs": "Abs",
    "negative": "Neg",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "tanh": "Tanh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "reciprocal": "Reciprocal",
    "sigmoid": "Sigmoid",
}
ROUNDING = {"floor": "Floor", "ceil": "Ceil", "round": "Round"}
BINARY = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
}
COMPARED = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
BITWISE = {"bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor"}


def functions() -> dict[str, Callable[..., Any]]:
    """By their names in the standard; each takes the namespace, too."""
    made: dict[str, Callable[..., Any]] = {}
    for name, operator in UNARY.items():
        made[name] = _unary(operator)
    for name, operator in ROUNDING.items():
        made[name] = _rounded(operator)
    for name, operator in BINARY.items():
        made[name] = _binary(operator)
    for name, operator in COMPARED.items():
        made[name] = _binary(operator, gives=bool)
    for name, operator in LOGICAL.items():
        made[name] = _binary(operator, gives=bool)
    for name, operator in BITWISE.items():
        made[name] = _bitwise(operator, LOGICAL[name.replace("bitwise", "logical")])
    own: tuple[Callable[..., Array], ...] = (
        positive,
        square,
        divide,
        logical_not,
        bitwise_invert,
        not_equal,
        floor_divide,
        remainder,
    )
    own += (isnan, isinf, isfinite, expm1, log1p, log2, log10, trunc, logaddexp, clip, where)
    made |= {one.__name__: one for one in own}
    return made


# What they are made of ----------------------------------------------------------------------------


def operands(*given: Any) -> list[Any]:
    """Arrays as they are, and Python's numbers and free lengths as arrays of their dtype."""
    tape = next(one.tape for one in given if isinstance(one, Traced))
    dtype = result_dtype(*given)
    found = []
    for one in given:
        if isinstance(one, Size):
            one = tape.xp.astype(as_scalar(tape.xp, one), dtype)
        elif isinstance(one, bool | int | float):
            one = np.asarray(one, dtype=dtype)
        found.append(one)
    return found


def as_scalar(xp: Namespace, one: Any) -> Any:
    """An integer, a free length or an array of one, as an int64 without axes."""
    if isinstance(one, Traced):
        return xp.astype(one, np.int64)
    if isinstance(one, Size):
        return xp.tape.emit("Squeeze", [xp.tape.size(one)], (), np.int64)
    return np.asarray(one, dtype=np.int64)


def in_one_dtype(*given: Any) -> tuple[list[Any], Any]:
    """``operands``, all in the dtype that follows from theirs."""
    dtype = result_dtype(*given)
    tape = next(one.tape for one in given if isinstance(one, Traced))
    return [as_dtype(tape.xp, one, dtype) for one in operands(*given)], dtype


def as_dtype(xp: Namespace, one: Array, dtype: Any) -> Array:
    """An array in that dtype: itself, with the name that it has, where it is."""
    return one if one.dtype == dtype else xp.astype(one, dtype)


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that these have together.

    Raises:
        ValueError: they have none.
    """
    count = max(map(len, shapes))
    together: list[int] = [1] * count
    for shape in shapes:
        for axis, length in enumerate(shape, start=count - len(shape)):
            if is_same(together[axis], 1):
                together[axis] = length
            elif not is_same(length, 1) and not is_same(together[axis], length):
                raise ValueError(f"shapes do not fit each other: {', '.join(map(str, shapes))}")
    return tuple(together)


def _emitted(operator: str, given: list[Any], dtype: Any, **attributes: Any) -> Traced:
    tape = next(one.tape for one in given if isinstance(one, Traced))
    shape = broadcast(*(tuple(one.shape) for one in given))
    return tape.emit(operator, given, shape, dtype, **attributes)


def _unary(operator: str) -> Callable[..., Array]:
    def apply(xp: Namespace, x: Array) -> Array:
        return _emitted(operator, [x], x.dtype)

    return apply


def _rounded(operator: str) -> Callable[..., Array]:
    def apply(xp: Namespace, x: Array) -> Array:
        return x if kind_of(x.dtype) != "f" else _emitted(operator, [x], x.dtype)

    return apply


def _binary(operator: str, gives: Any = None) -> Callable[..., Array]:
    def apply(xp: Namespace, a: Any, b: Any) -> Array:
        given, dtype = in_one_dtype(a, b)
        return _emitted(operator, given, gives or dtype)

    return apply


def _bitwise(operator: str, of_booleans: str) -> Callable[..., Array]:
    def apply(xp: Namespace, a: Any, b: Any) -> Array:
        given, dtype = in_one_dtype(a, b)
        return _emitted(of_booleans if dtype == np.bool_ else operator, given, dtype)

    return apply


# Those that take several operators ----------------------------------------------------------------


def positive(xp: Namespace, x: Array) -> Array:
    return x


def square(xp: Namespace, x: Array) -> Array:
    return x * x


def divide(xp: Namespace, a: Any, b: Any) -> Array:
    """``a / b``; of integers floats, as NumPy has them, where ``Div`` would cut off."""
    given, dtype = in_one_dtype(a, b)
    if kind_of(dtype) != "f":
        given, dtype = [xp.astype(one, np.float64) for one in given], np.float64
    return _emitted("Div", given, dtype)


def logical_not(xp: Namespace, x: Array) -> Array:
    return _emitted("Not", [x], bool)


def bitwise_invert(xp: Namespace, x: Array) -> Array:
    return _emitted("Not" if x.dtype == np.bool_ else "BitwiseNot", [x], x.dtype)


def not_equal(xp: Namespace, a: Any, b: Any) -> Array:
    return logical_not(xp, xp.equal(a, b))


def floor_divide(xp: Namespace, a: Any, b: Any) -> Array:
    if kind_of(result_dtype(a, b)) == "f":
        return xp.floor(xp.divide(a, b))
    given, dtype = in_one_dtype(xp.subtract(a, remainder(xp, a, b)), b)
    return _emitted("Div", given, dtype)  # which leaves nothing to cut off


def remainder(xp: Namespace, a: Any, b: Any) -> Array:
    given, dtype = in_one_dtype(a, b)
    if kind_of(dtype) == "f":
        return xp.subtract(a, xp.multiply(floor_divide(xp, a, b), b))
    return _emitted("Mod", given, dtype)


def isnan(xp: Namespace, x: Array) -> Array:
    return xp.not_equal(x, x)


def isinf(xp: Namespace, x: Array) -> Array:
    return xp.equal(xp.abs(x), math.inf)


def isfinite(xp: Namespace, x: Array) -> Array:
    return xp.less(xp.abs(x), math.inf)


def expm1(xp: Namespace, x: Array) -> Array:
    """``exp(x) - 1``, with all digits near 0: ``tanh(x / 2) (exp(x) + 1)``."""
    return xp.tanh(0.5 * x) * (xp.exp(x) + 1.0)


def log1p(xp: Namespace, x: Array) -> Array:
    """``log(1 + x)``, with all digits near 0 (Higham, Accuracy and stability, 2002, 1.14.1)."""
    whole = 1.0 + x
    rest = whole - 1.0
    factor = x / where(xp, xp.equal(rest, 0.0), 1.0, rest)
    exact = xp.log(whole) * where(xp, xp.equal(rest, x), 1.0, factor)  # 1 of infinity, too
    return where(xp, xp.equal(rest, 0.0), x, exact)


def log2(xp: Namespace, x: Array) -> Array:
    return xp.log(x) / math.log(2.0)


def log10(xp: Namespace, x: Array) -> Array:
    return xp.log(x) / math.log(10.0)


def trunc(xp: Namespace, x: Array) -> Array:
    return xp.sign(x) * xp.floor(xp.abs(x))


def logaddexp(xp: Namespace, a: Any, b: Any) -> Array:
    apart = where(xp, xp.equal(a, b), 0.0, xp.subtract(a, b))  # 0 of two infinities, too
    return xp.maximum(a, b) + xp.log1p(xp.exp(-xp.abs(apart)))


def clip(xp: Namespace, x: Array, min: Any = None, max: Any = None) -> Array:
    x = x if min is None else xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


def where(xp: Namespace, condition: Any, a: Any, b: Any) -> Array:
    tape = next(one.tape for one in (condition, a, b) if isinstance(one, Traced))
    dtype = result_dtype(a, b)
    choices = []
    for one in (a, b):
        if isinstance(one, Size):
            one = operands(one, condition)[0] if isinstance(condition, Traced) else int(one)
        one = one if isinstance(one, Traced) else np.asarray(one)
        choices.append(as_dtype(tape.xp, one, dtype))
    if dtype == np.bool_:  # of which onnxruntime has no Where
        yes = xp.logical_and(condition, choices[0])
        return xp.logical_or(yes, xp.logical_and(xp.logical_not(condition), choices[1]))
    return _emitted("Where", [_as_given(condition), *choices], dtype)


def _as_given(condition: Any) -> Any:
    return condition if isinstance(condition, Traced) else np.asarray(condition)
