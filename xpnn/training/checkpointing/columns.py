"""A history as columns, an array for each number that was measured: no length is too much for them.

The header of a file, where all else goes, holds 10 MB.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from xpnn.training.checkpointing.fields import COUNT, LIST, check_fields


def as_columns(epochs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was measured in each epoch, by name: the rows where it is, None for all, and values."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    columns: list[list[Any]] = []
    for name in names:
        rows = [row for row, epoch in enumerate(epochs) if name in epoch]
        everywhere = len(rows) == len(epochs)
        values = _column([epochs[row][name] for row in rows])
        columns.append([None if everywhere else np.asarray(rows), values])
    return {"length": len(epochs), "names": names, "columns": columns}


def from_columns(state: Any) -> list[dict[str, Any]]:
    """The epochs of which ``as_columns`` once returned ``state``.

    Raises:
        ValueError: it never did.
    """
    check_fields(state, {"length": COUNT, "names": LIST, "columns": LIST}, "History")
    try:
        return _put_together(**state)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"its 'History' makes no sense ({error})") from None


def _put_together(length: int, names: list[str], columns: list[Any]) -> list[dict[str, Any]]:
    everywhere = range(max((len(values) for _, values in columns), default=0))
    if len(everywhere) != length or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{len(everywhere)} epochs of {names}, wanted {length}")
    epochs: list[dict[str, Any]] = [{} for _ in everywhere]
    for name, (rows, values) in zip(names, columns, strict=True):
        numbers = values.tolist() if isinstance(values, np.ndarray) else values
        indices = everywhere if rows is None else rows.tolist()
        for row, number in zip(indices, numbers, strict=True):
            epochs[row][name] = number
    return epochs


def _column(values: list[Any]) -> np.ndarray | list[Any]:
    """Numbers of one kind as an array; else they stay a list."""
    for kind, dtype in ((Integral, np.int64), (Real, np.float64)):
        if all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
            try:
                return np.asarray(values, dtype=dtype)
            except OverflowError:
                break
    return values
