"""Attention on CuPy over blocks of queries, for what cuDNN does not do."""

import math

import numpy as np
import pytest

from tests.backends.test_attention import CASES, Case, assert_near, both_ways, by_the_formula
from tests.conftest import needs
from xpnn.backends.cupy import rows
from xpnn.backends.cupy.backend import CupyBackend

pytestmark = needs("cupy")


@pytest.fixture(scope="module")
def place():
    return CupyBackend()


@pytest.fixture
def small_blocks(monkeypatch):
    """Of 16 queries where they are causal, and of up to 4,096 scores where not."""
    monkeypatch.setattr(rows, "ROWS", 16)
    monkeypatch.setattr(rows, "WORTH_LAUNCHES", 1)
    monkeypatch.setattr(rows, "MOST_SCORES", 4096)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_formula_says_over_many_blocks(place, rng, small_blocks, name, dtype):
    case = CASES[name]
    arrays = case.arrays(rng, dtype)
    found = both_ways(CupyBackend, place, case, *arrays)
    wanted = by_the_formula(case, *arrays)
    assert_near(found, wanted, 2e-6 if dtype == "float32" else 2**-9, np.dtype(dtype))
    for one, right in zip(found, wanted, strict=True):
        nothing = ~right.any(axis=-1)
        assert not one[nothing].any()  # exactly


@pytest.mark.parametrize(("time", "length"), [(40, 20), (20, 40)])
def test_causal_ones_of_other_lengths(place, rng, small_blocks, time, length):
    case = Case(time, length, causal=True)
    arrays = case.arrays(rng)
    found = both_ways(CupyBackend, place, case, *arrays)
    assert_near(found, by_the_formula(case, *arrays), 2e-6, np.float32)


def test_a_query_that_is_sure_of_its_key_learns_nothing(place, rng, small_blocks):
    case = Case(50, causal=True)
    Q, K, V, dA = case.arrays(rng)
    _, dQ, _, dV = both_ways(CupyBackend, place, case, 1e4 * Q, K, V, dA)
    _, *wanted = by_the_formula(case, 1e4 * Q, K, V, dA)
    sure = ~wanted[0].any(axis=-1)
    assert 0.5 < sure.mean() <= 1.0
    assert not dQ[sure].any()
    assert np.abs(dV).max() > 1


@pytest.mark.parametrize("causal", [False, True])
def test_no_more_scores_are_there_at_once_than_a_block_has(place, rng, monkeypatch, causal):
    monkeypatch.setattr(rows, "MOST_SCORES", 2 * 64 * 512)
    case, seen = Case(512, causal=causal, batch=1, d=8), []
    own = place._softmax.shares

    def shares(S, *rest):
        seen.append(S.size)
        return own(S, *rest)

    monkeypatch.setattr(place._softmax, "shares", shares)
    arrays = case.arrays(rng)
    found = both_ways(CupyBackend, place, case, *arrays)
    assert_near(found, by_the_formula(case, *arrays), 2e-6, np.float32)
    assert len(seen) == 8
    assert max(seen) <= rows.MOST_SCORES
    assert sum(seen) == 2 * 512 * ((512 + 64) // 2 if causal else 512)


def test_how_many_queries_are_a_block():
    """What a block costs beside its scores is worth it for a GPT, not for short sequences."""
    gpt = 16 * 8 * 512 * 512
    assert rows.rows_of_a_block(gpt, 512, causal=True) == 256
    assert rows.rows_of_a_block(gpt, 512, causal=False) == 512
    assert rows.rows_of_a_block(gpt // 100, 128, causal=True) == 128
    longest = rows.rows_of_a_block(12 * 16384**2, 16384, causal=False)
    assert 12 * 16384 * longest <= rows.MOST_SCORES + 12 * 16384 * rows.ROWS


def test_few_weights_are_kept_many_are_not(place):
    def prefers(batch, time):
        Q = place.xp.zeros((batch, 1, time, 8), dtype="float32")
        return place.prefers_weights(Q, Q, Q, scale=1.0)

    time = math.isqrt(rows.KEPT_SCORES // 8)
    assert prefers(8, time)
    assert not prefers(9, time)
    assert not prefers(1, 8192)
