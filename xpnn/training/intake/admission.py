"""Data at the boundary of training: looked at, then moved to the network's backend once.

Arrays are looked at before the first step, so that an error changes nothing. What does not fit the
device, or is a file mapped into memory, stays where it is; batches of it are converted one by one.
"""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from xpnn.backends.portable.staging import is_mapped
from xpnn.data.batches import Samples
from xpnn.data.placement import lies_on_host, on_host
from xpnn.data.splits import held_out_rows
from xpnn.data.stream import Stream
from xpnn.errors import DataError, ShapeError
from xpnn.network import Network
from xpnn.training.intake.checks import check_samples
from xpnn.typing import Array, Loss

FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}
Given = tuple[Any, Any, Any]
"""Inputs, targets and, where there are such, the weights of the samples, of any library."""


def admit_all(
    network: Network,
    loss: Loss,
    x: Any,
    y: Any,
    sample_weight: Any,
    validation: Any,
    *,
    seed: int,
) -> tuple[Samples, Samples | Stream | None]:
    """The data to train on, and those held out or given for validation.

    Args:
        validation: None; the share to hold out, drawn by ``seed``; (x, y) or (x, y, sample_weight);
            an iterable of batches.

    Raises:
        ShapeError, DataError: the data do not fit the network or the loss.
    """
    if has_batches(validation):
        (data,) = admit(network, loss, (x, y, sample_weight))
        return data, admit_stream(network, loss, validation, whose="validation ")
    pair = isinstance(validation, tuple | list)
    data, *held = admit(
        network, loss, (x, y, sample_weight), *([unpacked(validation)] if pair else [])
    )
    if validation is None or pair:
        return data, held[0] if held else None
    kept, out = (
        Samples(data.arrays, data.backend, rows, data.finish)
        for rows in held_out_rows(len(data), validation, seed)
    )
    return kept, out


def has_batches(validation: Any) -> bool:
    """Whether it is neither a share nor arrays, but something that has batches."""
    return not (isinstance(validation, Real | tuple | list | None) or hasattr(validation, "shape"))


def admit_validation(network: Network, loss: Loss, validation: Any) -> Samples | Stream | None:
    """The data that are given for validation beside a stream."""
    if validation is None:
        return None
    if has_batches(validation):
        return admit_stream(network, loss, validation, whose="validation ")
    if not isinstance(validation, tuple | list):
        raise ValueError(
            f"wanted validation=(x, y), or batches, beside an iterable of batches, got "
            f"{validation!r}; a share can only be held out of arrays"
        )
    (held,) = admit(network, loss, unpacked(validation), whose="validation ")
    return held


def unpacked(validation: Any) -> Given:
    """The three parts of (x, y) or (x, y, sample_weight)."""
    if len(validation) not in (2, 3):
        raise ValueError(
            f"validation is a share, (x, y) or (x, y, sample_weight), got a tuple of "
            f"{len(validation)}"
        )
    x, y, *rest = validation
    return x, y, rest[0] if rest else None


def admit(network: Network, loss: Loss, *sets: Given, whose: str = "") -> list[Samples]:
    """Several data sets, found fit to train on or to measure with; those behind the first validate.

    All of them move to the device, or, where they do not fit it together, none.
    """
    names = [whose, *(["validation "] * (len(sets) - 1))]
    for name, (x, y, _) in zip(names, sets, strict=True):
        if x is None:
            raise DataError(f"wanted {name}inputs x, got None")
        if y is None:
            raise DataError(f"wanted {name}targets y, got None; for an autoencoder pass y=x")
    backend = network.backend
    with backend.on_device(), backend.overflowing():  # infinities are told of below
        seen = [tuple(map(_as_array, given)) for given in sets]
        fits = backend.fits(sum(_bytes_to_move(one, network) for given in seen for one in given))
        admitted = []
        for name, given in zip(names, seen, strict=True):
            stays = [_stays(one, network, fits) for one in given]
            moves = (as_inputs, as_targets, as_weights)
            x, y, weight = (
                one if one is None else on_host(one) if stay else move(one, network)
                for one, stay, move in zip(given, stays, moves, strict=True)
            )
            check_samples(network, loss, x, y, weight, name)
            finish = partial(as_batch, network) if any(stays) else None
            admitted.append(Samples((x, y, weight), backend, finish=finish))
        return admitted


