"""Losses: functions ``(predictions, targets) -> (value, delta)`` that keep nothing.

``value`` is a 0-d array: the weighted mean of the losses l of the single items::

    value = sum_i w_i l_i / sum_i w_i           (w_i = 1 unless weights are given)

and ``delta`` is its derivative dvalue/dpredictions, what ``network.backward`` takes. An *item* is
what one l is computed for: a number of the prediction for the elementwise losses, a row of class
scores for the others. Every loss takes these keywords:

    sample_weight: weights of shape (batch,), or with more axes, up to one for each item.
    backend: where the arrays live; found from ``predictions`` when left out.

Options are bound with ``functools.partial``: ``partial(cross_entropy, label_smoothing=0.1)``. A loss
of your own is a function with the same signature.

All of them are finite, value and delta, for predictions of +-1e4 in float32.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends import Backend, backend_of
from xpnn.errors import DataError, ShapeError
from xpnn.numerics import log_sum_exp, one_hot, softplus
from xpnn.typing import Array, Loss, Namespace, Shape

# What targets have to look like -------------------------------------------------------------------


def check_targets(loss: Loss, targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Look at the values of ``targets`` once, before training, while errors are still cheap.

    Raises:
        ShapeError, DataError: ``loss`` cannot use these targets for outputs of that shape.
    """
    function = getattr(loss, "func", loss)  # look through functools.partial
    check = getattr(function, "check_targets", None)
    if check is not None:
        check(targets, output_shape, backend)


def _wants(check: Callable[[Array, Shape, Backend], None]) -> Callable[[Any], Any]:
    """Attach to a loss the look at its targets that ``check_targets`` takes."""

    def attach(loss: Any) -> Any:
        loss.check_targets = check
        return loss

    return attach


def _holds(condition: Array, backend: Backend) -> bool:
    return bool(backend.to_numpy(backend.xp.all(condition)))


def _same_shape(targets: Array, output_shape: Shape, backend: Backend) -> None:
    if tuple(targets.shape[1:]) != output_shape:
        raise ShapeError(
            f"wanted targets of the shape of the outputs, (batch, {_listed(output_shape)}), got "
            f"{tuple(targets.shape)}; reshape the targets, or change the last layer"
        )


