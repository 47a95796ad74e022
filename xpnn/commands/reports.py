"""How good a network is on a table: sums over its rows, a stretch at a time."""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.commands.options import UsageError
from xpnn.data.columns import Columns
from xpnn.data.columns.table import Table
from xpnn.losses import cross_entropy
from xpnn.network import Network, load

COLUMNS = "columns"
"""What the Columns of a network are called among its attachments."""
BATCH = 4096


def loaded(path: Path, backend: str) -> tuple[Network, Columns]:
    """A network of ``xpnn train`` with its Columns.

    Raises:
        UsageError: the network has none.
        XpnnError, OSError: it cannot be read.
    """
    network = load(path, backend)
    columns = network.attachments.get(COLUMNS)
    if not isinstance(columns, Columns):
        raise UsageError(
            f"{path} holds a network without Columns, which say what it is given of a table; name "
            f"one that xpnn train has written, or set network.attachments['{COLUMNS}']"
        )
    return network, columns


def outputs_of(network: Network, columns: Columns, table: Table) -> np.ndarray:
    """What the network says of some rows: probabilities of classes, or numbers as it has them."""
    loss = cross_entropy if columns.classes is not None else None
    found = network.predict(columns.transform(table), BATCH, probabilities=loss)
    return np.asarray(network.backend.to_numpy(found), np.float64)


def report(network: Network, columns: Columns, tables: Iterable[Table]) -> dict[str, Any]:
    """What the network gets right, over all rows.

    Of classes ``accuracy``, ``log_loss`` and ``majority``, the accuracy of always telling the most
    frequent class. Of numbers, in their own units, ``mae``, the mean absolute error, ``rmse``, the
    root of the mean squared error, and ``r2 = 1 - sum (y - p)^2 / sum (y - mean y)^2``.
    """
    sums = _of_classes if columns.classes is not None else _of_numbers
    return sums(network, columns, tables)


def _of_classes(network: Network, columns: Columns, tables: Iterable[Table]) -> dict[str, Any]:
    rows, right, loss, counts = 0, 0, 0.0, Counter[int]()
    for table in tables:
        shares, classes = outputs_of(network, columns, table), columns.targets(table)
        rows += len(classes)
        right += int((np.argmax(shares, axis=1) == classes).sum())
        told = np.take_along_axis(shares, classes[:, None], axis=1)
        loss -= float(np.log(np.maximum(told, np.finfo(np.float32).tiny)).sum())
        counts.update(dict(zip(*np.unique(classes, return_counts=True), strict=True)))
    _some(rows)
    return {
        "rows": rows,
        "accuracy": right / rows,
        "log_loss": loss / rows,
        "majority": int(max(counts.values())) / rows,
    }


def _of_numbers(network: Network, columns: Columns, tables: Iterable[Table]) -> dict[str, Any]:
    rows, far, squares = 0, 0.0, 0.0
    mean: Any = 0.0  # of the targets, and the sum of squares around it (Chan et al., 1983)
    around: Any = 0.0
    for table in tables:
        target = columns.target
        assert target is not None
        found = columns.decode(outputs_of(network, columns, table))
        wanted = np.stack([table.column(name).numbers() for name in target.names], axis=1)
        columns.targets(table)  # which refuses gaps
        far += float(np.abs(wanted - found).sum())
        squares += float(((wanted - found) ** 2).sum())
        own, count = wanted.mean(axis=0), len(wanted)
        shift = own - mean
        around += ((wanted - own) ** 2).sum(axis=0) + shift**2 * rows * count / (rows + count)
        mean, rows = mean + shift * count / (rows + count), rows + count
    _some(rows)
    numbers, spread = rows * np.size(mean), float(np.sum(around))
    return {
        "rows": rows,
        "mae": far / numbers,
        "rmse": math.sqrt(squares / numbers),
        "r2": 1 - squares / spread if spread else math.nan,
    }


def _some(rows: int) -> None:
    if not rows:
        raise UsageError("wanted at least one row to measure on, got none; hold out a larger share")


# Words --------------------------------------------------------------------------------------------

WORDS = {
    "accuracy": "of the rows are predicted right",
    "majority": "would be, by always telling the most frequent class",
    "log_loss": "mean of -log of the probability of the right class",
    "mae": "mean absolute error",
    "rmse": "root of the mean squared error",
    "r2": "share of the variance that is explained",
}


def show(found: dict[str, Any]) -> None:
    """Print what was measured, a line each."""
    for name, value in found.items():
        if name in WORDS:
            print(f"{name:9s} {value:10.4f}  {WORDS[name]}")


def tell(options: argparse.Namespace, record: dict[str, Any], words: Callable[[], None]) -> None:
    """Print a record as JSON where that was asked for, else in words."""
    if options.json:
        json.dump({key: finite(value) for key, value in record.items()}, sys.stdout)
        print()
    else:
        words()


def peak_memory() -> int | None:
    """The most bytes of memory that this process has had; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
