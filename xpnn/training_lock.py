"""TrainingLock: one thread at a time trains a network, or writes it down."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xpnn.errors import XpnnError


class TrainingLock:
    """Whose a network is at a time: one thread's that trains it, or one's that writes it down.

    So no file holds some parameters from before a step and some from behind it.
    """

    def __init__(self) -> None:
        self.trained_in: int | None = None
        self._lock = threading.RLock()

    @contextmanager
    def in_training(self) -> Iterator[None]:
        """Train; what another thread writes is waited for."""
        with self._lock:
            self._check()
            before, self.trained_in = self.trained_in, threading.get_ident()
        try:
            yield
        finally:
            self.trained_in = before

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Write it down; no other thread begins to train before that is done."""
        with self._lock:
            self._check()
            yield

    def _check(self) -> None:
        if self.trained_in not in (None, threading.get_ident()):
            raise XpnnError(
                "another thread trains this network just now; save and train it in that thread, "
                "where a callback can save it after each epoch, or wait until fit has returned"
            )
