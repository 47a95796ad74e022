"""How much the items of a part of a batch weigh, so that a batch may be gone through in parts.

With W_p the sum of the weights w_i of the items of part p, the mean over all of them is::

    value = sum_p W_p value_p / sum_p W_p           delta likewise, part by part
"""

import functools
from collections.abc import Sequence

from xpnn.backends import Backend
from xpnn.losses.means import one_for_each
from xpnn.numerics import one_hot
from xpnn.typing import Array, Loss, Number, Shape


def total_weight(
    loss: Loss, targets: Array, sample_weight: Array | None, output_shape: Shape, backend: Backend
) -> Number:
    """W_p, but for a factor that all parts of a batch share: a number, or a 0-d array.

    A loss whose items weigh more or less for another reason than ``sample_weight`` says so by an
    attribute ``total_weight``, a function ``(targets, sample_weight, backend) -> W_p``; the losses
    of this library are known to do so for ``class_weight``.
    """
    function = getattr(loss, "func", loss)  # look through functools.partial
    own = getattr(loss, "total_weight", getattr(function, "total_weight", None))
    if own is not None:
        found: Number = own(targets, sample_weight, backend)
        return found
    xp = backend.xp
    class_weight = getattr(loss, "keywords", {}).get("class_weight")
    item_weights = getattr(function, "item_weights", None)
    if class_weight is not None and item_weights is not None:
        weight = item_weights(targets, class_weight, output_shape, backend)
        if sample_weight is not None:
            missing = (1,) * (weight.ndim - sample_weight.ndim)
            weight = weight * xp.reshape(sample_weight, (*sample_weight.shape, *missing))
        return xp.sum(weight)
    if sample_weight is not None:
        return xp.sum(sample_weight)
    return float(targets.shape[0])


def of_rows(
    targets: Array, class_weight: Sequence[float], output_shape: Shape, backend: Backend
) -> Array:
    """The weight of each row's class, for class numbers or rows of probabilities."""
    xp = backend.xp
    weights = backend.constant(one_for_each(class_weight, classes=output_shape[-1]))
    if tuple(targets.shape)[1:] == output_shape:
        rows = xp.astype(targets, weights.dtype, copy=False)
    else:
        rows = one_hot(targets, output_shape[-1], weights.dtype, xp)
    return xp.sum(rows * weights, axis=-1)


def of_numbers(
    targets: Array,
    class_weight: Sequence[float],
    output_shape: Shape,
    backend: Backend,
    *,
    signs: bool = False,
) -> Array:
    """The weight of each target from 0, no, to 1, yes; for ``signs``, from below 0 to above."""
    no, yes = one_for_each(class_weight, classes=2)
    targets = targets > 0 if signs else targets
    return no + (yes - no) * backend.xp.astype(targets, backend.xp.float32, copy=False)


of_signs = functools.partial(of_numbers, signs=True)
