"""Matrix products by cuBLAS directly: while a step is captured, and of bfloat16.

cuBLAS can be part of a CUDA graph, but CuPy, which calls it for ``@``, refuses to while a stream is
captured. So as long as a capture lasts, ``@`` calls cuBLAS itself here, with a handle of its own
whose workspace is fixed, as an allocation inside of a graph would be made at every launch.

Stacks of matrices of bfloat16 are multiplied here outside of captures, too, with CuPy's own handle,
as CuPy itself does not know that dtype there.
"""

import ctypes
import functools
import math
import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from xpnn.backends.portable.compiled_step import NotCompilable
from xpnn.typing import Array, Shape

WORKSPACE = 32 * 2**20  # bytes: what NVIDIA recommends for its largest GPUs
NORMAL, TRANSPOSED, DEFAULT_ALGORITHM = 0, 1, -1
TYPES = {"e": 2, "E": 14, "f": 0, "d": 1}  # cudaDataType; "E" is bfloat16 of ml_dtypes
COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 77, 70
MATRIX = ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_longlong
ARGUMENTS = (*[ctypes.c_int] * 5, ctypes.c_void_p, *MATRIX, *MATRIX, ctypes.c_void_p, *MATRIX)
ARGUMENTS += (ctypes.c_int,) * 3  # those of cublasGemmStridedBatchedEx behind the handle
ONE_AT_A_TIME = threading.Lock()  # ``@`` belongs to CuPy's class, and so to all threads


