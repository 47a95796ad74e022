"""Samples in Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from xpnn.data.shards import Paths
from xpnn.data.tables import TableShards, naming
from xpnn.data.windows import Block
from xpnn.errors import DataError, FileError

ROWS = 1 << 14  # that are converted in one go
WANTED = "a whole Parquet file"


class RowGroup(NamedTuple):
    """Rows that lie together in a file, and can be read by themselves."""

    path: Path
    number: int
    first: int
    rows: int

    def __str__(self) -> str:
        return f"row group {self.number} of {self.path}"


class ParquetShards(TableShards):
    """Samples in the rows of Parquet files, whose row groups are the shards.

    With a window, the row groups of all files come in a new order in each epoch. All files are
    opened at once to learn what they hold, so a file that is cut short, or lacks a column, is found
    before the first batch. A bit that has changed inside is found in pages that have checksums,
    which pyarrow writes if asked to, ``write_table(..., write_page_checksum=True)``; without them,
    other values may come.

    Args:
        paths: the files, see ``Shards``.
        settings: x, y, sample_weight, classes, dtype, batch_size, window, seed; see
            ``TableShards``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message says how to.
        FileError: a file is not there, is damaged, or lacks a column.
        DataError: a file has no rows.
    """

    def __init__(self, paths: Paths, **settings: Any):
        super().__init__(paths, **settings)
        self.shards = [group for path in self.paths for group in self._row_groups(path)]

    def _row_groups(self, path: Path) -> list[RowGroup]:
        with _open(path) as file:
            self.check_columns(file.schema_arrow.names, path)
            groups, first = [], 0
            for number in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                if rows < 0:
                    raise FileError(
                        f"wanted {WANTED}, got {path}, whose row group {number} is said to have "
                        f"{rows} rows; write it anew, or leave it out"
                    )
                groups.append(RowGroup(path, number, first, rows))
                first += rows
        if not first:
            raise DataError(
                f"wanted at least one sample in each file, got none in {path}; leave it out"
            )
        return [group for group in groups if group.rows]

    def rows(self, shard: RowGroup) -> int:
        """As the end of the file says."""
        return shard.rows

    def read(self, shard: RowGroup) -> Iterator[Block]:
        """A stretch of the row group after another."""
        row = shard.first
        with _open(shard.path) as file:
            tables = file.iter_batches(ROWS, row_groups=[shard.number], columns=list(self.types))
            while True:
                with naming(shard.path, WANTED):
                    table = next(tables, None)
                if table is None:
                    break
                yield self.block(table, shard.path, row)
                row += table.num_rows
        if row - shard.first != shard.rows:
            raise FileError(
                f"wanted {shard.rows} rows in {shard}, as the end of the file says, got "
                f"{row - shard.first}; write it anew, or leave it out"
            )


def _open(path: Path) -> Any:
    from pyarrow import parquet

    with naming(path, WANTED):
        return parquet.ParquetFile(path, page_checksum_verification=True)
