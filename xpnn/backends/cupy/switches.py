"""What CuPy does otherwise where it is told so: TF32, and sums without atomics."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnn.typing import Array

DEFAULT_MATH, TF32_MATH = 0, 3
"""Two of cuBLAS's math modes."""

LINK = """
    long long next = i + 1;
    while (next < count && indices[next] != indices[i]) ++next;
    following[i] = next;
    if (next < count) begins[next] = false;
"""

ADD = """
    const long long width = size / count, first = i / width, column = i % width;
    if (begins[first]) {
        const long long at = (long long) indices[first] * width + column;
        WIDE sum = (WIDE) array[at];
        for (long long k = first; k < count; k = following[k]) {
            sum += (WIDE) updates[k * width + column];
        }
        array[at] = (T) sum;
    }
"""


@contextmanager
def with_tf32(device: Any, wanted: bool) -> Iterator[None]:
    """``device``, with TF32 in products of float32 or without it; puts back what was set before.

    CuPy multiplies two matrices in the compute type that it keeps for the process, stacks of
    matrices in the math mode of the thread's cuBLAS handle, so both are set.
    """
    from cupy import _core, cuda, float32
    from cupy._core import _routines_linalg as linalg
    from cupy_backends.cuda.libs import cublas

    with device:
        handle, before = cuda.get_cublas_handle(), _core.get_compute_type(float32)
        _core.set_compute_type(
            float32, linalg.COMPUTE_TYPE_TF32 if wanted else linalg.COMPUTE_TYPE_FP32
        )
        mode = cublas.getMathMode(handle)
        cublas.setMathMode(handle, TF32_MATH if wanted else DEFAULT_MATH)
        try:
            yield
        finally:
            _core.set_compute_type(float32, before)
            cublas.setMathMode(handle, mode)


def add_in_order(array: Array, indices: Array, updates: Array) -> Array:
    """``updates[k]`` added to row ``indices[k]`` of ``array``, in the order of k, without atomics.

    A first kernel finds for each k the next one of the same row. In a second, the thread of a row's
    first k goes along these links and adds. Nothing is sorted and nothing waits, so that both can
    be part of a captured graph.

    Args:
        array: (rows, ...); written to.
        indices: (n,) integers in [0, rows).
        updates: (n, ...).
    """
    import cupy

    count, size = indices.shape[0], updates.size
    if size == 0:
        return array
    updates = updates.astype(array.dtype, copy=False)
    begins, following = cupy.ones(count, dtype=bool), cupy.empty(count, dtype=cupy.int64)
    _link_kernel()(indices, count, following, begins, size=count)
    add = _add_kernel("float" if array.dtype.itemsize < 4 else "T")
    return add(indices, begins, following, updates, count, size, array, size=size)


@functools.cache
def _link_kernel() -> Any:
    import cupy

    return cupy.ElementwiseKernel(
        "raw I indices, int64 count", "raw int64 following, raw bool begins", LINK, "xpnn_link_rows"
    )


@functools.cache
def _add_kernel(wide: str) -> Any:
    import cupy

    return cupy.ElementwiseKernel(
        "raw I indices, raw bool begins, raw int64 following, raw T updates, "
        "int64 count, int64 size",
        "raw T array",
        ADD.replace("WIDE", wide),
        "xpnn_add_rows",
    )
