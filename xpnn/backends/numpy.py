"""NumPy: the CPU, in cache-sized blocks and across threads."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from xpnn.backends.base import Backend
from xpnn.typing import Array, Namespace

PLAIN = "?bBhHiIlLqQefd"  # booleans, integers and floats of up to 64 bits
BLOCK = 16_384  # elements: a handful of float32 arrays of this length fit in a core's L2 cache
THREAD_FROM = 1 << 20  # elements: below, handing blocks to threads costs more than it saves

_pool: ThreadPoolExecutor | None = None


class NumpyBackend(Backend):
    """Arrays of NumPy, on the CPU."""

    name = "numpy"
    library = "numpy"
    install = "pip install numpy"

    def load_namespace(self) -> Namespace:
        import array_api_compat.numpy

        return array_api_compat.numpy

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray) and array.dtype.isnative and array.dtype.char in PLAIN

    def from_numpy(self, array: np.ndarray) -> Array:
        return array

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """One call for small arrays; for large ones block by block, with temporaries in cache."""
        bound = functools.partial(rule, np)  # NumPy 2 has the standard's names without a wrapper

        def sweep(*arguments: Any) -> Any:
            largest = max(a.size if isinstance(a, np.ndarray) else 1 for a in arguments)
            if largest <= 2 * BLOCK or not _same_layout(arguments):
                return bound(*arguments)
            return _in_blocks(bound, arguments, donate)

        return sweep

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        if not array.flags.writeable:
            array = array.copy()
        np.add.at(array, indices, updates)
        return array

    def erf(self, x: Array) -> Array:
        try:
            from scipy.special import erf
        except ImportError:
            return super().erf(x)
        return erf(x).astype(x.dtype, copy=False)  # SciPy answers float16 in float32


def _is_full(argument: Any) -> bool:
    """Whether an argument of a rule is an array that the sweep runs over, not a number."""
    return isinstance(argument, np.ndarray) and argument.ndim > 0


def _same_layout(arguments: Sequence[Any]) -> bool:
    """Whether the arrays can be read as flat runs of one length."""
    full = [a for a in arguments if _is_full(a)]
    return all(a.shape == full[0].shape and a.flags.c_contiguous for a in full)


def _in_blocks(bound: Callable[..., Any], arguments: Sequence[Any], donate: Sequence[int]) -> Any:
    """Run ``bound`` block by block into donated arrays, or into new ones where there are none."""
    shape = next(a.shape for a in arguments if _is_full(a))
    flat = [a.reshape(-1) if _is_full(a) else a for a in arguments]
    size = next(a.size for a in flat if _is_full(a))

    def block(start: int) -> Any:
        return bound(*(a[start : start + BLOCK] if _is_full(a) else a for a in flat))

    first = block(0)
    spare = [flat[i] for i in donate if _is_full(flat[i]) and flat[i].flags.writeable]
    outs = [_matching(spare, one.dtype, size) for one in _listed(first)]

    def keep(start: int, result: Any) -> None:
        for out, one in zip(outs, _listed(result), strict=True):
            out[start : start + BLOCK] = one

    def run(start: int) -> None:
        keep(start, block(start))

    keep(0, first)
    starts = range(BLOCK, size, BLOCK)
    if size >= THREAD_FROM and (os.cpu_count() or 1) > 1:
        list(_threads().map(run, starts))
    else:
        for start in starts:
            run(start)
    shaped = tuple(out.reshape(shape) for out in outs)
    return shaped if isinstance(first, tuple) else shaped[0]


def _listed(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def _matching(spare: list[np.ndarray], dtype: Any, size: int) -> np.ndarray:
    """The first donated array of that dtype, or a new array."""
    for position, array in enumerate(spare):
        if array.dtype == dtype:
            return spare.pop(position)
    return np.empty(size, dtype)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="xpnn-sweep")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked child has the pool object but not its threads
    os.register_at_fork(after_in_child=_forget_threads)
