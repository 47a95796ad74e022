"""What items weigh, from targets and weights alone: means over several batches are made by it.

With W_p the sum of the weights w_i of the items of batch p, or of part p of one, the mean over all
of them is::

    value = sum_p W_p value_p / sum_p W_p           delta likewise, part by part
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.numerics import widened
from xpnn.typing import Array, Loss, Namespace, Number, Shape

ClassWeight: TypeAlias = Sequence[float] | Literal["balanced"]
"""One weight for each class; "balanced" where ``Trainer.fit`` is to work them out."""


def unbound(loss: Loss) -> tuple[Any, dict[str, Any]]:
    """The function under ``functools.partial``, or several of them, and its options."""
    function: Any = loss
    options: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        function, options = function.func, function.keywords | options
    return function, options


def total_weight(
    loss: Loss,
    targets: Array,
    sample_weight: Array | None,
    output_shape: Shape,
    backend: Backend,
    dtype: str = "float32",
) -> Number:
    """By how much the mean over a batch counts in the mean over several, W_p.

    ::

        value = sum_p W_p value_p / sum_p W_p

    Weights of the steps of a sequence, or of single outputs, count by their mean over a sample.

    A loss whose items weigh more or less for another reason than ``sample_weight`` says so by an
    attribute ``total_weight``, a function ``(targets, sample_weight, backend) -> W_p``; the losses
    of this library are known to do so for ``class_weight``.

    Args:
        loss: a loss, or a ``functools.partial`` of one.
        targets: of the batch.
        sample_weight: of the batch, or None.
        output_shape: of one output of the network.
        backend: of the targets.
        dtype: of class weights, "float32" or "float64".

    Returns:
        W_p, in samples of weight 1: a number, or a 0-d array.

    >>> import functools
    >>> import numpy as np
    >>> from xpnn import cross_entropy, get_backend
    >>> weighted = functools.partial(cross_entropy, class_weight=[1.0, 3.0])
    >>> float(total_weight(weighted, np.array([0, 1]), None, (2,), get_backend("numpy")))
    4.0
    """
    function, options = unbound(loss)
    own = getattr(loss, "total_weight", getattr(function, "total_weight", None))
    xp, weight = backend.xp, sample_weight
    if own is not None:
        found: Any = own(targets, weight, backend)
        if not backend.owns(found):  # a number; NumPy's are among Python's floats, or not
            return float(found)
        counted = not xp.isdtype(found.dtype, "real floating")
        return xp.astype(found, xp.float32) if counted else widened(found, xp)
    targets, weight = without_ignored(loss, targets, weight, backend, dtype)
    if weight is not None:
        weight = wide(weight, backend)
    class_weight = options.get("class_weight")
    item_weights = getattr(function, "item_weights", None)
    if class_weight is not None and item_weights is not None:
        each = item_weights(targets, class_weight, output_shape, backend, backend.dtype(dtype))
        if weight is not None:
            each = each * xp.reshape(weight, (*weight.shape, *[1] * (each.ndim - weight.ndim)))
        weight = each
    if weight is None:
        return float(targets.shape[0])
    items = math.prod(weight.shape[1:])
    return xp.sum(weight) / items if items > 1 else xp.sum(weight)


def items_weigh_alike(loss: Loss) -> bool:
    """Whether ``total_weight`` is the number of samples wherever there is no ``sample_weight``."""
    function, options = unbound(loss)
    own = getattr(loss, "total_weight", getattr(function, "total_weight", None))
    weighs = own, options.get("ignore_index"), options.get("class_weight")
    return all(one is None for one in weighs)


def without_ignored(
    loss: Loss, targets: Array, weight: Array | None, backend: Backend, dtype: str = "float32"
) -> tuple[Array, Array | None]:
    """Targets and weights in which what the loss ignores is class 0, and weighs nothing.

    Args:
        dtype: of weights where none are given.
    """
    ignore_index = unbound(loss)[1].get("ignore_index")
    if ignore_index is None:
        return targets, weight
    return ignoring(ignore_index, targets, weight, backend, dtype)


def ignoring(
    ignore_index: int,
    labels: Array,
    weight: Array | None,
    backend: Backend,
    dtype: str = "float32",
) -> tuple[Array, Array]:
    """The same, of class numbers of which one is ignored.

    Raises:
        DataError: these are no class numbers.
    """
    xp = backend.xp
    if not xp.isdtype(labels.dtype, "integral"):
        raise DataError(
            f"wanted class numbers beside ignore_index={ignore_index}, of an integer dtype, got "
            f"{labels.dtype}; leave ignore_index out, and give rows to ignore a sample_weight of 0"
        )
    if labels.dtype not in (xp.int32, xp.int64):
        labels = xp.astype(labels, xp.int32)
    kept = labels != ignore_index
    labels = xp.where(kept, labels, 0)
    if weight is None:
        return labels, xp.astype(kept, backend.dtype(dtype))
    weight = wide(backend.asarray(weight), backend)
    return labels, xp.where(kept, spread_over(labels.shape, weight, weight.dtype, backend), 0.0)


def of_rows(
    targets: Array,
    class_weight: ClassWeight,
    output_shape: Shape,
    backend: Backend,
    dtype: Any,
) -> Array:
    """The weight of each row's class; a row that mixes classes mixes their weights."""
    xp, classes = backend.xp, output_shape[-1]
    name = "float64" if dtype == xp.float64 else "float32"
    weights = backend.constant(one_for_each(class_weight, classes), name)
    if tuple(targets.shape)[1:] == output_shape:
        each = xp.astype(targets, dtype, copy=False) * weights
    else:
        each = xp.where(targets[..., None] == backend.indices(classes), weights, 0.0)
    return xp.sum(each, axis=-1)