class Products:
    """cuBLAS on one device and stream."""

    def __init__(self, stream: Any):
        import cupy
        from cupy_backends.cuda.libs import cublas

        idle = _idle[cupy.cuda.Device().id]
        try:
            self.stream, self.handle = stream, idle.pop()
        except IndexError:
            self.stream, self.handle = stream, cublas.create()
        self.workspace = cupy.cuda.alloc(WORKSPACE)
        major = cublas.getVersion(self.handle) // 10000
        name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
        self.library = ctypes.CDLL(name)  # the one that CuPy has loaded
        self._call("cublasSetStream_v2", ctypes.c_void_p(stream.ptr))
        workspace = ctypes.c_void_p(self.workspace.ptr), ctypes.c_size_t(WORKSPACE)
        self._call("cublasSetWorkspace_v2", *workspace)
        weakref.finalize(self, idle.append, self.handle).atexit = False

    @contextmanager
    def instead_of_cupy(self) -> Iterator[None]:
        """While this lasts, ``@`` on this stream comes here; on other streams it stays CuPy's.

        What is not for ``product`` stays CuPy's, too, unless the stream is captured.
        """
        import cupy

        with ONE_AT_A_TIME:
            own = cupy.ndarray.__matmul__

            def product(a: Array, b: Array) -> Array:
                here = cupy.cuda.get_current_stream().ptr == self.stream.ptr
                if here and (_is_multiplied(a, b) or self.stream.is_capturing()):
                    return self.product(a, b)
                return own(a, b)

            cupy.ndarray.__matmul__ = product
            _captured.append(self)
            try:
                yield
            finally:
                _captured.remove(self)
                cupy.ndarray.__matmul__ = own

    def product(self, a: Array, b: Array) -> Array:
        """``a @ b`` of arrays with at least two axes and one float dtype."""
        if not _is_multiplied(a, b):
            raise NotCompilable(
                f"a captured product is one of matrices of one float dtype, not of {a.dtype} "
                f"{a.shape} and {b.dtype} {b.shape}"
            )
        return _multiplied(a, b, self._multiply)

    def _multiply(self, *numbers: int) -> None:
        listed = (kind(number) for kind, number in zip(ARGUMENTS, numbers, strict=True))
        self._call("cublasGemmStridedBatchedEx", *listed)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(ctypes.c_void_p(self.handle), *arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")


# Handles of cuBLAS that nobody uses any more, by devices. To destroy one would wait for the device,
# which CUDA forbids as long as a stream is captured, in another thread for one.
_idle: defaultdict[int, list[int]] = defaultdict(list)
_captured: list[Products] = []  # that ``@`` goes to; one at most


def multiply_into(a: Array, b: Array, out: Array) -> bool:
    """``out[...] = a @ b``, without a copy, if cuBLAS is asked for such arrays here.

    Args:
        a, b: as for ``@``.
        out: row by row, without gaps.
    """
    import cupy
    from cupy_backends.cuda.libs import cublas

    if not (_is_multiplied(a, b) and out.flags.c_contiguous and out.dtype == a.dtype):
        return False
    for products in _captured:
        if products.stream.ptr == cupy.cuda.get_current_stream().ptr:
            _multiplied(a, b, products._multiply, out)
            return True
    handle = cupy.cuda.get_cublas_handle()
    _multiplied(a, b, functools.partial(cublas.gemmStridedBatchedEx, handle), out)
    return True


def _is_multiplied(a: Array, b: Array) -> bool:
    """Whether these are matrices, or stacks of them, of one dtype that cuBLAS is asked for here."""
    return a.dtype == b.dtype and a.dtype.char in TYPES and min(a.ndim, b.ndim) >= 2


def product_of(a: Array, b: Array) -> Array:
    """``a @ b`` of arrays with at least two axes and one dtype of ``TYPES``, on CuPy's stream."""
    import cupy
    from cupy_backends.cuda.libs import cublas

    handle = cupy.cuda.get_cublas_handle()
    return _multiplied(a, b, functools.partial(cublas.gemmStridedBatchedEx, handle))


def _multiplied(
    a: Array, b: Array, multiply: Callable[..., Any], out: Array | None = None
) -> Array:
    """``a @ b`` by ``multiply``, cublasGemmStridedBatchedEx without its handle, into ``out``."""
    import cupy

    stacks = cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (rows, inner), columns = a.shape[-2:], b.shape[-1]
    if inner != b.shape[-2]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not fit for a product")
    out = cupy.empty((*stacks, rows, columns), a.dtype) if out is None else out
    if out.size == 0 or inner == 0:
        out.fill(0)
        return out
    # cuBLAS counts along columns first, and so sees each matrix transposed: out^T = b^T a^T
    (left, left_as, left_row, left_stack), (right, right_as, right_row, right_stack) = (
        _layout(one, stacks) for one in (b, a)
    )
    kind, compute = TYPES[a.dtype.char], compute_type(a.dtype)
    number = ctypes.c_double if compute == COMPUTE_64F else ctypes.c_float
    one, zero = number(1.0), number(0.0)
    multiply(
        *(left_as, right_as, columns, rows, inner, ctypes.addressof(one)),
        *(left.data.ptr, kind, left_row, left_stack),
        *(right.data.ptr, kind, right_row, right_stack),
        ctypes.addressof(zero),
        *(out.data.ptr, kind, columns, rows * columns),
        *(math.prod(stacks), compute, DEFAULT_ALGORITHM),
    )
    return out


def compute_type(dtype: Any) -> int:
    """What products are worked out in, as CuPy itself decides it for its own."""
    from cupy import _core
    from cupy._core import _routines_linalg as linalg

    if dtype.char == "d":
        return COMPUTE_64F
    fast = dtype.char == "f" and _core.get_compute_type(dtype) == linalg.COMPUTE_TYPE_TF32
    return COMPUTE_32F_FAST_TF32 if fast else COMPUTE_32F


def _layout(x: Array, stacks: Shape) -> tuple[Array, int, int, int]:
    """``x``, copied if it has to be, how its matrices lie, and items to the next row and matrix.

    A matrix lies row by row (normal) or column by column (transposed); stacks at one distance.
    """
    import cupy

    x = cupy.broadcast_to(x, (*stacks, *x.shape[-2:]))
    stack = _distance(x)
    matrix = None if stack is None else _matrix(x)
    if matrix is None:
        x = cupy.ascontiguousarray(x)
        return x, NORMAL, x.shape[-1], x.shape[-2] * x.shape[-1]
    return x, *matrix, stack or 0


def _matrix(x: Array) -> tuple[int, int] | None:
    """How each matrix of ``x`` lies, and the items from one row (or column) to the next."""
    (rows, columns), item = x.shape[-2:], x.dtype.itemsize
    down, right = (stride // item for stride in x.strides[-2:])
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return NORMAL, down if rows > 1 else columns
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return TRANSPOSED, right if columns > 1 else rows
    return None


def _distance(x: Array) -> int | None:
    """The items from one matrix of a stack to the next, if that is always the same."""
    axes = zip(x.shape[:-2], x.strides[:-2], strict=True)
    steps = [(count, stride) for count, stride in axes if count > 1]
    if any(outer != count * inner for (_, outer), (count, inner) in pairwise(steps)):
        return None
    return steps[-1][1] // x.dtype.itemsize if steps else 0
