"""What each loss wants its targets to look like, checked once before training."""

from collections.abc import Callable
from typing import Any

from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.typing import Array, Loss, Shape

Check = Callable[[Array, Shape, Backend], None]


def check_targets(loss: Loss, targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Look at the values of ``targets`` once, before training, while errors are still cheap.

    Raises:
        ShapeError, DataError: ``loss`` cannot use these targets for outputs of that shape.
    """
    function = getattr(loss, "func", loss)  # look through functools.partial
    check = getattr(function, "check_targets", None)
    if check is not None:
        check(targets, output_shape, backend)


def wants(check: Check) -> Callable[[Any], Any]:
    """Attach to a loss the look at its targets that ``check_targets`` takes."""

    def attach(loss: Any) -> Any:
        loss.check_targets = check
        return loss

    return attach


def same_shape(targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Numbers, one for each output."""
    shape = tuple(targets.shape)
    if shape[1:] != output_shape:
        flat = (*shape[1:], 1) == output_shape
        raise ShapeError(
            f"wanted targets of the shape of the outputs, {_batch_of(output_shape)}, got {shape}; "
            + ("write y[..., None]" if flat else "reshape the targets, or change the last layer")
        )


def between(low: float, high: float) -> Check:
    """Numbers in [low, high], one for each output."""

    def check(targets: Array, output_shape: Shape, backend: Backend) -> None:
        same_shape(targets, output_shape, backend)
        least, most = _range(targets, backend)
        if least < low or most > high:
            raise DataError(
                f"wanted targets from {low:g} to {high:g}, got numbers from {least:g} to {most:g}; "
                f"rescale the targets, or choose a loss for numbers of any size"
            )

    return check


def distributions(targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Rows of probabilities, of the outputs' shape."""
    between(0, 1)(targets, output_shape, backend)
    xp = backend.xp
    sums = xp.sum(xp.astype(targets, xp.float32), axis=-1)
    least, most = _range(sums, backend)
    if least < 0.99 or most > 1.01:
        raise DataError(
            f"wanted rows of probabilities, which sum to 1, got rows that sum to {least:g} up to "
            f"{most:g}; divide each row by its sum, or, where a sample is of several classes at "
            f"once, choose binary_cross_entropy"
        )


def labels_or_distributions(targets: Array, output_shape: Shape, backend: Backend) -> None:
    """Class numbers (batch, ...), or rows of probabilities (batch, ..., classes)."""
    shape = tuple(targets.shape)
    if shape[1:] == output_shape:
        distributions(targets, output_shape, backend)
    elif shape[1:] == output_shape[:-1]:
        _labels(targets, output_shape[-1], backend)
    else:
        column = shape[1:] == (*output_shape[:-1], 1)
        raise ShapeError(
            f"wanted class numbers of shape {_batch_of(output_shape[:-1])} or one-hot rows of "
            f"shape {_batch_of(output_shape)}, got {shape}; "
            + ("write y[..., 0]" if column else "reshape the targets, or change the last layer")
        )


def _labels(targets: Array, classes: int, backend: Backend) -> None:
    if not backend.xp.isdtype(targets.dtype, "integral"):
        raise DataError(
            f"wanted class numbers of an integer dtype, got {targets.dtype}; write "
            f"y.astype('int64')"
        )
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
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int32)
    return float(backend.to_numpy(xp.min(targets))), float(backend.to_numpy(xp.max(targets)))


def _batch_of(shape: Shape) -> str:
    return f"(batch, {', '.join(map(str, shape))})" if shape else "(batch,)"
