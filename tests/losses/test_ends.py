"""Every loss at the ends of each dtype, against its limit worked out in 60 digits.

Value and slope of single items: at the largest and smallest predictions and at infinity, where a
logit of -inf bars a class. See tests/layers/test_ends.py for the same of activations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from tests.ends import (
    DIGITS,
    INF,
    LARGEST,
    SMALLEST,
    each_dtype,
    ends_of,
    host,
    is_right,
    log_softmax,
    width,
)
from tests.test_public import plain, public_losses
from xpnn.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    quadratic_cost,
)

pytestmark = pytest.mark.fault("numbers at the ends of their range")


def epsilon(dtype):
    return mpf(2) ** (1 - DIGITS[dtype])


def of_value(dtype):
    """Values of half precision are worked out in float32."""
    return "float64" if dtype == "float64" else "float32"


def times(weight, value):
    """The product, 0 for nothing of whatever it is."""
    return weight * value if weight else mpf(0)


def softplus(x):
    return max(x, 0) + mpmath.log1p(mpmath.exp(-abs(x)))


def logistic(x):
    return 1 / (1 + mpmath.exp(-x))


# Losses of numbers: (prediction, target, dtype) -> value and slope --------------------------------


def half_square(a, y, dtype):
    return (a - y) ** 2 / 2, a - y


def square(a, y, dtype):
    return (a - y) ** 2, 2 * (a - y)


def absolute(a, y, dtype):
    return abs(a - y), mpmath.sign(a - y)


def huber_of(a, y, dtype, threshold=1):
    e = a - y
    if abs(e) <= threshold:
        return e**2 / 2, e
    return threshold * (abs(e) - mpf(threshold) / 2), threshold * mpmath.sign(e)


def hinge_of(a, y, dtype):
    return max(1 - y * a, mpf(0)), -y if y * a < 1 else 0


def of_logit(a, y, dtype):
    largest = LARGEST[of_value(dtype)]  # which an infinite logit counts as
    a = min(max(a, -largest), largest)
    return times(1 - y, softplus(a)) + times(y, softplus(-a)), logistic(a) - y


def of_share(p, y, dtype):
    yes, no = max(p, epsilon(dtype)), max(1 - p, epsilon(dtype))
    value = -times(y, mpmath.log(yes)) - times(1 - y, mpmath.log(no))
    return value, (1 - y) / no - y / yes


@dataclass
class Row:
    """A loss whose items are single numbers.

    Attributes:
        loss: with its options.
        exact: value and slope of one item.
        targets: what it is tried with.
        shares: whether predictions are from 0 to 1.
    """

    loss: Callable[..., Any]
    exact: Callable[..., Any]
    targets: Sequence[float]
    shares: bool = False


NUMBERS = {
    "quadratic": Row(quadratic_cost, half_square, (0.0, -2.0)),
    "squared": Row(mean_squared_error, square, (0.0, -2.0)),
    "absolute": Row(mean_absolute_error, absolute, (0.0, -2.0)),
    "huber": Row(huber, huber_of, (0.0, -2.0)),
    "huber-4": Row(partial(huber, threshold=4.0), partial(huber_of, threshold=4), (0.0,)),
    "hinge": Row(hinge, hinge_of, (-1.0, 1.0)),
    "binary": Row(binary_cross_entropy, of_logit, (0.0, 0.25, 1.0)),
    "binary-probabilities": Row(
        partial(binary_cross_entropy, from_logits=False), of_share, (0.0, 0.25, 1.0), shares=True
    ),
}


# Losses of rows: (log p, target row) -> value, and the probabilities that the slope leads to ------


def likelihood(log_p, q):
    return -mpmath.fsum(times(t, one) for t, one in zip(q, log_p, strict=True)), q


def smoothed(log_p, q):
    return likelihood(log_p, [mpf(9) / 10 * t + mpf(1) / 10 / len(q) for t in q])


def divergence(log_p, q):
    value = mpmath.fsum(times(t, mpmath.log(t) - one) for t, one in zip(q, log_p, strict=True) if t)
    return value, q


CERTAIN = np.eye(4)
MIXED = np.array([[0.5, 0, 0.5, 0], [0.25, 0.25, 0.25, 0.25], [0, 0.75, 0.25, 0]])
ROWS = {
    "labels": (cross_entropy, likelihood, (0, 1, 2, 3)),
    "one-hot": (cross_entropy, likelihood, CERTAIN),
    "mixed": (cross_entropy, likelihood, MIXED),
    "smooth": (partial(cross_entropy, label_smoothing=0.1), smoothed, (0, 3)),
    "divergence": (kl_divergence, divergence, np.concatenate([MIXED, CERTAIN])),
}


def test_every_loss_has_its_ends_here():
    found = {plain(row.loss) for row in NUMBERS.values()} | {plain(row[0]) for row in ROWS.values()}
    missing = public_losses() - found
    assert not missing, f"a loss is held to its limits by a line in NUMBERS or ROWS, not {missing}"


def called(backend, loss, prediction, target, dtype):
    """Value and delta of a batch of one, on the host, and the dtype that the value is right in."""
    predictions = backend.asarray(np.array([prediction]), dtype)
    targets = np.array([target])
    targets = targets.astype(np.int32) if targets.dtype.kind == "i" else targets
    targets = (
        backend.asarray(targets) if targets.dtype.kind == "i" else backend.asarray(targets, dtype)
    )
    value, delta = loss(predictions, targets, backend=backend)
    return float(host(backend, value)), host(backend, delta)[0]


@pytest.mark.any_width
@each_dtype
@pytest.mark.parametrize("name", NUMBERS)
def test_losses_of_numbers_at_their_ends(backend, name, dtype):
    row = NUMBERS[name]
    points = [-INF, *ends_of(dtype)[::3], -LARGEST[dtype], LARGEST[dtype], INF]
    if row.shares:
        eps = float(epsilon(dtype))
        points = [0.0, SMALLEST[dtype], eps / 4, eps, 0.25, 0.5, 1 - eps, 1.0]
    for point in points:
        for target in row.targets:
            with width(backend, dtype):
                value, delta = called(backend, row.loss, [point], [target], dtype)
            exact, slope = row.exact(mpf(point), mpf(target), dtype)
            where = f"{name} of {point:g} for {target:g} in {dtype}"
            assert is_right(value, exact, of_value(dtype), 16, 8), (
                f"{where} is {value}, wanted {exact}"
            )
            assert is_right(delta[0], slope, dtype, 16, 8), (
                f"{where} has the slope {delta[0]}, wanted {slope}"
            )


def scores_of(dtype):
    most = LARGEST[dtype]
    return [
        [most, -most, 0, 1],
        [most, most, -most, -most],
        [-most, -most, -most, -most],
        [-INF, 0, 1, -INF],
        [-INF, -most, -INF, 0],
        [2, -INF, -INF, -INF],
        [0, -9, -14, -80],
        [100, 0, 0, 0],
    ]


@pytest.mark.any_width
@each_dtype
@pytest.mark.parametrize("name", ROWS)
def test_losses_of_rows_at_their_ends(backend, name, dtype):
    loss, exactly, targets = ROWS[name]
    for scores in scores_of(dtype):
        log_p = log_softmax([mpf(score) for score in scores])
        distant = -1.5 * mpf(LARGEST[of_value(dtype)])  # more than the dtype of the value holds
        log_p = [one if one > distant else -mpf(INF) for one in log_p]
        for target in targets:
            with width(backend, dtype):
                value, delta = called(backend, loss, scores, target, dtype)
            row = CERTAIN[target] if isinstance(target, int) else target
            exact, q = exactly(log_p, [mpf(t) for t in row])
            where = f"{name} of {scores} for {target} in {dtype}"
            assert is_right(value, exact, of_value(dtype), 32, 32), (
                f"{where} is {value}, wanted {exact}"
            )
            for found, one, t in zip(delta, log_p, q, strict=True):
                slope = mpmath.exp(one) - t
                assert is_right(found, slope, dtype, 16, 16), f"{where} has {delta}, wanted {slope}"
