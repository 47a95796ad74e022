"""Samples in text files of comma-separated values."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpnn.data.shards import Paths
from xpnn.data.tables import TableShards, naming
from xpnn.data.windows import Block

TEXT = 1 << 20  # bytes that are converted in one go
WANTED = "a CSV file of rows of one length, with numbers for features"
ADVICE = (
    "say how it is written, CsvShards(..., delimiter=, decimal_point=, encoding=), write it anew, "
    "or leave it out"
)


class CsvShards(TableShards):
    """Samples in the rows of CSV files, plain or compressed (``.gz``, ``.bz2``).

    A file is read about a megabyte of text at a time; a row is shorter than that, and a value in
    quotes may hold line breaks. How many rows there are is found out by reading, so ``len`` is not
    known, and what lies before a batch to start with is read and dropped. Text has no checksums: a
    digit that has become another one is not found, nor are rows that are missing at the end, or
    that have become part of a value as a quote before them was not closed.

    Args:
        paths: the files, see ``Shards``.
        delimiter: what stands between two values.
        decimal_point: what stands before the fraction of a number.
        encoding: of the text, as Python names it.
        column_names: of all columns in order, where the files have no header.
        settings: x, y, sample_weight, classes, dtype, batch_size, window, seed; see
            ``TableShards``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message says how to.
        FileError: a file is not there.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        delimiter: str = ",",
        decimal_point: str = ".",
        encoding: str = "utf8",
        column_names: Sequence[str] | None = None,
        **settings: Any,
    ):
        super().__init__(paths, **settings)
        self.delimiter, self.decimal_point, self.encoding = delimiter, decimal_point, encoding
        self.column_names = column_names

    def read(self, shard: Path) -> Iterator[Block]:
        """A stretch of rows after another."""
        row = 0
        with self._open(shard) as reader:
            while True:
                with naming(shard, WANTED, ADVICE):
                    table = next(reader, None)
                if table is None:
                    return
                if table.num_rows:
                    yield self.block(table, shard, row)
                row += table.num_rows

    def _open(self, path: Path) -> Any:
        from pyarrow import csv

        layout = {
            "parse_options": csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            "read_options": csv.ReadOptions(
                block_size=TEXT, column_names=self.column_names, encoding=self.encoding
            ),
        }
        only = csv.ConvertOptions(
            include_columns=list(self.types),
            column_types=self.types,
            decimal_point=self.decimal_point,
        )
        with naming(path, WANTED, ADVICE):
            with csv.open_csv(path, **layout) as reader:
                names = reader.schema.names
            self.check_columns(names, path)
            return csv.open_csv(path, convert_options=only, **layout)
