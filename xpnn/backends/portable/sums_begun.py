"""Sums of several processes that one call of a step begins and a later one waits for."""

import weakref
from collections.abc import Callable

from xpnn.backends.portable.communicator import Communicator
from xpnn.typing import Array

_begun: "weakref.WeakKeyDictionary[Communicator, dict[int, Callable[[], Array]]]"
_begun = weakref.WeakKeyDictionary()


def keep_begun(communicator: Communicator, number: int, wait: Callable[[], Array]) -> None:
    """Keep what waits for a sum, under its number among those that are not finished."""
    _begun.setdefault(communicator, {})[number] = wait


def finish_begun(communicator: Communicator, number: int) -> Array:
    """The sum that was begun under that number, which is waited for."""
    return _begun[communicator].pop(number)()
