"""NCCL, played by functions of the host that a stream runs in their turn.

It says what CuPy's binding is asked for. What adds up is another communicator, on memory that both
the host and the device read, as a software GPU has it.
"""

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnn.distributed import Communicator

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""What CUDA calls in the order of a stream. CuPy's own way is not for one that a capture joins."""

DTYPES = {2: "i4", 4: "i8", 6: "f2", 7: "f4", 8: "f8"}
NAME = tuple(range(-64, 64))
"""The name of a communicator: 128 signed bytes."""


class PlayedNccl:
    """The module ``cupy.cuda.nccl`` of a process, and the communicator that it makes.

    Args:
        by: what adds up; nothing runs without it.

    Attributes:
        begun: what the communicator was made with.
        calls: what it was asked for, in order: the verb, how many numbers, of which dtype, whether
            in place, on which stream, and whether that was being captured.
        run: how many of these have run since.
    """

    available = True
    NCCL_SUM = 0

    class NcclError(RuntimeError):
        """What CuPy raises for a status of NCCL's."""

    def __init__(self, by: Communicator | None = None):
        self.by = by
        self.begun: list[tuple[Any, ...]] = []
        self.calls: list[SimpleNamespace] = []
        self.run = 0
        self._kept: list[Any] = []  # as long as a graph may call them

    def get_unique_id(self) -> tuple[int, ...]:
        return NAME

    def NcclCommunicator(self, *given: Any) -> "PlayedNccl":  # noqa: N802  (as CuPy calls it)
        self.begun.append(given)
        return self

    def allReduce(self, *given: int) -> None:  # noqa: N802
        send, receive, count, dtype, operation, stream = given
        assert operation == self.NCCL_SUM
        self._ask("all_sum", send, receive, count, dtype, stream)

    def broadcast(self, *given: int) -> None:
        send, receive, count, dtype, root, stream = given
        assert root == 0
        self._ask("broadcast", send, receive, count, dtype, stream)

    def _ask(self, verb: str, send: int, receive: int, count: int, dtype: int, stream: int) -> None:
        import cupy

        on = cupy.cuda.get_current_stream()
        assert on.ptr == stream
        self.calls.append(
            SimpleNamespace(
                verb=verb,
                count=count,
                dtype=DTYPES[dtype],
                in_place=send == receive,
                stream=stream,
                captured=on.is_capturing(),
            )
        )

        @HOST_FUNCTION
        def act(_: Any) -> None:
            given, target = (_memory(one, count, DTYPES[dtype]) for one in (send, receive))
            target[:] = getattr(self.by, verb)(given)
            self.run += 1

        if self.by is not None:
            self._kept.append(act)
            launch = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc
            assert launch(ctypes.c_void_p(stream), act, None) == 0


def _memory(address: int, count: int, dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    return np.frombuffer((ctypes.c_byte * (count * kind.itemsize)).from_address(address), kind)


def host_reads(address: int) -> bool:
    """Whether the host may read memory at that address."""
    reading, writing = os.pipe()
    try:
        return ctypes.CDLL(None).write(writing, ctypes.c_void_p(address), 1) == 1
    finally:
        os.close(reading)
        os.close(writing)


class Pair(Communicator):
    """Two processes at the ends of a pipe."""

    def __init__(self, rank: int, pipe: Any):
        super().__init__(rank, 2)
        self.pipe = pipe

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        return array + self._exchanged(array)

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        theirs = self._exchanged(array)
        return array.copy() if self.is_first else theirs

    def _exchanged(self, array: np.ndarray) -> np.ndarray:
        if self.is_first:
            self.pipe.send(array)
            return self.pipe.recv()
        theirs = self.pipe.recv()
        self.pipe.send(array)
        return theirs
