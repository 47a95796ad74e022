"""Losses of classes: yes or no, or one of many."""

from typing import TypeAlias

from xpnn.backends import Backend, backend_of
from xpnn.losses.means import Rule, Shares, elementwise, matching, shares, weighted_mean
from xpnn.losses.targets import (
    between,
    check_class_numbers,
    distributions,
    labels_or_distributions,
    wants,
)
from xpnn.losses.weights import ClassWeight, ignoring, of_numbers, of_rows, of_signs, wide
from xpnn.numerics import finite, sigmoid
from xpnn.typing import Array, Namespace

Pair: TypeAlias = tuple[Array, Array]


def _hinge(xp: Namespace, a: Array, y: Array) -> Pair:
    sign = 2.0 * y - 1.0
    short = 1.0 - sign * a
    return xp.maximum(short, 0.0), xp.where(short > 0, -sign, 0.0)


@wants(between(-1, 1), of_signs, outputs="margins")
def hinge(
    predictions: Array,
    targets: Array,
    *,
    class_weight: ClassWeight | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """The loss of support vector machines, yes and no with a margin (Cortes and Vapnik, 1995).

    For outputs a, and classes y of -1 and 1; targets of 0 count as -1, so 0/1 labels work too::

        l = max(0, 1 - y a)                                dl/da = -y where y a < 1, else 0

    Args:
        predictions: a, of any shape, (batch, ...).
        targets: y, of the same shape.
        class_weight: weights of the classes -1 and 1.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = hinge(np.array([[0.5], [2.0]]), np.array([[1], [1]]))
    >>> float(value), delta.tolist()
    (0.25, [[-0.5], [0.0]])
    """
    backend = backend or backend_of(predictions)
    positive = backend.asarray(targets) > 0
    return elementwise(
        _hinge, predictions, positive, sample_weight, backend, class_weight=class_weight
    )


def _logistic(xp: Namespace, s: Array, y: Array) -> Pair:
    s = finite(s, xp)
    # max(s, 0) - y s is exact where y is 0 or 1, so that small losses keep their digits
    loss = xp.maximum(s, 0.0) - y * s + xp.log1p(xp.exp(-xp.abs(s)))
    return loss, sigmoid(s, xp) - y


def _bernoulli(xp: Namespace, p: Array, y: Array, smallest: float) -> Pair:
    yes, no = xp.maximum(p, smallest), xp.maximum(1.0 - p, smallest)
    return -(y * xp.log(yes) + (1.0 - y) * xp.log(no)), (1.0 - y) / no - y / yes


def _logits_or_probabilities(*, from_logits: bool = True, **others: object) -> str:
    return "logits" if from_logits else "probabilities"


@wants(between(0, 1), of_numbers, outputs=_logits_or_probabilities)
def binary_cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    from_logits: bool = True,
    class_weight: ClassWeight | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of yes/no targets, for logits or for probabilities.

    From logits s, with p = 1 / (1 + exp(-s)) inside, which never overflows (an infinite logit
    counts as the largest number)::

        l = log(1 + exp(s)) - y s                          dl/ds = p - y

    From probabilities p (``from_logits=False``), where p and 1 - p are kept at or above the
    dtype's epsilon, 1.2e-7 in float32::

        l = -y log p - (1 - y) log(1 - p)                  dl/dp = (1 - y) / (1 - p) - y / p

    Args:
        predictions: logits or probabilities, of any shape, (batch, ...).
        targets: y, of the same shape, from 0 to 1.
        from_logits: which of the two the predictions are.
        class_weight: weights of targets 0 and 1; a target between them gets a weight between.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = binary_cross_entropy(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    >>> float(value), delta.tolist()
    (0.41, [[-0.25], [-0.0596]])
    """
    backend = backend or backend_of(predictions)
    predictions = backend.asarray(predictions)
    rule = _logistic if from_logits else _bernoulli
    options = [] if from_logits else [float(backend.xp.finfo(predictions.dtype).eps)]
    return elementwise(
        rule, predictions, targets, sample_weight, backend, *options, class_weight=class_weight
    )


def _log_likelihood(xp: Namespace, log_p: Array, q: Array, kept: float, floor: float) -> Pair:
    if floor:
        q = kept * q + floor
    seen = log_p if floor else xp.where(q > 0, log_p, 0.0)  # 0 log p is 0, where p is 0, too
    return q * seen, q - xp.exp(log_p)  # the slope is the logits', by way of log softmax


def _log_likelihood_of_labels(
    xp: Namespace, log_p: Array, labels: Array, classes: Array, *smoothing: float
) -> Pair:
    hit = labels == classes
    q = xp.astype(hit, log_p.dtype)
    if smoothing[1]:
        return _log_likelihood(xp, log_p, q, *smoothing)
    return xp.where(hit, log_p, 0.0), q - xp.exp(log_p)


@wants(labels_or_distributions, of_rows, outputs="class logits", read_options=("ignore_index",))
def cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    class_weight: ClassWeight | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of one of many classes, from logits: softmax is inside.

    For logits s over the last axis, probabilities q of the target classes, which sum to 1, and
    p = softmax(s)::

        l = -sum_j q_j log p_j                             dl/ds = p - q

    where 0 log 0 = 0: a logit of -inf bars its class, and a target on a barred class costs inf.

    Args:
        predictions: logits, (batch, classes) or (batch, ..., classes).
        targets: class numbers, integers of shape (batch, ...); or rows of probabilities, such as
            one-hot rows, of the predictions' shape.
        label_smoothing: e in [0, 1): q becomes (1 - e) q + e / classes (Szegedy et al., 2016, 7).
        ignore_index: a class number, which need be none of the network's, such as -1: items that
            have it weigh nothing, in means and in the metrics of a ``Trainer``, too.
        class_weight: one weight for each class; the weight of an item is that of its class. With
            label smoothing this is not what PyTorch does, which weighs each class's share of q.
        sample_weight: weights of the rows, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the rows by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.
        DataError: class numbers are not from 0 to classes - 1, in NumPy's arrays or lists, and
            no backend is given.
        ValueError: a share of smoothing that is not in [0, 1).

    >>> import numpy as np
    >>> value, delta = cross_entropy(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([1, 0]))
    >>> float(value), delta.tolist()
    (0.41, [[0.25, -0.25], [-0.0596, 0.0596]])
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy needs label_smoothing in [0, 1), got {label_smoothing}")
    given = targets if backend is None else None
    backend = backend or backend_of(predictions)
    predictions, targets = backend.asarray(predictions), backend.asarray(targets)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    classes = predictions.shape[-1]
    if ignore_index is not None:
        targets, sample_weight = ignoring(ignore_index, targets, sample_weight, backend)
    labelled = tuple(targets.shape) == tuple(predictions.shape[:-1])
    if labelled:
        check_class_numbers(given, classes, ignore_index)
    else:
        targets = matching(predictions, targets, backend)
    row_weight = None
    if class_weight is not None:
        outputs = tuple(predictions.shape[1:])
        row_weight = of_rows(targets, class_weight, outputs, backend, predictions.dtype)
    each, total = shares(predictions, predictions.ndim - 1, sample_weight, row_weight, backend)
    share = Shares(-each, total)  # the minus of l goes into the shares, which mostly are a number
    log_p = backend.log_softmax(predictions)
    rule: Rule = _log_likelihood
    arrays: tuple[Array, ...] = log_p, targets
    if labelled:
        rule = _log_likelihood_of_labels
        arrays = log_p, targets[..., None], backend.indices(classes)
    smoothing = (1.0 - label_smoothing, label_smoothing / classes)
    return weighted_mean(rule, arrays, share, dtype, backend, *smoothing, donate=True)


def _divergence(xp: Namespace, log_p: Array, q: Array) -> Pair:
    ratio = xp.log(xp.where(q > 0, q, 1.0)) - log_p
    return q * xp.where(q > 0, ratio, 0.0), xp.exp(log_p) - q  # likewise


@wants(distributions, outputs="class logits")
def kl_divergence(
    predictions: Array,
    targets: Array,
    *,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """How far softmax(predictions) is from target distributions (Kullback and Leibler, 1951).

    For logits s over the last axis, target probabilities q, which sum to 1, and p = softmax(s)::

        l = sum_j q_j (log q_j - log p_j)                  dl/ds = p - q

    where 0 log 0 = 0. It is ``cross_entropy`` less the entropy of the targets, so that a perfect
    fit has the value 0.

    Args:
        predictions: logits, (batch, ..., classes).
        targets: q, of the same shape.
        sample_weight: weights of the rows, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the rows by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.

    >>> import numpy as np
    >>> value, delta = kl_divergence(np.array([[0.0, 0.0]]), np.array([[0.75, 0.25]]))
    >>> float(value), delta.tolist()
    (0.1308, [[-0.25, 0.25]])
    """
    backend = backend or backend_of(predictions)
    predictions = backend.asarray(predictions)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    q = matching(predictions, targets, backend)
    each = shares(predictions, predictions.ndim - 1, sample_weight, None, backend)
    log_p = backend.log_softmax(predictions)
    return weighted_mean(_divergence, (log_p, q), each, dtype, backend, donate=True)
