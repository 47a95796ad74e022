"""Sums of several processes that are begun in one call of a recording and waited for in another."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends.portable.communicator import Communicator

_begun: "weakref.WeakKeyDictionary[Communicator, dict[int, Callable[[], Any]]]"
_begun = weakref.WeakKeyDictionary()


def begin_sum(
    array: np.ndarray, communicator: Communicator, number: int, behind: np.ndarray | None
) -> np.ndarray:
    """Begin with it; what is returned is there for the order of calls alone."""
    _begun.setdefault(communicator, {})[number] = communicator.start_all_sum(array)
    return np.zeros(1, np.uint8)


def finish_sum(token: np.ndarray, communicator: Communicator, number: int) -> np.ndarray:
    """The sum that was begun under that number."""
    found: np.ndarray = _begun[communicator].pop(number)()
    return found
