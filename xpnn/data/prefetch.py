"""Prefetch: batches made in the background, while the steps before them run."""

from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread
from typing import Any

from xpnn.data.stream import Wrapper, check_source, one_pass

PATIENCE = 5.0  # seconds that an end waits for the batch that is being made


class Prefetch(Wrapper):
    """An iterable of batches, gone through by a thread of its own, up to ``depth`` batches ahead.

    In memory are at most ``depth`` batches beside the one that is trained on; the thread waits when
    they are made. Each pass starts a thread, which ends with it: at the last batch, at an error,
    or when whoever takes the batches stops early. What the source raises is raised where the batch
    is taken, with the traceback of the thread.

    This pays where batches are read from files or worked out by NumPy, which let other threads run
    meanwhile. Batches should be arrays of the host, each in memory of its own, since the next ones
    are made before one is used.

    Args:
        source: what ``fit`` takes: a list, a loader, ``Shards``, a function that returns an
            iterator. An iterator serves one epoch.
        depth: batches that may be made ahead, at least 1.

    Raises:
        TypeError: ``source`` is nothing to iterate over.

    >>> list(Prefetch([1, 2, 3]))
    [1, 2, 3]
    """

    def __init__(self, source: Any, depth: int = 2):
        if depth < 1:
            raise ValueError(f"wanted a depth of at least 1 batch, got {depth}")
        check_source(source)
        self.source, self.depth = source, depth

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def __repr__(self) -> str:
        return f"<Prefetch of a {type(self.source).__name__}, {self.depth} batches ahead>"

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from batch ``start`` on; see ``Shards.batches``."""
        line = _Line(self.depth)
        thread = Thread(
            target=self._make, args=(line, epoch, start), name="xpnn-prefetch", daemon=True
        )
        try:
            thread.start()  # in here, as Ctrl-C may come before it returns
            yield from line
        finally:
            line.close()
            if thread.is_alive():
                thread.join(PATIENCE)

    def _make(self, line: "_Line", epoch: int, start: int) -> None:
        number = start
        try:
            batches = one_pass(self.source, epoch, start)
            try:
                while line.has_room():
                    number += 1
                    try:
                        batch = next(batches)
                    except StopIteration:
                        break
                    line.put(batch)
            finally:
                if batches is not self.source and hasattr(batches, "close"):
                    batches.close()
            line.end()
        except BaseException as error:
            error.add_note(f"This happened in the thread of Prefetch, which made batch {number}.")
            line.end(error)


class _Line:
    """Batches that wait between two threads."""

    def __init__(self, depth: int):
        self.depth, self.waiting = depth, deque[Any]()
        self.changed, self.closed, self.ended = Condition(), False, False
        self.error: BaseException | None = None

    def has_room(self) -> bool:
        """Wait until another batch may be made; False if nobody wants it any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or len(self.waiting) < self.depth)
            return not self.closed

    def put(self, batch: Any) -> None:
        with self.changed:
            self.waiting.append(batch)
            self.changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No batch follows."""
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def close(self) -> None:
        """No batch is wanted any more."""
        with self.changed:
            self.closed = True
            self.waiting.clear()
            self.changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.ended)
                if not self.waiting:
                    break
                batch = self.waiting.popleft()
                self.changed.notify_all()
            yield batch
        if self.error is not None:
            raise self.error
