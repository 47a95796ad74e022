"""Threads for loops and products of replayed steps, the same ones for both.

OpenBLAS's own threads wait for the next product in a loop that keeps their cores busy, so nothing
else gets faster on several threads behind a product. Here products are cut into parts, too:
OpenBLAS does each in the thread that calls it, and threads that wait sleep.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

Task = Callable[[], Any]

LEAST_PRODUCT = 2_000_000  # operations of a part: 25 us; handing it over takes 10 to 30


class Cores:
    """As many threads as there are cores; they are started when they are first wanted.

    One call at a time has them. In a thread that finds them taken, as by the training of another
    thread, all parts run one after the other. A process that was forked starts threads of its own.

    Args:
        count: how many, the calling thread among them.
    """

    def __init__(self, count: int):
        self.count = count
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._workers: list[SimpleQueue[Any]] = []
        self._taken = threading.Lock()

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, at most ``count``, and wait for their end; raises what the first raised."""
        if not self._taken.acquire(blocking=False):
            for task in tasks:
                task()
            return
        try:
            while len(self._workers) < len(tasks) - 1:
                self._workers.append(_started())
            done: SimpleQueue[BaseException | None] = SimpleQueue()
            for worker, task in zip(self._workers, tasks[1:], strict=False):
                worker.put((task, done))
            tasks[0]()
            errors = [done.get() for _ in tasks[1:]]
        finally:
            self._taken.release()
        for error in errors:
            if error is not None:
                raise error


def _started() -> "SimpleQueue[Any]":
    """The queue of a new thread, which does what it is given for as long as the process lives."""
    todo: SimpleQueue[Any] = SimpleQueue()

    def work() -> None:
        while True:
            task, done = todo.get()
            done.put(_outcome(task))

    threading.Thread(target=work, name="xpnn-core", daemon=True).start()
    return todo


def _outcome(task: Task) -> BaseException | None:
    try:
        task()
    except BaseException as error:  # raised again in the thread that waits for it
        return error
    return None


@functools.cache
def all_cores() -> Cores | None:
    """The cores that this process may use, or ``NUMBA_NUM_THREADS`` of them; None if it is one."""
    import numba

    count = numba.config.NUMBA_NUM_THREADS
    return Cores(count) if count > 1 else None


def ranges(length: int, count: int) -> list[slice]:
    """So many stretches of about one length, one behind the other."""
    ends = [length * k // count for k in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends) if stop > start]


class Products:
    """Matrix products, the large ones in parts on all cores.

    Attributes:
        are_split: whether any of them are.
    """

    def __init__(self, cores: Cores | None):
        self.cores = cores if cores is not None and _openblas_threads() > 1 else None
        self.are_split = False

    def matrices(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of two matrices, into one that lies row by row: its rows or its columns in parts.

        Parts go by ``matmul``, as ``dot`` makes copies of matrices that do not lie in one piece.
        """
        rows, columns = out.shape
        count = self._parts(out.size * a.shape[1], max(rows, columns))
        if count < 2:
            return partial(a.dot, b, out)
        if rows >= columns:
            return self._split(
                [partial(np.matmul, a[s], b, out=out[s]) for s in ranges(rows, count)]
            )
        return self._split(
            [partial(np.matmul, a, b[:, s], out=out[:, s]) for s in ranges(columns, count)]
        )

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of matrices in stacks of the same shape, parts of the stack."""
        alike = a.ndim > 2 and a.shape[:-2] == b.shape[:-2] == out.shape[:-2]
        count = self._parts(out.size * a.shape[-1], len(out)) if alike else 1
        if count < 2:
            return partial(np.matmul, a, b, out=out)
        return self._split(
            [partial(np.matmul, a[s], b[s], out=out[s]) for s in ranges(len(out), count)]
        )

    def _parts(self, products: int, length: int) -> int:
        if self.cores is None:
            return 1
        return min(self.cores.count, 2 * products // LEAST_PRODUCT, length)

    def _split(self, tasks: list[Task]) -> Task:
        assert self.cores is not None
        self.are_split = True
        return partial(self.cores.run, tasks)


# OpenBLAS ---------------------------------------------------------------------------------------


@functools.cache
def _openblas() -> Any:
    """What sets the threads of the OpenBLAS that NumPy has loaded; None without one."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    if len(found) > 1:  # SciPy brings one of its own
        found = [one for one in found if "numpy" in one.filepath]
    return found[0] if len(found) == 1 else None


def _openblas_threads() -> int:
    library = _openblas()
    return 1 if library is None else library.get_num_threads()


_lock = threading.Lock()
_alone = 0  # how many steps are running that want products done by the thread that calls
_before = 1


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """OpenBLAS does each product in the thread that calls it, until the last of these has ended."""
    global _alone, _before
    library = _openblas()
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
