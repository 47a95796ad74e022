"""Dtypes while a network is traced: NumPy's, and bfloat16 of the package ml_dtypes."""

from typing import Any

import numpy as np

from xpnn.onnx.traced import Traced

KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}
"""NumPy's letters for what the standard calls the kinds of dtypes."""


def bfloat16() -> np.dtype[Any]:
    """It, which ``onnx`` brings along."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def is_bfloat16(dtype: Any) -> bool:
    return np.dtype(dtype).name == "bfloat16"


def kind_of(dtype: Any) -> str:
    """NumPy's letter for the kind of a dtype: "f" for bfloat16, too."""
    return "f" if is_bfloat16(dtype) else np.dtype(dtype).kind


def finfo(dtype: Any, /) -> Any:
    dtype = np.dtype(getattr(dtype, "dtype", dtype))
    if not is_bfloat16(dtype):
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if not isinstance(kind, str):
        return np.dtype(dtype) == np.dtype(kind)
    return kind_of(dtype) in KINDS[kind]


def result_dtype(*given: Any) -> np.dtype[Any]:
    """The dtype that follows from those of arrays, dtypes and Python's numbers."""
    arrays = [_dtype_of(one) for one in given if not isinstance(one, bool | int | float)]
    numbers = [one for one in given if isinstance(one, bool | int | float)]
    if not arrays:
        return np.result_type(
            *(type(one) if not isinstance(one, bool) else bool for one in numbers)
        )
    dtype = np.result_type(*arrays)
    kinds = "biuf"
    for one in numbers:
        kind = "b" if isinstance(one, bool) else "i" if isinstance(one, int) else "f"
        if kinds.index(kind) > kinds.index(kind_of(dtype)):
            dtype = np.dtype(np.int64 if kind == "i" else np.float64)
    return dtype


def _dtype_of(one: Any) -> np.dtype[Any]:
    return one.dtype if isinstance(one, Traced | np.ndarray | np.generic) else np.dtype(one)
