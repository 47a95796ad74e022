"""Products of Intel's MKL, from its wheel, bound to the memory of their arrays.

MKL multiplies in the thread that calls it (its layer without threads), so it has none that wait for
work and keep a core busy, and none that get in the way of those that PyTorch's MKL has; on several
cores products are cut into parts, as in ``products.py``. What a call needs is looked up once, here:
what is bound is a C function with all of its arguments.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import math
import os
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends.numpy.openblas import openblas

Task = Callable[[], Any]

SWITCH = "XPNN_MKL"  # "0": not used, whatever is installed; "1": used where PyTorch is, too
LP64, SEQUENTIAL = 0, 1  # sizes are int; no threads
ROWS, PLAIN, TRANSPOSED = 101, 111, 112  # CBLAS's words for how matrices lie
LONGEST = 2**31 - 1  # of what is an int
KERNELS = 256  # that are kept for the next product of the shape; each is 25 to 40 KiB
GROUPS = 1  # of products of one form in a call for many
MADE, ORDINARY = 0, 1  # what making a kernel answers: one for this shape, or the usual product


class UnusableError(Exception):
    """MKL is installed, but cannot be used; the message says why."""


class Mkl:
    """The library, loaded.

    Args:
        path: of ``libmkl_rt``.
        version: of the wheel.

    Raises:
        UnusableError: it does not load, lacks a function, or others have given it threads.
    """

    def __init__(self, path: Path, version: str):
        self.version = version
        try:
            self._library = ctypes.CDLL(str(path))
            if self._library.MKL_Set_Interface_Layer(LP64) != LP64:
                raise UnusableError("it has been loaded with sizes of 64 bits by another package")
            if self._library.MKL_Set_Threading_Layer(SEQUENTIAL) != SEQUENTIAL:
                raise UnusableError("it has been loaded with threads of its own by another package")
            self._precisions = {
                np.dtype(np.float32): _Precision(self._library, "s", ctypes.c_float),
                np.dtype(np.float64): _Precision(self._library, "d", ctypes.c_double),
            }
        except (OSError, AttributeError) as error:
            line = str(error).strip().splitlines()[0]
            again = "type: pip install --force-reinstall mkl"
            raise UnusableError(
                f"loading it fails: {line}; to install it again, {again}"
            ) from error
        self._kernel = functools.lru_cache(KERNELS)(self._new_kernel)

    def takes(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> bool:
        """Whether a product of matrices, or of stacks of them, is one for MKL."""
        arrays = (a, b, out)
        return (
            all(one.dtype == out.dtype and one.ndim > 1 and one.flags.aligned for one in arrays)
            and out.dtype in self._precisions
            and all(0 < length <= LONGEST for one in arrays for length in one.shape)
            and all(how_it_lies(one) is not None for one in arrays)
            and not np.may_share_memory(out, a)
            and not np.may_share_memory(out, b)
        )

    def product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of two matrices, by ``cblas_?gemm``."""
        a, b, out = _by_rows(a, b, out)
        kind, form = self._precisions[out.dtype], _Form.of(a, b, out)
        transposed_sizes = (form.a, form.b, form.rows, form.columns, form.inner)
        left, right = (kind.one, _pointer(a), form.line_a), (_pointer(b), form.line_b)
        result = kind.zero, _pointer(out), form.line_out
        return partial(kind.gemm, ROWS, *transposed_sizes, *left, *right, *result)

    def own_kernel(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task | None:
        """Of two matrices, by code that MKL makes for their shape; None where it cannot.

        Of large matrices MKL takes the usual product here, too, and only the call is shorter.
        """
        a, b, out = _by_rows(a, b, out)
        kernel = self._kernel(out.dtype, _Form.of(a, b, out))
        if kernel is None:
            return None
        return partial(kernel.run, kernel, _pointer(a), _pointer(b), _pointer(out))

    def _new_kernel(self, dtype: Any, form: "_Form") -> "_Kernel | None":
        kind, made = self._precisions[dtype], _Kernel()
        transposed_sizes = (form.a, form.b, form.rows, form.columns, form.inner)
        lines = form.line_a, form.line_b, kind.zero, form.line_out
        status = kind.make_kernel(ctypes.byref(made), ROWS, *transposed_sizes, kind.one, *lines)
        if status not in (MADE, ORDINARY):
            return None
        made.run = kind.kernel_type(kind.address_of_kernel(made))
        destroyed = weakref.finalize(
            made, self._library.mkl_jit_destroy, ctypes.c_void_p(made.value)
        )
        destroyed.atexit = False  # threads that still multiply may be in it
        return made

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of stacks of matrices that broadcast to that of ``out``, by ``cblas_?gemm_batch``."""
        a, b = (np.broadcast_to(one, (*out.shape[:-2], *one.shape[-2:])) for one in (a, b))
        a, b, out = _by_rows(a, b, out)
        kind, form = self._precisions[out.dtype], _Form.of(a, b, out)
        numbers = _Form(*(ctypes.byref(ctypes.c_int(number)) for number in form))
        transposed_sizes = (numbers.a, numbers.b, numbers.rows, numbers.columns, numbers.inner)
        left = ctypes.byref(kind.one), _pointers(a), numbers.line_a
        right = _pointers(b), numbers.line_b
        result = ctypes.byref(kind.zero), _pointers(out), numbers.line_out
        count = ctypes.byref(ctypes.c_int(math.prod(out.shape[:-2])))
        return partial(
            kind.gemm_batch, ROWS, *transposed_sizes, *left, *right, *result, GROUPS, count
        )


# Finding it --------------------------------------------------------------------------------------


def mkl() -> Mkl | None:
    """MKL, if its wheel is installed, and is wanted, and works."""
    return _looked_for()[0]


def switched_off() -> bool:
    """Whether the environment has ``XPNN_MKL=0``."""
    return os.environ.get(SWITCH) == "0"


def why_not() -> str | None:
    """Why MKL cannot be used although it is installed and wanted, and what to do; else None."""
    return _looked_for()[1]


@functools.cache
def _looked_for() -> tuple[Mkl | None, str | None]:
    path = None if switched_off() else _path()
    if path is None:
        return None, None
    if importlib.util.find_spec("torch") is not None and os.environ.get(SWITCH) != "1":
        return None, (
            "PyTorch is installed, which takes functions of an MKL that was there before it for "
            f"its own, and then rounds otherwise; to use MKL all the same, set {SWITCH}=1 and "
            "import torch first"
        )
    if importlib.util.find_spec("threadpoolctl") is None:
        return None, "it needs threadpoolctl; type: pip install threadpoolctl"
    if openblas() is None:  # whose number of threads it goes by
        return None, "it stands beside OpenBLAS, and this NumPy multiplies with something else"
    try:
        return Mkl(path, importlib.metadata.version("mkl")), None
    except UnusableError as error:
        return None, str(error)


def _path() -> Path | None:
    """``libmkl_rt`` of the wheel."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [one for one in files if one.name.startswith("libmkl_rt.so")]
    return Path(str(found[0].locate())) if found else None


# How products are told ----------------------------------------------------------------------------


class _Kernel(ctypes.c_void_p):
    """What MKL calls a jitter; ``run`` takes it, and the addresses of a, b and out."""

    run: Any


class _Precision:
    """The functions for one dtype."""

    def __init__(self, library: Any, letter: str, number: Any):
        self.one, self.zero = number(1.0), number(0.0)
        self.gemm = getattr(library, f"cblas_{letter}gemm")
        self.gemm_batch = getattr(library, f"cblas_{letter}gemm_batch")
        self.make_kernel = getattr(library, f"mkl_cblas_jit_create_{letter}gemm")
        self.address_of_kernel = getattr(library, f"mkl_jit_get_{letter}gemm_ptr")
        self.address_of_kernel.restype = ctypes.c_void_p
        self.kernel_type = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)
        self.gemm.restype = self.gemm_batch.restype = None


