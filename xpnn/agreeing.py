"""What processes that train together tell each other beside the steps, and that all are there.

Sums of processes that are at different places of a program are nonsense, or come back never. So
whatever they tell each other goes through one form, in which each says where it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from xpnn.backends import Communicator
from xpnn.backends.portable.communicator import LET_ALL
from xpnn.errors import XpnnError

STEP = "a training step"
PLACES = (
    STEP,
    *("a step with other settings", "a step of an optimizer that begins", "batches of steps"),
    *("Trainer.fit", "the begin of an epoch", "the end of an epoch", "the end of fit"),
    *("a pause between two steps", "a Checkpoint", "Trainer.save", "Network.save"),
    *("save_weights", "save_torch_weights", "save_folder", "Network.to_onnx"),
    *("Trainer.evaluate", "Trainer.confusion_matrix", "the end of what is measured"),
)
"""Where processes add up; by number, as that is all that fits into a sum."""
NUMBERS = 3
"""How many numbers each tells beside its place."""
DONE, FAILED = 1, 2


def told_by_all(
    communicator: Communicator, place: str, *numbers: float, more: str = ""
) -> np.ndarray:
    """The numbers that each process tells at one place of the program: a row for each.

    Args:
        place: one of ``PLACES``.
        numbers: up to ``NUMBERS`` of them.
        more: what is told of this process beside its place where the others are elsewhere.

    Raises:
        XpnnError: others are at another place, or this process acts alone.
    """
    if communicator.acts_alone:
        raise XpnnError(
            f"wanted all processes to come to {place}, got process {communicator.rank} alone; call "
            f"it outside of trainer.alone(), in all of them"
        )
    told = np.zeros((communicator.size, 1 + NUMBERS))
    told[communicator.rank, : 1 + len(numbers)] = place_number(place), *numbers
    before, communicator.place = communicator.place, f"{place}{more}"
    found = communicator.small_sum(told)
    there = found[:, 0].tolist()
    if any(one != place_number(place) for one in there):
        own = {communicator.rank: communicator.place}
        raise XpnnError(parted({k: _named_place(one) for k, one in enumerate(there)} | own))
    communicator.place = before
    return found[:, 1:]


def place_number(place: str) -> int:
    """Of the place with which this text begins; that of a step, where none is told.

    >>> PLACES[place_number("the end of an epoch, after 3 steps")]
    'the end of an epoch'
    """
    return next((k for k, one in enumerate(PLACES) if place.startswith(one)), 0)


def _named_place(number: float) -> str:
    """Where a process is that has told this; anything else are its gradients."""
    known = number in range(len(PLACES))
    return PLACES[int(number)] if known else STEP


def parted(places: dict[int, str]) -> str:
    """What is said where processes are at different places, by rank.

    >>> parted({0: "Trainer.evaluate", 1: "Trainer.fit"})[:75]
    'wanted all processes at the same place, got process 0 at Trainer.evaluate, '
    """
    ranks: dict[str, list[int]] = {}
    for rank, place in places.items():
        ranks.setdefault(place, []).append(rank)
    where = ", ".join(f"{named(some)} at {place}" for place, some in ranks.items())
    return f"wanted all processes at the same place, got {where}; {LET_ALL}"


def named(ranks: Sequence[int]) -> str:
    """
    >>> named([2]), named([0, 1, 3])
    ('process 2', 'processes 0, 1 and 3')
    """
    if len(ranks) == 1:
        return f"process {ranks[0]}"
    return f"processes {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


@contextmanager
def acting_alone(communicator: Communicator | None) -> Iterator[None]:
    """Meanwhile this process writes and measures by itself, and waits for nobody."""
    if communicator is None:
        yield
        return
    before, communicator.acts_alone = communicator.acts_alone, True
    try:
        yield
    finally:
        communicator.acts_alone = before


def done_by_first(
    communicator: Communicator | None, place: str, act: Callable[[], bool | None]
) -> bool:
    """What process 0 makes of ``act``, in all processes, which wait for it; None counts as True.

    Args:
        place: one of ``PLACES``.

    Raises:
        XpnnError: in the others: process 0 has raised something, and raises it. Or others are at
            another place.
    """
    if communicator is None or communicator.acts_alone:
        return act() is not False
    told, failed = 0, None
    if communicator.is_first:
        try:
            told = DONE if act() is not False else 0
        except Exception as error:  # which the others have to know of
            told, failed = FAILED, error
    try:
        told = int(told_by_all(communicator, place, told)[0, 0])
    except XpnnError as error:
        if failed is not None:
            raise error from failed
        raise
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
