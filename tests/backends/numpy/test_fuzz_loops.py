"""Random programs of calls that loops hold: rows, columns, sums, writes in place, donations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.numpy.test_fuzz import fuzzed, in_python
from xpnn.backends.numpy.loops.grouping import bind_fused
from xpnn.backends.numpy.replay import Replayed

ROWS, COLUMNS = 5, 4
OPERATIONS = {
    "add": lambda v, w: v + w,
    "subtract": lambda v, w: v - w,
    "multiply": lambda v, w: v * w * 0.5,
    "largest": np.maximum,
    "least": np.minimum,
    "where": lambda v, w: np.where(v > w, v, 0.25),
    "tanh": lambda v, w: np.tanh(v),
    "exp": lambda v, w: np.exp(np.minimum(v, 1.0)),
    "cast": lambda v, w: (v > w).astype(v.dtype),
    "sum of rows": lambda v, w: np.sum(v, axis=-1, keepdims=True) * 0.25,
    "extreme of rows": lambda v, w: np.max(v, axis=-1, keepdims=True),
    "means of rows": lambda v, w: v - np.mean(v, axis=-1, keepdims=True),
    "share of rows": lambda v, w: v / (1.0 + np.sum(np.abs(v), axis=-1, keepdims=True)),
    "sum of columns": lambda v, w: np.sum(v, axis=0) * 0.25,
    "total": lambda v, w: np.sum(v) * 0.125,
    "turned rows": lambda v, w: np.flip(v, axis=0) + w,
    "turned": lambda v, w: v.T.T[::-1] * 1.0,
    "shifted": lambda v, w: v + v[:1],
    "every other": lambda v, w: np.repeat(v[:, ::2], 2, axis=1)[:, : v.shape[1]] - v,
    "product": lambda v, w: np.tanh(v @ np.ones((v.shape[1], COLUMNS), v.dtype)),
}
IN_PLACE = ("write", "write a part", "write over a row")
SPANS = st.integers(0, 40)
LINES = st.lists(
    st.tuples(st.sampled_from([*OPERATIONS, *IN_PLACE, *IN_PLACE]), SPANS, SPANS),
    min_size=3,
    max_size=16,
)


def make_step(lines, picks, extra):
    def step(held, x, row, column):
        pool = [*held.values(), x, row, column]
        made = []
        for name, i, j in lines:
            wide = [one for one in (*pool, *made) if one.ndim == 2 and one.shape[1] == COLUMNS]
            v = wide[-1 - i % len(wide)]
            near = [*wide, *(one for one in (*pool, *made) if one.ndim < 2 or one.shape[1] == 1)]
            w = near[-1 - j % len(near)]
            if name in OPERATIONS:
                made.append(OPERATIONS[name](v, w))
                continue
            own = [one for one in made if one.shape == (ROWS, COLUMNS)]
            if not own:
                continue
            target = own[-1 - i % len(own)]
            if name == "write a part":
                part = target[:, ::2]
                part += 1.0
            elif name == "write over a row":
                part = target[1:3]
                part *= 0.5
            else:
                target += w
        whole = [one for one in made if one.shape == (ROWS, COLUMNS)]
        new = {
            key: whole[-1 - pick % len(whole)] if whole and pick % 4 else old
            for (key, old), pick in zip(held.items(), picks, strict=True)
        }
        return new, [made[-1 - k % len(made)] for k in extra if made]

    return step


def check(lines, picks, extra, dtype=np.float64):
    step = make_step(lines, picks, extra)
    replayed = Replayed(step, donate=(0,), bind=bind_fused, required=True)
    held = {name: draw(seed, (ROWS, COLUMNS), dtype) for seed, name in enumerate("abc")}
    wanted = {name: one.copy() for name, one in held.items()}
    for seed in (7, 8, 9):
        given = [draw(seed, shape, dtype) for shape in ((ROWS, COLUMNS), (COLUMNS,), (ROWS, 1))]
        held, found = replayed(held, *given)
        wanted, right = step(wanted, *given)
        for one, other in zip((*held.values(), *found), (*wanted.values(), *right), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def draw(seed, shape, dtype):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.host_only
@fuzzed(500)
@given(LINES, st.tuples(SPANS, SPANS, SPANS), st.lists(SPANS, min_size=1, max_size=3))
def test_random_loops(lines, picks, extra):
    with in_python(per_block=COLUMNS * 2):
        check(lines, picks, extra)
