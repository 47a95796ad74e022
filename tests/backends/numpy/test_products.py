"""A product that is only added up is one call, and means the same."""

import numpy as np
import pytest

from xpnn.backends.numpy.replay import Replayed


def multiplications(replayed):
    """How many are left."""
    (program,) = replayed.units
    return sum(getattr(call, "func", None) is np.multiply for call in program._calls)


STEPS = {  # what is added up, and how many multiplications are left
    "two arrays": (lambda x, y: np.sum(x * y), 0),
    "a square": (lambda x, y: np.sum(x * x), 0),
    "with a number": (lambda x, y: np.sum(0.25 * x), 0),
    "with a number behind": (lambda x, y: np.sum(x * 3), 0),
    "the last of two": (lambda x, y: np.sum(0.5 * x * y), 1),
    "of views": (lambda x, y: np.sum(x[::2] * y[::2]), 1),
    "of turned arrays": (lambda x, y: np.sum(x.T * y.T), 0),
    "of one turned array": (lambda x, y: np.sum(x[:6] * y[:6].T), 1),
    "a row": (lambda x, y: np.sum(x * y[0]), 1),
    "over rows": (lambda x, y: np.sum(np.sum(x * y, axis=0)), 1),
    "kept dimensions": (lambda x, y: np.sum(x * y, keepdims=True), 1),
    "read twice": (lambda x, y: np.sum(p := x * y) + np.max(p), 1),
    "returned, too": (lambda x, y: (np.sum(p := x * y), p), 1),
    "written over": (lambda x, y: written_over(x * y), 1),
    "written over by others": (lambda x, y: written_over_by_others(x, y), 1),
    "partly written over": (lambda x, y: written_over_by_others(x, y, slice(2)), 1),
    "into a view with gaps": (lambda x, y: with_gaps(x, y), 1),
}


def written_over_by_others(x, y, rows=slice(None)):
    product = x * y
    np.add(x[rows], y[rows], out=product[rows])
    return np.sum(product)


def with_gaps(x, y):
    room = x + y
    np.multiply(x[:, ::2], y[:, ::2], out=room[:, ::2])
    return np.sum(room[:, ::2])


def written_over(product):
    product += 1
    return np.sum(product)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", [(9, 6), (40, 6), (400, 6)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_the_sum_of_a_product(bind, name, shape, dtype):
    step, left = STEPS[name]
    replayed = Replayed(step, bind=bind)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, y = (10 * rng.standard_normal((2, *shape))).astype(dtype)
        found, wanted = replayed(x, y), step(x, y)
        pairs = zip(found, wanted, strict=True) if type(wanted) is tuple else [(found, wanted)]
        for one, other in pairs:
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-2)
    assert replayed.refusal is None
    if np.prod(shape) <= 1024 and dtype != "int32" and bind.__name__ == "bind_each":
        assert multiplications(replayed) == left


def test_a_number_that_changes_stays_a_factor(bind):
    replayed = Replayed(lambda x, rate: np.sum(x * rate), bind=bind)
    x = np.arange(5, dtype=np.float32)
    for rate in (1.0, 2.0, 0.5):
        assert replayed(x, rate) == 10 * rate


def test_factors_are_read_where_they_were_multiplied(bind):
    def step(x):
        left = x + 1.0
        product = left * x
        left += 100.0
        return np.sum(product), left

    replayed = Replayed(step, bind=bind)
    x = np.arange(5, dtype=np.float32)
    for _ in range(2):
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_dot_product_raises_nothing(bind):
    """What is donated may be written over before it."""

    def step(p, q):
        new = p * 0.9
        size = np.sum(q * q)
        return new, q * 0.9, size

    replayed = Replayed(step, (0, 1), bind)
    p, q = np.ones((2, 40, 8), np.float32)
    replayed(p, q)
    (program,) = replayed.units
    assert not any(getattr(call, "func", None) is np.copyto for call in program._calls)
