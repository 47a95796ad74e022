"""Losses of numbers: how far predictions are from targets of the same shape."""

from xpnn.backends import Backend, backend_of
from xpnn.losses.means import elementwise, matching, shares, weighted_mean
from xpnn.losses.targets import same_shape, wants
from xpnn.losses.weights import wide
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
