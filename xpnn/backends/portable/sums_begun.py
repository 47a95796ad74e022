"""Sums of several processes that one call of a step begins and a later one waits for.

Where a step fails between the two, nobody waits any more. What it has begun is forgotten then, and
an engine whose device may still read and write it has its stream wait first.
"""

import weakref
from collections.abc import Callable

from xpnn.backends.portable.communicator import Communicator
from xpnn.typing import Array

_begun: "weakref.WeakKeyDictionary[Communicator, dict[int, Callable[[], Array]]]"
_begun = weakref.WeakKeyDictionary()


def keep_begun(communicator: Communicator, number: int, wait: Callable[[], Array]) -> None:
    """Keep what waits for a sum, under its number among those that are not finished."""
    kept = _begun.setdefault(communicator, {})
    if number in kept:
        forget_begun(communicator)
    kept[number] = wait


def finish_begun(communicator: Communicator, number: int) -> Array:
    """The sum that was begun under that number, which is waited for."""
    return _begun[communicator].pop(number)()


def forget_begun(communicator: Communicator) -> None:
    """Forget the sums that nobody waits for any more."""
    kept = _begun.get(communicator, {})
    while kept:
        _, wait = kept.popitem()
        if communicator.waits_on_device:
            wait()
