"""Threads that stand for processes: their verbs, and that they do not wait for one that fails."""

import numpy as np
import pytest

from tests.distributed.threads import together


def test_sums_and_broadcasts_are_of_all_of_them():
    def work(communicator):
        own = np.arange(3.0) + communicator.rank
        return communicator.all_sum(own), communicator.broadcast(own), own

    for k, (whole, first, own) in enumerate(together(3, work)):
        np.testing.assert_array_equal(whole, 3 * np.arange(3.0) + 3)
        np.testing.assert_array_equal(first, np.arange(3.0))
        np.testing.assert_array_equal(own, np.arange(3.0) + k)


def test_what_one_gives_may_be_written_over_behind_the_sum():
    def work(communicator):
        own, found = np.ones(1000), []
        for _ in range(50):
            found.append(communicator.all_sum(own))
            own += 1
        return found

    for sums in together(3, work):
        assert [one[0] for one in sums] == [3.0 * (k + 1) for k in range(50)]
        assert all(np.ptp(one) == 0 for one in sums)


def test_the_error_of_one_ends_all():
    def work(communicator):
        if communicator.rank == 1:
            raise ZeroDivisionError("of one")
        communicator.barrier()

    with pytest.raises(ZeroDivisionError, match="of one"):
        together(3, work)


def test_processes_that_ask_for_different_things_are_told():
    with pytest.raises(AssertionError, match="different things"):
        together(2, lambda communicator: communicator.all_sum(np.ones(communicator.rank + 1)))