class _Form(NamedTuple):
    """A product in BLAS's words, by rows: what is transposed, sizes, items from line to line."""

    a: Any
    b: Any
    rows: Any
    columns: Any
    inner: Any
    line_a: Any
    line_b: Any
    line_out: Any

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> "_Form":
        (a_turned, line_a), (b_turned, line_b), (_, line_out) = map(_lying, (a, b, out))
        first, second = (TRANSPOSED if turned else PLAIN for turned in (a_turned, b_turned))
        rows, columns, inner = out.shape[-2], out.shape[-1], a.shape[-1]
        return cls(first, second, rows, columns, inner, line_a, line_b, line_out)


def _lying(x: np.ndarray) -> tuple[bool, int]:
    found = how_it_lies(x)
    assert found is not None  # ``takes`` has asked
    return found


def how_it_lies(x: np.ndarray) -> tuple[bool, int] | None:
    """How a matrix lies, or each of a stack: whether turned, and the items from line to line.

    None where neither its rows nor its columns lie in one piece each, which BLAS cannot read.
    """
    item, (rows, columns), (down, right) = x.itemsize, x.shape[-2:], x.strides[-2:]
    if (columns == 1 or right == item) and (rows == 1 or _is_line(down, columns, item)):
        return False, columns if rows == 1 else down // item
    if (rows == 1 or down == item) and (columns == 1 or _is_line(right, rows, item)):
        return True, rows if columns == 1 else right // item
    return None


def _is_line(stride: int, length: int, item: int) -> bool:
    return length * item <= stride <= LONGEST * item and stride % item == 0


def _by_rows(
    a: np.ndarray, b: np.ndarray, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same product, transposed where ``out`` lies column by column."""
    if _lying(out)[0]:
        return b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2)
    return a, b, out


def _pointer(x: np.ndarray) -> Any:
    """The address of an array's first item, which keeps the array alive."""
    return x.ctypes.data_as(ctypes.c_void_p)


def _pointers(x: np.ndarray) -> Any:
    """The addresses of all matrices of a stack; they keep its memory alive."""
    addresses = [x[index].__array_interface__["data"][0] for index in np.ndindex(x.shape[:-2])]
    found: Any = (ctypes.c_void_p * len(addresses))(*addresses)
    found.array = x
    return found
