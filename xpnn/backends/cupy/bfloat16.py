"""bfloat16 on CuPy, which takes its numbers from the package ``ml_dtypes``.

CuPy adds and multiplies arrays of bfloat16, but an array and a Python number give it float32, a
choice between two arrays gives float32, and stacks of matrices cannot be multiplied. Three things
see to that:

* a function of CuPy's looks up in a table of its own which loop is for which dtypes; the loops of
  bfloat16 are entered there for an array and a Python number, too, and one is made for ``where``;
* ``@`` of arrays of bfloat16 calls cuBLAS directly (``products.py``);
* a rule in a fused kernel is worked out in float32, from the moment that its arrays are read to
  that in which its results are written (``in_float32``).

The first two hold for the whole process, from the moment that somebody asks for bfloat16.
"""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from xpnn.backends.cupy.products import product_of
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array, Namespace

INSTALL = "pip install ml_dtypes"
WITH_TWO = (
    *("add", "subtract", "multiply", "true_divide", "power", "maximum", "minimum"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
)
PLAIN = {int: "int64", float: "float64"}  # the dtypes under which CuPy looks Python numbers up


@functools.cache
def bfloat16() -> Any:
    """Its dtype, or None where ml_dtypes is missing, or is of no use to this CuPy."""
    import cupy

    try:
        import ml_dtypes
    except ImportError:
        return None
    dtype = cupy.dtype(ml_dtypes.bfloat16)
    return dtype if any(dtype in op.in_types for op in cupy.add._ops.ops) else None


def is_half(dtype: Any) -> bool:
    return dtype.char in "eE"


def is_bfloat16(dtype: Any) -> bool:
    return getattr(dtype, "char", None) == "E"  # the letter of ml_dtypes


def namespace(xp: Namespace) -> dict[str, Any]:
    """What of a namespace has to be otherwise, for bfloat16 to be a dtype as others are."""
    if bfloat16() is None:
        return {}

    def finfo(dtype: Any, /) -> Any:
        import ml_dtypes

        return ml_dtypes.finfo(dtype) if is_bfloat16(dtype) else xp.finfo(dtype)

    def isdtype(dtype: Any, kind: Any) -> bool:
        if not is_bfloat16(dtype):
            return bool(xp.isdtype(dtype, kind))
        kinds = kind if isinstance(kind, tuple) else (kind,)
        return any(one in ("real floating", "numeric", dtype) for one in kinds)

    return {"bfloat16": bfloat16(), "finfo": finfo, "isdtype": isdtype}


@functools.cache
def teach() -> None:
    """Make CuPy count in bfloat16 as in its other dtypes; once for a process.

    Raises:
        BackendUnavailable: ml_dtypes is missing.
    """
    import cupy
    from cupy._sorting import search

    dtype = bfloat16()
    if dtype is None:
        raise BackendUnavailable(
            f"bfloat16 on CuPy takes the package ml_dtypes, which CuPy finds when it is imported; "
            f"type: {INSTALL}, and start Python anew"
        )
    for name in WITH_TWO:
        _enter(getattr(cupy, name), _loop(getattr(cupy, name), dtype), (dtype, dtype))
    form = [(bool, dtype, dtype), (dtype,)]
    where = cupy._core.create_ufunc("xpnn_where", ((form, "out0 = in0 ? in1 : in2"),))
    _enter(search._where_ufunc, where._ops.ops[0], (cupy.dtype(bool), dtype, dtype))
    _multiply_by_cublas()


def _loop(function: Any, dtype: Any) -> Any:
    return next(op for op in function._ops.ops if op.in_types == (dtype, dtype))


def _enter(function: Any, loop: Any, types: tuple[Any, ...]) -> None:
    """Have ``function`` use ``loop`` for these types, and where the last or second last is plain.

    The keys are those of CuPy: dtypes, and for each of them False or the class of a Python number.
    """
    import cupy

    table, last = function._routine_cache, len(types) - 1
    table[types, (False,) * len(types)] = loop
    for plain, name in PLAIN.items():
        for at in (last - 1, last):
            dtypes, weak = list(types), list[Any]([False] * len(types))
            dtypes[at], weak[at] = cupy.dtype(name), plain
            table[tuple(dtypes), tuple(weak)] = loop


def _multiply_by_cublas() -> None:
    import cupy

    own = cupy.ndarray.__matmul__

    def product(a: Array, b: Array) -> Array:
        if (
            is_bfloat16(a.dtype)
            and getattr(b, "dtype", None) == a.dtype
            and min(a.ndim, b.ndim) > 1
        ):
            return product_of(a, b)
        return own(a, b)

    cupy.ndarray.__matmul__ = product


# Inside of fused kernels --------------------------------------------------------------------------


def widened(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a kernel that is being made, those of bfloat16 in float32."""
    return tuple(x.astype("float32") if _is_narrow(x) else x for x in arrays)


def _is_narrow(x: Any) -> bool:
    return hasattr(x, "dtype") and is_bfloat16(x.dtype)


def astype(x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
    """``xp.astype`` in a kernel that is being made."""
    if not is_bfloat16(dtype):
        return x.astype(dtype, copy=copy)
    return x if x.dtype == dtype else _narrowing()(x)


@functools.cache
def _narrowing() -> Any:
    import cupy

    forms = [[(one,), (bfloat16(),)] for one in (bool, "float32", "float64")]
    code = "out0 = bfloat16(float(in0))"
    return cupy._core.create_ufunc("xpnn_to_bfloat16", tuple((one, code) for one in forms))


def in_float32(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule of arrays of which those in bfloat16 are read as float32, and its results narrowed.

    Which results are to be narrow is seen from the rule itself, in float16: what is float16 there
    is bfloat16 here. Nobody reads those numbers, and so the compiler leaves them out.
    """

    def wide(xp: SimpleNamespace, *arrays: Any) -> Any:
        if not any(map(_is_narrow, arrays)):
            return rule(xp, *arrays)
        twins = (x.astype("float32").astype("float16") if _is_narrow(x) else x for x in arrays)
        forms, results = rule(xp, *twins), rule(xp, *widened(arrays))
        if not isinstance(results, tuple):
            return _like(forms, results)
        return tuple(map(_like, forms, results))

    return wide


def _like(form: Any, result: Any) -> Any:
    return astype(result, bfloat16()) if form.dtype.char == "e" else result
