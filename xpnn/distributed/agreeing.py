"""What processes that train together tell each other beside the steps."""

from collections.abc import Callable

import numpy as np

from xpnn.backends import Communicator
from xpnn.errors import XpnnError

FAILED = 2


def done_by_first(communicator: Communicator | None, act: Callable[[], bool]) -> bool:
    """What process 0 makes of ``act``, in all processes, which wait for it.

    Raises:
        XpnnError: in the others: process 0 has raised something, and raises it.
    """
    if communicator is None:
        return act()
    told, failed = FAILED, None
    if communicator.is_first:
        try:
            told = int(act())
        except Exception as error:  # which the others have to know of
            failed = error
    told = int(np.asarray(communicator.broadcast(np.asarray([told])))[0])
    if failed is not None:
        raise failed
    if told == FAILED:
        raise XpnnError("process 0 could not do this; its own error says why")
    return bool(told)


def texts_of_all(communicator: Communicator, text: str) -> list[str]:
    """The texts that all processes have, in the order of their ranks."""
    data = text.encode()
    numbers = np.frombuffer(data + bytes(-len(data) % 8), dtype="<i8").astype(np.int64)
    found = communicator.gathered(numbers)
    return [one.astype("<i8").tobytes().rstrip(b"\0").decode() for one in found]
