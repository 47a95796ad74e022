"""Kernels for CuPy: what would otherwise be several launches, or a copy from the host."""

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xpnn.local_rows import Stretch
from xpnn.typing import Array, Shape

MOST_ARRAYS = 32  # of one launch, whose arguments may take 4 KiB

MIX = """
    __device__ unsigned int xpnn_mix(unsigned int word) {
        word = (word ^ (word >> 16)) * 0x45d9f3bu;
        word = (word ^ (word >> 16)) * 0x45d9f3bu;
        return word ^ (word >> 16);
    }
"""
WORD = "xpnn_mix(xpnn_mix(number) ^ xpnn_mix(xpnn_mix(xpnn_mix(draw) ^ low) ^ high))"
LOW = 0xFFFFFFFF


def random_bits(seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None) -> Array:
    """``Backend.random_bits`` in one launch, which needs no array of positions."""
    return _drawn("bits", seed, draw, 0, _empty(shape, "I"), stretch)


def random_mask(
    limit: int, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
) -> Array:
    """Where these words are below ``limit``, in one launch."""
    return _drawn("mask", seed, draw, limit, _empty(shape, "?"), stretch)


def _drawn(
    what: str, seed: int, draw: Any, limit: int, out: Array, stretch: Stretch | None
) -> Array:
    halves = seed & LOW, (seed >> 32) & LOW
    if stretch is None:
        return _random(what)(*halves, draw, limit, out)
    where = stretch.start & LOW, stretch.length, stretch.step & LOW
    return _random(what, index_type(out))(*halves, draw, limit, *where, out)


def _empty(shape: Shape, dtype: str) -> Array:
    import cupy

    return cupy.empty(shape, dtype)


@functools.cache
def _random(what: str, within: str = "") -> Any:
    """The kernel that draws bits, or a mask.

    Args:
        within: the type to count in, where the words lie in pieces of a larger array.
    """
    import cupy

    words, number, name = "uint32 low, uint32 high, int32 draw, uint32 limit", "i", what
    code = ""
    if within:
        words += f", uint32 start, {'int32' if within == 'int' else 'int64'} length, uint32 step"
        code = f"{within} n = i;\nunsigned int at = start + n / length * step + n % length;\n"
        number, name = "at", f"{what}_within"
    word = WORD.replace("number", number)
    out, last = {
        "bits": ("uint32 out", f"out = {word}"),
        "mask": ("bool out", f"out = {word} < limit"),
    }[what]
    return cupy.ElementwiseKernel(words, out, code + last, f"xpnn_random_{name}", preamble=MIX)


def concat(arrays: Sequence[Array], *, axis: int | None = 0, out: Array | None = None) -> Array:
    """Arrays along one axis, one launch for up to 32 of them, into ``out`` where that is given.

    CuPy's own takes a launch for each, or, of more than eight, copies a table of their addresses
    from the host, which has no place in a captured step.
    """
    import cupy

    if axis is None:
        arrays, axis = [cupy.ravel(array) for array in arrays], 0
    dtype = cupy.result_type(*arrays)
    arrays = [array.astype(dtype, copy=False) for array in arrays]
    axis = axis % arrays[0].ndim
    for array in arrays:
        if _without(array.shape, axis) != _without(arrays[0].shape, axis):
            return cupy.concatenate(arrays, axis)  # which says what is wrong
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    lengths = [array.shape[axis] for array in arrays]
    if out is None:
        out = cupy.empty((*before, sum(lengths), *after), dtype)
    inner, start = int(np.prod(after)), 0
    for first in range(0, len(arrays), MOST_ARRAYS):
        part = slice(first, first + MOST_ARRAYS)
        stop = start + sum(lengths[part])
        target = out[(*[slice(None)] * axis, slice(start, stop))]
        if target.size:
            widths = [length * inner for length in lengths[part]]
            kernel = _gather(len(widths), math.prod(before) > 1, index_type(target))
            kernel(*arrays[part], *np.cumsum(widths).tolist(), target)
        start = stop
    return out


