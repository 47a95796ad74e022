"""What the data of a run are known by: some of their numbers, the same on all backends.

A run that goes on from a checkpoint with other data is another run. To find that out nobody reads a
whole data set: rows at equal distances are looked at, as a step would take them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnn.backends.portable.staging import is_mapped, native
from xpnn.data.batches import Samples
from xpnn.data.figures import figures, spread
from xpnn.data.stream import Stream
from xpnn.network import Network
from xpnn.training.describing import described
from xpnn.training.stepping.conversion import BatchForm
from xpnn.typing import Array

NUMBERS = 1 << 18  # of an array that are looked at,
ROWS = 8  # but so many rows at least,
ROWS_OF_FILES = 256  # and no more of a file, as each may lie on a page of its own
BATCHES = 8  # of a list


def of_data(data: Samples | Stream | None, network: Network) -> dict[str, Any]:
    """By what a data set is known: of x, y and sample_weight the shape of a row, and numbers."""
    if data is None:
        return {}
    with network.backend.on_device(), network.backend.overflowing():
        if isinstance(data, Samples):
            rows = np.arange(len(data)) if data.rows is None else data.rows
            return _of_sets([(data.arrays, rows)], network)
        origin = data.origin
        if isinstance(origin, list | tuple):
            return _of_list(data, origin, network)
    if callable(known_by := getattr(origin, "known_by", None)):
        return dict(described(known_by()))
    return {"dataset": _length_of(getattr(origin, "dataset", None))}  # of a loader of PyTorch


def _length_of(values: Any) -> int | None:
    try:
        return len(values)
    except TypeError:
        return None


def _of_list(stream: Stream, batches: Sequence[Any], network: Network) -> dict[str, Any]:
    numbers = spread(len(batches), BATCHES)
    sets = [stream.look(batches[k], k + 1) for k in numbers]
    rows = [int(parts[0].shape[0]) for parts in sets]
    found = _of_sets([(p, np.arange(n)) for p, n in zip(sets, rows, strict=True)], network)
    return {"rows": rows, **found}


def _of_sets(sets: Sequence[tuple[Sequence[Any], np.ndarray]], network: Network) -> dict[str, Any]:
    """By what samples are known that lie in several sets of arrays, in some rows of each."""
    found: dict[str, Any] = {}
    form = BatchForm(network)
    for place, (name, convert) in enumerate(zip(form.names, form.conversions, strict=True)):
        arrays = [(arrays[place], rows) for arrays, rows in sets]
        if arrays[0][0] is None:
            found[name] = None
            continue
        parts = [_sample(one, rows, convert, network, len(sets)) for one, rows in arrays]
        row = tuple(int(n) for n in arrays[0][0].shape[1:])
        found[name] = {"row": str(row), **figures(np.concatenate(parts))}
    return found


def _sample(
    array: Any,
    rows: np.ndarray,
    convert: Callable[[Any, Network], Array],
    network: Network,
    sets: int,
) -> np.ndarray:
    """Numbers of some of the rows, as a step takes them."""
    backend = network.backend
    most = max(ROWS, NUMBERS // sets // max(1, math.prod(array.shape[1:])))
    rows = rows[spread(len(rows), min(most, ROWS_OF_FILES) if is_mapped(array) else most)]
    if isinstance(array, np.ndarray):
        taken = array[rows]
        numbers = convert(taken.astype(native(taken.dtype), copy=False), network)
    elif backend.on_host:
        numbers = backend.to_numpy(array)[rows]
    else:
        numbers = backend.xp.take(array, backend.from_numpy(rows), axis=0)
    host = numbers if isinstance(numbers, np.ndarray) else backend.to_numpy(numbers)
    return host.reshape(-1)
