"""Sums one after the other become one over all of their axes, and can be taken apart again."""

import numpy as np
import pytest

from tests.backends.recording.test_recording import interpret, record
from xpnn.backends.recording.calls import Memory
from xpnn.backends.recording.sums import parts_of, totals_by_rows, with_joined_sums

X = np.random.default_rng(0).standard_normal((6, 3, 2, 4)).astype(np.float32)


def in_turn(x):
    return np.sum(np.sum(x, axis=0), axis=0)


def in_turn_thrice(x):
    return np.sum(in_turn(x), axis=0)


def of_axes_seen_as_one(x):
    return np.sum(np.reshape(np.sum(x, axis=0), (6, 4)), axis=0)


def of_halves(x):
    return np.sum(np.sum(x.astype(np.float16), axis=0, dtype=np.float32), axis=0)


def read_in_between(x):
    between = np.sum(x, axis=0)
    return np.sum(between, axis=0) + between[0]


def of_other_axes(x):
    return np.sum(np.sum(x, axis=0), axis=-1)


def of_axes_seen_across(x):
    return np.sum(np.reshape(np.sum(x, axis=0), (2, 12)), axis=0)


def of_axes_turned(x):
    return np.sum(np.transpose(np.sum(x[:, :2], axis=0), (1, 0, 2)), axis=0)


def of_all_axes(x):
    return np.sum(np.sum(x[:, 0, 0], axis=0), axis=0)


AXES = {
    in_turn: [(0, 1)],
    in_turn_thrice: [(0, 1, 2)],
    of_axes_seen_as_one: [(0, 1, 2)],
    of_halves: [(0, 1)],
    read_in_between: [0, 0],
    of_other_axes: [0, -1],
    of_axes_seen_across: [0, 0],
    of_axes_turned: [0, 0],
    of_all_axes: [0, 0],
}


@pytest.mark.parametrize("step", AXES, ids=lambda step: step.__name__)
def test_what_is_joined(step):
    recording = record(step, X)
    joined = with_joined_sums(recording.calls, recording.kept)
    sums = [call for call in joined if call.method == "reduce"]
    assert [call.options["axis"] for call in sums] == AXES[step]
    parts = [part for call in joined for part in parts_of(call)]
    assert {call.options["axis"] for call in parts if call.method == "reduce"} <= {0, -1}
    for calls in (joined, parts):
        recording.calls = calls
        _, (found,) = interpret(recording, [X])
        np.testing.assert_allclose(found, step(X), rtol=1e-5)


def test_parts_read_what_the_joined_sum_reads():
    """Wherever another pass has put that meanwhile."""
    (joined,) = with_joined_sums(record(in_turn, X).calls, set())
    elsewhere = Memory(X.nbytes)
    first, last = parts_of(joined.with_views(lambda view: view._replace(memory=elsewhere)))
    assert first.arguments[0].memory is elsewhere
    assert first.results[0].memory is last.arguments[0].memory is not elsewhere


def test_totals_are_sums_of_rows():
    recording = record(lambda x: np.sum(x), X)
    recording.calls = totals_by_rows(recording.calls, longest=4)
    assert [call.options["axis"] for call in recording.calls] == [-1, None]
    _, (found,) = interpret(recording, [X])
    np.testing.assert_allclose(found, np.sum(X), rtol=1e-5)
    assert len(totals_by_rows(record(lambda x: np.sum(x), X).calls, longest=3)) == 1
