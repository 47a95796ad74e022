"""NumPy: the CPU. Steps are replayed; sweeps outside of them run in blocks and across threads."""

import functools
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Unpack

import numpy as np

from xpnn.backends.numpy import attention, products
from xpnn.backends.numpy.binding import bind_each
from xpnn.backends.numpy.cores import all_cores
from xpnn.backends.numpy.loops.grouping import bind_fused
from xpnn.backends.numpy.replay import Replayed
from xpnn.backends.numpy.rows import add_rows
from xpnn.backends.portable.attention import Scoring, in_order
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.sliding import inside, part
from xpnn.backends.portable.sums import with_sums_by_blocks
from xpnn.backends.recording.shapes import blank
from xpnn.backends.recording.stand_ins import Recorded, RecordedNumber, value_of
from xpnn.backends.recording.tape import recordable
from xpnn.errors import BackendUnavailable, Change, DataError
from xpnn.local_rows import Stretch
from xpnn.typing import Array, Namespace, Shape

PLAIN = frozenset(map(np.dtype, "?bBhHiIlLqQefd"))  # the machine's numbers of up to 64 bits
RECORDED_JOINT_SIZE = 131_072  # elements: four float32 arrays of these are 2 MiB
BLOCK = 16_384  # elements: a handful of float32 arrays of this length fit in a core's L2 cache
THREAD_FROM = 1 << 20  # elements: below, handing blocks to threads costs more than it saves

_pool: ThreadPoolExecutor | None = None


