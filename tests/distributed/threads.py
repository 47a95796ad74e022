"""Processes of a training as threads of one, so that tests need nothing that starts or joins them.

``together(3, train)`` calls ``train(communicator)`` in three threads, each of which makes a network
and a trainer of its own. Sums go in the order of the ranks, as the same bits are wanted everywhere.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from xpnn.distributed import Communicator

PATIENCE = 300.0  # seconds that a thread waits for the others

Result = TypeVar("Result")


class Meeting:
    """Where threads lay down what they have, and look at what the others have."""

    def __init__(self, size: int):
        self.barrier = threading.Barrier(size, timeout=PATIENCE)
        self.laid: list[Any] = [None] * size


class ThreadCommunicator(Communicator):
    """A process that is a thread.

    Attributes:
        calls: what it was asked for, in order: the verb, the shape and the dtype.
    """

    def __init__(self, rank: int, size: int, meeting: Meeting):
        super().__init__(rank, size)
        self.meeting = meeting
        self.calls: list[tuple[str, tuple[int, ...], str]] = []

    def all_sum(self, array: Any) -> Any:
        return self._met("all_sum", array, lambda laid: sum(laid[1:], start=laid[0] + 0))

    def broadcast(self, array: Any) -> Any:
        return self._met("broadcast", array, lambda laid: laid[0] + 0)

    def _met(self, verb: str, array: Any, result_of: Callable[[list[Any]], Any]) -> Any:
        """What all threads make of the arrays of all of them, which have to be alike."""
        call = verb, tuple(array.shape), str(array.dtype)
        self.calls.append(call)
        meeting = self.meeting
        meeting.laid[self.rank] = call, array
        meeting.barrier.wait()
        calls = [one for one, _ in meeting.laid]
        if any(one != call for one in calls):
            meeting.barrier.abort()
            raise AssertionError(f"processes ask for different things: {calls}")
        found = result_of([one for _, one in meeting.laid])
        meeting.barrier.wait()  # what was laid down may be written over from here on
        return found


def together(size: int, work: Callable[[Communicator], Result]) -> list[Result]:
    """What ``work`` returns in each of so many threads; raises what the first of them raised."""
    meeting = Meeting(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(rank, size, meeting))
        except BaseException as error:  # raised again in the thread that waits for it
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [one for one in errors if not isinstance(one, threading.BrokenBarrierError)]
    for error in own or errors:
        raise error
    return results