def _as_array(values: Any) -> Any:
    """Arrays as they are, lists as NumPy arrays."""
    known = values is None or hasattr(values, "__dlpack_device__")
    return values if known else on_host(values)


def _bytes_to_move(values: Any, network: Network) -> int:
    """What the device needs for an array of the host: as it comes, and in the network's dtype."""
    if values is None or network.backend.owns(values) or not lies_on_host(values):
        return 0
    array = on_host(values)
    converted = array.dtype.name != network.dtype
    return array.nbytes + converted * array.size * FLOAT_BYTES.get(network.dtype, 4)


def _stays(values: Any, network: Network, fits: bool) -> bool:
    """Whether batches are to be made from where the array lies."""
    if values is None or (network.backend.owns(values) and not is_mapped(values)):
        return False
    return (not fits and lies_on_host(values)) or (network.backend.on_host and is_mapped(values))


def admit_stream(
    network: Network,
    loss: Loss,
    source: Any,
    check_size: Callable[[int], None] = lambda rows: None,
    whose: str = "",
) -> Stream:
    """Batches of an iterable, each looked at when it comes; see ``Stream``.

    Args:
        check_size: raises ShapeError if no step can be made with so many samples.
        whose: what stands before the number of a batch in an error.
    """
    look = partial(look_at_batch, network, loss, check_size, whose)
    return Stream(source, network.backend, look, partial(as_batch, network))


def look_at_batch(
    network: Network,
    loss: Loss,
    check_size: Callable[[int], None],
    whose: str,
    batch: Any,
    number: int,
) -> tuple[Any, ...]:
    """The arrays of a batch: NumPy's where they lie on the host, else of the network's backend.

    The numbers are looked at where that waits for no device.

    Raises:
        ShapeError, DataError: it cannot be trained on; the message begins with its number.
    """
    try:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            came = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise DataError(
                f"wanted (x, y) or (x, y, sample_weight), got a {type(batch).__name__}{came}; "
                f"make each batch such a tuple"
            )
        if any(one is None for one in batch[:2]):
            raise DataError("wanted inputs x and targets y, got None for one of them")
        x, y, weight = (_part(one, network) for one in (*batch, None)[:3])
        readable = [one is None or _readable(one, network) for one in (x, y, weight)]
        x_seen, y_seen, weight_seen = (
            on_host(one) if here and one is not None else one
            for one, here in zip((x, y, weight), readable, strict=True)
        )
        check_samples(network, loss, x_seen, y_seen, weight_seen, values=all(readable))
        check_size(x_seen.shape[0])
    except (ShapeError, DataError) as error:
        raise type(error)(f"{whose}batch {number}: {error}") from error
    return x, y, weight


def _part(values: Any, network: Network) -> Any:
    if values is None or network.backend.owns(values):
        return values
    return on_host(values) if lies_on_host(values) else network.backend.asarray(values)


def _readable(values: Any, network: Network) -> bool:
    """Whether NumPy reads an array as it lies, and no device is waited for."""
    if isinstance(values, np.ndarray):
        return True
    return values is not None and network.backend.on_host and lies_on_host(values)


def as_batch(network: Network, x: Any, y: Any, weight: Any) -> tuple[Array, Array, Array | None]:
    """The arrays of a batch as a step wants them."""
    weight = None if weight is None else as_weights(weight, network)
    return as_inputs(x, network), as_targets(y, network), weight


def as_inputs(x: Any, network: Network) -> Array:
    """Numbers in the network's dtype, or ids in one that every library looks things up by."""
    return network.asarray(x)


def as_targets(y: Any, network: Network) -> Array:
    """Numbers in the network's dtype, class numbers in a dtype that every library counts in."""
    backend = network.backend
    xp, y = backend.xp, backend.asarray(y)
    if xp.isdtype(y.dtype, "integral"):
        return y if y.dtype in (xp.int32, xp.int64) else xp.astype(y, xp.int32)
    return backend.asarray(y, network.dtype)


def as_weights(weight: Any, network: Network) -> Array:
    """Numbers in the network's dtype."""
    return network.backend.asarray(weight, network.dtype)
