"""What each loss wants its targets to look like, checked once before training."""

from collections.abc import Callable
from typing import Any

from xpnn.backends import Backend
from xpnn.errors import Change, DataError, ShapeError
from xpnn.typing import Array, Loss, Shape

Check = Callable[[Array, Shape, Backend, bool], None]
"""Of (targets, shape of one output, their backend, whether to look at the numbers)."""


def check_targets(
    loss: Loss, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
) -> None:
    """Look at ``targets`` once, before training, while errors are still cheap.

    Args:
        values: whether to look at the numbers, and not only at shape and dtype; waits for a device.

    Raises:
        ShapeError, DataError: ``loss`` cannot use these targets for outputs of that shape.
    """
    function = getattr(loss, "func", loss)  # look through functools.partial
    check = getattr(function, "check_targets", None)
    if check is not None:
        check(targets, output_shape, backend, values)


def wants(
    check: Check,
    item_weights: Callable[..., Array] | None = None,
    *,
    outputs: str | Callable[..., str] | None = None,
) -> Callable[[Any], Any]:
    """Attach to a loss what it takes targets and outputs for.

    Args:
        check: the look at its targets that ``check_targets`` takes.
        item_weights: the weights that ``class_weight`` gives to the items; see ``total_weight``.
        outputs: a name in ``MEANINGS``, or a function of the loss's options that returns one; None
            for a loss that does not say.
    """

    def attach(loss: Any) -> Any:
        loss.check_targets, loss.item_weights, loss.outputs = check, item_weights, outputs
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
    targets: Array, output_shape: Shape, backend: Backend, values: bool
) -> None:
    """Class numbers (batch, ...), or rows of probabilities (batch, ..., classes)."""
    shape = tuple(targets.shape)
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


def _labels(targets: Array, classes: int, backend: Backend, values: bool) -> None:
    if not backend.xp.isdtype(targets.dtype, "integral"):
        raise DataError(
            f"wanted class numbers of an integer dtype, got {targets.dtype}",
            change=Change("y", dtype="int64"),
        )
    if not values:
        return
    least, most = map(int, _range(targets, backend))
    if least < 0 or most >= classes:
        raise DataError(
            f"wanted class numbers from 0 to {classes - 1}, as the network has {classes} outputs, "
            f"got numbers from {least} to {most}; count classes from 0, or give the last layer "
            f"{most + 1} units"
        )


def _range(targets: Array, backend: Backend) -> tuple[float, float]:
    """The smallest and the largest number, on the host."""
    xp = backend.xp
    least, most = (xp.all, xp.any) if xp.isdtype(targets.dtype, "bool") else (xp.min, xp.max)
    return float(backend.to_numpy(least(targets))), float(backend.to_numpy(most(targets)))


def _batch_of(shape: Shape) -> str:
    return f"(batch, {', '.join(map(str, shape))})" if shape else "(batch,)"
