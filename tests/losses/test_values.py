"""Losses by hand: worked examples, and the numbers at the edges of what floats can say."""

import math
from functools import partial

import numpy as np
import pytest

from tests.conftest import traced
from xpnn.errors import DataError, ShapeError
from xpnn.losses import (
    binary_cross_entropy,
    binary_focal,
    check_targets,
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
    total_weight,
    triplet,
)

pytestmark = pytest.mark.width

from_probabilities = partial(binary_cross_entropy, from_logits=False)


def called(backend, loss, predictions, targets, **options):
    arrays = (backend.asarray(np.asarray(a, dtype=np.float32)) for a in (predictions, targets))
    return on_arrays(backend, loss, *arrays, **options)


def on_arrays(backend, loss, *arrays, **options):
    """Value and delta on the host; compiled on JAX, which compiles each call by itself."""
    call = partial(loss, backend=backend, **options)
    with backend.on_device():
        value, delta = backend.compiled(call, wanted=backend.name == "jax")(*arrays)
    return float(backend.to_numpy(value)), backend.to_numpy(delta)


@pytest.mark.parametrize(
    ("loss", "predictions", "targets", "value", "delta"),
    [
        # samples cost (1 + 4) / 2 and (0 + 4) / 2; their mean; (a - y) / 2
        (quadratic_cost, [[1, 2], [3, 4]], [[0, 0], [3, 2]], 2.25, [[0.5, 1], [0, 1]]),
        # one output of 0.8 where 0 was wanted: C = 0.64 / 2
        (quadratic_cost, [[0.8]], [[0.0]], 0.32, [[0.8]]),
        (mean_squared_error, [[1, 2], [3, 4]], [[0, 0], [3, 2]], 2.25, [[0.5, 1], [0, 1]]),
        (mean_squared_error, [2, 2, 5], [2, 0, 4], 5 / 3, [0, 4 / 3, 2 / 3]),
        (mean_absolute_error, [2, -2, 5], [2, 0, 4], 1.0, [0, -1 / 3, 1 / 3]),
        # inside the threshold 0.5^2 / 2, at it 1 / 2, beyond it 3 - 1 / 2
        (huber, [0.5, 1, -3], [0, 0, 0], (0.125 + 0.5 + 2.5) / 3, [0.5 / 3, 1 / 3, -1 / 3]),
        # far on the right side, short of the margin, on the wrong side, at the margin
        (hinge, [3, 0.5, 1, 1], [1, 1, -1, 1], (0 + 0.5 + 2 + 0) / 4, [0, -0.25, 0.25, 0]),
        (hinge, [0.5, 1.0], [1, 0], (0.5 + 2) / 2, [-0.5, 0.5]),
        (binary_cross_entropy, [0, 0], [1, 0], math.log(2), [-0.25, 0.25]),
        (binary_cross_entropy, [math.log(3)], [1], math.log(4 / 3), [-0.25]),
        (from_probabilities, [0.25, 0.5], [1, 0], math.log(8) / 2, [-2, 1]),
        # softmax of log 1, log 2, log 5 is 1/8, 2/8, 5/8
        (
            cross_entropy,
            [[0, math.log(2), math.log(5)]],
            [[0, 1, 0]],
            math.log(4),
            [[1 / 8, -6 / 8, 5 / 8]],
        ),
        (cross_entropy, [[0, 0, 0, 0]], [[1, 0, 0, 0]], math.log(4), [[-0.75, 0.25, 0.25, 0.25]]),
        (kl_divergence, [[0, 0]], [[0.5, 0.5]], 0.0, [[0, 0]]),
        (kl_divergence, [[0, 0]], [[1, 0]], math.log(2), [[-0.5, 0.5]]),
        (kl_divergence, [[0, math.log(3)]], [[0.5, 0.5]], 0.5 * math.log(4 / 3), [[-0.25, 0.25]]),
        # cosh(log 2) = 5/4, tanh(log 2) = 3/5
        (log_cosh, [math.log(2), 0], [0, 0], math.log(5 / 4) / 2, [0.3, 0]),
        # 2 too much costs 0.2, 2 too little 1.8
        (partial(pinball, quantile=0.9), [2, -2, 1], [0, 0, 1], 2 / 3, [0.1 / 3, -0.3, 0]),
        # (3, 4) and (4, 3) have the cosine 24/25; ((3, 4) 24/25 / 5 - (4, 3) / 5) / 5
        (cosine_distance, [[3, 4]], [[8, 6]], 1 / 25, [[-28 / 625, 21 / 625]]),
        (cosine_distance, [[0, 0]], [[8, 6]], 1, [[0, 0]]),
        # a rate of 2 for a count of 3
        (poisson, [math.log(2)], [3], 2 - 3 * math.log(2), [-1]),
        # 4 off, at a standard deviation of 2: 4 squares of it
        (gaussian, [[5, math.log(4)]], [[1]], (math.log(4) + 4) / 2, [[1, -1.5]]),
        # p = 3/4: a sixteenth of the loss; slope -(1/16) (1/4 - 2 (3/4) log(3/4))
        (
            binary_focal,
            [math.log(3)],
            [1],
            math.log(4 / 3) / 16,
            [-(1 / 4 + 1.5 * math.log(4 / 3)) / 16],
        ),
        (
            focal,
            [[0, math.log(3)]],
            [[0, 1]],
            math.log(4 / 3) / 16,
            [[(1 / 4 + 1.5 * math.log(4 / 3)) / 16, -(1 / 4 + 1.5 * math.log(4 / 3)) / 16]],
        ),
        # p = 1/2 twice, of which one is true: overlap 2 (1/2) + 1 of 1 + 1 + 1
        (dice, [[[0], [0]]], [[[1], [0]]], 1 / 3, [[[-1 / 9], [1 / 18]]]),
        # 5^2 to the positive, 4^2 to the negative
        (
            triplet,
            [[[0, 0], [3, 4], [0, 4]]],
            [0],
            25 - 16 + 0.2,
            [[[-6, 0], [6, 8], [0, -8]]],
        ),
        (triplet, [[[0, 0], [0, 4], [3, 4]]], [0], 0, np.zeros((1, 3, 2))),
        # cosines of 1 to its own and 0 to the other, times 10; slopes across, where cosines turn
        (
            contrastive,
            [[[1, 0], [2, 0]], [[0, 1], [0, 1]]],
            [0, 0],
            math.log1p(math.exp(-10)),
            np.array([[[0, 5], [0, 2.5]], [[5, 0], [5, 0]]]) / (1 + math.exp(10)),
        ),
    ],
)
def test_worked_examples(backend, loss, predictions, targets, value, delta):
    found, slopes = called(backend, loss, predictions, targets)
    assert found == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(slopes, delta, atol=1e-6)


