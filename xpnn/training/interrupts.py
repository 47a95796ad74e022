"""Ctrl-C between the steps of training, never inside of one."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from xpnn.agreeing import told_by_all
from xpnn.backends import Communicator

EVERY = 0.5  # seconds between two moments at which several processes ask each other


class Interrupts:
    """Holds SIGINT back while a step runs, which may be writing over the parameters.

    A context manager: inside of it the first Ctrl-C raises KeyboardInterrupt at the next ``check``,
    or at once inside of ``allowed``. A second one does not wait. Outside of the main thread, and
    where SIGINT is ignored or handled by something other than Python, it does nothing. What was
    installed before handles the signal in the end, and is there again on the way out.

    Several processes have to end behind the same step, and it reaches each at another moment. So
    only ``check_together`` lets it through, in all of them, if one has it: they ask each other
    about every half second, at a step that all know, as it follows from the time that steps take.

    Args:
        communicator: of the processes that train together; None for one alone.

    Attributes:
        between_steps: whether the interrupt came where nothing is half done.
    """

    def __init__(self, communicator: Communicator | None = None) -> None:
        self.communicator = communicator
        self.between_steps = False
        self._before: Any = None
        self._held: tuple[int, FrameType | None] | None = None
        self._open = self._is_late = False
        self._calls = self._wanted = 1  # of check_together, since all asked, and until they ask
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        found = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(found):
            self._before = found
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._let_through()

    def check(self) -> None:
        """Let through what was held back, where that needs nobody else."""
        if self.communicator is None:
            self._let_through()

    def check_together(self, checksum: int = 0, now: bool = False) -> list[float]:
        """The same at a place that all processes come to.

        Args:
            checksum: of what each has seen by then.
            now: ask the others, however short the time since they were asked.

        Returns:
            The checksums of all, where they were asked.
        """
        if self.communicator is None:
            self._let_through()
            return []
        self._calls += 1
        if not now and self._calls < self._wanted:
            return []
        seconds = time.perf_counter() - self._since
        place, held = "a pause between two steps", self._held is not None
        told = told_by_all(self.communicator, place, held, seconds, checksum)
        interrupted, seconds, _ = told.sum(axis=0).tolist()
        each = seconds / self.communicator.size / self._calls
        self._wanted = max(1, min(2 * self._wanted, int(EVERY / max(each, 1e-9))))
        self._calls, self._since = 0, time.perf_counter()
        if interrupted:
            if self._held is None:
                self._held, self._is_late = (signal.SIGINT, None), True
            self._let_through()
        checksums: list[float] = told[:, 2].tolist()
        return checksums

    def _let_through(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self.between_steps = True
            (self._before or signal.default_int_handler)(*held)
            self.between_steps = False  # what was installed before did not raise

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A stretch in which nothing is half done, and which may take long."""
        if self.communicator is not None:
            yield
            return
        self._let_through()
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_late:  # that of another process has done it already
            self._is_late = False
        elif self._open:
            self._held = number, frame
            self._let_through()
        elif self._held is not None:  # the second one: it must be urgent
            self._held = None
            self._before(number, frame)
        else:
            self._held = number, frame
