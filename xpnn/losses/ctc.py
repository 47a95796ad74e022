"""Connectionist temporal classification: labels in order, at steps that nobody has marked."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from xpnn.backends import Backend, backend_of
from xpnn.errors import ShapeError
from xpnn.losses.means import shares, total
from xpnn.losses.targets import check_labels_in_order, labels_in_order, wants
from xpnn.losses.weights import wide
from xpnn.numerics import BARRED, one_hot
from xpnn.typing import Array, Namespace, Shape

NEVER = 0.1 * BARRED  # of log-likelihoods below it, no path gives these labels


class _Labels(NamedTuple):
    """The labels l' of a batch: those of the target with blanks before, between and behind.

    Attributes:
        extended: class numbers, (batch, 2 labels + 1).
        skip: 0 where a path may come from two places before, as there is another label, else
            BARRED.
        last: 0 at the places where a path may end, the last label and the blank behind it, else
            BARRED.
        steps: how many steps of each sample count, (batch, 1); None if all do.
    """

    extended: Array
    skip: Array
    last: Array
    steps: Array | None


def _one_label(output_shape: Shape) -> Shape:
    return (1,)


@wants(
    labels_in_order,
    outputs="class logits",
    target_shape=_one_label,
    read_options=("blank", "lengths"),
)
def ctc(
    predictions: Array,
    targets: Array,
    *,
    blank: int = 0,
    lengths: bool = False,
    sample_weight: Array | None = None,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Minus the log-likelihood of a sequence of labels, however its steps lie in time (Graves et
    al., 2006).

    A path gives each step a class; without repetitions, and then without blanks, it is to read as
    the labels. l' are the labels with blanks around, alpha_t(s) and beta_t(s) the likelihoods, up
    to step t and behind it, of the paths that are at l'_s then (eqs. 6 and 10; here beta has not
    the factor y of step t). With y = softmax of the logits, all in logarithms::

        l = -log sum_s alpha_t(s) beta_t(s)               at any t

        dl/dlogit_tk = y_tk - sum over s with l'_s = k of alpha_t(s) beta_t(s) exp(l)     (eq. 16)

    The value is not divided by the number of labels. Where no path gives the labels, as they are
    more than steps, or none is likelier than exp(-1e29), l is infinite and its derivative 0;
    targets of more labels than steps are refused before training.

    Args:
        predictions: logits, (batch, steps, classes), of which one class is the blank.
        targets: class numbers other than the blank, (batch, labels), filled up with -1 behind.
        blank: the class that stands for no label.
        lengths: whether the first column of the targets is no label, but how many steps of that
            sample count; those behind do not matter. Left out, all do.
        sample_weight: weights of the samples, (batch,); all 1 unless given.
        backend: where the arrays live; that of the predictions unless given.

    Returns:
        value: the mean of l over the samples by their weights, a 0-d array.
        delta: its derivative by the predictions, of their shape and dtype.

    Raises:
        ShapeError: predictions or targets have other axes, or weights another shape.
        DataError: class numbers are none of those, in NumPy's arrays or lists, and
            no backend is given.
        ValueError: the blank is no class.

    >>> import numpy as np
    >>> logits = np.zeros((1, 2, 3))  # two steps of three classes that are equally likely
    >>> value, delta = ctc(logits, np.array([[1]]))
    >>> float(np.exp(-value))  # paths 1 1, 1 blank and blank 1, of nine
    0.3333
    >>> delta.tolist()
    [[[0.0, -0.3333, 0.3333], [0.0, -0.3333, 0.3333]]]
    """
    given = targets if backend is None else None
    backend = backend or backend_of(predictions)
    predictions, targets, xp = backend.asarray(predictions), backend.asarray(targets), backend.xp
    if predictions.ndim != 3 or targets.ndim != 2:
        raise ShapeError(
            f"wanted predictions (batch, steps, classes) and targets (batch, labels), got "
            f"{tuple(predictions.shape)} and {tuple(targets.shape)}; reshape them"
        )
    classes = predictions.shape[-1]
    if not 0 <= blank < classes:
        raise ValueError(f"ctc needs blank to be a class from 0 to {classes - 1}, got {blank}")
    check_labels_in_order(given, classes, blank, lengths)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    each = shares(predictions, 1, sample_weight, None, backend)
    labels = _labels(targets, blank, lengths, predictions.dtype, backend)
    log_y = backend.log_softmax(predictions)
    likelihood, occupied = _occupied(xp.maximum(log_y, BARRED), labels, backend)
    possible = likelihood > NEVER
    per_class = occupied @ one_hot(labels.extended, classes, log_y.dtype, xp)
    delta = each.each * xp.where(possible[:, :, None], xp.exp(log_y) - per_class, 0.0)
    if labels.steps is not None:
        counted = backend.indices(predictions.shape[1]) < labels.steps
        delta = xp.where(counted[..., None], delta, 0.0)
    share = each.each if isinstance(each.each, float) else each.each[..., 0]
    value = total(share * xp.where(possible, -likelihood, xp.inf), each, backend)
    return value, xp.astype(delta, dtype, copy=False)