def logits_of(*steps):
    return np.log(np.array([steps])).astype(np.float32)


@pytest.mark.any_width
@pytest.mark.parametrize(
    ("steps", "labels", "likely"),
    [
        # paths of 1 in two steps: 1 1, - 1, 1 -
        ([(0.6, 0.4, 0.0), (0.3, 0.7, 0.0)], [1, -1], 0.28 + 0.42 + 0.12),
        ([(0.6, 0.4, 0.0), (0.3, 0.7, 0.0)], [-1, -1], 0.18),  # nothing: - -
        ([(0.5, 0.3, 0.2), (0.1, 0.5, 0.4)], [1, 2], 0.3 * 0.4),
        # 1 twice needs a blank between
        ([(0.5, 0.5), (0.8, 0.2), (0.1, 0.9)], [1, 1], 0.5 * 0.8 * 0.9),
    ],
)
def test_ctc_by_hand(backend, steps, labels, likely):
    with np.errstate(divide="ignore"):
        logits = logits_of(*steps)
    targets = backend.asarray(np.array([labels]))
    value, _ = on_arrays(backend, ctc, backend.asarray(logits), targets)
    assert value == pytest.approx(-math.log(likely), rel=1e-5)


@pytest.mark.any_width
def test_ctc_of_more_labels_than_steps_is_infinite(backend):
    logits = backend.asarray(np.zeros((2, 2, 3), np.float32))
    targets = backend.asarray(np.array([[1, 1], [1, 2]]))
    value, delta = on_arrays(backend, ctc, logits, targets)
    assert value == math.inf
    assert np.all(delta[0] == 0)
    assert np.any(delta[1] != 0)


