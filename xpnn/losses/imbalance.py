"""Losses for classes of which one is rare: a few objects before much background."""

from xpnn.backends import Backend, backend_of
from xpnn.errors import ShapeError
from xpnn.losses.means import elementwise, matching, shares, sweep, total
from xpnn.losses.targets import between, check_class_numbers, labels_or_distributions, masks, wants
from xpnn.losses.weights import ClassWeight, of_numbers, of_rows, wide
from xpnn.numerics import finite, one_hot, sigmoid, softplus
from xpnn.typing import Array, Namespace


def _check_gamma(name: str, gamma: float) -> None:
    if not gamma >= 0:
        raise ValueError(f"{name} needs gamma of at least 0, got {gamma}")


def _binary_focal(xp: Namespace, s: Array, y: Array, gamma: float) -> tuple[Array, Array]:
    s = finite(s, xp)
    p, q = sigmoid(s, xp), sigmoid(-s, xp)  # of yes and of no
    of_yes, of_no = softplus(-s, xp), softplus(s, xp)  # -log p and -log q
    yes, no = y * xp.exp(-gamma * of_no), (1.0 - y) * xp.exp(-gamma * of_yes)
    slope = no * (gamma * q * of_no + p) - yes * (gamma * p * of_yes + q)
    return yes * of_yes + no * of_no, slope


