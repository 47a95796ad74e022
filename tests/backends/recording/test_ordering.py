"""In which order calls run: with less memory at once, and never before what they wait for."""

import numpy as np
import pytest

from tests.backends.recording.test_recording import interpret, record
from xpnn.backends.recording.lifetimes import MemoryPlan
from xpnn.backends.recording.ordering import Dependences, Ordering

ROWS = np.linspace(-1, 1, 400).reshape(4, 100)


def updates(held, x):
    """Two gradients of the size of weights, both made before the first update."""
    a, b = held
    one, other = x.T @ x, x.T @ np.tanh(x)
    return ([a - np.exp(one), b - np.exp(other)],)


def loss_in_pieces(held, x):
    """What is added up for the loss is made beside what its slope is made of, and added up last."""
    large = np.tile(x, (50, 1))
    terms, slope = large * large, np.exp(large)
    kept = slope / (slope + 1.0)
    return ([held[0] + np.sum(terms, axis=0), held[1] + np.sum(kept, axis=0)],)


SQUARES = [np.ones((100, 100)), np.ones((100, 100))]
SUMS = [np.ones(100), np.ones(100)]


@pytest.mark.parametrize(
    ("step", "held", "bytes_less"),
    [(updates, SQUARES, 8 * 100 * 100), (loss_in_pieces, SUMS, 8 * 199 * 100)],
)
def test_less_is_there_at_once(step, held, bytes_less):
    recording = record(step, held, ROWS, donate=(0,))
    plan, found = interpret(recording, recording.form.flatten((held, ROWS)))
    outputs = {view.memory for view in recording.results}
    fixed = {view.memory for view in recording.views.values()}
    given = MemoryPlan(recording.calls, fixed, outputs, recording.aliases)
    assert given.highest - plan.highest >= bytes_less
    assert len(plan.aliased) == len(given.aliased)
    for one, wanted in zip(found, *step(held, ROWS), strict=True):
        np.testing.assert_allclose(one, wanted)


def test_where_nothing_is_won_calls_stay():
    recording = record(lambda x: np.exp(np.tanh(x) * 2.0) + x, ROWS)
    assert [*recording.plan(recording.calls, []).calls] == recording.calls


def rates(held, x, count):
    return held, x * (count + 1)


def looked_up(held, x, ids):
    found = np.take(x, ids, axis=0)
    return ([held[0] * 0.5, held[1] + found],)


def written(held, x):
    a = np.exp(x)
    b = np.tanh(a)
    a += 1.0
    return ([held[0] + a[0, 0], held[1] + b[0, 0]],)


def read_before(held, x):
    total = np.sum(np.exp(held[0]))
    return ([held[0] * 0.5, held[1] + total],)


WAITS = {  # by the number of a call, what it waits for at least
    "for a number": (rates, (ROWS, 3), {1: {0}}),
    "an error": (looked_up, (ROWS, np.array([1, 2])), {1: {0}}),
    "what is read before it is written over": (written, (ROWS,), {2: {0, 1}}),
    "what is read of an argument": (read_before, (ROWS,), {2: {0}}),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_calls_wait_for(name):
    step, given, waits = WAITS[name]
    recording = record(step, [np.ones((2, 100)), np.ones((2, 100))], *given, donate=(0,))
    before = Dependences(recording.calls, recording.aliases).before
    for number, earlier in waits.items():
        assert earlier <= before[number]


def deep(held, x):
    weights = held
    for weight in weights:
        x = np.tanh(x @ weight)
    updated = []
    for weight in reversed(weights):
        updated.append(weight - x.T @ x)
        x = x @ weight.T
    return (updated[::-1],)


@pytest.mark.parametrize("sweeps", [("late", "shrinking"), ("early", "late")])
def test_every_sweep_leaves_an_order_in_which_calls_can_run(sweeps):
    held = [np.eye(100) for _ in range(6)]
    recording = record(deep, held, ROWS, donate=(0,))
    ordering = Ordering(recording.calls, recording.aliases, lambda memory: memory, set())
    order = list(range(len(recording.calls)))
    for sweep in sweeps * 3:
        order = ordering._swept(order, ordering._change(order), sweep)
        place = {number: at for at, number in enumerate(order)}
        for number, earlier in enumerate(ordering._waits.before):
            assert all(place[one] < place[number] for one in earlier)