def _labels_or_rows(targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Class numbers (batch, ...), or rows of probabilities (batch, ..., classes)."""
    xp, classes = backend.xp, output_shape[-1]
    if tuple(targets.shape[1:]) == output_shape:
        if xp.isdtype(targets.dtype, "real floating") and not _holds(
            (targets >= 0) & (targets <= 1), backend
        ):
            raise DataError("wanted rows of probabilities, got values outside of [0, 1]")
        return
    if tuple(targets.shape[1:]) != output_shape[:-1]:
        raise ShapeError(
            f"wanted class numbers of shape (batch, {_listed(output_shape[:-1])}) or one-hot rows "
            f"of shape (batch, {_listed(output_shape)}), got {tuple(targets.shape)}"
        )
    if not xp.isdtype(targets.dtype, "integral"):
        raise DataError(
            f"wanted class numbers of an integer dtype, got {targets.dtype}; write "
            f"y.astype('int64')"
        )
    if not _holds((targets >= 0) & (targets < classes), backend):
        low, high = backend.to_numpy(xp.min(targets)), backend.to_numpy(xp.max(targets))
        raise DataError(
            f"wanted class numbers from 0 to {classes - 1}, as the network has {classes} outputs, "
            f"got numbers from {low} to {high}; count classes from 0, or give the last layer "
            f"{high + 1} units"
        )


def _between(low: float, high: float) -> Callable[[Array, Shape, Backend], None]:
    def check(targets: Array, output_shape: Shape, backend: Backend) -> None:
        _same_shape(targets, output_shape, backend)
        floats = backend.xp.astype(targets, backend.xp.float32)
        if not _holds((floats >= low) & (floats <= high), backend):
            raise DataError(f"wanted targets from {low:g} to {high:g}, got values outside of that")

    return check


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


# Weighted means ---------------------------------------------------------------------------------


def _shares(
    predictions: Array, items: Shape, weight: Array | None, backend: Backend
) -> Array | float:
    """``w_i / sum_i w_i``: what each item, of the array of items' shape, adds to the mean."""
    count = 1
    for n in items:
        count *= n
    if weight is None:
        return 1.0 / max(count, 1)
    xp = backend.xp
    weight = backend.asarray(weight)
    weight = xp.astype(weight, predictions.dtype)
    if tuple(weight.shape) != items[: weight.ndim] or weight.ndim == 0:
        raise ShapeError(
            f"wanted sample_weight of shape {items[:1]}, or of more axes up to {items}, got "
            f"{tuple(weight.shape)}"
        )
    weight = xp.reshape(weight, weight.shape + (1,) * (len(items) - weight.ndim))
    total = xp.sum(weight) * (count / max(math.prod(weight.shape), 1))
    # where all weights are zero nothing is learned, and nothing is divided by zero
    return weight / xp.where(total > 0, total, total + 1)


def _matching(predictions: Array, targets: Array, backend: Backend) -> Array:
    """Targets in the shape and dtype of the predictions."""
    if tuple(targets.shape) != tuple(predictions.shape):
        raise ShapeError(
            f"wanted targets of the predictions' shape {tuple(predictions.shape)}, got "
            f"{tuple(targets.shape)}"
        )
    if targets.dtype == predictions.dtype:
        return targets
    return backend.xp.astype(targets, predictions.dtype)


Rule = Callable[..., tuple[Array, Array]]


@functools.lru_cache(maxsize=256)
def _swept(backend: Backend, rule: Rule, options: tuple[float, ...]) -> Callable[..., Any]:
    """``rule(xp, predictions, targets, share, *options)`` as one sweep on ``backend``."""

    def shared(xp: Namespace, predictions: Array, targets: Array, share: Array) -> tuple[Array, Array]:
        loss, slope = rule(xp, predictions, targets, *options)
        return loss * share, slope * share

    shared.__qualname__ = rule.__name__
    return backend.elementwise(shared)


def _elementwise(
    rule: Rule,
    predictions: Array,
    targets: Array,
    sample_weight: Array | None,
    backend: Backend | None,
    *options: float,
    summed: bool = False,
) -> tuple[Array, Array]:
    """A loss whose items are the single numbers; ``summed`` counts a whole sample as one item."""
    backend = backend or backend_of(predictions)
    targets = _matching(predictions, targets, backend)
    items = tuple(predictions.shape)
    share = _shares(predictions, items[:1] if summed else items, sample_weight, backend)
    if summed and sample_weight is not None:
        share = backend.xp.reshape(share, (items[0],) + (1,) * (len(items) - 1))
    losses, delta = _swept(backend, rule, options)(predictions, targets, share)
    return backend.xp.sum(losses), delta


# Regression -------------------------------------------------------------------------------------


def _half_square(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return 0.5 * error * error, error


@_wants(_same_shape)
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
    return _elementwise(
        _half_square, predictions, targets, sample_weight, backend, summed=True
    )


def _square(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return error * error, 2.0 * error


@_wants(_same_shape)
def mean_squared_error(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = (a - y)^2``, ``dl/da = 2 (a - y)``, mean over all numbers of the prediction."""
    return _elementwise(_square, predictions, targets, sample_weight, backend)


def _absolute(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    error = a - y
    return xp.abs(error), xp.sign(error)


@_wants(_same_shape)
def mean_absolute_error(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = |a - y|``, ``dl/da = sign(a - y)``, 0 where they are equal."""
    return _elementwise(_absolute, predictions, targets, sample_weight, backend)


def _huber(xp: Namespace, a: Array, y: Array, threshold: float) -> tuple[Array, Array]:
    error = a - y
    clipped = xp.minimum(xp.maximum(error, -threshold), threshold)
    return clipped * (error - 0.5 * clipped), clipped


@_wants(_same_shape)
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
    if threshold <= 0:
        raise ValueError(f"huber needs a threshold above 0, got {threshold}")
    return _elementwise(_huber, predictions, targets, sample_weight, backend, float(threshold))


# Classification -----------------------------------------------------------------------------------


def _hinge(xp: Namespace, a: Array, y: Array) -> tuple[Array, Array]:
    sign = 2.0 * xp.astype(y > 0, a.dtype) - 1.0
    short = 1.0 - sign * a
    return xp.maximum(short, 0.0), xp.where(short > 0, -sign, 0.0)


@_wants(_between(-1, 1))
def hinge(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``l = max(0, 1 - y a)`` for classes y of -1 and 1, the loss of support vector machines.

    ``dl/da = -y`` where ``y a < 1``, else 0. Targets of 0 count as -1, so 0/1 labels work too.
    """
    return _elementwise(_hinge, predictions, targets, sample_weight, backend)


def _logistic(xp: Namespace, s: Array, y: Array) -> tuple[Array, Array]:
    return softplus(s, xp) - y * s, 0.5 * (xp.tanh(0.5 * s) + 1.0) - y


def _bernoulli(xp: Namespace, p: Array, y: Array, smallest: float) -> tuple[Array, Array]:
    yes, no = xp.maximum(p, smallest), xp.maximum(1.0 - p, smallest)
    return -(y * xp.log(yes) + (1.0 - y) * xp.log(no)), (1.0 - y) / no - y / yes


@_wants(_between(0, 1))
def binary_cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    from_logits: bool = True,
    class_weight: tuple[float, float] | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of yes/no targets, for logits or for probabilities.

    From logits s, with p = 1 / (1 + exp(-s)) inside, which never overflows::

        l = log(1 + exp(s)) - y s                          dl/ds = p - y

    From probabilities p (``from_logits=False``), where p and 1 - p are kept above 1e-7::

        l = -y log p - (1 - y) log(1 - p)                  dl/dp = (1 - y) / (1 - p) - y / p

    Args:
        predictions: logits or probabilities, of any shape.
        targets: of the same shape, from 0 to 1.
        from_logits: which of the two the predictions are.
        class_weight: weights of targets 0 and 1; a target between them gets a weight between.
    """
    backend = backend or backend_of(predictions)
    targets = _matching(predictions, targets, backend)
    if class_weight is not None:
        no, yes = map(float, class_weight)
        weight = no + (yes - no) * targets
        sample_weight = _times(weight, sample_weight, backend)
    if from_logits:
        return _elementwise(_logistic, predictions, targets, sample_weight, backend)
    return _elementwise(_bernoulli, predictions, targets, sample_weight, backend, 1e-7)


def _times(item_weight: Array, sample_weight: Array | None, backend: Backend) -> Array:
    """Weights of the items, times those of the samples they belong to."""
    if sample_weight is None:
        return item_weight
    xp = backend.xp
    weight = xp.astype(backend.asarray(sample_weight), item_weight.dtype)
    return item_weight * xp.reshape(weight, weight.shape + (1,) * (item_weight.ndim - weight.ndim))


@_wants(_labels_or_rows)
def cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    label_smoothing: float = 0.0,
    class_weight: Sequence[float] | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of one of many classes, from logits: softmax is inside.

    For logits s over the last axis, probabilities q of the target classes, and
    p = softmax(s)::

        l = log sum_j exp(s_j) - sum_j q_j s_j             dl/ds = p - q

    Args:
        predictions: logits, (batch, classes) or (batch, ..., classes).
        targets: class numbers, integers of shape (batch, ...); or rows of probabilities, such as
            one-hot rows, of the predictions' shape.
        label_smoothing: e in [0, 1): q becomes (1 - e) q + e / classes (Szegedy et al., 2016, 7).
        class_weight: one weight for each class; the weight of an item is that of its class.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy needs label_smoothing in [0, 1), got {label_smoothing}")
    backend = backend or backend_of(predictions)
    xp, classes = backend.xp, predictions.shape[-1]
    if tuple(targets.shape) == tuple(predictions.shape):
        q = _matching(predictions, targets, backend)
    elif tuple(targets.shape) == tuple(predictions.shape[:-1]):
        q = one_hot(targets, classes, predictions.dtype, xp)
    else:
        raise ShapeError(
            f"wanted class numbers of shape {tuple(predictions.shape[:-1])} or rows of shape "
            f"{tuple(predictions.shape)}, got {tuple(targets.shape)}"
        )
    if class_weight is not None:
        sample_weight = _times(_class_weights(q, class_weight, backend), sample_weight, backend)
    if label_smoothing:
        q = (1 - label_smoothing) * q + label_smoothing / classes
    share = _shares(predictions, tuple(predictions.shape[:-1]), sample_weight, backend)
    if sample_weight is not None:
        share = share[..., None]
    log_p = predictions - log_sum_exp(predictions, xp)
    return -xp.sum(q * log_p * share), (xp.exp(log_p) - q) * share


def _class_weights(q: Array, class_weight: Sequence[float], backend: Backend) -> Array:
    """The weight of each row's class; a row that mixes classes mixes their weights."""
    if len(class_weight) != q.shape[-1]:
        raise ShapeError(
            f"wanted one class_weight for each of {q.shape[-1]} classes, got {len(class_weight)}"
        )
    weights = backend.constant(tuple(map(float, class_weight)))
    return backend.xp.sum(q * backend.xp.astype(weights, q.dtype), axis=-1)


@_wants(_between(0, 1))
def kl_divergence(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """How far softmax(predictions) is from target distributions (Kullback and Leibler, 1951).

    For logits s over the last axis, target probabilities q and p = softmax(s)::

        l = sum_j q_j (log q_j - log p_j)                  dl/ds = sum(q) p - q

    where 0 log 0 = 0. It is ``cross_entropy`` less the entropy of the targets, so that a perfect
    fit has the value 0.
    """
    backend = backend or backend_of(predictions)
    xp = backend.xp
    q = _matching(predictions, targets, backend)
    share = _shares(predictions, tuple(predictions.shape[:-1]), sample_weight, backend)
    if sample_weight is not None:
        share = share[..., None]
    log_p = predictions - log_sum_exp(predictions, xp)
    log_q = xp.log(xp.where(q > 0, q, 1.0))
    mass = xp.sum(q, axis=-1, keepdims=True)
    return xp.sum(q * (log_q - log_p) * share), (mass * xp.exp(log_p) - q) * share
