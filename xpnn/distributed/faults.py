"""One process that fails ends all: those that wait for it would wait for ever."""

import math
import os
import sys
import time
from types import TracebackType

from xpnn.backends import Communicator
from xpnn.distributed.watch import Watch

TIMEOUT = "XPNN_TIMEOUT"
"""The environment's word for how many seconds a process may wait inside of a sum; 0 for any."""
AFTER_FIRST = 2.0  # seconds by which the others leave it to process 0 to end all

_watched: list[Communicator] = []


def watched(communicator: Communicator | None) -> Communicator | None:
    """The same, whose processes end together from here on; all call it at once.

    An error that ends the program of one ends all, once its traceback is written; so does one that
    is killed, leaves, or comes to a sum later than ``communicator.timeout`` seconds.
    """
    if communicator is None or any(communicator is one for one in _watched):
        return communicator
    timeout = timeout_of(communicator)
    if timeout is not None:
        _watched.append(communicator)
        Watch(communicator, timeout)
        _abort_on_error(communicator)
    return communicator


def timeout_of(communicator: Communicator) -> float | None:
    """Seconds that a process may wait inside of a sum; None where nobody watches."""
    if communicator.timeout is None:
        return None
    text = os.environ.get(TIMEOUT, str(communicator.timeout))
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not found >= 0:
        raise ValueError(f"wanted seconds, or 0, in the environment's {TIMEOUT}, got {text!r}")
    return found or None


def _abort_on_error(communicator: Communicator) -> None:
    """Let what ends this program end all processes, behind what is told of it now."""
    before, process = sys.excepthook, os.getpid()

    def tell_and_abort(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        before(kind, error, trace)
        if os.getpid() != process:  # one that this process has forked
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if not communicator.is_first:
            time.sleep(AFTER_FIRST)  # where all raise the same, its traceback is told whole
        communicator.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    sys.excepthook = tell_and_abort
