"""The tables that a command reads, a stretch of rows at a time, by what a file is."""

import argparse
import contextlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.commands.options import UsageError, did_you_mean
from xpnn.data.columns.files import CSV, PARQUET, TableFiles
from xpnn.data.columns.table import Table
from xpnn.data.shards import known_by_files
from xpnn.errors import FileError, XpnnError
from xpnn.files import file_status, open_file

ROWS = 1 << 14
"""Rows of an array that are taken at a time."""


class Tables(Protocol):
    """Tables in stretches, each time that they are gone through; see ``TableFiles``."""

    def __iter__(self) -> Iterator[Table]: ...

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[Self, Self]: ...

    def known_by(self) -> dict[str, Any]: ...


class ArrayTables:
    """The arrays of a ``.npz`` or ``.npy`` file as a table: a row for each sample.

    An array of one axis is a column of its name. One of more has a column for each of its numbers,
    ``x[0]``, ``x[1]``. An array alone, in a ``.npy`` file, has the columns ``0``, ``1``, or the
    names of its fields; it stays on the disk, and what a ``.npz`` file holds does not.
    """

    def __init__(self, path: Path):
        self.path = path
        self._part: tuple[float, int, bool] | None = None
        self._columns = dict(_columns(path, read_arrays(path)))
        lengths = {name: len(one) for name, one in self._columns.items()}
        if len({*lengths.values()}) != 1 or not min(lengths.values()):
            listed = ", ".join(f"{name} {length}" for name, length in [*lengths.items()][:8])
            raise FileError(
                f"wanted arrays with a row for each sample in {path}, got rows: {listed or 'none'}"
            )
        self.rows = min(lengths.values())

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[Self, Self]:
        """Two parts of the rows, as those of ``TableFiles.split``."""
        parts = []
        for is_held in (False, True):
            part = object.__new__(type(self))
            vars(part).update(vars(self), _part=(share, seed, is_held))
            parts.append(part)
        return parts[0], parts[1]

    def known_by(self) -> dict[str, Any]:
        """What tells these tables from others."""
        return {**known_by_files([self.path]), "options": [self._part]}

    def __iter__(self) -> Iterator[Table]:
        chosen = np.ones(self.rows, bool)
        if self._part is not None:
            share, seed, is_held = self._part
            draws = Generator(Philox(SeedSequence([seed, 1])))
            chosen = (draws.random(self.rows) < share) == is_held
        for start in range(0, self.rows, ROWS):
            rows = slice(start, start + ROWS)
            numbers = np.flatnonzero(chosen[rows])
            if len(numbers):
                table = {name: one[rows][numbers] for name, one in self._columns.items()}
                yield Table(table, path=self.path, numbers=numbers + start)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` or ``.npy`` file by name; one that stands alone is called "".

    Raises:
        FileError, OSError: it is not there, or holds something else.
    """
    file_status(path)
    try:
        return _arrays(path)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(
            f"wanted arrays of numbers in {path} ({str(error)[:200]}); write it by "
            f"numpy.savez or numpy.save"
        ) from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; one that stands alone has none, or those of its fields."""
    if path.suffix.lower() == ".npz":
        with open_file(path) as file, np.load(file, allow_pickle=False) as found:
            return dict(found.items())
    alone = np.load(path, mmap_mode="r", allow_pickle=False)
    return {name: alone[name] for name in alone.dtype.names or ()} or {"": alone}


def _columns(path: Path, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in arrays.items():
        if not array.ndim:
            raise FileError(
                f"wanted a row for each sample, got one number, {name!r}, in {path}; leave it out"
            )
        flat = array.reshape(len(array), -1)
        if flat.shape[1] == 1:
            yield name or "0", flat[:, 0]
            continue
        for number in range(flat.shape[1]):
            yield f"{name}[{number}]" if name else str(number), flat[:, number]


@contextmanager
def opened(options: argparse.Namespace, texts: Sequence[str] = ()) -> Iterator[Tables]:
    """The tables of ``options.data``, which is the standard input where it is ``-``.

    Args:
        options: of the command.
        texts: columns of CSV files that are texts, whatever they look like.

    Raises:
        UsageError: the file is of a kind that is not read here.
        FileError, OSError: it is not there, or is not what it should be.
    """
    data = str(options.data)
    with contextlib.ExitStack() as stack:
        if data == "-":  # it is gone through twice
            file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".csv"))
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
            data = file.name
        if data.lower().endswith((".npz", ".npy")):
            yield ArrayTables(Path(data))
            return
        if not data.lower().endswith((*CSV, *PARQUET)):
            raise UsageError(
                f"wanted a table, a file that ends in {', '.join((*CSV, *PARQUET))}, .npz or .npy, "
                f"got {data}"
            )
        try:
            tables = TableFiles(
                data,
                delimiter=options.delimiter,
                decimal_point=options.decimal_point,
                encoding=options.encoding,
                texts=texts,
            )
        except XpnnError:
            raise
        except ValueError as error:  # of the options
            raise UsageError(str(error)) from None
        yield tables


def names_in(tables: Tables) -> tuple[str, ...]:
    """The columns, as the first rows have them."""
    return next(iter(tables)).names


def check_columns(given: list[str], known: tuple[str, ...], data: object) -> None:
    """Refuse a name that no column has."""
    for name in given:
        if name not in known:
            raise UsageError(f"there is no column {name!r} in {data}{did_you_mean(name, known)}")
