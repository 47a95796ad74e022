"""Losses of numbers: how far predictions are from targets of the same shape."""

import math

from xpnn.backends import Backend, backend_of
from xpnn.losses.means import elementwise, matching, shares, total, weighted_mean
from xpnn.losses.targets import same_shape, wants
from xpnn.losses.weights import wide
from xpnn.numerics import unit_vectors
from xpnn.typing import Array, Namespace


def _half_square(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return 0.5 * error * error, error


@wants(same_shape, outputs="values")
def quadratic_cost(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Half the squared error, summed over the outputs, mean over the batch: the guide's cost.

    ::

        C = 1/(2n) sum_x |a - y|^2              delta = (a - y) / n

    (Nielsen, Neural Networks and Deep Learning, eq. 6.) Targets have the predictions' shape;
    ``sample_weight`` is (batch,).
    """
    backend = backend or backend_of(predictions)
    predictions = backend.asarray(predictions)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    targets = matching(predictions, targets, backend)
    each = shares(predictions, 1, sample_weight, None, backend)
    return weighted_mean(_half_square, (predictions, targets), each, dtype, backend)


def _square(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return error * error, 2.0 * error


@wants(same_shape, outputs="values")
def mean_squared_error(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = (a - y)^2``, ``dl/da = 2 (a - y)``, mean over all numbers of the prediction."""
    return elementwise(_square, predictions, targets, sample_weight, backend)


def _absolute(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return xp.abs(error), xp.sign(error)


@wants(same_shape, outputs="values")
def mean_absolute_error(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = |a - y|``, ``dl/da = sign(a - y)``, 0 where they are equal."""
    return elementwise(_absolute, predictions, targets, sample_weight, backend)


def _huber(xp: Namespace, a: Array, y: Array, threshold: float) -> tuple[Array, Array]:
    error = a - y
    clipped = xp.minimum(xp.maximum(error, -threshold), threshold)
    return clipped * (error - 0.5 * clipped), clipped


@wants(same_shape, outputs="values")
def huber(
    predictions: Array,
    targets: Array,
    *,
    threshold: float = 1.0,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Quadratic near the target and linear away from it, robust to outliers (Huber, 1964).

    With e = a - y and t the threshold::

        l = e^2 / 2  where |e| <= t,  else t (|e| - t / 2)         dl/da = e cut to [-t, t]
    """
    if not threshold > 0:
        raise ValueError(f"huber needs a threshold above 0, got {threshold}")
    return elementwise(_huber, predictions, targets, sample_weight, backend, float(threshold))


def _log_cosh(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    size, slope = xp.abs(error), xp.tanh(error)
    square = xp.minimum(slope * slope, 0.9)  # more is not looked at below
    near = -0.5 * xp.log1p(-square)  # 1 / cosh^2 = 1 - tanh^2: small losses keep their digits
    far = size + xp.log1p(xp.exp(-2.0 * size)) - math.log(2.0)  # does not overflow
    return xp.where(size < 1.0, near, far), slope


@wants(same_shape, outputs="values")
def log_cosh(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = log cosh(a - y)``, ``dl/da = tanh(a - y)``: a ``huber`` without a corner.

    Near the target it is the half of the squared error, away from it the absolute error less log 2.
    """
    return elementwise(_log_cosh, predictions, targets, sample_weight, backend)


def _pinball(xp: Namespace, a: Array, y: Array, quantile: float) -> tuple[Array, Array]:
    error = a - y
    side = xp.sign(error)
    slope = (1.0 - quantile) * xp.maximum(side, 0.0) + quantile * xp.minimum(side, 0.0)
    return slope * error, slope


@wants(same_shape, outputs="values")
def pinball(
    predictions: Array,
    targets: Array,
    *,
    quantile: float = 0.5,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """The loss whose best prediction is a quantile of the targets (Koenker and Bassett, 1978).

    With e = a - y and t the quantile, such as 0.9 for a number that 90 % of the targets lie below::

        l = (1 - t) e  where e > 0,  else -t e            dl/da = 1 - t or -t, 0 where e = 0

    For 0.5, the median, it is half of the ``mean_absolute_error``.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"pinball needs a quantile between 0 and 1, got {quantile}")
    return elementwise(_pinball, predictions, targets, sample_weight, backend, float(quantile))


@wants(same_shape, outputs="values")
def cosine_distance(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """How far predictions are from the direction of the targets, from 0 to 2.

    For vectors a and y over the last axis::

        l = 1 - c,   c = a.y / (|a| |y|)                  dl/da = (c a / |a| - y / |y|) / |a|

    Of vectors of zeros, which have no direction, c and the derivative are 0. Infinite
    numbers count as the largest.
    """
    backend = backend or backend_of(predictions)
    predictions, xp = backend.asarray(predictions), backend.xp
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    targets = matching(predictions, targets, backend)
    each = shares(predictions, predictions.ndim - 1, sample_weight, None, backend)
    (a, length), (y, _) = unit_vectors(predictions, xp), unit_vectors(targets, xp)
    cosine = xp.sum(a * y, axis=-1, keepdims=True)
    delta = each.each * ((cosine * a - y) / length)
    delta = xp.where(xp.any(predictions != 0, axis=-1, keepdims=True), delta, 0.0)
    return total(each.each * (1.0 - cosine), each, backend), xp.astype(delta, dtype, copy=False)
