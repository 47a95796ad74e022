"""Whether a communicator does what its two verbs promise, tried when a training begins."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numpy as np

from xpnn.backends import Backend, Communicator
from xpnn.typing import Array

VERBS = ("all_sum", "broadcast")
LARGE = 2**53 + 1
"""An integer that no float64 holds."""

_tried: WeakSet[Communicator] = WeakSet()


def check_verbs(communicator: Communicator, backend: Backend) -> None:
    """Try both verbs, once for each communicator, in all processes at once.

    Raises:
        TypeError: it is no Communicator, or it lacks a verb.
        ValueError: a verb returns something else than it should.
    """
    _check_kind(communicator)
    if communicator in _tried:
        return
    rank, size = communicator.rank, communicator.size
    below = size * (size - 1) // 2
    numbers = np.asarray([[rank, 1, 0], [-rank, 0.5, 2]])
    sums = np.asarray([[below, size, 0], [-below, 0.5 * size, 2 * size]])
    for given, total in (
        (backend.from_numpy(numbers.astype(np.float32)), sums),
        (numbers, sums),
        (np.asarray([rank, LARGE if rank == 0 else 0]), np.asarray([below, LARGE])),
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ):
        _check(communicator, "all_sum", given, total, backend)
    for given, first in (
        (backend.from_numpy((numbers + rank).astype(np.float32)), [[0, 1, 0], [0, 0.5, 2]]),
        (np.asarray([rank, LARGE + rank]), [0, LARGE]),
    ):
        _check(communicator, "broadcast", given, np.asarray(first), backend)
    _tried.add(communicator)


def _check_kind(communicator: Any) -> None:
    if not isinstance(communicator, Communicator):
        raise TypeError(
            f"distributed is the name of an engine, such as 'auto', or a Communicator, got "
            f"{communicator!r}; derive its class from xpnn.Communicator"
        )
    kind = type(communicator)
    lacking = [name for name in VERBS if getattr(kind, name) is getattr(Communicator, name)]
    if lacking:
        raise TypeError(
            f"wanted a Communicator with {' and '.join(VERBS)}, got a {kind.__name__} without "
            f"{' and '.join(lacking)}; define what is missing"
        )
    if not hasattr(communicator, "rank"):
        raise TypeError(
            f"wanted a Communicator that knows its rank, got a {kind.__name__} without; call "
            f"super().__init__(rank, size) in its constructor"
        )


def _check(
    communicator: Communicator, verb: str, given: Array, wanted: np.ndarray, backend: Backend
) -> None:
    """Whether a verb makes of an array what all processes should have, and leaves it as it was."""
    is_host = isinstance(given, np.ndarray)
    on_host: Callable[[Any], np.ndarray] = np.asarray if is_host else backend.to_numpy
    before = on_host(given).copy()
    with backend.on_device():
        found = getattr(communicator, verb)(given)
    if not (isinstance(found, np.ndarray) if is_host else backend.owns(found)):
        kind = "a NumPy array" if is_host else f"an array of backend {backend.spec!r}"
        raise ValueError(
            f"{_named(communicator, verb)} {kind}, as it was given, got a {type(found).__name__}; "
            f"return what it is given"
        )
    for what in ("shape", "dtype"):
        own, other = (getattr(one, what) for one in (given, found))
        if own != other:
            raise ValueError(
                f"{_named(communicator, verb)} an array of {what} {own}, as it was given, got "
                f"{what} {other}; return what it is given"
            )
    if not np.array_equal(on_host(found), wanted):
        what = "the sum over all processes" if verb == "all_sum" else "what process 0 has given"
        raise ValueError(
            f"{_named(communicator, verb)} {what}, {wanted.tolist()}, got "
            f"{on_host(found).tolist()} of {before.dtype}; all processes have to be part of it"
        )
    if not np.array_equal(on_host(given), before):
        raise ValueError(
            f"{_named(communicator, verb)} a new array, but it has written over the one that it "
            f"was given; copy that first"
        )


def _named(communicator: Communicator, verb: str) -> str:
    return f"wanted {type(communicator).__name__}.{verb} to return"
