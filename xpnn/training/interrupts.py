"""Ctrl-C between the steps of training, never inside of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interrupts:
    """Holds SIGINT back while a step runs, which may be writing over the parameters.

    A context manager: inside of it the first Ctrl-C raises KeyboardInterrupt at the next ``check``,
    or at once inside of ``allowed``. A second one does not wait. Outside of the main thread, and
    where SIGINT is ignored or handled by something other than Python, it does nothing. What was
    installed before handles the signal in the end, and is there again on the way out.

    Attributes:
        between_steps: whether the interrupt came where nothing is half done.
    """

    def __init__(self) -> None:
        self.between_steps = False
        self._before: Any = None
        self._held: tuple[int, FrameType | None] | None = None
        self._open = False

    def __enter__(self) -> Self:
        found = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(found):
            self._before = found
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self.check()

    def check(self) -> None:
        """Let through what was held back."""
        if self._held is not None:
            held, self._held = self._held, None
            self.between_steps = True
            self._before(*held)
            self.between_steps = False  # what was installed before did not raise

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A stretch in which nothing is half done, and which may take long."""
        self.check()
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._open:
            self._held = number, frame
            self.check()
        elif self._held is not None:  # the second one: it must be urgent
            self._held = None
            self._before(number, frame)
        else:
            self._held = number, frame