def _labels(targets: Array, blank: int, lengths: bool, dtype: Any, backend: Backend) -> _Labels:
    xp = backend.xp
    targets = xp.astype(targets, xp.int32, copy=False)
    steps = targets[:, :1] if lengths else None
    labels = targets[:, 1:] if lengths else targets
    batch, count = labels.shape
    places = backend.indices(2 * count + 1)
    filled = xp.where(labels < 0, blank, labels)
    blanks = xp.full_like(filled, blank)
    pairs = xp.reshape(xp.stack([blanks, filled], axis=-1), (batch, 2 * count))
    extended = xp.concat([pairs, blanks[:, :1]], axis=-1)
    before = xp.concat([xp.full_like(extended[:, :2], blank), extended[:, :-2]], axis=-1)
    may_skip = (extended != blank) & (extended != before)
    end = 2 * xp.sum(xp.astype(labels >= 0, xp.int32), axis=-1, keepdims=True, dtype=xp.int32)
    may_end = (places == end) | (places == end - 1)

    def barred_unless(allowed: Array) -> Array:
        return xp.astype(~allowed, dtype) * BARRED

    return _Labels(extended, barred_unless(may_skip), barred_unless(may_end), steps)


def _ways(xp: Namespace, stay: Array, one: Array, two: Array) -> Array:
    """The logarithm of the sum of three likelihoods."""
    most = xp.maximum(xp.maximum(stay, one), two)
    return most + xp.log(xp.exp(stay - most) + xp.exp(one - most) + xp.exp(two - most))


@functools.cache
def _ways_of(backend: Backend) -> Callable[..., Array]:
    found: Callable[..., Array] = backend.elementwise(_ways)
    return found


def _occupied(log_y: Array, labels: _Labels, backend: Backend) -> tuple[Array, Array]:
    """The log-likelihood of each sample, (batch, 1), and how likely its paths are at l'_s at each
    step, (batch, steps, 2 labels + 1).
    """
    xp, ways = backend.xp, _ways_of(backend)
    batch, steps, classes = log_y.shape
    extended, skip, last, counted = labels
    places = extended.shape[-1]
    firsts = xp.arange(batch * steps, dtype=xp.int32, device=backend.device) * classes
    firsts = xp.reshape(firsts, (batch, steps, 1))
    chosen = xp.reshape(firsts + extended[:, None, :], (-1,))
    emitted = xp.reshape(xp.take(xp.reshape(log_y, (-1,)), chosen), (batch, steps, places))
    emitted = xp.permute_dims(emitted, (1, 0, 2))
    barred = xp.full_like(last[:, :2], BARRED)
    onward = xp.concat([skip[:, 2:], barred], axis=-1)[:, :places]  # of where a skip leads to
    numbers = backend.indices(steps)

    def forward(carry: tuple[Array], y: Array, t: Array) -> tuple[tuple[Array], tuple[Array]]:
        (alpha,) = carry
        one = xp.concat([barred[:, :1], alpha[:, :-1]], axis=-1)
        two = xp.concat([barred, alpha[:, :-2]], axis=-1)[:, :places] + skip
        after = y + ways(alpha, one, two)
        if counted is not None:
            after = xp.where(t < counted, after, alpha)
        return (after,), (after,)

    def backward(carry: tuple[Array], y: Array, t: Array) -> tuple[tuple[Array], tuple[Array]]:
        (beta,) = carry
        emits = beta + y
        one = xp.concat([emits[:, 1:], barred[:, :1]], axis=-1)
        two = xp.concat([emits[:, 2:], barred], axis=-1)[:, :places] + onward
        before = ways(emits, one, two)
        if counted is not None:
            before = xp.where(t < counted, before, beta)
        return (before,), (beta,)

    start = xp.where(
        backend.indices(places) == 0, xp.zeros_like(last[:, :1]), BARRED
    )  # before the blank
    (alpha,), (alphas,) = backend.scan(forward, (start,), (emitted, numbers))
    _, (betas,) = backend.scan(backward, (last,), (emitted, numbers), reverse=True)
    at_the_end = alpha + last
    likelihood = xp.max(at_the_end, axis=-1, keepdims=True)
    likelihood = likelihood + xp.log(
        xp.sum(xp.exp(at_the_end - likelihood), axis=-1, keepdims=True)
    )
    occupied = xp.exp(xp.minimum(alphas + betas - likelihood, 0.0))
    return likelihood, xp.permute_dims(occupied, (1, 0, 2))
