"""Targets and weights as metrics take them: what they stand for, and which are refused."""

import math
from collections.abc import Iterator

from xpnn.backends import Backend
from xpnn.errors import Change, DataError, ShapeError
from xpnn.typing import Array, Namespace, Shape

LOOKED_AT_ONCE = 1 << 22  # targets, before anything is measured


def chosen_class(predictions: Array, threshold: float | None, xp: Namespace) -> Array:
    """The class that outputs stand for: the largest, or, of a single output, yes (1) or no (0)."""
    if is_binary(predictions):
        if not xp.isdtype(predictions.dtype, "real floating"):  # answers already
            predictions = xp.astype(predictions, xp.float32)
        says_yes = xp.reshape(predictions, _items(predictions)) > (threshold or 0.0)
        return xp.astype(says_yes, xp.int32)
    return xp.argmax(predictions, axis=-1)


def true_class(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Class numbers, from class numbers, from one-hot rows or from 0 (or -1) and 1."""
    if is_binary(predictions):
        check_shape(targets, tuple(predictions.shape)[1:])
        share = xp.astype(xp.reshape(targets, _items(predictions)), xp.float32)
        return xp.astype(share > 0.5, xp.int32)
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int32)
    return xp.argmax(targets, axis=-1) if targets.shape == predictions.shape else targets


def is_binary(predictions: Array) -> bool:
    """Whether one output answers yes or no, rather than one of several classes."""
    return predictions.ndim == 1 or predictions.shape[-1] == 1


def _items(predictions: Array) -> Shape:
    """The shape of the yes or no answers that single outputs give."""
    return tuple(predictions.shape if predictions.ndim == 1 else predictions.shape[:-1])


def as_predictions(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Targets in the shape and dtype of the predictions."""
    check_shape(targets, tuple(predictions.shape)[1:])
    return xp.astype(xp.reshape(targets, predictions.shape), predictions.dtype, copy=False)


def check_shape(targets: Array, output_shape: Shape) -> None:
    """Refuse targets that are not one for each output; an axis of one may be there or not."""
    shape = tuple(targets.shape)[1:]
    if shape != output_shape and (*shape, 1) != output_shape and shape != (*output_shape, 1):
        raise ShapeError(
            f"wanted targets of the predictions' shape (batch, "
            f"{', '.join(map(str, output_shape))}), got {tuple(targets.shape)}; reshape them"
        )


def check_yes_or_no(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Refuse targets that are not one yes or no for each output."""
    check_shape(targets, output_shape)
    xp = backend.xp
    if not values or xp.isdtype(targets.dtype, "bool") or not targets.shape[0]:
        return
    least, most = _extremes(targets, backend)
    if least < -1 or most > 1:
        raise DataError(
            f"wanted targets of 0 or -1 for no and 1 for yes, got numbers from {least:g} to "
            f"{most:g}; give the network an output for each class, or, if class 1 is the yes",
            change=Change("y", "{array} == 1"),
        )


def _extremes(targets: Array, backend: Backend) -> tuple[float, float]:
    """The smallest and the largest number, on the host."""
    least, most = (backend.to_numpy(find(targets)) for find in (backend.xp.min, backend.xp.max))
    return float(least), float(most)


def check_classes(
    targets: Array, output_shape: Shape, backend: Backend, values: bool, otherwise: str
) -> None:
    """Refuse targets that are neither class numbers nor rows of one class each.

    Args:
        values: whether the numbers are looked at, too.
        otherwise: what to do where rows are of several classes.
    """
    shape, xp = tuple(targets.shape)[1:], backend.xp
    if shape == output_shape[:-1]:
        if values and targets.shape[0] and not xp.isdtype(targets.dtype, "bool"):
            _, most = _extremes(targets, backend)
            if most >= output_shape[-1]:
                raise DataError(
                    f"wanted class numbers from 0 to {output_shape[-1] - 1}, got numbers up to "
                    f"{most:g}; count classes from 0, or give the last layer {int(most) + 1} units"
                )
        return
    if shape != output_shape:
        rows = ", ".join(["batch", *map(str, output_shape[:-1])])
        wanted = (
            f"wanted class numbers of shape ({rows}) or rows of the predictions' shape, got "
            f"{tuple(targets.shape)}"
        )
        if shape == (*output_shape[:-1], 1):
            raise ShapeError(wanted, change=Change("y", "{array}[..., 0]"))
        raise ShapeError(f"{wanted}; reshape the targets")
    if not values:
        return
    if not all(_of_one_class(part, backend) for part in _parts(targets)):
        raise DataError(
            f"wanted targets of one class a row, got rows of several, or of none; {otherwise}"
        )


def _parts(targets: Array) -> Iterator[Array]:
    """Rows after rows, so many that what is worked out of them is of bounded size."""
    count = int(targets.shape[0])
    step = max(1, LOOKED_AT_ONCE // max(1, math.prod(targets.shape[1:])))
    return (targets[start : min(start + step, count), ...] for start in range(0, count, step))


def _of_one_class(rows: Array, backend: Backend) -> bool:
    """Whether each row has one yes, or is a row of probabilities."""
    xp = backend.xp
    y = xp.astype(rows, xp.float32)
    of_one = xp.count_nonzero(y > 0.5, axis=-1) == 1
    sums_to_1 = xp.abs(xp.sum(xp.maximum(y, 0.0), axis=-1) - 1.0) < 0.01
    return bool(backend.to_numpy(xp.all(of_one | sums_to_1)))


def one_for_each_item(items: Array, weight: Array | None, dtype: object, xp: Namespace) -> Array:
    """One weight for each item, ones where no weights came."""
    if weight is None:
        return xp.ones_like(items, dtype=dtype)
    if weight.ndim == items.ndim + 1 and weight.shape[-1] == 1:
        weight = weight[..., 0]
    if weight.shape != items.shape[: weight.ndim]:
        raise ShapeError(
            f"wanted sample_weight of shape {tuple(items.shape[:1])}, or of more axes up to "
            f"{tuple(items.shape)}, got {tuple(weight.shape)}; give each sample one weight"
        )
    column = xp.reshape(weight, (*weight.shape, *[1] * (items.ndim - weight.ndim)))
    return xp.astype(xp.broadcast_to(column, items.shape), dtype, copy=False)


def wide_dtype(predictions: Array, xp: Namespace) -> object:
    """The dtype in which weights and counts are added up."""
    return xp.float64 if predictions.dtype == xp.float64 else xp.float32
