"""What each loss wants its targets to look like, checked once before training."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import Change, DataError, ShapeError
from xpnn.losses.weights import ignoring, unbound
from xpnn.typing import Array, Loss, Shape

Check = Callable[[Array, Shape, Backend, bool], None]
"""Of (targets, shape of one output, their backend, whether to look at the numbers)."""


def check_targets(
    loss: Loss, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
) -> None:
    """Look at ``targets`` once, before training, while errors are still cheap.

    Args:
        loss: a loss, or a ``functools.partial`` of one.
        targets: of a whole data set, on any backend.
        output_shape: of one output of the network.
        backend: of the targets.
        values: whether to look at the numbers, and not only at shape and dtype; waits for a device.

    Raises:
        ShapeError, DataError: ``loss`` cannot use these targets for outputs of that shape.

    >>> import numpy as np
    >>> from xpnn import cross_entropy, get_backend
    >>> check_targets(cross_entropy, np.array([0, 9]), (3,), get_backend("numpy"))
    Traceback (most recent call last):
    xpnn.errors.DataError: ...
    """
    function, bound = unbound(loss)
    check = getattr(function, "check_targets", None)
    if check is not None:
        names = getattr(function, "read_options", ())
        options = {name: bound[name] for name in names if name in bound}
        check(targets, output_shape, backend, values, **options)


def wants(
    check: Check,
    item_weights: Callable[..., Array] | None = None,
    *,
    outputs: str | Callable[..., str] | None = None,
    target_shape: Callable[[Shape], Shape] | None = None,
    read_options: Sequence[str] = (),
    across_samples: bool = False,
) -> Callable[[Any], Any]:
    """Attach to a loss what it takes targets and outputs for.

    Args:
        check: the look at its targets that ``check_targets`` takes.
        item_weights: the weights that ``class_weight`` gives to the items; see ``total_weight``.
        outputs: a name in ``MEANINGS``, or a function of the loss's options that returns one; None
            for a loss that does not say.
        target_shape: the shape of one target, by that of one output, where it is another one.
        read_options: names of the loss's options that ``check`` takes, too.
        across_samples: whether the loss of a sample depends on the others of the batch, so that
            processes which each have some of them refuse it.
    """

    def attach(loss: Any) -> Any:
        loss.check_targets, loss.item_weights, loss.outputs = check, item_weights, outputs
        loss.target_shape, loss.read_options = target_shape, read_options
        loss.across_samples = across_samples
        return loss

    return attach


def same_shape(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Numbers, one for each output."""
    shape = tuple(targets.shape)
    if shape[1:] != output_shape:
        wanted = f"wanted targets of the shape of the outputs, {_batch_of(output_shape)}"
        if (*shape[1:], 1) == output_shape:
            raise ShapeError(f"{wanted}, got {shape}", change=Change("y", "{array}[..., None]"))
        raise ShapeError(f"{wanted}, got {shape}; reshape the targets, or change the last layer")


