"""NCCL, by CuPy: arrays are added up where they lie, on the GPUs of all processes."""

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from xpnn.backends.cupy.accesses import tell
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.compiled_step import NotCompilable
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array

INSTALL = "pip install 'xpnn[cuda12]' (or 'xpnn[cuda13]' for a CUDA 13 driver)"

DTYPES = {"int32": 2, "int64": 4, "float16": 6, "float32": 7, "float64": 8, "bfloat16": 9}
"""What is added up, as ncclDataType_t counts it; CuPy has no name for the last one."""


Verb: TypeAlias = Callable[[Array, Array, int, int], None]
"""Of two arrays, the number of their dtype and the address of a stream."""


class NCCL(Communicator):
    """Processes that have a GPU each.

    Nobody waits for what is done here, and so it can be part of a CUDA graph. It goes in its turn
    on CuPy's current stream; but sums that begin while backward goes on are on a stream beside it,
    behind what they add up, and the current one waits for them where they are asked for. NumPy's
    arrays go by way of the GPU.

    Args:
        rank, size: which process of how many.
        device: the GPU of this process.
        from_first: tells all processes the bytes that its argument returns in process 0.
        timeout: see ``Communicator``; of what NCCL does on the GPU nobody knows how long it waits.

    Raises:
        BackendUnavailable: CuPy finds no NCCL, or NCCL does not connect the processes.
    """

    overlaps = True
    waits_on_device = True

    def __init__(
        self,
        rank: int,
        size: int,
        device: Any,
        from_first: Callable[[Callable[[], bytes]], bytes],
        timeout: float | None = 600.0,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy's own words for what is told below
            from cupy.cuda import Stream, nccl

        super().__init__(rank, size)
        self.timeout = timeout
        if not nccl.available:
            raise BackendUnavailable(f"CuPy finds no NCCL here; type: {INSTALL}")
        self.device, self._sum = device, nccl.NCCL_SUM
        name = from_first(lambda: np.asarray(nccl.get_unique_id(), np.int8).tobytes())
        with device:
            self._beside = Stream(non_blocking=True)
            try:
                self._library = nccl.NcclCommunicator(
                    size, tuple(np.frombuffer(name, np.int8).tolist()), rank
                )
            except nccl.NcclError as error:
                raise BackendUnavailable(
                    f"NCCL does not connect {size} processes ({error}), of which this one has GPU "
                    f"{device.id}; start no more of them than there are GPUs, each with "
                    f"backend='cupy' and no number behind it; NCCL_DEBUG=INFO tells more"
                ) from error
        # At its end NCCL waits for all graphs with calls of its own, and Python ends what is left
        # in any order. So it is never told to end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._library))

    def all_sum(self, array: Array) -> Array:
        return self._called(self._all_reduce, array)

    def broadcast(self, array: Array) -> Array:
        return self._called(self._broadcast, array)

    def start_all_sum(self, array: Array) -> Callable[[], Array]:
        import cupy

        if isinstance(array, np.ndarray):
            return super().start_all_sum(array)
        source, target = _source_and_target(array)
        beside = _beside_capture.get() or self._beside
        beside.wait_event(cupy.cuda.get_current_stream().record())
        with beside:
            self._fill(self._all_reduce, source, target)
        return partial(_waited_for, beside.record(), source, target)

    def _called(self, verb: Verb, array: Array) -> Array:
        """What a verb makes of an array, beside it."""
        import cupy

        if isinstance(array, np.ndarray):
            with self.device:
                return self._called(verb, cupy.asarray(array)).get()
        source, target = _source_and_target(array)
        self._fill(verb, source, target)
        return target

    def _fill(self, verb: Verb, source: Array, target: Array) -> None:
        """Fill the target with what a verb makes of the source, on the current stream."""
        import cupy

        if source.size:
            dtype = DTYPES[source.dtype.name]
            verb(source, target, dtype, cupy.cuda.get_current_stream().ptr)
            tell("NCCL", [source], [target])

    def _all_reduce(self, source: Array, target: Array, dtype: int, stream: int) -> None:
        addresses = source.data.ptr, target.data.ptr
        self._library.allReduce(*addresses, source.size, dtype, self._sum, stream)

    def _broadcast(self, source: Array, target: Array, dtype: int, stream: int) -> None:
        addresses = source.data.ptr, target.data.ptr
        self._library.broadcast(*addresses, source.size, dtype, 0, stream)


def _source_and_target(array: Array) -> tuple[Array, Array]:
    """What NCCL reads, and what it fills: the copy of an array with gaps is filled itself."""
    import cupy

    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"wanted an array of {', '.join(DTYPES)}, which NCCL adds up, got {array.dtype}; "
            f"convert it first"
        )
    source = array if array.flags.c_contiguous else array.copy(order="C")
    return source, cupy.empty_like(source) if source is array else source


def _waited_for(done: Any, source: Array, target: Array) -> Array:
    """A sum, for which the current stream waits; until then its source is kept."""
    import cupy

    cupy.cuda.get_current_stream().wait_event(done)
    tell("a sum that was begun, handed over", [target])
    return target


_beside_capture: ContextVar[Any] = ContextVar(
    "the stream beside one that is captured", default=None
)


@contextmanager
def captured_beside() -> Iterator[None]:
    """A context in which sums that begin early are on a stream that is there for one capture.

    A capture takes in each stream that waits for it, up to its end. So one that others use, and
    that of another capture, stay out of it.
    """
    import cupy

    token = _beside_capture.set(cupy.cuda.Stream(non_blocking=True))
    try:
        yield
    finally:
        _beside_capture.reset(token)


def check_capture(communicator: Communicator) -> None:
    """Raise NotCompilable where a stream is captured, and sums are taken by others than NCCL."""
    import cupy

    if not isinstance(communicator, NCCL) and cupy.cuda.get_current_stream().is_capturing():
        raise NotCompilable(
            f"{type(communicator).__name__} adds up outside of CUDA, and a graph cannot hold that; "
            f"distributed='nccl' can be captured"
        )
