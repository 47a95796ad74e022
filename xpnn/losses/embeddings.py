"""Losses of embeddings: what belongs together is to lie close together.

One sample holds several embeddings, side by side on the axis before the last. Such predictions come
of a network that puts them there, such as one whose inputs are (3, ...) for an anchor, a positive
and a negative each. Targets are not looked at: any array of one row for each sample will do.
"""

from xpnn.backends import Backend, backend_of
from xpnn.errors import ShapeError
from xpnn.losses.means import shares, total, weighted_mean
from xpnn.losses.targets import groups_of, wants
from xpnn.losses.weights import wide
from xpnn.numerics import BARRED, unit_vectors
from xpnn.typing import Array, Namespace, Shape


def _one(output_shape: Shape) -> Shape:
    return ()


def _embeddings(predictions: Array, count: int, backend: Backend) -> list[Array]:
    """The embeddings of each sample, in at least float32."""
    if predictions.ndim != 3 or predictions.shape[1] != count:
        raise ShapeError(
            f"wanted predictions of shape (batch, {count}, d), {count} embeddings a sample, got "
            f"{tuple(predictions.shape)}; reshape them"
        )
    predictions = wide(predictions, backend)
    return [predictions[:, k, :] for k in range(count)]


@wants(groups_of(3), outputs="embeddings", target_shape=_one)
def triplet(
    predictions: Array,
    targets: Array,
    *,
    margin: float = 0.2,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """An anchor is to lie closer to its positive than to its negative (Schroff et al., 2015, 3.1).

    For embeddings a, p and n of a sample and the margin t::

        l = max(0, |a - p|^2 - |a - n|^2 + t)

        dl/da = 2 (n - p)          dl/dp = 2 (p - a)          dl/dn = 2 (a - n),  0 where l = 0

    The paper's embeddings are of length 1, so that squared distances end at 4. Distances are
    squared, other than in ``torch.nn.TripletMarginLoss``.

    Args:
        predictions: (batch, 3, d): anchor, positive and negative.
        targets: not looked at; one row for each sample, (batch, ...).
        margin: t, at least 0.
        sample_weight: weights of the samples, (batch,); all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the samples by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: predictions are no triplets, or weights have another shape.
        ValueError: the margin is below 0.

    >>> import numpy as np
    >>> value, delta = triplet(np.array([[[0.0], [1.0], [1.0]]]), np.zeros(1))
    >>> float(value), delta.tolist()
    (0.2, [[[0.0], [2.0], [-2.0]]])
    """
    if not margin >= 0:
        raise ValueError(f"triplet needs a margin of at least 0, got {margin}")
    backend = backend or backend_of(predictions)
    predictions, xp = backend.asarray(predictions), backend.xp
    a, p, n = _embeddings(predictions, 3, backend)
    each = shares(a, 1, sample_weight, None, backend)
    # |a - p|^2 - |a - n|^2 is a product of two distances: no digits are lost where both are large
    short = float(margin) + xp.sum((n - p) * (2.0 * a - p - n), axis=-1, keepdims=True)
    pulls = xp.stack([n - p, p - a, a - n], axis=1)
    counted = xp.astype(short > 0, short.dtype) * (2.0 * each.each)
    delta = xp.astype(pulls * counted[:, None, :], predictions.dtype, copy=False)
    return total(xp.maximum(short, 0.0) * each.each, each, backend), delta


def _own(xp: Namespace, log_p: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    own = rows == columns
    return xp.where(own, -log_p, 0.0), xp.exp(log_p) - xp.astype(own, log_p.dtype)


@wants(groups_of(2), outputs="embeddings", target_shape=_one, across_samples=True)
def contrastive(
    predictions: Array,
    targets: Array,
    *,
    temperature: float = 0.1,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """InfoNCE: an anchor is to find its positive among those of the batch (van den Oord et al.,
    2018, eq. 4, with cosines c over a temperature T as the scores, as in Chen et al., 2020, eq. 1).

    For anchors a and positives p of samples i and j::

        c_ij = a_i.p_j / (|a_i| |p_j|)         q_ij = softmax over j of c_ij / T

        l_i = -log q_ii                        dl_i/dc_ij = (q_ij - [i = j]) / T

    So the value depends on the batch: the more samples, the harder, and ``accumulate`` or a last
    batch that is smaller make it easier. Processes that each have some samples of a batch refuse
    it. Positives of samples of weight 0 are nobody's negatives.

    Args:
        predictions: (batch, 2, d): anchor and positive.
        targets: not looked at; one row for each sample, (batch, ...).
        temperature: T, above 0; the smaller, the more the closest negatives count.
        sample_weight: weights of the samples, (batch,); all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the samples by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: predictions are no pairs, or weights have another shape.
        ValueError: the temperature is not above 0.

    >>> import numpy as np
    >>> pairs = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    >>> float(contrastive(pairs, np.zeros(2), temperature=1.0)[0])  # log(1 + exp(-1))
    0.3133
    """
    if not temperature > 0:
        raise ValueError(f"contrastive needs a temperature above 0, got {temperature}")
    backend = backend or backend_of(predictions)
    predictions, xp = backend.asarray(predictions), backend.xp
    anchors, positives = _embeddings(predictions, 2, backend)
    each = shares(anchors, 1, sample_weight, None, backend)
    (a, a_length), (p, p_length) = unit_vectors(anchors, xp), unit_vectors(positives, xp)
    scores = (a @ p.T) / float(temperature)
    if each.total is not None:
        weightless = xp.reshape(each.each, (1, -1)) == 0
        scores = scores + xp.astype(weightless, scores.dtype) * BARRED
    numbers = backend.indices(a.shape[0])
    arrays = backend.log_softmax(scores), numbers[:, None], numbers
    value, slope = weighted_mean(_own, arrays, each, scores.dtype, backend)
    slope = slope / float(temperature)
    delta = xp.stack(
        [
            _through_length(slope @ p, a, a_length, xp),
            _through_length(slope.T @ a, p, p_length, xp),
        ],
        axis=1,
    )
    return value, xp.astype(delta, predictions.dtype, copy=False)


def _through_length(slope: Array, unit: Array, length: Array, xp: Namespace) -> Array:
    """The derivative by a vector, of that by the vector divided by its length; 0 of zeros."""
    along = unit * xp.sum(unit * slope, axis=-1, keepdims=True)
    return xp.where(xp.any(unit != 0, axis=-1, keepdims=True), (slope - along) / length, 0.0)
