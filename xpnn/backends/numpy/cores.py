"""Threads for loops and products of replayed steps, the same ones for both.

OpenBLAS's own threads wait for the next product in a loop that keeps their cores busy, so nothing
else gets faster on several threads behind a product. So products are cut into parts, too
(``products.py``): each is done in the thread that calls it, and threads that wait sleep.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

Task = Callable[[], Any]


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
            errors = [_outcome(tasks[0]), *(done.get() for _ in tasks[1:])]
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
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    if asked.isdecimal():
        return so_many_cores(int(asked))
    if hasattr(os, "sched_getaffinity"):
        return so_many_cores(len(os.sched_getaffinity(0)))
    return so_many_cores(os.cpu_count() or 1)


@functools.cache
def so_many_cores(count: int) -> Cores | None:
    """The same ones for everybody who asks for that many; None if it is one."""
    return Cores(count) if count > 1 else None


def ranges(length: int, count: int) -> list[slice]:
    """So many stretches of about one length, one behind the other."""
    ends = [length * k // count for k in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends) if stop > start]