@pytest.mark.any_width
def test_a_positive_of_weight_zero_is_nobody_s_negative(backend):
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(4, 2, 3)).astype(np.float32)
    targets = np.zeros(4)
    weight = backend.asarray(np.array([1, 0, 2, 1], np.float32))
    value, delta = called(backend, contrastive, pairs, targets, sample_weight=weight)
    kept = [0, 2, 3]
    weight = backend.asarray(np.array([1, 2, 1], np.float32))
    alone, slopes = called(backend, contrastive, pairs[kept], targets[kept], sample_weight=weight)
    assert value == pytest.approx(alone, rel=1e-5)
    np.testing.assert_allclose(delta[kept], slopes, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(delta[1], 0)


def test_what_is_ignored_weighs_nothing(backend):
    logits = np.array([[0, math.log(3)], [0, math.log(3)], [5, 9]], np.float32)
    labels = backend.asarray(np.array([1, 0, 255], np.uint8))
    value, delta = on_arrays(
        backend, cross_entropy, backend.asarray(logits), labels, ignore_index=255
    )
    assert value == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    expected = [[1 / 8, -1 / 8], [-3 / 8, 3 / 8], [0, 0]]
    np.testing.assert_allclose(delta, expected, rtol=1e-6)
    with pytest.raises(DataError, match="class numbers beside ignore_index=-1"):
        called(backend, partial(cross_entropy, ignore_index=-1), [[0, 1]], [[0, 1]])


BAD_OPTIONS = [
    (partial(pinball, quantile=1.0), r"quantile between 0 and 1, got 1\.0"),
    (partial(binary_focal, gamma=-1.0), r"gamma of at least 0, got -1\.0"),
    (partial(focal, gamma=math.nan), "gamma of at least 0, got nan"),
    (partial(dice, smoothing=0.0), r"smoothing above 0, got 0\.0"),
    (partial(triplet, margin=-0.1), r"margin of at least 0, got -0\.1"),
    (partial(contrastive, temperature=0.0), r"temperature above 0, got 0\.0"),
]


@pytest.mark.parametrize(("loss", "text"), BAD_OPTIONS)
def test_options_out_of_their_range_are_refused(loss, text):
    with pytest.raises(ValueError, match=text):
        loss(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32))


@pytest.mark.parametrize(
    ("loss", "shape", "text"),
    [
        (dice, (5, 3), r"shape \(batch, ..., channels\), .* got \(5, 3\); reshape"),
        (triplet, (5, 2, 4), r"shape \(batch, 3, d\), .* got \(5, 2, 4\); reshape"),
        (contrastive, (5, 2), r"shape \(batch, 2, d\), .* got \(5, 2\); reshape"),
        (ctc, (5, 3), r"predictions \(batch, steps, classes\) .* got \(5, 3\)"),
        (partial(ctc, blank=4), (5, 3, 4), "blank to be a class from 0 to 3, got 4"),
    ],
)
def test_predictions_of_another_form_are_refused(loss, shape, text):
    with pytest.raises(ValueError, match=text):
        loss(np.zeros(shape, np.float32), np.zeros((5, 1), np.int32))


def test_label_smoothing_by_hand(backend):
    # q = 0.8 (0, 1) + 0.2 / 2, p = (1/4, 3/4)
    loss = partial(cross_entropy, label_smoothing=0.2)
    value, delta = called(backend, loss, [[0, math.log(3)]], [[0, 1]])
    assert value == pytest.approx(0.1 * math.log(4) + 0.9 * math.log(4 / 3))
    np.testing.assert_allclose(delta, [[0.25 - 0.1, 0.75 - 0.9]], rtol=1e-6)


