"""What a call, a dtype and a constant are in CUDA."""

import math
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call
from xpnn.backends.recording.shapes import cast, is_float

TYPES = {
    "?": "bool",
    "b": "signed char",
    "B": "unsigned char",
    "h": "short",
    "H": "unsigned short",
    "i": "int",
    "I": "unsigned int",
    "l": "long long",
    "L": "unsigned long long",
    "q": "long long",
    "Q": "unsigned long long",
    "e": "__half",
    "E": "__nv_bfloat16",
    "f": "float",
    "d": "double",
}
NARROWED = {
    "e": "__half2float(__float2half((float){}))",
    "E": "__bfloat162float(__float2bfloat16((float){}))",
}
"""How half precision is rounded; it is worked with in float32."""
FORMULAS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "square": "{0} * {0}",
    "reciprocal": "1 / {}",
    "abs": "fabs({})",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
    "logical_and": "{} && {}",
    "logical_or": "{} || {}",
    "logical_not": "!{}",
    "maximum": "xpnn_max({}, {})",
    "minimum": "xpnn_min({}, {})",
    "isfinite": "isfinite({})",
    **{name: f"{name}({{}})" for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "floor")},
    **{name: f"{name}({{}})" for name in ("sin", "cos", "erfc")},
    "absolute": "fabs({})",
    "power": "pow({}, {})",
    "sign": "xpnn_sign({})",
}
OF_FLOATS = {"divide", "reciprocal", "abs", "absolute", "sign", "power", "square"}
"""What these do with integers is not what the formula says."""

SUMS: dict[Any, tuple[str, str]] = {
    np.add: ("xpnn_add", "0"),
    np.maximum: ("xpnn_max", "-INFINITY"),
    np.minimum: ("xpnn_min", "INFINITY"),
}


def is_known(call: Call) -> bool:
    """Whether a kernel can do what the call does."""
    dtypes = {view.dtype.char for view in call.views()}
    if not dtypes <= TYPES.keys():
        return False
    if call.function in (cast, np.where, np.reshape):
        return not call.options
    if call.method == "reduce":
        return call.function in SUMS
    name = name_of(call)
    if name not in FORMULAS:
        return False
    floats = all(is_float(view.dtype) for view in call.views())
    return floats or name not in OF_FLOATS


def name_of(call: Call) -> str:
    """By which formulas are found; ``erfc`` is a method of a backend."""
    return getattr(call.function, "__name__", "")


def register(dtype: Any) -> str:
    """The type in which a value of that dtype is worked with."""
    return "float" if dtype.char in NARROWED else TYPES[dtype.char]


def converted(value: str, given: Any, wanted: Any) -> str:
    """A value of one dtype in another."""
    if wanted.char == "?":
        return f"{value} != 0"
    if wanted.char in NARROWED and given != wanted:
        return NARROWED[wanted.char].format(value)
    return f"({register(wanted)}){value}"


def literal(value: Any, dtype: Any) -> str:
    """A constant in CUDA; of half precision as it is worked with."""
    dtype = np.dtype(np.float32) if dtype.char in NARROWED else dtype
    value = np.asarray(value).astype(dtype).item()
    if dtype.kind == "b":
        return str(value).lower()
    if dtype.kind in "iu":
        suffix = "ULL" if dtype.kind == "u" else "LL"
        return f"({register(dtype)})({value}{suffix})"
    suffix = "" if dtype.char == "d" else "f"
    if math.isnan(value):
        return f"({register(dtype)})NAN"
    if math.isinf(value):
        return f"({register(dtype)})({'-' if value < 0 else ''}INFINITY)"
    text = repr(np.float32(value).item() if suffix else value)
    text = text if {".", "e"} & set(text) else f"{text}.0"
    return f"({text}{suffix})" if value < 0 else f"{text}{suffix}"