def stack(arrays: Sequence[Array], *, axis: int = 0, out: Array | None = None) -> Array:
    """Arrays of one shape along a new axis, likewise."""
    import cupy

    return concat([cupy.expand_dims(array, axis) for array in arrays], axis=axis, out=out)


def stacked_already(arrays: Sequence[Array], axis: int) -> Array | None:
    """The array without gaps of which these are the parts along an axis, if they are."""
    import cupy

    first = arrays[0]
    form = first.shape, first.strides, first.dtype, first.data.mem
    if any((one.shape, one.strides, one.dtype, one.data.mem) != form for one in arrays):
        return None
    at = axis % (first.ndim + 1)
    steps = {other.data.ptr - one.data.ptr for one, other in pairwise(arrays)}
    if len(steps) != 1 or not first.size:
        return None
    shape = (*first.shape[:at], len(arrays), *first.shape[at:])
    strides = (*first.strides[:at], steps.pop(), *first.strides[at:])
    found = cupy.ndarray(shape, first.dtype, first.data, strides)
    return found if found.flags.c_contiguous else None


def put(arrays: Sequence[Array], rows: Sequence[Array]) -> None:
    """Write up to 32 arrays of one size and dtype into as many rows, in one launch."""
    import cupy

    width = arrays[0].size
    if width:
        kernel = _put(len(arrays), index_type(arrays[0]))
        flat = [cupy.ravel(array) for array in arrays]
        kernel(*flat, width, *rows, size=len(arrays) * width)


@functools.cache
def _put(count: int, indices: str) -> Any:
    """``count`` arrays of ``width`` items, each into a row of its own."""
    import cupy

    arrays, rows = (", ".join(f"raw T {one}{k}" for k in range(count)) for one in ("x", "row"))
    cases = "".join(f"case {k}: row{k}[n] = x{k}[n]; break;\n" for k in range(count))
    code = f"{indices} n = i % width;\nswitch (i / width) {{\n{cases}}}"
    width = f"{'int32' if indices == 'int' else 'int64'} width"
    return cupy.ElementwiseKernel(f"{arrays}, {width}", rows, code, f"xpnn_put_{count}")


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def index_type(*arrays: Array) -> str:
    """The type to count in: divisions of 64 bits take a GPU several times as long."""
    return "int" if max(array.size for array in arrays) < 2**30 else "long long"


@functools.cache
def _gather(count: int, several: bool, indices: str) -> Any:
    """Rows of ``count`` arrays side by side; the k-th array's part of a row ends at ``end_k``.

    One row, which all arrays joined along their first axis are, needs no division.
    """
    import cupy

    arrays = ", ".join(f"raw T x{k}" for k in range(count))
    ends = ", ".join(f"{'int32' if indices == 'int' else 'int64'} end{k}" for k in range(count))
    last = f"end{count - 1}"
    where = f"row = i / {last}, column = i % {last}" if several else "row = 0, column = i"
    cases = [
        f"if (column < end{k}) out = x{k}[row * (end{k} - {start}) + column - {start}];"
        for k, start in enumerate(["0", *(f"end{k}" for k in range(count - 1))])
    ]
    code = f"{indices} {where};\n" + "\nelse ".join(cases)
    return cupy.ElementwiseKernel(f"{arrays}, {ends}", "T out", code, f"xpnn_gather_{count}")


def side_by_side(arrays: Sequence[Array]) -> Array | None:
    """The one array that these, each in one piece, are the parts of; None if there is none."""
    import cupy

    first, end = arrays[0], arrays[0].data.ptr
    for array in arrays:
        here, memory = array.data.ptr == end, array.data.mem is first.data.mem
        if not (here and memory and array.flags.c_contiguous and array.dtype == first.dtype):
            return None
        end += array.nbytes
    count = (end - first.data.ptr) // first.dtype.itemsize
    return cupy.ndarray((count,), first.dtype, memptr=first.data)