def of_numbers(
    targets: Array,
    class_weight: ClassWeight,
    output_shape: Shape,
    backend: Backend,
    dtype: Any,
    *,
    signs: bool = False,
) -> Array:
    """The weight of each target from 0, no, to 1, yes; for ``signs``, from below 0 to above."""
    no, yes = one_for_each(class_weight, classes=2)
    targets = targets > 0 if signs else targets
    return no + (yes - no) * backend.xp.astype(targets, dtype, copy=False)


of_signs = functools.partial(of_numbers, signs=True)


def one_for_each(class_weight: ClassWeight, classes: int) -> tuple[float, ...]:
    """The weights of the classes, as Python numbers."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        raise ValueError(
            "class_weight='balanced' is worked out by Trainer.fit from all of its targets; call "
            "fit first, or give the numbers of xpnn.losses.balanced_weights"
        )
    weights = _numbers_in(class_weight)
    if weights is None or len(weights) != classes:
        raise ShapeError(
            f"wanted class_weight to list {classes} numbers, one for each class, got "
            f"{class_weight!r}; write the weights in the order of the classes"
        )
    if not all(math.isfinite(one) and one >= 0 for one in weights):
        raise ValueError(
            f"wanted class_weight to list finite numbers of at least 0, got {class_weight!r}"
        )
    return weights


def _numbers_in(listed: Any) -> tuple[float, ...] | None:
    """A list, a tuple or an array as Python numbers; None of what is none, or holds no numbers."""
    if isinstance(listed, Mapping | str | bytes) or not hasattr(listed, "__len__"):
        return None
    if len(getattr(listed, "shape", (0,))) != 1:  # NumPy before 2.4 takes [1.0] for a number
        return None
    try:
        return tuple(map(float, listed))
    except (TypeError, ValueError, RuntimeError):  # the last one by tensors that are not dense
        return None


def spread_over(items: Shape, weight: Array, dtype: Any, backend: Backend) -> Array:
    """Sample weights, spread over the axes of the items that they lack."""
    xp, weight = backend.xp, backend.asarray(weight)
    if weight.ndim == 0 or tuple(weight.shape) != items[: weight.ndim]:
        raise ShapeError(
            f"wanted sample_weight of shape {items[:1]}, or of more axes up to {items}, got "
            f"{tuple(weight.shape)}; give each sample of the batch one weight"
        )
    column = xp.reshape(weight, (*weight.shape, *[1] * (len(items) - weight.ndim)))
    return xp.astype(xp.broadcast_to(column, items), dtype, copy=False)


def or_nan(value: Array, total: Array, xp: Namespace) -> Array:
    """A mean, or NaN where the sum of the weights behind it is 0: both are 0-d."""
    return value + xp.where(total > 0, 0.0 * total, math.nan)


def wide(array: Array, backend: Backend) -> Array:
    """An array in float32 where it is in half precision: squares and sums outgrow that."""
    if not backend.xp.isdtype(array.dtype, "real floating"):
        return array
    return widened(array, backend.xp)
