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

    For a batch of n samples x, with outputs a and targets y (Nielsen, Neural Networks and Deep
    Learning, 2015, eq. 6)::

        C = 1/(2n) sum_x |a - y|^2              delta = (a - y) / n

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        sample_weight: weights of the samples, (batch,); all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of |a - y|^2 / 2 over the samples by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = quadratic_cost(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))
    >>> float(value), delta.tolist()
    (2.5, [[1.0, -2.0]])
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
    """The squared error of each number of the predictions, in the squared units of the targets.

    ::

        l = (a - y)^2                                      dl/da = 2 (a - y)

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))
    >>> float(value), delta.tolist()
    (2.5, [[1.0, -2.0]])
    """
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
    """The absolute error of each number of the predictions, in the units of the targets.

    ::

        l = |a - y|                                        dl/da = sign(a - y), 0 where a = y

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = mean_absolute_error(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]))
    >>> float(value), delta.tolist()
    (1.5, [[0.5, -0.5]])
    """
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

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        threshold: t, above 0, in the units of the targets.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.
        ValueError: the threshold is not above 0.

    >>> import numpy as np
    >>> value, delta = huber(np.array([[1.5, 2.0]]), np.array([[1.0, 4.0]]))
    >>> float(value), delta.tolist()
    (0.8125, [[0.25, -0.5]])
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
    """A ``huber`` without a corner.

    ::

        l = log cosh(a - y)                                dl/da = tanh(a - y)

    Near the target it is the half of the squared error, away from it the absolute error less log 2.

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = log_cosh(np.array([[1.5, 2.0]]), np.array([[1.0, 4.0]]))
    >>> float(value), delta.tolist()
    (0.7226, [[0.2311, -0.482]])
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

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        quantile: t, in (0, 1).
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.
        ValueError: the quantile is not in (0, 1).

    >>> import numpy as np
    >>> value, delta = pinball(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]), quantile=0.9)
    >>> float(value), delta.tolist()
    (0.95, [[0.05, -0.45]])
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

    Args:
        predictions: a, (batch, ..., d).
        targets: y, of the same shape.
        sample_weight: weights of the vectors, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the vectors by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = cosine_distance(np.array([[2.0, 0.0]]), np.array([[3.0, 4.0]]))
    >>> float(value), delta.tolist()
    (0.4, [[0.0, -0.4]])
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
