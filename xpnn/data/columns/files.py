"""Tables in CSV and Parquet files, read by pyarrow a stretch of rows at a time."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.data.columns.table import Table
from xpnn.data.csv import ADVICE, TEXT
from xpnn.data.parquet import ROWS
from xpnn.data.shards import Paths, known_by_files
from xpnn.data.shards import found_files as found
from xpnn.data.tables import arrow, naming
from xpnn.errors import DataError, FileError

CSV = tuple(kind + packed for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2"))
PARQUET = (".parquet", ".pq")
ROWS_OF_CSV = "a CSV file of rows of one length"
GAPS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "n/a", "<NA>", "#N/A")
"""What stands for a missing value in a CSV file, also with a blank on one side."""
BLANKS = " \t"
"""What pyarrow leaves away around numbers."""


class TableFiles:
    """The tables in files, each time that it is iterated over, in stretches of some thousand rows.

    A file of millions of rows never is in memory as a whole. What the columns of CSV files hold is
    found out by reading all of them once: whole numbers, numbers, booleans, dates, times, or texts
    if not every value in a column is one of these. Empty values, NA, NaN, null, None are missing.
    Blanks around numbers are left away.

    Args:
        paths: files that end in ``.csv``, ``.tsv`` (also ``.gz``, ``.bz2``) or ``.parquet``: one, a
            pattern such as ``"train/*.csv"``, or a list.
        delimiter: what stands between two values of a CSV file; a comma, in ``.tsv`` a tab, unless
            given.
        decimal_point: what stands before the fraction of a number in CSV files.
        encoding: of the text in CSV files, as Python names it.
        texts: columns of CSV files that are texts, even where all of them look like numbers; of a
            file that comes after training, ``columns.texts``.

    Raises:
        ValueError: there is no such encoding, or a sign is none.
        ModuleNotFoundError: pyarrow is not installed; the message says how to.
        FileError: a file is not there, or is of another kind.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        delimiter: str | None = None,
        decimal_point: str = ".",
        encoding: str = "utf8",
        texts: Sequence[str] = (),
    ):
        arrow()
        _check_signs(delimiter, decimal_point, encoding)
        self.paths, self.texts = found(paths), [texts] if isinstance(texts, str) else list(texts)
        self.delimiter, self.decimal_point, self.encoding = delimiter, decimal_point, encoding
        self._part: tuple[float, int, bool] | None = None
        self._types: dict[str, Any] | None = None
        for path in self.paths:
            if not path.name.lower().endswith((*CSV, *PARQUET)):
                raise FileError(
                    f"wanted files that end in {', '.join((*CSV, *PARQUET))}, got {path}; write it "
                    f"as one of these"
                )

    def __repr__(self) -> str:
        part = "" if self._part is None else ", a part of the rows"
        return f"<TableFiles of {len(self.paths)} files{part}>"

    def known_by(self) -> dict[str, Any]:
        """What tells these tables from others."""
        options: list[Any] = [self.delimiter, self.decimal_point, self.encoding, self._part]
        options += [self.texts] if self.texts else []
        return {**known_by_files(self.paths), "options": options}

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[Self, Self]:
        """Two parts of the rows, drawn at random: ``train, held = files.split(0.2)``.

        Each row goes into the second part with the probability ``share``, whatever the others do.
        The draw depends on the seed and the number of the row.
        """
        if self._part is not None:
            raise ValueError("wanted whole files to split, got a part of them; split them once")
        if not 0 < share < 1:
            raise ValueError(f"wanted a share above 0 and below 1, got {share!r}")
        parts = []
        for is_held in (False, True):
            part = object.__new__(type(self))
            vars(part).update(vars(self), _types=self.types, _part=(float(share), seed, is_held))
            parts.append(part)
        return parts[0], parts[1]

    @property
    def types(self) -> dict[str, Any]:
        """What the columns of the CSV files are read as, dtypes of pyarrow, by name."""
        if self._types is None:
            candidates: dict[str, list[Any]] = {}
            for path in self.paths:
                if not _is_parquet(path):
                    self._narrow(candidates, path)
            self._types = {name: kinds[0] for name, kinds in candidates.items()}
        return self._types

    def __iter__(self) -> Iterator[Table]:
        draws = None
        if self._part is not None:
            share, seed, is_held = self._part
            draws = Generator(Philox(SeedSequence([seed, 1])))
        for path in self.paths:
            row = 0
            for table in self._read(path):
                numbers = np.arange(row, row + table.num_rows)
                row += table.num_rows
                if draws is not None:
                    chosen = (draws.random(len(numbers)) < share) == is_held
                    table, numbers = table.filter(arrow().array(chosen)), numbers[chosen]
                if len(numbers):
                    yield Table(table, path=path, numbers=numbers)
            if not row:
                raise DataError(f"wanted at least one row in {path}, got none; leave it out")

    def _read(self, path: Path) -> Iterator[Any]:
        if _is_parquet(path):
            from pyarrow import parquet

            wanted, advice = "a whole Parquet file", "write it anew, or leave it out"
            with naming(path, wanted), parquet.ParquetFile(path) as file:
                yield from _named(lambda: file.iter_batches(ROWS), path, wanted, advice)
            return
        yield from self._rows(path, self.types)

    def _rows(self, path: Path, types: dict[str, Any] | None) -> Iterator[Any]:
        """The rows of a CSV file; all as texts where there are no types."""
        from pyarrow import csv

        tab = path.name.lower().removesuffix(".gz").removesuffix(".bz2").endswith(".tsv")
        delimiter = self.delimiter or ("\t" if tab else ",")
        layout = {
            "parse_options": csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            "read_options": csv.ReadOptions(block_size=TEXT, encoding=self.encoding),
        }

        def opened() -> Any:
            known = types
            if known is None:
                with csv.open_csv(path, **layout) as reader:
                    known = dict.fromkeys(reader.schema.names, arrow().string())
            convert = csv.ConvertOptions(
                column_types=known,
                decimal_point=self.decimal_point,
                null_values=[*GAPS, *(f" {gap}" for gap in GAPS), *(f"{gap} " for gap in GAPS)],
                strings_can_be_null=True,
            )
            return csv.open_csv(path, convert_options=convert, **layout)

        yield from _named(opened, path, ROWS_OF_CSV, ADVICE.replace("CsvShards", "TableFiles"))

    def _narrow(self, candidates: dict[str, list[Any]], path: Path) -> None:
        """Leave of what each column may be read as what all values of a file can be."""
        pa = arrow()
        every = [
            *(pa.int64(), pa.float64(), pa.bool_(), pa.date32()),
            *(pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.string()),
        ]
        for table in self._rows(path, None):
            for name, column in zip(table.schema.names, table.columns, strict=True):
                kinds = candidates.setdefault(name, every[-1:] if name in self.texts else [*every])
                while len(kinds) > 1 and not self._fits(column, kinds[0]):
                    del kinds[0]

    def _fits(self, texts: Any, kind: Any) -> bool:
        pa = arrow()
        is_floating = pa.types.is_floating(kind)
        if is_floating or pa.types.is_integer(kind):
            texts = pa.compute.utf8_trim(texts, BLANKS)
        if self.decimal_point != "." and is_floating:
            texts = pa.compute.replace_substring(texts, self.decimal_point, ".")
        try:
            texts.cast(kind)
        except pa.ArrowException:
            return False
        return True


def _check_signs(delimiter: str | None, decimal_point: str, encoding: str) -> None:
    """Raise ValueError where pyarrow would not know what is meant."""
    for name, sign in {"delimiter": delimiter, "decimal_point": decimal_point}.items():
        if sign is not None and len(sign.encode(errors="replace")) != 1:
            raise ValueError(f"wanted one ASCII character as {name}, such as ';', got {sign!r}")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(
            f"wanted an encoding that Python knows, such as 'latin-1', got {encoding!r}"
        ) from None


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _named(make: Callable[[], Any], path: Path, wanted: str, advice: str) -> Iterator[Any]:
    """What it gives; an error that pyarrow raises meanwhile names the file."""
    with naming(path, wanted, advice):
        tables = iter(make())
    while True:
        with naming(path, wanted, advice):
            table = next(tables, None)
        if table is None:
            return
        if table.num_rows:
            yield arrow().Table.from_batches([table])
