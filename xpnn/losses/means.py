"""Weighted means of elementwise rules: the part that all losses share."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from xpnn.backends import Backend, backend_of
from xpnn.errors import DataError, ShapeError
from xpnn.losses.weights import of_numbers, or_nan, wide
from xpnn.typing import Array, Namespace, Shape

Rule = Callable[..., tuple[Array, Array]]
"""``rule(xp, predictions, targets, *options) -> (l, dl/dprediction)``, elementwise.

Arrays beside these two may stand between them and the options.
"""


def elementwise(
    rule: Rule,
    predictions: Array,
    targets: Array,
    sample_weight: Array | None,
    backend: Backend | None,
    *options: float,
    class_weight: Sequence[float] | None = None,
) -> tuple[Array, Array]:
    """A loss whose items are the single numbers; with class weights, targets are from 0 to 1."""
    backend = backend or backend_of(predictions)
    predictions = backend.asarray(predictions)
    dtype, predictions = predictions.dtype, wide(predictions, backend)
    targets = matching(predictions, targets, backend)
    item_weight = None
    if class_weight is not None:
        item_weight = of_numbers(targets, class_weight, (), backend, predictions.dtype)
    each = shares(predictions, predictions.ndim, sample_weight, item_weight, backend)
    return weighted_mean(rule, (predictions, targets), each, dtype, backend, *options)


class Shares(NamedTuple):
    """What the items of a mean count for.

    Attributes:
        each: ``w_i / sum_i w_i``, 0 where the sum is: an array to be multiplied with one of the
            predictions' shape, or a number.
        total: ``sum_i w_i``, a 0-d array; None where all items count alike.
    """

    each: Array | float
    total: Array | None


def weighted_mean(
    rule: Rule,
    arrays: tuple[Array, ...],
    shares: Shares,
    dtype: Any,
    backend: Backend,
    *options: float,
    donate: bool = False,
) -> tuple[Array, Array]:
    """Value and delta of a loss, the value NaN where no item has any weight.

    Args:
        rule: takes ``arrays``, which are in at least float32, and so is the value.
        dtype: what the delta is rounded to.
        donate: whether the first of the arrays may be written over, as nobody reads it any more.
    """
    xp = backend.xp
    numbers = tuple(map(float, options))  # NumPy's float64 would widen what it meets
    losses, delta = _sweep(backend, rule, numbers, donate)(shares.each, *arrays)
    value = xp.sum(losses)
    if shares.total is not None:
        value = or_nan(value, shares.total, xp)
    return value, xp.astype(delta, dtype, copy=False)


@functools.lru_cache(maxsize=256)
def _sweep(
    backend: Backend, rule: Rule, options: tuple[float, ...], donate: bool
) -> Callable[..., Any]:
    """``rule`` and the multiplication by the shares as one sweep over memory."""

    def shared(xp: Namespace, share: Array, *arrays: Array) -> tuple[Array, Array]:
        loss, slope = rule(xp, *arrays, *options)
        return loss * share, slope * share

    shared.__qualname__ = rule.__name__
    return backend.elementwise(shared, donate=(1,) if donate else ())


def shares(
    predictions: Array,
    axes: int,
    sample_weight: Array | None,
    item_weight: Array | None,
    backend: Backend,
) -> Shares:
    """What each item adds to the mean.

    Args:
        predictions: in at least float32; their first ``axes`` axes number the items.
        sample_weight: of the shape of the first of these axes, or of more of them.
        item_weight: of the shape of all of them. w_i is the product of the two.
    """
    xp, items, weight = backend.xp, tuple(predictions.shape[:axes]), item_weight
    if sample_weight is not None:
        weight = _one_each(items, sample_weight, predictions.dtype, backend)
        weight = weight if item_weight is None else weight * item_weight
    if weight is None:
        count = math.prod(items)
        if count:
            return Shares(1.0 / count, None)
        weight = xp.ones(items, dtype=predictions.dtype, device=backend.device)
    total = xp.sum(weight)
    share = weight / xp.where(total > 0, total, 1.0)
    return Shares(xp.reshape(share, (*items, *[1] * (predictions.ndim - axes))), total)


def _one_each(items: Shape, weight: Array, dtype: Any, backend: Backend) -> Array:
    """Sample weights, spread over the axes of the items that they lack."""
    xp, weight = backend.xp, backend.asarray(weight)
    if weight.ndim == 0 or tuple(weight.shape) != items[: weight.ndim]:
        raise ShapeError(
            f"wanted sample_weight of shape {items[:1]}, or of more axes up to {items}, got "
            f"{tuple(weight.shape)}; give each sample of the batch one weight"
        )
    column = xp.reshape(weight, (*weight.shape, *[1] * (len(items) - weight.ndim)))
    return xp.astype(xp.broadcast_to(column, items), dtype, copy=False)


def matching(predictions: Array, targets: Array, backend: Backend) -> Array:
    """Targets in the shape and dtype of the predictions."""
    xp, targets = backend.xp, backend.asarray(targets)
    if tuple(targets.shape) != tuple(predictions.shape):
        raise ShapeError(
            f"wanted targets of the predictions' shape {tuple(predictions.shape)}, got "
            f"{tuple(targets.shape)}; reshape the targets"
        )
    if targets.dtype == predictions.dtype:
        return targets
    if not xp.isdtype(predictions.dtype, "real floating"):
        raise DataError(
            f"wanted predictions of a float dtype, got {predictions.dtype}; convert them to float32"
        )
    return xp.astype(targets, predictions.dtype)