@wants(between(0, 1), of_numbers, outputs="logits")
def binary_focal(
    predictions: Array,
    targets: Array,
    *,
    gamma: float = 2.0,
    class_weight: ClassWeight | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``binary_cross_entropy`` in which what is easy counts little (Lin et al., 2017, eq. 4).

    For logits s, p = 1 / (1 + exp(-s)) and q = 1 - p::

        l = -y q^gamma log p - (1 - y) p^gamma log q

        dl/ds = (1 - y) p^gamma (p - gamma q log q) - y q^gamma (q - gamma p log p)

    An infinite logit counts as the largest number.

    Args:
        predictions: logits, of any shape, (batch, ...).
        targets: y, of the same shape, from 0 to 1.
        gamma: at least 0, which is the cross-entropy.
        class_weight: weights of targets 0 and 1, the paper's 1 - alpha and alpha; the value is the
            mean by them, while the paper adds up.
        sample_weight: weights of the numbers, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the numbers by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.
        ValueError: gamma is below 0.

    >>> import numpy as np
    >>> value, delta = binary_focal(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    >>> float(value), delta.tolist()
    (0.08755, [[-0.1491], [-0.002435]])
    """
    _check_gamma("binary_focal", gamma)
    return elementwise(
        _binary_focal,
        predictions,
        targets,
        sample_weight,
        backend,
        float(gamma),
        class_weight=class_weight,
    )


def _focal(
    xp: Namespace, share: Array, log_p: Array, q: Array, gamma: float, smallest: float
) -> tuple[Array, Array]:
    """What each class adds to the loss, and to the slope by -log p."""
    missing = xp.maximum(-xp.expm1(log_p), smallest)  # 1 - p, which is divided by
    seen = xp.where(q > 0, log_p, 0.0)  # 0 log p is 0, where p is 0, too
    each = share * q * missing**gamma
    return -each * seen, each * (1.0 - gamma * xp.exp(log_p) * finite(seen, xp) / missing)


@wants(labels_or_distributions, of_rows, outputs="class logits")
def focal(
    predictions: Array,
    targets: Array,
    *,
    gamma: float = 2.0,
    class_weight: ClassWeight | None = None,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """``cross_entropy`` in which what is easy counts little (Lin et al., 2017, eq. 4).

    For logits s over the last axis, probabilities q of the target classes and p = softmax(s)::

        l = -sum_j q_j (1 - p_j)^gamma log p_j

        dl/ds = p sum_j f_j - f,     f_j = q_j (1 - p_j)^gamma (1 - gamma p_j log p_j / (1 - p_j))

    Args:
        predictions: logits, (batch, ..., classes).
        targets: class numbers (batch, ...), or rows of probabilities, as for ``cross_entropy``.
        gamma: at least 0, which is the cross-entropy.
        class_weight: one weight for each class; the weight of an item is that of its class.
        sample_weight: weights of the rows, (batch,) or of more axes; all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the rows by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: targets or weights have another shape.
        DataError: class numbers are not from 0 to classes - 1, in NumPy's arrays or lists, and
            no backend is given.
        ValueError: gamma is below 0.

    >>> import numpy as np
    >>> value, delta = focal(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([1, 0]))
    >>> float(value), delta.tolist()
    (0.08755, [[0.1491, -0.1491], [-0.002435, 0.002435]])
    """
    _check_gamma("focal", gamma)
    given = targets if backend is None else None
    backend = backend or backend_of(predictions)
    predictions, targets, xp = backend.asarray(predictions), backend.asarray(targets), backend.xp
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    if tuple(targets.shape) == tuple(predictions.shape[:-1]):
        check_class_numbers(given, predictions.shape[-1])
        targets = one_hot(targets, predictions.shape[-1], predictions.dtype, xp)
    q = matching(predictions, targets, backend)
    row_weight = None
    if class_weight is not None:
        outputs = tuple(predictions.shape[1:])
        row_weight = of_rows(q, class_weight, outputs, backend, predictions.dtype)
    each = shares(predictions, predictions.ndim - 1, sample_weight, row_weight, backend)
    log_p = backend.log_softmax(predictions)
    options = float(gamma), float(xp.finfo(log_p.dtype).smallest_normal)
    losses, steep = sweep(backend, _focal, options)(each.each, log_p, q)
    delta = xp.exp(log_p) * xp.sum(steep, axis=-1, keepdims=True) - steep
    return total(losses, each, backend), xp.astype(delta, dtype, copy=False)


@wants(masks, outputs="logits")
def dice(
    predictions: Array,
    targets: Array,
    *,
    smoothing: float = 1.0,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """1 less the overlap of a predicted mask and the true one (Sudre et al., 2017, section 2.1).

    Each channel of a sample is a mask of its own. For logits s at its positions, p = sigmoid(s)::

        l = 1 - (2 sum p y + e) / (sum p + sum y + e)

        dl/dp = (1 - l - 2 y) / (sum p + sum y + e)        dl/ds = dl/dp p (1 - p)

    It does not depend on how much background there is.

    Args:
        predictions: logits, (batch, ..., channels), such as (batch, height, width, channels).
        targets: y, of the same shape, from 0 to 1.
        smoothing: e, above 0, by which an empty mask that is predicted empty costs nothing.
        sample_weight: weights of the masks, (batch,); all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the masks by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: predictions have no positions, or targets or weights another shape.
        ValueError: smoothing is not above 0.

    >>> import numpy as np
    >>> mask = np.array([[[1.0], [1.0], [0.0]]])
    >>> value, delta = dice(np.array([[[9.0], [0.0], [-9.0]]]), mask)
    >>> float(value), delta[0, :, 0].tolist()
    (0.1112, [-3.047e-05, -0.06173, 2.437e-05])
    """
    if not smoothing > 0:
        raise ValueError(f"dice needs smoothing above 0, got {smoothing}")
    backend = backend or backend_of(predictions)
    predictions, xp = backend.asarray(predictions), backend.xp
    if predictions.ndim < 3:
        raise ShapeError(
            f"wanted predictions of shape (batch, ..., channels), with positions between the two, "
            f"got {tuple(predictions.shape)}; reshape them"
        )
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    y = matching(predictions, targets, backend)
    each = shares(predictions, 1, sample_weight, None, backend)
    share = each.each / predictions.shape[-1]
    positions = tuple(range(1, predictions.ndim - 1))
    p, absent = sigmoid(predictions, xp), sigmoid(-predictions, xp)
    whole = xp.sum(p + y, axis=positions, keepdims=True) + float(smoothing)
    overlap = (2.0 * xp.sum(p * y, axis=positions, keepdims=True) + float(smoothing)) / whole
    delta = share * (overlap - 2.0 * y) / whole * p * absent
    return total(share * (1.0 - overlap), each, backend), xp.astype(delta, dtype, copy=False)
