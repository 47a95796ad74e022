"""A table of any library, and its columns by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends.registry import class_recognizing
from xpnn.data.columns.column import Column
from xpnn.data.columns.libraries import ArrayColumn, ArrowColumn, PandasColumn, PolarsColumn
from xpnn.errors import DataError, ShapeError

TABLES = "a DataFrame of pandas or polars, a table of pyarrow, or a dict of arrays by name"
LIBRARIES: dict[str, type[Column]] = {
    "pandas": PandasColumn,
    "polars": PolarsColumn,
    "pyarrow": ArrowColumn,
}


def library_of(values: Any) -> str:
    """The name of the package that the class of an object is from."""
    return type(values).__module__.partition(".")[0]


def is_table(source: Any) -> bool:
    """Whether it is one table, rather than several."""
    if isinstance(source, Mapping | Table):
        return True
    if library_of(source) not in LIBRARIES or is_lazy(source):
        return False
    return hasattr(source, "columns") or hasattr(source, "schema")  # a Series has none


def is_lazy(source: Any) -> bool:
    """Whether it is a LazyFrame of polars, a table that is not made yet."""
    return hasattr(source, "collect")


class Table:
    """A table of any library, whose columns are read by name.

    Args:
        source: a DataFrame of pandas or polars, a table of pyarrow, or a dict of arrays by name.
        first: the number of its first row in all that is read, from 0.
        path: of the file that it was read from, if it was.
        numbers: of its rows in that file, from 0.

    Attributes:
        names: of the columns.
        rows: how many there are.

    Raises:
        TypeError: it is no table.
        DataError: two columns have one name, or a name is no text.
        ShapeError: columns of a dict are of different lengths.
    """

    def __init__(
        self,
        source: Any,
        first: int = 0,
        *,
        path: Path | None = None,
        numbers: np.ndarray | None = None,
    ):
        if isinstance(source, Table):
            path, numbers = source.path, source.numbers
            source = source.source
        if not is_table(source):
            mend = "; write .collect()" if is_lazy(source) else ""
            raise TypeError(f"wanted {TABLES}, got a {type(source).__name__}{mend}")
        self.source: Any = source
        self.first = first
        self.path: Path | None = path
        self.numbers: np.ndarray | None = numbers
        by_name = isinstance(source, Mapping)
        if library_of(source) == "pyarrow":
            found: Sequence[Any] = source.schema.names
        else:
            found = list(source) if by_name else list(source.columns)
        for name in found:
            if not isinstance(name, str):
                raise DataError(f"wanted texts as names of columns, got {name!r}; rename it")
            if found.count(name) > 1:
                raise DataError(
                    f"wanted one column {name!r}, got {found.count(name)}; give each a name of "
                    f"its own"
                )
        self.names = tuple(found)
        self._arrays = {name: _as_array(name, source[name]) for name in found} if by_name else {}
        rows = {name: len(values) for name, values in self._arrays.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in rows.items())
            raise ShapeError(f"wanted columns of one length, but {listed}; align the data")
        self.rows = next(iter(rows.values()), 0) if by_name else int(source.shape[0])

    def __repr__(self) -> str:
        return f"<Table of {self.rows} rows, {', '.join(self.names)}>"

    def __len__(self) -> int:
        return self.rows

    def place(self, row: int) -> str:
        """A row, in words."""
        if self.path is None or self.numbers is None:
            return f"row {self.first + row} (the first is 0)"
        number = int(self.numbers[row]) + 1
        return f"row {number} of {self.path} (the first below a header is 1)"

    def column(self, name: str) -> Column:
        """A column by its name.

        Raises:
            DataError: there is none of that name, or it holds what no network can be given.
        """
        if name not in self.names:
            raise DataError(
                f"wanted a column {name!r}, but there is none among {', '.join(self.names)}; give "
                f"the table the columns that were there in training"
            )
        if name in self._arrays:
            values = self._arrays[name]
        elif library_of(self.source) == "pyarrow":
            values = self.source.column(name)
        else:
            values = self.source[name]
        if hasattr(getattr(values, "dtype", None), "pyarrow_dtype"):  # pandas around pyarrow
            import pyarrow

            values = pyarrow.array(values, from_pandas=True)
        kind = LIBRARIES.get(library_of(values), ArrayColumn)
        return kind(name, values, self.place)


def _as_array(name: str, values: Any) -> Any:
    """A column of a dict: a Series as it is, all else as NumPy's array on the host."""
    if library_of(values) in LIBRARIES:
        return values
    library = class_recognizing(values)
    if library is not None:
        found = library.to_host(values)
    elif isinstance(values, list | tuple):
        found = np.empty(len(values), object)
        for row, one in enumerate(values):
            found[row] = one
    else:
        found = np.asarray(values)
    if found.ndim != 1:
        raise ShapeError(
            f"wanted one value a row in column {name!r}, got an array of shape {found.shape}; "
            f"make it a list of such, or give each column of it a name of its own"
        )
    return found
