"""Matrices of few columns, which lie column by column where that is faster and nobody sees it."""

import numpy as np
import pytest

from tests.backends.numpy.test_layers import assert_close, everything
from xpnn import Adam, Dense, Network, ReLU, Trainer, cross_entropy
from xpnn.backends.numpy.binding import bind_each
from xpnn.backends.numpy.replay import Replayed

BATCH, CLASSES = 64, 10


def orders(program, shape):
    """Whether the arrays of a shape that the calls of a program go through lie by columns."""
    arrays = [
        one
        for call in program._calls
        for one in (*getattr(call, "args", ()), *getattr(call, "keywords", {}).values())
        if isinstance(one, np.ndarray) and one.shape == shape
    ]
    return {one.strides[0] == one.itemsize for one in arrays}


@pytest.mark.parametrize("kind", ["labels", "rows"])
def test_a_classifier_trains_to_the_same(kind):
    """Targets that come as rows would be walked through beside columns: all stay rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 20)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    if kind == "rows":
        y = np.eye(CLASSES, dtype=np.float32)[y]
    pair = [
        Trainer(
            Network([Dense(30), ReLU(), Dense(CLASSES)], (20,)),
            cross_entropy,
            Adam(0.01, epsilon=1e-2),
            compile=compiled,
        )
        for compiled in (True, False)
    ]
    for _ in range(4):
        found, wanted = (one.step(x, y) for one in pair)
        assert_close(found, wanted, "loss")
    assert_close(*map(everything, pair), kind)
    (program,) = pair[0]._train_step.run.units
    assert orders(program, (BATCH, CLASSES)) == {kind == "labels"}


def many_uses(x, w, b):
    z = x @ w + b
    shifted = z - np.max(z, axis=-1, keepdims=True)
    powers = np.exp(shifted) * np.min(z, axis=1)[:, None]
    halves = (powers > 0.5).astype(np.float32) * powers
    sums = [np.sum(powers, axis=axis) for axis in (0, 1, -1, None, (0, 1))]
    sums += [np.sum((x * 2.0).T, axis=0), np.mean(z, axis=1)]
    return x.T @ halves, halves @ w.T, sums, np.maximum(halves * 2.0 + powers, 0.25) @ w.T @ w


@pytest.mark.parametrize("shape", [(200, 10), (16, 2), (33, 16), (20, 10), (7, 3)])
def test_whatever_is_done_with_them(bind, shape):
    rows, columns = shape
    rng = np.random.default_rng(0)
    w, b = (rng.standard_normal(s).astype(np.float32) for s in ((5, columns), (columns,)))
    replayed = Replayed(many_uses, bind=bind)
    for _ in range(3):
        x = rng.standard_normal((rows, 5)).astype(np.float32)
        assert_close(as_dict(replayed(x, w, b)), as_dict(many_uses(x, w, b)), str(shape))
    assert replayed.refusal is None
    if bind is bind_each:  # loops go over rows of any length
        assert True in orders(replayed.units[0], shape)


def as_dict(results):
    first, second, sums, last = results
    return {"first": first, "second": second, "last": last, **dict(enumerate(sums))}


def test_what_is_seen_from_outside_lies_row_by_row(bind):
    def step(held, x, w):
        z = x @ w
        return ({"z": held["z"] + z},), z * 2.0

    replayed, rng = Replayed(step, donate=(0,), bind=bind), np.random.default_rng(0)
    x, w = rng.standard_normal((64, 5)), rng.standard_normal((5, 10))
    held = {"z": np.zeros((64, 10))}
    for k in range(3):
        (held,), twice = replayed(held, x, w)
        np.testing.assert_allclose(held["z"], (k + 1) * (x @ w))
        np.testing.assert_allclose(twice, 2 * (x @ w))
        assert held["z"].flags.c_contiguous
        assert twice.flags.c_contiguous


def test_what_is_copied_or_summed_into_few_columns(bind):
    """Such calls write row by row: a sum over the first axis of three, a reshape, a stack."""

    def step(x, w, y):
        z = x @ w
        total = np.sum(np.stack([z, z * 2.0, z * 3.0]), axis=0)
        turned = np.reshape(np.transpose(y), (64, 10))
        both = np.concatenate([z * 0.5, z])
        return np.max(total, axis=-1), np.max(turned * 2.0, axis=-1), both @ w.T

    replayed, rng = Replayed(step, bind=bind), np.random.default_rng(0)
    for _ in range(2):
        given = [rng.standard_normal(shape) for shape in ((64, 5), (5, 10), (128, 5))]
        for found, wanted in zip(replayed(*given), step(*given), strict=True):
            np.testing.assert_allclose(found, wanted)
    assert replayed.refusal is None


@pytest.mark.parametrize("shape", [(200, 10), (40, 1024)])
def test_other_shapes_of_the_same_memory(bind, shape):
    """A matrix that is looked at as one of other rows stays as it is."""
    rows, columns = shape
    other = rows * 2, columns // 2

    def step(x, w):
        z = x @ w
        return np.sum(z, axis=0), np.reshape(z, other).T @ np.reshape(z, other)

    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((rows, 600), (600, columns)))
    replayed = Replayed(step, bind=bind)
    for _ in range(2):
        for found, wanted in zip(replayed(x, w), step(x, w), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-2)
    assert replayed.refusal is None


@pytest.mark.parametrize("batch", [3, 40])
def test_results_of_large_products_lie_by_columns(bind, batch):
    """As do the deltas and masks that are walked through beside them; weights stay rows."""

    def step(w, x):
        hidden = np.maximum(x @ w + 1.0, 0.0)
        delta = (hidden @ w.T) * (x > 0.0)
        return (w - 0.001 * (x.T @ hidden),), np.sum(delta * delta), hidden.T @ delta

    rng = np.random.default_rng(0)
    w, x = (rng.standard_normal((n, 600)).astype(np.float32) for n in (600, batch))
    replayed = Replayed(step, (0,), bind)
    held = (w.copy(),)
    for _ in range(3):
        wanted = step(w, x)
        found = replayed(held[0], x)
        for one, other in zip((found[0][0], *found[1:]), (wanted[0][0], *wanted[1:]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=np.abs(other).max() * 1e-5)
        (w,), held = wanted[0], found[0]
    assert orders(replayed.units[0], (batch, 600)) == {False, True}  # x stays as it came


@pytest.mark.parametrize(
    ("inner", "columns", "turned"), [(620, 600, True), (620, 400, False), (400, 600, False)]
)
def test_only_results_of_large_products_are_turned(bind, inner, columns, turned):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((20, inner), (inner, columns)))
    replayed = Replayed(lambda x, w: x.T @ np.tanh(x @ w), bind=bind)
    replayed(x, w)
    assert orders(replayed.units[0], (20, columns)) == {turned}
