"""Following what CuPy takes from the device: its pools, and what lies outside of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def device_followed() -> Iterator[Callable[[], int]]:
    """A context that looks at the device whenever a pool has asked it for memory.

    It gives a function that tells how many bytes of the device were taken at most since it was
    called last: those of all pools, free blocks in them, too, and of libraries. CuPy's own pool
    gives back what it keeps free before.
    """
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    start = int(cupy.cuda.runtime.memGetInfo()[0])
    most = 0

    def taken() -> int:
        return start - int(cupy.cuda.runtime.memGetInfo()[0])

    class Hook(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "xpnn"

        def alloc_postprocess(self, **_: Any) -> None:
            nonlocal most
            most = max(most, taken())

    def peak() -> int:
        nonlocal most
        now = taken()
        found, most = max(most, now), now
        return max(found, 0)

    with Hook():
        yield peak
