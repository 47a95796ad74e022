"""Data at the boundary of training: looked at, then moved to the network's backend once.

Everything here runs before the first step, so that an error changes nothing.
"""

import math
from typing import Any

from xpnn.backends import Backend
from xpnn.data.splits import held_out_rows, same_length
from xpnn.errors import DataError
from xpnn.losses import check_targets
from xpnn.network import Network
from xpnn.typing import Array, Loss

Data = tuple[Array, Array, Array | None]
"""Inputs, targets and, where there are such, the weights of the samples."""


def admit_all(
    network: Network,
    loss: Loss,
    x: Any,
    y: Any,
    sample_weight: Any,
    validation: Any,
    *,
    seed: int,
) -> tuple[Data, Data | None]:
    """The data to train on, and those held out or given for validation.

    Args:
        validation: None; the share to hold out, drawn by ``seed``; (x, y) or (x, y, sample_weight).

    Raises:
        ShapeError, DataError: the data do not fit the network or the loss.
    """
    with network.backend.on_device():
        data = admit(network, loss, x, y, sample_weight)
        if validation is None:
            return data, None
        if not isinstance(validation, tuple | list):
            return hold_out(data, validation, seed, network.backend)
        if len(validation) not in (2, 3):
            raise ValueError(
                f"validation is a share, (x, y) or (x, y, sample_weight), got a tuple of "
                f"{len(validation)}"
            )
        x, y, *rest = validation
        return data, admit(network, loss, x, y, rest[0] if rest else None, "validation ")


def admit(
    network: Network, loss: Loss, x: Any, y: Any, sample_weight: Any, whose: str = ""
) -> Data:
    """Arrays of the network's backend, found fit to train on or to measure with."""
    backend = network.backend
    if y is None:
        raise DataError(f"wanted {whose}targets y, got None; for an autoencoder pass y=x")
    x, y = network.admit(x), as_targets(y, network)
    weight = None if sample_weight is None else backend.asarray(sample_weight, network.dtype)
    arrays = {f"{whose}x": x, f"{whose}y": y, f"{whose}sample_weight": weight}
    same_length(**arrays)
    check_finite(arrays, backend)
    if weight is not None and not bool(backend.to_numpy(backend.xp.all(weight >= 0))):
        raise DataError(f"wanted {whose}sample_weight of at least 0, got negative weights")
    check_targets(loss, y, network.output_shape, backend)
    return x, y, weight


def hold_out(data: Data, share: float, seed: int, backend: Backend) -> tuple[Data, Data]:
    """The data in two parts, the second of about ``share`` of the samples."""
    index = [backend.from_numpy(rows) for rows in held_out_rows(data[0].shape[0], share, seed)]
    kept, held = (
        tuple(a if a is None else backend.xp.take(a, rows, axis=0) for a in data) for rows in index
    )
    return kept, held  # type: ignore[return-value]


def as_targets(y: Any, network: Network) -> Array:
    """Numbers in the network's dtype, class numbers in a dtype that every library counts in."""
    backend = network.backend
    xp, y = backend.xp, backend.asarray(y)
    if xp.isdtype(y.dtype, "integral"):
        return y if y.dtype in (xp.int32, xp.int64) else xp.astype(y, xp.int32)
    return backend.asarray(y, network.dtype)


def check_finite(arrays: dict[str, Array | None], backend: Backend) -> None:
    """Refuse NaN and infinities."""
    xp = backend.xp
    for name, array in arrays.items():
        if array is None or not xp.isdtype(array.dtype, "real floating"):
            continue
        bad = int(backend.to_numpy(xp.count_nonzero(~xp.isfinite(array))))
        if bad:
            raise DataError(
                f"wanted finite numbers, but {bad} of {math.prod(array.shape)} in {name} are "
                f"NaN or infinite; remove these samples or fill them in"
            )
