"""Memory of the device: what is free of it, and how a library says that there is too little."""

import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xpnn.errors import OutOfMemory, XpnnError


class DeviceMemory:
    """The part of a backend that knows about memory."""

    spec: str

    def has_room_for(self, nbytes: int) -> bool:
        """Whether data of so many bytes may stay on the device; CuPy and several devices say no."""
        return True

    def free_memory(self) -> None:
        """Give memory that is cached but unused back to the system."""

    def free_bytes(self) -> int | None:
        """How much memory new arrays can have on the device; None where the system does not say."""
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        """A context that follows the memory of arrays.

        It gives a function that tells how many bytes, of what was asked for inside of the context,
        were in use at most since it was called last.

        Portable: what Python's ``tracemalloc`` sees, which is what NumPy asks for, and all objects
        of Python.
        """
        mine = not tracemalloc.is_tracing()
        if mine:
            tracemalloc.start()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()

        def peak() -> int:
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            return max(most - before, 0)

        try:
            yield peak
        finally:
            if mine:
                tracemalloc.stop()

    @contextmanager
    def room_for(self, what: str, advice: str) -> Iterator[None]:
        """Where memory ends inside, the error says for what, and what to do.

        Raises:
            OutOfMemory: the library's own error was that there is no memory left.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, XpnnError) or not self.ran_out_of_memory(error):
                raise
            error.__traceback__ = None  # its frames hold arrays
            raise OutOfMemory(
                f"there is no room on {self.spec} for {what} ({error}); {advice}"
            ) from error

    def ran_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error says that an array did not fit into the device's memory."""
        return isinstance(error, MemoryError)


def bytes_named(text: str) -> int:
    """The size that an error message speaks of first, in bytes; 0 if there is none.

    >>> bytes_named("Tried to allocate 2.50 GiB."), bytes_named("allocating 1,024 bytes")
    (2684354560, 1024)
    """
    found = re.search(r"(\d[\d,.]*) ?(bytes|[KMGTP]iB)", text)
    if not found:
        return 0
    number, unit = found.groups()
    scale = 1024 ** (" KMGTP".index(unit[0]) if unit != "bytes" else 0)
    return int(float(number.replace(",", "")) * scale)
