"""Every loss at the ends of each dtype, against its limit worked out in 60 digits.

Value and slope of single items: at the largest and smallest predictions and at infinity, where a
logit of -inf bars a class. See tests/layers/test_ends.py for the same of activations.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
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
    binary_focal,
    contrastive,
    cosine_distance,
    cross_entropy,
    ctc,
    dice,
    focal,
    gaussian,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    pinball,
    poisson,
    quadratic_cost,
    triplet,
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


def cut(x, dtype):
    """What an infinite number counts as: the largest of the dtype that values are worked out in."""
    largest = LARGEST[of_value(dtype)]
    return min(max(x, mpf(-largest)), mpf(largest))


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
    a = cut(a, dtype)
    return times(1 - y, softplus(a)) + times(y, softplus(-a)), logistic(a) - y


def of_share(p, y, dtype):
    yes, no = max(p, epsilon(dtype)), max(1 - p, epsilon(dtype))
    value = -times(y, mpmath.log(yes)) - times(1 - y, mpmath.log(no))
    return value, (1 - y) / no - y / yes


def log_cosh_of(a, y, dtype):
    size = abs(a - y)
    return size + mpmath.log1p(mpmath.exp(-2 * size)) - mpmath.log(2), mpmath.tanh(a - y)


def pinball_of(a, y, dtype):
    e = a - y
    slope = mpf(1) / 4 if e > 0 else mpf(-3) / 4 if e < 0 else mpf(0)
    return times(slope, e), slope


def poisson_of(s, y, dtype):
    s = min(cut(s, dtype), 80)
    return mpmath.exp(s) - y * s, mpmath.exp(s) - y


def focal_of_logit(s, y, dtype):
    s = cut(s, dtype)
    p, q, of_yes, of_no = logistic(s), logistic(-s), softplus(-s), softplus(s)
    value = times(y, q**2 * of_yes) + times(1 - y, p**2 * of_no)
    slope = (1 - y) * p**2 * (p + 2 * q * of_no) - y * q**2 * (q + 2 * p * of_yes)
    return value, slope


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
    "log-cosh": Row(log_cosh, log_cosh_of, (0.0, -2.0)),
    "pinball": Row(partial(pinball, quantile=0.75), pinball_of, (0.0, -2.0)),
    "poisson": Row(poisson, poisson_of, (0.0, 2.0)),
    "binary-focal": Row(binary_focal, focal_of_logit, (0.0, 0.25, 1.0)),
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


# Losses of whole samples: (batch, targets, dtype) -> value and slopes -----------------------------


def focal_of_rows(batch, labels, dtype):
    (scores,), (label,) = batch, labels
    log_p = log_softmax(scores)
    p, lost = mpmath.exp(log_p[label]), -log_p[label]
    rest = mpmath.fsum(mpmath.exp(one) for k, one in enumerate(log_p) if k != label)  # 1 - p
    factor = rest**2 + 2 * rest * times(p, lost)
    slopes = [factor * mpmath.exp(one) for one in log_p]
    slopes[label] = -factor * rest
    return rest**2 * lost, slopes


def dice_of(batch, masks, dtype):
    """Of one sample of one channel."""
    (s,), (y,) = (
        ([row[0] for row in one] for one in batch),
        ([row[0] for row in one] for one in masks),
    )
    p = [logistic(one) for one in s]
    whole = mpmath.fsum(p) + mpmath.fsum(y) + 1
    overlap = (2 * mpmath.fsum(a * b for a, b in zip(p, y, strict=True)) + 1) / whole
    slopes = [(overlap - 2 * b) / whole * a * logistic(-c) for a, b, c in zip(p, y, s, strict=True)]
    return 1 - overlap, slopes


def dot(a, b):
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True))


def cosine_of(batch, targets, dtype):
    (a,), (y,) = batch, targets
    a = [cut(one, dtype) for one in a]
    long, wide = mpmath.sqrt(dot(a, a)), mpmath.sqrt(dot(y, y))
    if not long or not wide:
        return mpf(1), [mpf(0)] * len(a)
    cosine = dot(a, y) / (long * wide)
    return 1 - cosine, [(cosine * x / long - z / wide) / long for x, z in zip(a, y, strict=True)]


def gaussian_of(batch, targets, dtype):
    ((m, v),), ((y,),) = batch, targets
    m, v = cut(m, dtype), max(v, -60)
    square = (m - y) ** 2 * mpmath.exp(-v)
    return (v + square) / 2, [(m - y) * mpmath.exp(-v), (1 - square) / 2]


def triplet_of(batch, targets, dtype):
    ((a, p, n),) = batch
    short = dot(minus(a, p), minus(a, p)) - dot(minus(a, n), minus(a, n)) + mpf(1) / 4
    pulls = [2 * one for pair in ((n, p), (p, a), (a, n)) for one in minus(*pair)]
    return max(short, 0), [one * (short > 0) for one in pulls]


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def contrastive_of(batch, targets, dtype):
    """The slopes by differences, as nothing is infinite here."""

    def value(numbers):
        pairs = np.reshape(np.array(numbers, dtype=object), np.shape(batch))
        unit = [[[x / (mpmath.sqrt(dot(v, v)) or 1) for x in v] for v in pair] for pair in pairs]
        rows = [log_softmax([2 * dot(a, p) for _, p in unit]) for a, _ in unit]
        return -mpmath.fsum(row[k] for k, row in enumerate(rows)) / len(rows)

    flat = list(itertools.chain.from_iterable(itertools.chain.from_iterable(batch)))
    slopes = []
    for k, one in enumerate(flat):
        step = mpf(10) ** -20 * (max(map(abs, flat)) if one == 0 else abs(one))
        moved = [[*flat[:k], one + side, *flat[k + 1 :]] for side in (step, -step)]
        slopes.append((value(moved[0]) - value(moved[1])) / (2 * step))
    return value(flat), slopes


def ctc_of(batch, targets, dtype):
    """All paths, one by one."""
    (steps,), (labels,) = batch, targets
    log_y = [log_softmax(step) for step in steps]
    labels = [int(label) for label in labels if label >= 0]
    likely = {}
    for path in itertools.product(range(len(steps[0])), repeat=len(steps)):
        read = [k for k, _ in itertools.groupby(path) if k]
        if read == labels:
            found = mpmath.fsum(log_y[t][k] for t, k in enumerate(path))
            likely[path] = mpmath.exp(found) if found > -mpf(INF) else mpf(0)
    whole = mpmath.fsum(likely.values())
    if whole < mpmath.exp(-(mpf(10) ** 29)):  # as the docstring has it
        return mpf(INF), [mpf(0)] * sum(map(len, steps))
    slopes = [
        mpmath.exp(log_y[t][k])
        - mpmath.fsum(one for path, one in likely.items() if path[t] == k) / whole
        for t, step in enumerate(steps)
        for k in range(len(step))
    ]
    return -mpmath.log(whole), slopes


def focal_ends(dtype):
    return [([scores], [label]) for scores in scores_of(dtype) for label in (0, 3)]


def dice_ends(dtype):
    most = LARGEST[dtype]
    for s in ([-INF, INF, most], [-most, -most, -most], [0.0, 1.0, -9.0]):
        for y in ([0.0, 0.0, 0.0], [0.0, 1.0, 1.0]):
            yield [[[one] for one in s]], [[[one] for one in y]]


def cosine_ends(dtype):
    most, least = LARGEST[dtype], SMALLEST[dtype]
    for a in ([most, -most], [4 * least, 0.0], [0.0, 0.0], [INF, 1.0], [3.0, 4.0]):
        for y in ([1.0, 2.0], [0.0, 0.0], [most, most]):
            yield [a], [y]


def gaussian_ends(dtype):
    most, least = LARGEST[dtype], SMALLEST[dtype]
    for m in (-INF, -most, -1.0, least, most):
        for v in (-INF, -most, -61.0, -59.0, least, 9.0, most, INF):
            yield [[m, v]], [[-2.0]]


def triplet_ends(dtype):
    far = 2.0 ** (5 if "16" in dtype else 60)
    for a, p, n in itertools.product((0.0, far, -far), repeat=3):
        yield [[[a, 1.0], [p, 0.0], [n, 0.0]]], [0.0]


def contrastive_ends(dtype):
    most = LARGEST[dtype]
    yield [[[most, 0.0], [0.0, most]], [[-most, most], [1.0, 2.0]]], [0.0, 0.0]
    yield [[[most, most], [most, most]], [[-1.0, -1.0], [-most, -most]]], [0.0, 0.0]


def ctc_ends(dtype):
    for first, second in itertools.pairwise(scores_of(dtype)):
        for labels in ([1, 2], [3, -1], [-1, -1], [0, 0]):
            if 0 not in labels:
                yield [[first, second]], [labels]
    yield [[[0.0, -INF, 0.0, 0.0]] * 2], [[1, -1]]  # a class that is barred


BATCHES = {
    "focal": (focal, focal_of_rows, focal_ends),
    "dice": (dice, dice_of, dice_ends),
    "cosine": (cosine_distance, cosine_of, cosine_ends),
    "gaussian": (gaussian, gaussian_of, gaussian_ends),
    "triplet": (partial(triplet, margin=0.25), triplet_of, triplet_ends),
    "contrastive": (partial(contrastive, temperature=0.5), contrastive_of, contrastive_ends),
    "ctc": (ctc, ctc_of, ctc_ends),
}


def test_every_loss_has_its_ends_here():
    found = {plain(row.loss) for row in NUMBERS.values()}
    found |= {plain(row[0]) for row in (*ROWS.values(), *BATCHES.values())}
    missing = public_losses() - found
    assert not missing, (
        f"a loss is held to its limits by a line in NUMBERS, ROWS or BATCHES, not {missing}"
    )


def called(backend, loss, prediction, target, dtype):
    """Value and delta of a batch of one, on the host."""
    value, delta = called_with(backend, loss, [prediction], [target], dtype)
    return value, delta[0]


def called_with(backend, loss, predictions, targets, dtype):
    """Value and delta of a batch, on the host."""
    predictions = backend.asarray(np.array(predictions), dtype)
    targets = np.array(targets)
    targets = targets.astype(np.int32) if targets.dtype.kind == "i" else targets
    targets = (
        backend.asarray(targets) if targets.dtype.kind == "i" else backend.asarray(targets, dtype)
    )
    value, delta = on_arrays(loss, backend)(predictions, targets)
    return float(host(backend, value)), host(backend, delta)


@cache
def on_arrays(loss, backend):
    """The loss as a function of arrays; compiled on JAX, which compiles each call by itself."""
    return backend.compiled(partial(loss, backend=backend), wanted=backend.name == "jax")


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


@pytest.mark.any_width
@each_dtype
@pytest.mark.parametrize("name", BATCHES)
def test_losses_of_batches_at_their_ends(backend, name, dtype):
    loss, exactly, ends = BATCHES[name]
    for batch, targets in ends(dtype):
        with width(backend, dtype):
            value, delta = called_with(backend, loss, batch, targets, dtype)
        exact, slopes = exactly(as_mpf(batch), as_mpf(targets), dtype)
        where = f"{name} of {batch} for {targets} in {dtype}"
        assert is_right(value, exact, of_value(dtype), 32, 32), (
            f"{where} is {value}, wanted {exact}"
        )
        for found, slope in zip(delta.ravel(), slopes, strict=True):
            assert is_right(found, slope, dtype, 32, 16), f"{where} has {delta}, wanted {slopes}"


def as_mpf(numbers):
    if isinstance(numbers, list):
        return [as_mpf(one) for one in numbers]
    return numbers if isinstance(numbers, int) else mpf(numbers)
