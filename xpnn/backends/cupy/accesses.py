"""Which memory is read and written on which stream, said by the code that asks for it.

CUDA does what one stream was asked for in its order. Between streams, and between a stream and the
host, only events and waiting keep any, and one that is missing is seldom seen in the values. What
waits for what can be seen from outside; who touches which memory is known only where it is asked
for. So it is said there, to those who listen: a checker of the tests, and nobody otherwise.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Span: TypeAlias = tuple[int, int]
"""The address of the first byte, and that behind the last."""

HOST = "the host"


class Access(NamedTuple):
    """Something that reads and writes memory.

    Attributes:
        what: it is, in words.
        on: the address of the stream that does it, or ``HOST``.
        reads, writes: where; of an array with gaps, these too.
    """

    what: str
    on: int | str
    reads: list[Span]
    writes: list[Span]


listeners: list[Callable[[Access], None]] = []


def tell(what: str, reads: Iterable[Any] = (), writes: Iterable[Any] = (), on: Any = None) -> None:
    """Tell all listeners of an access, in the order in which accesses are asked for.

    Args:
        what: it is, in words.
        reads, writes: arrays of CuPy or NumPy; other things are passed over.
        on: a stream of CuPy's, its current one unless given, or ``HOST``.
    """
    if not listeners:
        return
    import cupy

    stream = cupy.cuda.get_current_stream() if on is None else on
    where = HOST if stream is HOST else stream.ptr
    kinds = cupy.ndarray, np.ndarray
    spans = (
        [span_of(one) for one in arrays if isinstance(one, kinds)] for arrays in (reads, writes)
    )
    access = Access(what, where, *spans)
    for listener in listeners:
        listener(access)


def span_of(array: Any) -> Span:
    """Where an array lies."""
    address = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
    if not array.size:
        return address, address
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = (sum(limit(0, one) for one in reach) for limit in (min, max))
    return address + low, address + high + array.itemsize
