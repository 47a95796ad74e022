"""What samples have to be before a step sees them; errors say what to change."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.arguments import check_input_shape, check_integers, same_length, same_rows
from xpnn.backends import Backend, get_backend
from xpnn.errors import DataError, ShapeError
from xpnn.layers.nodes import Kind
from xpnn.losses import check_targets
from xpnn.losses.by_output import losses_of
from xpnn.losses.outputs import Outputs, outputs_by_part
from xpnn.losses.weights import without_ignored
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.training.stepping.batch_weight import weight_dtype
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Loss, Shape

BLOCK = 1 << 24  # bytes of a data set that are looked at in one go


def check_samples(
    network: Network,
    loss: Loss,
    x: Arrays,
    y: Arrays,
    weight: Array | None,
    whose: str = "",
    *,
    metrics: Sequence[Metric] = (),
    values: bool = True,
    finite: bool = True,
    may_be_empty: bool = False,
) -> None:
    """Look at inputs, targets and weights: NumPy arrays, or arrays of the network's backend.

    Nothing is copied, and what is worked out on the way is of bounded size, so that memory maps
    stay on the disk.

    Args:
        whose: what stands before the names of the arrays in an error.
        metrics: what is to be measured on them.
        values: whether to look at the numbers, too, for which a device has to be waited for.
        finite: whether NaN and infinities are refused, where numbers are looked at.
        may_be_empty: whether there may be no samples, as other processes have some.

    Raises:
        ShapeError, DataError: these samples cannot be trained on.
    """
    inputs, targets = as_tuple(x), as_tuple(y)
    names = [f"x[{name!r}]" if len(inputs) > 1 else "x" for *_, name in network.inputs]
    names += [f"y[{name!r}]" if len(targets) > 1 else "y" for name in network.output_names]
    parts = [*inputs, *targets, weight]
    arrays = dict(zip([f"{whose}{name}" for name in (*names, "sample_weight")], parts, strict=True))
    for one, (shape, takes, _) in zip(inputs, network.inputs, strict=True):
        _check_input_form(network, one, shape, takes)
    (same_rows if may_be_empty else same_length)(**arrays)
    if values:
        network.check_ready()
        network.root.check_inputs(x)
        dtypes = [network.dtype] * (len(parts) - 1) + [weight_dtype(network)]
        for (name, array), dtype in zip(arrays.items(), dtypes, strict=True):
            if finite and array is not None:
                _check_finite(name, array, _home(array, network), dtype)
        if weight is not None and not math.prod(weight.shape):
            raise ShapeError(
                f"wanted {whose}sample_weight of shape (samples,), got {tuple(weight.shape)}"
            )
        if weight is not None and _least(weight, _home(weight, network)) < 0:
            raise DataError(f"wanted {whose}sample_weight of at least 0, got negative weights")
    check_targets_of_all(network, loss, targets, values)
    homes = [_home(one, network) for one in targets]
    losses = losses_of(loss, network.output_names)
    if values:
        outputs = outputs_by_part(network.root, network.output_shape, [one for _, one, _ in losses])
        for own, home, of in zip(targets, homes, outputs, strict=True):
            _check_sums(own, home, of)
    if metrics:
        seen = [
            without_ignored(one, own, None, home)[0]
            for (_, one, _), own, home in zip(losses, targets, homes, strict=True)
        ]
        for metric in metrics:
            metric.check_targets(one_or_tuple(seen), network.output_shape, homes[0], values)


def check_targets_of_all(
    network: Network, loss: Loss, targets: Sequence[Array | None], values: bool = True
) -> None:
    """Look at the targets of each output as its loss wants them.

    Args:
        targets: NumPy arrays, or arrays of the network's backend; None where none is looked at.
        values: whether to look at the numbers, too, for which a device has to be waited for.

    Raises:
        ShapeError, DataError: a loss cannot use these targets.
    """
    losses = losses_of(loss, network.output_names)
    for own, (_, one, _), (shape, _) in zip(targets, losses, network.outputs, strict=True):
        if own is not None:
            check_targets(one, own, shape, _home(own, network), values)


def _check_sums(y: Array, home: Backend, outputs: Outputs) -> None:
    """Refuse rows of several classes, or of none, where outputs are probabilities that sum to 1."""
    if outputs.name != "probabilities" or not outputs.sum_to_1:
        return
    y = home.xp.astype(y, home.xp.int8) if home.xp.isdtype(y.dtype, "bool") else y
    sums = home.xp.sum(y, axis=-1, dtype=home.xp.float32)
    if not bool(home.to_numpy(home.xp.all(home.xp.abs(sums - 1.0) < 0.01))):
        raise DataError(
            f"wanted targets of one class a row, as the outputs of {outputs.last!r} sum to 1, got "
            f"rows of several, or of none; end the network in Sigmoid()"
        )


def _home(array: Array, network: Network) -> Backend:
    return get_backend("numpy") if isinstance(array, np.ndarray) else network.backend


def _check_input_form(network: Network, x: Array, shape: Shape, takes: Kind) -> None:
    """Shape and kind of an input, as ``Network.asarray`` wants it."""
    check_input_shape(tuple(x.shape), shape)
    if takes == "integers":
        check_integers(x, _home(x, network).xp)


def _least(array: Array, home: Backend) -> float:
    return float(home.to_numpy(home.xp.min(array)))


def _check_finite(name: str, array: Array, home: Backend, dtype: str) -> None:
    """Refuse NaN and infinities, and what becomes one in the network's dtype."""
    if not home.xp.isdtype(array.dtype, "real floating"):
        return
    rows = array.shape[0]
    step = max(1, BLOCK * rows // max(1, math.prod(array.shape) * 8))
    bad = sum(
        _count_bad(array[start : min(start + step, rows), ...], home, dtype)
        for start in range(0, rows, step)
    )
    if bad:
        raise DataError(
            f"wanted finite numbers, but {bad} of {math.prod(array.shape)} in {name} are "
            f"NaN or infinite; remove these samples or fill them in"
        )


def _count_bad(block: Any, home: Backend, dtype: str) -> int:
    if isinstance(block, np.ndarray):
        wanted = np.dtype({"float16": "f2", "float64": "f8"}.get(dtype, "f4"))
        if wanted.itemsize < block.dtype.itemsize:
            with np.errstate(over="ignore"):
                block = block.astype(wanted)
        return int(block.size - np.count_nonzero(np.isfinite(block)))
    return int(home.to_numpy(home.xp.count_nonzero(~home.xp.isfinite(block))))