def between(low: float, high: float) -> Check:
    """Numbers in [low, high], one for each output."""

    def check(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
        same_shape(targets, output_shape, backend, values)
        if not values:
            return
        least, most = _range(targets, backend)
        if least < low or most > high:
            raise DataError(
                f"wanted targets from {low:g} to {high:g}, got numbers from {least:g} to {most:g}; "
                f"rescale the targets, or choose a loss for numbers of any size"
            )

    return check


def counts(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Numbers of at least 0, one for each output."""
    same_shape(targets, output_shape, backend, values)
    if values and (least := _range(targets, backend)[0]) < 0:
        raise DataError(
            f"wanted counts, which are at least 0, got numbers from {least:g}; choose a loss for "
            f"numbers of any size, or give targets that count something"
        )


def half_as_many(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Numbers, half as many on the last axis as there are outputs."""
    shape = tuple(targets.shape)
    outputs = output_shape[-1] if output_shape else 1
    if outputs % 2:
        raise ShapeError(
            f"wanted outputs that hold a mean and the logarithm of a variance for each target, got "
            f"{outputs}; give the last layer two units for each target"
        )
    half = (*output_shape[:-1], outputs // 2)
    if shape[1:] != half:
        wanted = f"wanted targets of shape {_batch_of(half)}, half as many as outputs"
        if (*shape[1:], 1) == half:
            raise ShapeError(f"{wanted}, got {shape}", change=Change("y", "{array}[..., None]"))
        raise ShapeError(
            f"{wanted}, got {shape}; give the last layer two units for each target, or reshape "
            f"the targets"
        )


def masks(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Numbers in [0, 1], one for each output; outputs are (positions, ..., channels)."""
    if len(output_shape) < 2:
        raise ShapeError(
            f"wanted outputs of shape (batch, ..., channels), with positions between the two, got "
            f"{_batch_of(output_shape)}; choose binary_focal, or end the network in such a shape"
        )
    between(0, 1)(targets, output_shape, backend, values)


def labels_in_order(
    targets: Array,
    output_shape: Shape,
    backend: Backend,
    values: bool,
    *,
    blank: int = 0,
    lengths: bool = False,
) -> None:
    """Class numbers (batch, labels) with -1 behind, behind the number of steps if ``lengths``."""
    shape = tuple(targets.shape)
    if len(output_shape) != 2:
        raise ShapeError(
            f"wanted outputs of shape (batch, steps, classes), got {_batch_of(output_shape)}; end "
            f"the network in such a shape"
        )
    if len(shape) != 2 or shape[1] < 1 + lengths:
        first = "the number of steps and then " if lengths else ""
        raise ShapeError(
            f"wanted rows of {first}at least one label, got targets of shape {shape}; fill up "
            f"short rows with -1"
        )
    _refuse_floats(targets, backend)
    if not values:
        return
    xp, (time, classes) = backend.xp, output_shape
    labels = targets[:, 1:] if lengths else targets
    least, most = map(int, _range(labels, backend))
    _refuse_labels(least, most, _any(labels == blank, backend), classes, blank)
    is_label = labels >= 0
    if _any(is_label[:, 1:] & ~is_label[:, :-1], backend):
        raise DataError(
            "wanted all labels of a row before its -1, got labels behind; move the -1 behind them"
        )
    steps = xp.astype(targets[:, 0], xp.int32) if lengths else time
    if lengths and _any((steps < 1) | (steps > time), backend):
        raise DataError(
            f"wanted a first column of steps from 1 to {time}, got others; give "
            f"such steps, or leave lengths out where all of them count"
        )
    repeated = (labels[:, 1:] == labels[:, :-1]) & is_label[:, 1:]
    needed = xp.count_nonzero(is_label, axis=-1) + xp.count_nonzero(repeated, axis=-1)
    if _any(needed > steps, backend):
        raise DataError(
            "wanted a step for each label, and one more between two of the same, got more labels; "
            "take more steps, or leave such samples out"
        )


def _refuse_labels(least: int, most: int, has_blank: bool, classes: int, blank: int) -> None:
    if least < -1 or most >= classes or has_blank:
        raise DataError(
            f"wanted class numbers from 0 to {classes - 1} other than the blank, {blank}, and -1 "
            f"behind them, got numbers from {least} to {most}; leave a class to the blank, and "
            f"give the last layer one unit more than there are labels"
        )


def _any(condition: Array, backend: Backend) -> bool:
    return bool(backend.to_numpy(backend.xp.any(condition)))


def groups_of(count: int) -> Check:
    """Targets that are not looked at; the outputs are ``count`` embeddings a sample."""

    def check(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
        if len(output_shape) != 2 or output_shape[0] != count:
            raise ShapeError(
                f"wanted outputs of shape (batch, {count}, d), {count} embeddings a sample, got "
                f"{_batch_of(output_shape)}; end the network in such a shape"
            )

    return check


def distributions(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Rows of probabilities, of the outputs' shape."""
    between(0, 1)(targets, output_shape, backend, values)
    if not values:
        return
    xp = backend.xp
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int8)
    sums = xp.sum(targets, axis=-1, dtype=xp.float32)
    least, most = _range(sums, backend)
    if least < 0.99 or most > 1.01:
        raise DataError(
            f"wanted rows of probabilities, which sum to 1, got rows that sum to {least:g} up to "
            f"{most:g}; divide each row by its sum, or, where a sample is of several classes at "
            f"once, choose binary_cross_entropy"
        )


def labels_or_distributions(
    targets: Array,
    output_shape: Shape,
    backend: Backend,
    values: bool,
    *,
    ignore_index: int | None = None,
) -> None:
    """Class numbers (batch, ...), or rows of probabilities (batch, ..., classes)."""
    shape = tuple(targets.shape)
    if ignore_index is not None:
        targets, _ = ignoring(ignore_index, targets, None, backend)
    if shape[1:] == output_shape:
        distributions(targets, output_shape, backend, values)
    elif shape[1:] == output_shape[:-1]:
        _labels(targets, output_shape[-1], backend, values)
    else:
        wanted = (
            f"wanted class numbers of shape {_batch_of(output_shape[:-1])} or one-hot rows of "
            f"shape {_batch_of(output_shape)}"
        )
        if shape[1:] == (*output_shape[:-1], 1):
            raise ShapeError(f"{wanted}, got {shape}", change=Change("y", "{array}[..., 0]"))
        raise ShapeError(f"{wanted}, got {shape}; reshape the targets, or change the last layer")


def _refuse_floats(targets: Array, backend: Backend) -> None:
    if not backend.xp.isdtype(targets.dtype, "integral"):
        raise DataError(
            f"wanted class numbers of an integer dtype, got {targets.dtype}",
            change=Change("y", dtype="int64"),
        )


def _labels(targets: Array, classes: int, backend: Backend, values: bool) -> None:
    _refuse_floats(targets, backend)
    if values:
        least, most = map(int, _range(targets, backend))
        _refuse_unknown(least, most, classes)


def _refuse_unknown(least: int, most: int, classes: int) -> None:
    if least < 0 or most >= classes:
        more = f", or give the last layer {most + 1} units" if most >= classes else ""
        raise DataError(
            f"wanted class numbers from 0 to {classes - 1}, as the network has {classes} outputs, "
            f"got numbers from {least} to {most}; count classes from 0{more}"
        )


def check_class_numbers(targets: Any, classes: int, ignore_index: int | None = None) -> None:
    """Refuse class numbers that no output is for, where reading them waits for no device.

    Losses that are called by themselves do so with NumPy's arrays and lists. What a step hands to
    them, with a backend, was looked at before.

    Args:
        targets: class numbers of any shape, of any library.
        classes: of the outputs.
        ignore_index: a class number that need not be one of them.

    Raises:
        DataError: there is such a number.
    """
    labels = _read(targets)
    kept = labels if ignore_index is None else labels[labels != ignore_index]
    if kept.size:
        _refuse_unknown(int(kept.min()), int(kept.max()), classes)


def check_labels_in_order(targets: Any, classes: int, blank: int, lengths: bool) -> None:
    """The same of the class numbers that ``labels_in_order`` takes."""
    labels = _read(targets)[..., lengths:]
    if labels.size:
        _refuse_labels(
            int(labels.min()), int(labels.max()), bool(np.any(labels == blank)), classes, blank
        )


def _read(targets: Any) -> np.ndarray:
    """Whole numbers of NumPy or of lists; of all else none."""
    if isinstance(targets, np.ndarray | list):
        array = np.asarray(targets)
        if array.dtype.kind in "iu":
            return array
    return np.empty(0, np.int64)


def _range(targets: Array, backend: Backend) -> tuple[float, float]:
    """The smallest and the largest number, on the host."""
    xp = backend.xp
    least, most = (xp.all, xp.any) if xp.isdtype(targets.dtype, "bool") else (xp.min, xp.max)
    return float(backend.to_numpy(least(targets))), float(backend.to_numpy(most(targets)))


def _batch_of(shape: Shape) -> str:
    return f"(batch, {', '.join(map(str, shape))})" if shape else "(batch,)"
