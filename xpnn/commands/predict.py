"""``xpnn predict MODEL TABLE``: a row with what the network says for each row that comes in."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xpnn.commands.options import UsageError
from xpnn.commands.reports import finite, loaded, outputs_of
from xpnn.commands.sources import check_columns, names_in, opened
from xpnn.data.columns import Columns
from xpnn.data.columns.table import Table
from xpnn.data.tables import arrow
from xpnn.files import replacement
from xpnn.network import Network

PREDICTED = "predicted_"
"""What stands before the name of the target."""


class Writer(Protocol):
    """Takes columns by name, a stretch of rows after another: lists, or arrays that were kept."""

    def __call__(self, columns: dict[str, Any]) -> None: ...


def predict(options: argparse.Namespace) -> int:
    """Write predictions in the order of the rows, of which some thousand are in memory."""
    network, columns = loaded(options.model, options.backend)
    if options.probabilities and columns.classes is None:
        raise UsageError(
            f"{options.model} tells numbers, which have no probabilities; leave it out"
        )
    with opened(options, columns.texts) as tables:
        known = names_in(tables)
        keep = list(known) if options.keep == ["all"] else options.keep
        check_columns(keep, known, options.data)
        with _writer(options.out) as write:
            for table in tables:
                kept = {name: _kept(table, name) for name in keep}
                told = _told(network, columns, table, options.probabilities)
                if both := [name for name in kept if name in told]:
                    raise UsageError(
                        f"{both[0]!r} is in {options.data} already, and is what is told; leave it "
                        f"out of --keep"
                    )
                write({**kept, **told})
    return 0


def _told(
    network: Network, columns: Columns, table: Table, probabilities: bool
) -> dict[str, list[Any]]:
    found, target = outputs_of(network, columns, table), columns.target
    assert target is not None
    decoded = columns.decode(found)
    if columns.classes is None:
        return {
            f"{PREDICTED}{name}": one.tolist()
            for name, one in zip(target.names, decoded.T, strict=True)
        }
    told = {f"{PREDICTED}{target.names[0]}": decoded.tolist()}
    if probabilities:
        shares = found.astype(np.float32).astype(np.float64).T
        told |= {
            f"P({label})": one.tolist() for label, one in zip(columns.classes, shares, strict=True)
        }
    return told


def _kept(table: Table, name: str) -> Any:
    """A column as it came in: of pyarrow, with its dtype, which no gaps hide; or of NumPy."""
    return table.column(name).values


@contextmanager
def _writer(out: Path | None) -> Iterator[Writer]:
    """What writes into a file of that name, whole or not at all, or to the standard output.

    Raises:
        UsageError: the name ends in something that is not written here.
    """
    if out is None:
        yield _csv(sys.stdout)
        return
    suffix = out.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"wanted a file that ends in .csv, .jsonl or .parquet, got {out}")
    with replacement(out) as file:
        if suffix == ".parquet":
            writer = _Parquet(file)
            yield writer
            writer.close()
            return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield _csv(text) if suffix == ".csv" else _json_lines(text)
        text.flush()
        text.detach()


def _csv(file: Any) -> Writer:
    writer, begun = csv.writer(file, lineterminator="\n"), False

    def write(columns: dict[str, Any]) -> None:
        nonlocal begun
        if not begun:
            writer.writerow(columns)
            begun = True
        writer.writerows(zip(*map(_texts, columns.values()), strict=True))

    return write


def _texts(column: Any) -> list[Any]:
    """Predictions with the digits that float32 has; what was kept as it is."""
    if isinstance(column, list):
        return [f"{one:.9g}" if isinstance(one, float) else one for one in column]
    return _plain(column)


def _plain(column: Any) -> list[Any]:
    """The values as Python has them."""
    found: list[Any] = column if isinstance(column, list) else column.tolist()
    return found


def _json_lines(file: Any) -> Writer:
    def write(columns: dict[str, Any]) -> None:
        for row in zip(*map(_plain, columns.values()), strict=True):
            plain = {key: finite(one) for key, one in zip(columns, row, strict=True)}
            file.write(json.dumps(plain, default=str) + "\n")

    return write


class _Parquet:
    """Writes stretches of rows as row groups."""

    def __init__(self, file: Any):
        self.file = file
        self.writer: Any = None

    def __call__(self, columns: dict[str, Any]) -> None:
        table = arrow().table(columns)
        if self.writer is None:
            from pyarrow import parquet

            self.writer = parquet.ParquetWriter(self.file, table.schema)
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