class NumpyBackend(Backend):
    """Arrays of NumPy, on the CPU.

    Compiled training steps replay their NumPy calls. With ``"numpy:numba"``, all of them but
    products become loops that LLVM compiles, by way of numba's llvmlite, which takes up to a second
    when training begins; it needs the extra ``fast``.
    """

    name = "numpy"
    library = "numpy"
    install = "pip install numpy"
    array_type = "numpy:ndarray"
    joint_size = 16_384
    compiles = "known"

    def load_namespace(self) -> Namespace:
        import array_api_compat.numpy

        return with_sums_by_blocks(array_api_compat.numpy, _adds_pairwise)

    def resolve_device(self, device: str | None) -> Any:
        self._bind = bind_fused if device == "numba" else bind_each
        if device != "numba":
            return super().resolve_device(device)
        if importlib.util.find_spec("llvmlite") is None:
            raise BackendUnavailable("llvmlite is not installed here; type: pip install llvmlite")
        self.attention_from = 512  # below, all weights are faster: their softmax is one loop
        return None

    def describe(self) -> str:
        by = None if self.deterministic else products.described()
        return ", ".join(filter(None, [super().describe(), by]))

    def missing(self) -> str | None:
        return None if self.deterministic else products.missing()

    def owns(self, array: Any) -> bool:
        if type(array) is np.ndarray:
            return array.dtype in PLAIN
        return isinstance(array, Recorded)

    @classmethod
    def plain(cls, array: Any) -> Any:
        """A view of the class that has NumPy's own operators; ``np.matrix`` has others."""
        if np.ma.is_masked(array):
            raise DataError(
                f"wanted a number in each place, got an array that masks "
                f"{int(np.ma.getmaskarray(array).sum())} of {array.size}; leave these samples out, "
                f"weigh them 0 by sample_weight, or fill them in",
                change=Change("", "np.ma.filled({values}, 0)"),
            )
        return np.asarray(array)

    def shares_memory(self, one: Array, other: Array) -> bool:
        return np.may_share_memory(one, other)

    @property
    def on_host(self) -> bool:
        return True

    def from_numpy(self, array: np.ndarray) -> Array:
        return array

    def overflowing(self) -> AbstractContextManager[Any]:
        return np.errstate(over="ignore", invalid="ignore")

    def joint_groups(self, arrays: Mapping[str, Array]) -> list[list[str]]:
        """In a recording joining costs nothing: these arrays are put side by side beforehand."""
        recorded = any(isinstance(array, Recorded) for array in arrays.values())
        return self._grouped(arrays, RECORDED_JOINT_SIZE if recorded else self.joint_size)

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

    def counting(self, rule: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        return recordable(super().counting(rule, donate))

    def compile(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
    ) -> Callable[..., Any]:
        """The step's NumPy calls, recorded once and replayed in fixed memory."""
        cores = all_cores() if self._bind is bind_fused else None
        multiply = products.multiplication(self.deterministic)
        return Replayed(step, donate, self._bind, required, cores, multiply)

    def overlaid(self, placed: Sequence[tuple[Array, int]], axis: int, length: int) -> Array:
        """Only the first array is filled up with zeros; the others are added where they lie."""
        (one, start), *others = placed
        first, last = inside(one.shape[axis], start, length)
        if last - first == length:  # nothing to fill up: it would be added to what was given
            return super().overlaid(placed, axis, length)
        total = self.pad(one, axis, start, length)
        for one, start in others:
            first, last = inside(one.shape[axis], start, length)
            window = part(total, axis, start + first, start + last)
            window += part(one, axis, first, last)
        return total

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        run = recordable(add_rows, lambda *_: blank(array.shape, array.dtype))
        return run(array, indices, updates)

    def all_sum(
        self, array: Array, communicator: Communicator, behind: Array | None = None
    ) -> Array:
        run = recordable(super().all_sum, lambda *_: blank(array.shape, array.dtype))
        return run(array, communicator, behind)

    def start_all_sum(
        self,
        array: Array,
        communicator: Communicator,
        number: int,
        behind: Array | None = None,
    ) -> Array:
        run = recordable(super().start_all_sum, lambda *_: blank((1,), np.uint8))
        return run(array, communicator, number, behind)

    def finish_all_sum(
        self, token: Array, communicator: Communicator, number: int, shape: Shape, dtype: Any
    ) -> Array:
        run = recordable(super().finish_all_sum, lambda *_: blank(shape, dtype))
        return run(token, communicator, number, shape, dtype)

    def random_mask(
        self, keep: float, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        drawn = recordable(super().random_mask, lambda *_: blank(shape, bool))
        return drawn(keep, seed, draw, shape, stretch)

    def random_bits(
        self, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        drawn = recordable(super().random_bits, lambda *_: blank(shape, np.uint32))
        return drawn(seed, draw, shape, stretch)

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array]:
        run = recordable(attention.attention, attention.room_for_attention)
        return run(Q, K, V, *in_order(**scoring))

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array, Array]:
        run = recordable(attention.attention_gradients, attention.room_for_gradients)
        return run(Q, K, V, A, statistics, dA, *in_order(**scoring))

    def erfc(self, x: Array) -> Array:
        if isinstance(x, Recorded) and self._bind is bind_fused:
            return super().erfc(x)  # arithmetic, which becomes part of a loop
        try:
            from scipy.special import erfc
        except ImportError:
            return super().erfc(x)
        return erfc(x).astype(x.dtype, copy=False)  # SciPy answers float16 in float32


def _adds_pairwise(array: Any, axes: tuple[int, ...]) -> bool:
    """Whether NumPy does: over what lies in memory without gaps, all of it or its rows."""
    flags = np.asarray(value_of(array)).flags
    return bool(flags.c_contiguous and axes == (array.ndim - 1,)) or (
        len(axes) == array.ndim and flags.forc
    )


def _is_full(argument: Any) -> bool:
    """Whether an argument of a rule is an array that the sweep runs over, not a number."""
    return isinstance(argument, np.ndarray) and argument.ndim > 0


def _same_layout(arguments: Sequence[Any]) -> bool:
    """Whether the arrays can be read as flat runs of one length; of a recording none can."""
    full = [a for a in arguments if _is_full(a)]
    if any(isinstance(a, Recorded | RecordedNumber) for a in arguments):
        return False
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

    settings = np.geterr()  # which other threads do not see

    def run(start: int) -> None:
        with np.errstate(**settings):
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
