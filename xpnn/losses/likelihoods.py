"""Losses of numbers that a distribution explains: minus its log-likelihood."""

from xpnn.backends import Backend, backend_of
from xpnn.losses.means import elementwise, matching, shares, weighted_mean
from xpnn.losses.targets import counts, half_as_many, wants
from xpnn.losses.weights import wide
from xpnn.numerics import finite
from xpnn.typing import Array, Namespace, Shape

LARGEST_LOG_RATE = 80.0  # a rate of 5e34: its square is none of float32, and no count comes near
SMALLEST_LOG_VARIANCE = -60.0  # what is divided by it is of float32 up to errors of 1e6


def _poisson(xp: Namespace, s: Array, y: Array) -> tuple[Array, Array]:
    s = xp.minimum(finite(s, xp), LARGEST_LOG_RATE)
    rate = xp.exp(s)
    return rate - y * s, rate - y


@wants(counts, outputs="log rates")
def poisson(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of counts y under Poisson distributions, from log rates s.

    ::

        l = exp(s) - y s                                  dl/ds = exp(s) - y

    log y!, which no prediction changes, is left out. A rate is ``exp(network.predict(x))``; log
    rates above 80 count as 80, and infinite ones as the largest number.

    Args:
        predictions: s, of any shape, (batch, ...).
        targets: y, of the same shape, at least 0.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = poisson(np.array([[0.0, 1.0]]), np.array([[2.0, 3.0]]))
    >>> float(value), delta.tolist()
    (0.3591, [[-0.5, -0.1409]])
    """
    return elementwise(_poisson, predictions, targets, sample_weight, backend)


def _gaussian(xp: Namespace, m: Array, v: Array, y: Array) -> tuple[Array, Array, Array]:
    v = xp.maximum(v, SMALLEST_LOG_VARIANCE)
    precision = xp.exp(-0.5 * v)  # its root: 1 / standard deviation
    z = (finite(m, xp) - y) * precision
    return 0.5 * (v + z * z), z * precision, 0.5 - 0.5 * z * z


def _halved(output_shape: Shape) -> Shape:
    return (*output_shape[:-1], (output_shape or (1,))[-1] // 2)


@wants(half_as_many, outputs="gaussians", target_shape=_halved)
def gaussian(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of numbers y under Gaussians, of which the network says how wide.

    The last axis of the predictions holds the means m of all d targets, then the logarithms v of
    their variances (Nix and Weigend, 1994, with v = log sigma^2)::

        l = (v + (m - y)^2 exp(-v)) / 2
        dl/dm = (m - y) exp(-v)                           dl/dv = (1 - (m - y)^2 exp(-v)) / 2

    log(2 pi) / 2, which no prediction changes, is left out. A v below -60 counts as -60: a standard
    deviation of 1e-13.

    Args:
        predictions: (batch, ..., 2 d), such as those of ``Dense(2 * d)``.
        targets: y, (batch, ..., d).
        sample_weight: weights of the targets, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the targets by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = gaussian(np.array([[1.0, 0.0]]), np.array([[3.0]]))
    >>> float(value), delta.tolist()
    (2.0, [[-2.0, -1.5]])
    """
    backend = backend or backend_of(predictions)
    predictions = backend.asarray(predictions)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    d = predictions.shape[-1] // 2
    m, v = predictions[..., :d], predictions[..., d:]
    targets = matching(m, targets, backend)
    each = shares(m, m.ndim, sample_weight, None, backend)
    return weighted_mean(_gaussian, (m, v, targets), each, dtype, backend)
