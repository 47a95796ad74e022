"""Samples in text files of comma-separated values."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpnn.data.shards import Paths
from xpnn.data.tables import TableShards, naming
from xpnn.data.windows import Block

TEXT = 1 << 20  # bytes that are converted in one go
WANTED = "a CSV file of rows of one length, with numbers for features"


class CsvShards(TableShards):
    """Samples in the rows of CSV files, plain or compressed (``.gz``, ``.bz2``).

    A file is read about a megabyte of text at a time. How many rows it has is found out by reading,
    so ``len`` is not known, and what lies before a batch to start with is read and dropped.

    Args:
        paths: the files, see ``Shards``.
        delimiter: what stands between two values.
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
        column_names: Sequence[str] | None = None,
        **settings: Any,
    ):
        super().__init__(paths, **settings)
        self.delimiter, self.column_names = delimiter, column_names

    def read(self, shard: Path) -> Iterator[Block]:
        """A stretch of rows after another."""
        row = 0
        with self._open(shard) as reader:
            while True:
                with naming(shard, WANTED):
                    table = next(reader, None)
                if table is None:
                    return
                if table.num_rows:
                    yield self.block(table, shard, row)
                row += table.num_rows

    def _open(self, path: Path) -> Any:
        from pyarrow import csv

        layout = {
            "parse_options": csv.ParseOptions(delimiter=self.delimiter),
            "read_options": csv.ReadOptions(block_size=TEXT, column_names=self.column_names),
        }
        only = csv.ConvertOptions(include_columns=list(self.types), column_types=self.types)
        with naming(path, WANTED):
            try:
                return csv.open_csv(path, convert_options=only, **layout)
            except KeyError:
                with csv.open_csv(path, **layout) as reader:
                    self.check_columns(reader.schema.names, path)
                raise
