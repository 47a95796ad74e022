"""Calls that share memory or names: bound to what they mean, alone or in a loop."""

import numpy as np
import pytest

from xpnn.backends.numpy.replay import Replayed


def test_writes_into_memory_that_others_see_shifted(bind):
    def step(x):
        room = x * 2
        left, right = room[:-1], room[1:]
        added = left + 1
        right += added
        return left * 3 + added - right, room

    replayed = Replayed(step, bind=bind)
    for k in range(3):
        x = np.arange(k, k + 2049, dtype=np.float32) % 97
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.refusal is None


def test_the_order_of_keys_is_not_looked_at(bind):
    def step(held, x):
        new = {"a": held["a"] + 1.0, "n": held["n"] + 1.0, "m": held["m"] * 2.0}
        return new, x["k"] - x["j"] * 2.0 + held["n"] - held["m"]

    replayed = Replayed(step, (0,), bind)
    x = {"k": np.ones(3, np.float32), "j": np.full(3, 4, np.float32)}
    held = {"a": np.zeros(3, np.float32), "n": 1.0, "m": 8.0}
    for k in range(4):
        _, wanted = step(held, x)
        held, found = replayed(held, x)
        np.testing.assert_array_equal(found, wanted)
        assert (held["n"], held["m"]) == (2.0 + k, 16.0 * 2**k)
        held, x = (dict(reversed(one.items())) for one in (held, x))
    assert len(replayed.units) == 1


@pytest.mark.parametrize(
    "shape",
    [(200, 10), (16, 16), (16, 32), (40, 96), (40, 34), (15, 4), (40, 1), (4, 8, 8), (3, 4, 9, 64)],
)
def test_extremes_of_short_rows(bind, shape):
    def step(x):
        return np.max(x, axis=-1, keepdims=True), np.min(x, axis=-1), np.max(x * 2, axis=-1)

    replayed = Replayed(step, bind=bind)
    rng = np.random.default_rng(0)
    for k in range(3):
        x = rng.normal(size=shape).astype(np.float32)
        if k == 2:
            x[1, ..., 0], x[2, ..., 0] = np.nan, np.inf
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.refusal is None


@pytest.mark.parametrize(
    "shape", [(7,), (3, 40), (40_000,), (40_001,), (33_000, 2), (4, 50, 30, 16), (1, 0, 3)]
)
def test_extremes_with_a_number(bind, shape):
    """Of large arrays the number becomes a row that is read over and over."""

    def step(x):
        turned = np.maximum(np.transpose(x), 0.5)
        return np.maximum(x, 0.0), np.minimum(0.25, x * 2), turned, np.maximum(x[..., ::2], -0.5)

    replayed = Replayed(step, bind=bind)
    rng = np.random.default_rng(0)
    for k in range(3):
        x = rng.normal(size=shape).astype(np.float32)
        if k == 2 and x.size:
            x.flat[0], x.flat[-1] = np.nan, -np.inf
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.refusal is None


@pytest.mark.parametrize("count", [40_000, 692_224, 2**20])
def test_a_number_beside_a_large_array_stays_in_the_cache(bind, count):
    replayed = Replayed(lambda x: np.maximum(x, 0.0), bind=bind)
    replayed(np.ones(count, np.float32))
    (program,) = replayed.units
    (call,) = program._calls
    _, row = call.args
    assert row.size <= 32_768
    assert count % row.size == 0


@pytest.mark.parametrize("repeats", [1, 5])
def test_a_vector_over_and_over(bind, repeats):
    def step(x):
        return (
            np.tile(x, (repeats,)) + 1.0,
            np.tile(x * 2, repeats),
            np.tile(A=x, reps=(2, repeats)),
        )

    replayed = Replayed(step, bind=bind)
    for k in range(3):
        x = np.arange(k, k + 6, dtype=np.float32)
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_long_sums_of_numpy_are_cut(bind):
    """Those of ``np.sum`` itself, which a recording hears of: products with ones keep no digits."""

    def step(x):
        return np.sum(x, axis=0), np.sum(x.T, axis=1), np.sum(x, axis=0, keepdims=True)

    replayed = Replayed(step, bind=bind)
    for _ in range(2):
        for found in replayed(np.full((300_001, 3), 0.1, np.float32)):
            np.testing.assert_allclose(np.ravel(found), 0.1 * 300_001, rtol=3e-5)
    assert replayed.refusal is None