def test_class_weights_by_hand(backend):
    # losses log 4 of class 0 and log(4/3) of class 1, weights 1 and 3
    loss = partial(cross_entropy, class_weight=np.array([1.0, 3.0]))
    value, delta = called(backend, loss, [[0, math.log(3)]] * 2, [[1, 0], [0, 1]])
    assert value == pytest.approx((math.log(4) + 3 * math.log(4 / 3)) / 4)
    np.testing.assert_allclose(delta, [[-0.75 / 4, 0.75 / 4], [0.75 / 4, -0.75 / 4]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_class_numbers_of_any_integer_dtype(backend, dtype):
    logits = np.zeros((2, 300), dtype=np.float32)
    logits[:, 5] = 10
    labels = backend.asarray(np.array([5, 255], dtype=dtype))
    value, _ = on_arrays(backend, cross_entropy, backend.asarray(logits), labels)
    total = math.log(math.exp(10) + 299)
    assert value == pytest.approx((total - 10 + total) / 2, rel=1e-5)


def test_small_losses_keep_their_digits(backend):
    value, delta = called(backend, binary_cross_entropy, [20.0], [1.0])
    assert value == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)
    value, delta = called(backend, cross_entropy, [[0.0, 12.0]], [[0, 1]])
    assert value == pytest.approx(math.log1p(math.exp(-12)), rel=0.02)  # 1 + 6e-6 in float32
    np.testing.assert_allclose(delta, [[6.144e-6, -6.144e-6]], rtol=0.02)


def test_huge_logits_keep_their_differences(backend):
    value, delta = called(backend, cross_entropy, [[1e4, 1e4 - 1]], [[0, 1]])
    assert value == pytest.approx(1 + math.log1p(math.exp(-1)), rel=1e-6)
    p = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(delta, [[p, -p]], rtol=1e-6)
    value, delta = called(backend, cross_entropy, [[1e4, -1e4]], [[0, 1]])
    assert value == 2e4
    np.testing.assert_array_equal(delta, [[1, -1]])
    value, delta = called(backend, binary_cross_entropy, [-1e4, 1e4], [1, 1])
    assert value == 5e3
    np.testing.assert_array_equal(delta, [-0.5, 0])


def test_certain_and_wrong_probabilities_still_teach(backend):
    value, delta = called(backend, from_probabilities, [0.0, 1.0], [1.0, 0.0])
    epsilon = float(np.finfo(np.float32).eps)
    assert value == pytest.approx(-math.log(epsilon), rel=1e-6)
    np.testing.assert_allclose(delta, [-0.5 / epsilon, 0.5 / epsilon], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_label_smoothing_is_a_share(backend, smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\), got"):
        called(backend, partial(cross_entropy, label_smoothing=smoothing), [[0, 1]], [[0, 1]])


@pytest.mark.parametrize(
    "loss",
    [
        partial(cross_entropy, label_smoothing=np.float64(0.123)),
        partial(cross_entropy, class_weight=np.array([1.0, 3.0])),
        partial(binary_cross_entropy, class_weight=np.array([1.0, 3.0])),
        partial(huber, threshold=np.float64(0.123)),
        partial(pinball, quantile=np.float64(0.123)),
        partial(focal, gamma=np.float64(0.123)),
        partial(binary_focal, gamma=np.float64(0.123)),
    ],
)
def test_numbers_of_numpy_widen_nothing(backend, loss):
    arrays = (backend.asarray(np.eye(2, dtype=np.float32)) for _ in range(2))
    with backend.on_device():
        value, delta = traced(backend, lambda: loss(*arrays, backend=backend))
    assert value.dtype == delta.dtype == backend.dtype("float32")


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_is_above_zero(backend, threshold):
    with pytest.raises(ValueError, match=r"threshold above 0, got"):
        called(backend, partial(huber, threshold=threshold), [1.0], [0.0])


@pytest.mark.parametrize(
    "weights",
    [[1.0], [1.0, 2.0, 3.0], {0: 1.0, 1: 5.0}, 2.0, "12", ["1", "a"], np.ones((2, 1)), iter("12")],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy, hinge, focal, binary_focal])
def test_class_weights_are_one_number_for_each_class(backend, loss, weights):
    with pytest.raises(ShapeError, match="class_weight to list 2 numbers, one for each class, got"):
        called(backend, partial(loss, class_weight=weights), [[0.0, 1.0]], [[0.0, 1.0]])


def test_predictions_have_to_be_floats():
    with pytest.raises(DataError, match="predictions of a float dtype, got int64"):
        mean_squared_error(np.array([1, 2]), np.array([1.5, 2.5]))


def test_options_of_options_are_all_seen(backend):
    """Python keeps partials of partials apart where the inner one has an attribute."""
    inner = partial(cross_entropy, class_weight=[1.0, 3.0])
    inner.mine = True
    y = backend.asarray(np.array([1, -1, 0], np.int32))
    outer = partial(inner, ignore_index=-1)
    with backend.on_device():
        total = total_weight(outer, y, None, (2,), backend)
    assert float(backend.to_numpy(total)) == 4
    check_targets(outer, y, (2,), backend)
