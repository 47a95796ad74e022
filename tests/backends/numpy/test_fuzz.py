"""Random programs, run eagerly and replayed: the recorder and the planner of memory under fire."""

import math
import random
import warnings
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.backends.numpy.conftest import WITH_NUMBA
from tests.backends.numpy.programs import PROGRAMS, arguments, make_step
from xpnn.backends.numpy.binding import bind_each
from xpnn.backends.numpy.loops import running
from xpnn.backends.numpy.loops.grouping import Rows, bind_fused
from xpnn.backends.numpy.loops.vector_math import vocabulary
from xpnn.backends.numpy.replay import Replayed
from xpnn.backends.recording import joins, recording
from xpnn.backends.recording.ordering import Ordering
from xpnn.errors import CompileWarning


def copied(tree):
    if isinstance(tree, dict):
        return {key: copied(one) for key, one in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(map(copied, tree))
    return tree.copy() if isinstance(tree, np.ndarray) else tree


def assert_same(found, wanted):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = [found[key] for key in wanted], list(wanted.values())
    if isinstance(wanted, tuple | list):
        assert len(found) == len(wanted)
        for pair in zip(found, wanted, strict=True):
            assert_same(*pair)
        return
    assert np.asarray(found).dtype == np.asarray(wanted).dtype
    scale = np.max(np.abs(wanted), initial=1)
    half = np.asarray(wanted).dtype == np.float16
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=scale * (4e-3 if half else 1e-5))


def turned(tree):
    """The same dicts with their keys the other way round."""
    if isinstance(tree, dict):
        return {key: turned(one) for key, one in reversed(tree.items())}
    return tree


@patch.object(joins, "LEAST_RUN", 1)
def check(lines, picks, extra, bind=bind_each):
    step = make_step(lines, picks, extra)
    replayed = Replayed(step, donate=(0, 1), bind=bind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompileWarning)
        run(step, replayed)
    assert len(caught) == (replayed.refusal is not None)
    return replayed.refusal is None


def run(step, replayed):
    held, number, *_ = arguments(1)
    kept = []
    for seed in (1, 2, 3, 4):
        _, _, *given = arguments(seed)
        before = copied(tuple(given))
        with np.errstate(all="ignore"):
            wanted = step(copied(held), dict(number), *copied(tuple(given)))
            found = replayed(held, number, *given)
        assert_same(found, wanted)
        assert_same(tuple(given), before)
        for old, right in kept:
            assert_same(old, right)
        kept.append((found[2], copied(found[2])))
        if seed in (2, 4):
            for key, array in held.items():  # donated arrays come back in place
                if replayed.refusal is None:
                    assert found[0][key] is array
        held, number = found[:2]
        if seed in (1, 3):  # the same arrays in another order
            held, number = turned(held), turned(number)
        if seed == 2:  # as after network.load: other arrays
            held = {key: array + 1 for key, array in held.items()}


def as_it_is(function):
    return function


WORDS = vocabulary(lambda test, one, other: one if test else other, as_it_is, as_it_is)


def interpreted(source, types):
    """A loop as Python runs it: its lines are checked, LLVM is not asked."""
    names = dict(WORDS)
    exec(source, names)
    return partial(partial, names["loop"])


@contextmanager
def in_python(per_block=3):
    """Loops, of single calls, too, run by Python in blocks of a few items."""
    with (
        patch.object(running, "compiled", interpreted),
        patch.object(running, "BLOCK", per_block),
        patch.object(running, "FEWEST_ROWS", 1),
        patch.object(Rows, "pays", True),
    ):
        yield


def check_interpreted(*program):
    with in_python():
        return check(*program, bind=bind_fused)


def check_compiled(*program):
    with patch.object(Rows, "pays", True):
        return check(*program, bind=bind_fused)


def fuzzed(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.host_only
@fuzzed(200)
@given(*PROGRAMS)
@example([("stack", 4, 0, 0), ("write", 0, 0, 0)], (0,) * 6, [])  # a joint argument, written into
@example(
    [("copy", 3, 0, 0), ("stack", 0, 0, 3), ("write", 1, 0, 1)], (0,) * 6, [0]
)  # a piece, later
def test_random_program(lines, picks, extra):
    check(lines, picks, extra)


@contextmanager
def in_some_order(seed):
    """Calls run in an order that is drawn among all in which they may run."""

    def drawn(self):
        rng, waits = random.Random(seed), self._waits
        left, order = [len(before) for before in waits.before], []
        ready = [number for number, count in enumerate(left) if not count]
        while ready:
            order.append(ready.pop(rng.randrange(len(ready))))
            for number in waits.behind[order[-1]]:
                left[number] -= 1
                if not left[number]:
                    ready.append(number)
        return [self._calls[number] for number in order], 0.0

    with (
        patch.object(Ordering, "best", drawn),
        patch.object(recording, "WORTHWHILE", math.inf),
    ):
        yield


@pytest.mark.host_only
@fuzzed(60)
@given(*PROGRAMS, st.integers(0, 99))
def test_random_program_in_some_order(lines, picks, extra, seed):
    with in_some_order(seed):
        check(lines, picks, extra)


@pytest.mark.host_only
@fuzzed(200)
@given(*PROGRAMS)
@example(
    [("add", 0, 0, 0), ("add", 0, 0, 0), ("slice", 0, 0, 0), ("add", 0, 0, 0)], (0,) * 6, [0]
)  # one row is read of four that are made
def test_random_program_with_loops(lines, picks, extra):
    check_interpreted(lines, picks, extra)


@WITH_NUMBA
@fuzzed(20)
@given(*PROGRAMS)
def test_random_program_with_compiled_loops(lines, picks, extra):
    check_compiled(lines, picks, extra)