@pytest.mark.parametrize("shape", [(4, 64, 128), (4, 1024, 8), (3, 4, 8), (2, 3, 64, 64)])
def test_sums_over_a_middle_axis(bind, shape):
    def step(x):
        return np.sum(x, axis=1), np.sum(x, axis=-2, keepdims=True), np.sum(x * 2, axis=-2)

    replayed = Replayed(step, bind=bind)
    rng = np.random.default_rng(0)
    for _ in range(2):
        x = rng.normal(size=shape).astype(np.float32)
        for found, wanted in zip(replayed(x), step(x.astype(np.float64)), strict=True):
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, atol=2e-5 * np.sqrt(shape[1]))
    assert replayed.refusal is None


@pytest.mark.parametrize("shape", [(5, 128), (33, 40), (40, 33), (2, 16, 17), (128, 4, 40)])
def test_copies_that_turn_axes(bind, shape):
    def step(x):
        turned = np.swapaxes(x, -1, -2)
        return np.reshape(turned, (-1,)) * 2.0, np.reshape(np.transpose(x), (-1,)) + 1.0

    replayed = Replayed(step, bind=bind)
    for k in range(2):
        x = np.arange(k, k + np.prod(shape), dtype=np.float32).reshape(shape)
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.refusal is None


ROWS = {  # of what shape an operand is that all rows of (40, 6) meet
    "a row": (6,),
    "a row of a matrix": (1, 6),
    "a column": (40, 1),
    "a number": (1,),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_all_rows_meet(bind, name, large):
    """Small ones are written out beside each other; what they mean is the same."""
    shape = ROWS[name]

    def step(x, other):
        room = x * 2
        room += other
        turned = np.transpose(x) - np.transpose(np.broadcast_to(other, x.shape))
        return (
            room,
            other - x,
            x > other,
            turned,
            np.maximum(x, other),
            x.reshape(1, *x.shape) * other,
        )

    replayed = Replayed(step, bind=bind)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.normal(size=(40_000 if large else 40, 6)).astype(np.float32)
        if large:
            shape = (40_000, 1) if name == "a column" else shape
        other = rng.normal(size=shape).astype(np.float32)
        for found, wanted in zip(replayed(x, other), step(x, other), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.refusal is None


@pytest.mark.parametrize(("rows", "calls"), [(32, 2), (400, 2), (20_000, 1)])
def test_a_row_is_written_out_for_small_arrays(bind, rows, calls):
    replayed = Replayed(lambda x, row: x + row, bind=bind)
    replayed(np.ones((rows, 20), np.float32), np.ones(20, np.float32))
    (program,) = replayed.units
    assert len(program._calls) == calls


CONSTANTS = {
    "a flag": lambda x: (x * True, np.logical_and(x > 0, True)),
    "a complex number": lambda x: x * 1j,
    "a list": lambda x: np.add(x, [1.0, 2.0, 3.0]),
    "a power": lambda x: (x**2, x**0.5, 2.0**x),
    "whole numbers": lambda x: (x.astype("int32") // 7, x.astype("int32") % 3),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_of_every_kind(bind, name):
    step = CONSTANTS[name]
    replayed = Replayed(step, bind=bind)
    for k in range(3):
        x = np.arange(k, k + 12, dtype=np.float32).reshape(4, 3)
        found, wanted = replayed(x), step(x)
        pairs = zip(found, wanted, strict=True) if type(wanted) is tuple else [(found, wanted)]
        for one, other in pairs:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert replayed.refusal is None


def test_ufuncs_that_are_not_elementwise(bind):
    def step(matrix, v):
        return [
            getattr(np, name)(*given)
            for name, given in (
                ("matvec", (matrix, v)),
                ("matvec", (matrix, v[0])),
                ("vecmat", (v, matrix)),
                ("vecdot", (matrix, v)),
                ("vecdot", (v[0], matrix)),
            )
            if hasattr(np, name)
        ]

    replayed = Replayed(step, bind=bind)
    matrix, v = np.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3) - 4
    for _ in range(2):
        for found, wanted in zip(replayed(matrix, v), step(matrix, v), strict=True):
            np.testing.assert_allclose(found, wanted)
    assert replayed.refusal is None
