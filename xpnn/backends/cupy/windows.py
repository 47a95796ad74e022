"""Kernels for CuPy that move windows: ``Backend.pad`` and ``Backend.fold`` in one launch each.

Both gather: a thread writes one entry of the result, neighbours write neighbours, and no two
threads meet.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

from xpnn.backends.cupy.bfloat16 import is_half
from xpnn.backends.cupy.kernels import index_type
from xpnn.typing import Array, Shape

MOST_PARTS = 24  # of one launch, whose arguments may take 4 KiB


def pad(x: Array, axis: int, start: int, length: int, fill: float) -> Array:
    """Each entry of the result asks for the one of ``x`` that lies there."""
    inner = math.prod(x.shape[axis + 1 :])
    out = _empty(x, axis, length)
    if out.size:
        _pad(index_type(out, x))(x, x.shape[axis], length, inner, start, fill, out)
    return out


def fold(
    parts: Sequence[Array], axis: int, length: int, stride: int, dilation: int, low: int
) -> Array:
    """Each entry of the result adds up what the windows' entries have for it, in their order."""
    one = parts[0]
    inner = math.prod(one.shape[axis + 1 :])
    out = _empty(one, axis, length)
    if out.size:
        kernel = _fold(len(parts), is_half(one.dtype), index_type(out, one))
        kernel(*parts, one.shape[axis], length, inner, stride, dilation, low, out)
    return out


def _empty(like: Array, axis: int, length: int) -> Array:
    import cupy

    shape: Shape = (*like.shape[:axis], length, *like.shape[axis + 1 :])
    return cupy.empty(shape, like.dtype)


def _numbers(indices: str, *names: str) -> str:
    return ", ".join(f"{'int32' if indices == 'int' else 'int64'} {name}" for name in names)


def _where(indices: str) -> str:
    """Where entry ``i`` of the result is: at ``u`` of the axis."""
    return f"{indices} column = i % inner, row = i / inner / length, u = i / inner % length;\n"


@functools.cache
def _pad(indices: str) -> Any:
    import cupy

    code = f"{_where(indices)}{indices} t = u - start;\n"
    code += "out = t >= 0 && t < own ? x[(row * own + t) * inner + column] : T(fill);"
    numbers = _numbers(indices, "own", "length", "inner", "start")
    arguments = f"raw T x, {numbers}, float64 fill"
    return cupy.ElementwiseKernel(arguments, "T out", code, "xpnn_place")


@functools.cache
def _fold(count: int, half: bool, indices: str) -> Any:
    """For so many parts; half precision is added up in float."""
    import cupy

    terms = [
        f"t = u + low - {k} * dilation;\n"
        f"if (t >= 0 && t % stride == 0 && t / stride < positions)\n"
        f"    total += x{k}[(row * positions + t / stride) * inner + column];\n"
        for k in range(count)
    ]
    total = f"{'float' if half else 'T'} total = 0;\n"
    code = f"{_where(indices)}{indices} t;\n{total}{''.join(terms)}out = T(total);"
    arrays = ", ".join(f"raw T x{k}" for k in range(count))
    numbers = _numbers(indices, "positions", "length", "inner", "stride", "dilation", "low")
    return cupy.ElementwiseKernel(f"{arrays}, {numbers}", "T out", code, f"xpnn_fold_{count}")
