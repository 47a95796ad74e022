"""Weighted means of elementwise rules: the part that all losses share."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xpnn.backends import Backend, backend_of
from xpnn.errors import DataError, ShapeError
from xpnn.losses.weights import ClassWeight, of_numbers, or_nan, spread_over, wide
from xpnn.typing import Array, Namespace

Rule = Callable[..., tuple[Array, ...]]
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
    class_weight: ClassWeight | None = None,
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
        rule: takes ``arrays``, which are in at least float32, and so is the value. It may return
            several slopes, which are put behind each other on the last axis.
        dtype: what the delta is rounded to.
        donate: whether the first of the arrays may be written over, as nobody reads it any more.
    """
    numbers = tuple(map(float, options))  # NumPy's float64 would widen what it meets
    losses, *deltas = sweep(backend, shared(rule), numbers, donate)(shares.each, *arrays)
    xp = backend.xp
    delta = deltas[0] if len(deltas) == 1 else xp.concat(deltas, axis=-1)
    return total(losses, shares, backend), xp.astype(delta, dtype, copy=False)


def total(losses: Array, shares: Shares, backend: Backend) -> Array:
    """The value of a loss, of what its items add to it: NaN where none of them has any weight."""
    value = backend.xp.sum(losses)
    return value if shares.total is None else or_nan(value, shares.total, backend.xp)


@functools.lru_cache(maxsize=256)
def sweep(
    backend: Backend, rule: Rule, options: tuple[float, ...], donate: bool = False
) -> Callable[..., Any]:
    """A rule with its options as one sweep over memory; the second array may be donated."""

    def bound(xp: Namespace, *arrays: Array) -> tuple[Array, ...]:
        return rule(xp, *arrays, *options)

    bound.__qualname__ = rule.__name__
    return backend.elementwise(bound, donate=(1,) if donate else ())


@functools.cache
def shared(rule: Rule) -> Rule:
    """A rule and the multiplication of its results by the shares, which come first."""

    def of_mean(xp: Namespace, share: Array, *arrays: Any) -> tuple[Array, ...]:
        return tuple(one * share for one in rule(xp, *arrays))

    of_mean.__name__ = rule.__name__
    return of_mean


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
        weight = spread_over(items, sample_weight, predictions.dtype, backend)
        weight = weight if item_weight is None else weight * item_weight
    if weight is None:
        count = math.prod(items)
        if count:
            return Shares(1.0 / count, None)
        weight = xp.ones(items, dtype=predictions.dtype, device=backend.device)
    total = xp.sum(weight)
    share = weight / xp.where(total > 0, total, 1.0)
    return Shares(xp.reshape(share, (*items, *[1] * (predictions.ndim - axes))), total)


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
