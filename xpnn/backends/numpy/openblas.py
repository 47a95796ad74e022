"""The threads of the OpenBLAS that NumPy multiplies with."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def openblas() -> Any:
    """What sets the threads of the OpenBLAS that NumPy has loaded; None without one."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    if len(found) > 1:  # SciPy brings one of its own
        found = [one for one in found if "numpy" in one.filepath]
    return found[0] if len(found) == 1 else None


def openblas_threads() -> int:
    """How many it has where no step keeps it to one; 1 if nobody knows."""
    library = openblas()
    if library is None:
        return 1
    with _lock:
        return _before if _alone else library.get_num_threads()


_lock = threading.Lock()
_alone = 0  # how many steps are running that want products done by the thread that calls
_before = 1


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """OpenBLAS does each product in the thread that calls it, until the last of these has ended."""
    global _alone, _before
    library = openblas()
    with _lock:
        _alone += 1
        if _alone == 1:
            _before = library.get_num_threads()
            library.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _alone -= 1
            if _alone == 0:
                library.set_num_threads(_before)
