"""Samples in the rows of tables, which pyarrow reads a stretch of rows at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xpnn.data.shards import Paths, Shards
from xpnn.data.windows import Block
from xpnn.errors import DataError, FileError

ColumnNames = str | Sequence[str]


def arrow() -> ModuleType:
    """pyarrow, which is imported when a table is asked for.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to.
    """
    try:
        import pyarrow
        import pyarrow.compute  # a part that is not there before it is imported
    except ImportError as error:
        raise ModuleNotFoundError(
            "reading CSV and Parquet files needs pyarrow; type: pip install 'xpnn[data]'"
        ) from error
    return pyarrow


class TableShards(Shards):
    """Samples in the rows of tables, the features in columns.

    Args:
        paths: the files, see ``Shards``.
        x: the columns of the features, whose numbers make a sample of shape (columns,).
        y: the column of the targets, one number a sample, of shape (rows,); a list of columns
            gives (rows, columns).
        sample_weight: the column of the weights, where there is one.
        classes: what the targets are. None: numbers, float32. A list of labels, such as
            ``["cat", "dog"]``: class numbers, int64, the indices of the labels in the list. A
            number n: class numbers from 0 to n - 1 already.
        dtype: of x: "float32", or "int64" for ids that an embedding looks up.
        batch_size, window, seed: see ``Shards``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message says how to.
        FileError: a file is not there.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        x: ColumnNames,
        y: ColumnNames,
        sample_weight: str | None = None,
        classes: Sequence[Any] | int | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
        window: int | None = None,
        seed: int = 0,
    ):
        pa = arrow()
        super().__init__(paths, batch_size=batch_size, window=window, seed=seed)
        if classes is not None and not isinstance(y, str):
            raise ValueError(f"wanted one column y beside classes, a string, got {y!r}")
        self.x, self.y, self.sample_weight, self.dtype = _listed(x), y, sample_weight, dtype
        self.classes = classes if classes is None or isinstance(classes, int) else list(classes)
        numbers = [*_listed(y), *([] if sample_weight is None else [sample_weight])]
        self.types = dict.fromkeys(numbers, pa.float32())
        """What each column is read as, a dtype of pyarrow."""
        self.types |= dict.fromkeys(self.x, pa.from_numpy_dtype(np.dtype(dtype)))
        if isinstance(y, str) and self.classes is not None:
            labels = [0] if isinstance(self.classes, int) else self.classes
            self.types[y] = pa.array(labels).type

    def check_columns(self, found: Sequence[str], path: Path) -> None:
        """Raise FileError if a column is missing, or if there are several of its name."""
        for name in self.types:
            if (count := list(found).count(name)) > 1:
                raise FileError(
                    f"wanted one column {name!r}, got {count} of that name in {path}; give each "
                    f"column a name of its own"
                )
        missing = [name for name in self.types if name not in found]
        if missing:
            raise FileError(
                f"wanted the columns {', '.join(self.types)} in {path}, but there is no "
                f"{' and no '.join(missing)} among its {', '.join(found)}; name others as x and y"
            )

    def block(self, table: Any, path: Path, row: int) -> Block:
        """The arrays of some rows, the first of which is number ``row`` of its file, from 0.

        Raises:
            DataError: a value is missing, or is none of the classes; the row is named.
            FileError: a column holds something else than numbers or labels.
        """
        rows = Rows(table, path, row)
        x = np.stack([self._numbers(rows, name, self.dtype) for name in self.x], axis=1)
        if not isinstance(self.y, str):
            y = np.stack([self._numbers(rows, name) for name in self.y], axis=1)
        elif self.classes is None:
            y = self._numbers(rows, self.y)
        else:
            y = self._class_numbers(rows, self.y)
        weight = self.sample_weight
        return (x, y) if weight is None else (x, y, self._numbers(rows, weight))

    def _numbers(self, rows: "Rows", name: str, dtype: str = "float32") -> np.ndarray:
        is_, wanted = arrow().types, arrow().from_numpy_dtype(np.dtype(dtype))
        column = rows.whole(name)
        kinds = is_.is_integer, is_.is_floating, is_.is_boolean, is_.is_decimal
        if not any(kind(column.type) for kind in kinds):
            raise FileError(
                f"wanted numbers in column {name!r} of {rows.path}, got {column.type}; leave it "
                f"out, or write it as numbers"
            )
        with rows.naming(f"numbers that fit {wanted} in column {name!r}"):
            column = column.cast(wanted, safe=is_.is_integer(wanted))
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def _class_numbers(self, rows: "Rows", name: str) -> np.ndarray:
        pa, classes = arrow(), self.classes
        if isinstance(classes, int):
            count, wanted = classes, f"class numbers from 0 to {classes - 1}"
        else:
            assert classes is not None
            count, wanted = len(classes), f"labels among {_shown(classes)}"
        labels = rows.whole(name)
        with rows.naming(f"{wanted} in column {name!r}"):
            labels = labels.cast(self.types[name])
            indices = labels
            if not isinstance(classes, int):
                indices = pa.compute.index_in(labels, value_set=pa.array(classes)).fill_null(-1)
        found = np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)
        wrong = (found < 0) | (found >= count)
        if wrong.any():
            k = int(np.argmax(wrong))
            raise DataError(
                f"wanted {wanted} in column {name!r}, got {labels[k].as_py()!r} in "
                f"{rows.location(k)}; add it to classes, or leave the row out"
            )
        return found


def _listed(columns: ColumnNames) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _shown(labels: list[Any]) -> str:
    return ", ".join(map(repr, labels[:10])) + (", ..." if labels[10:] else "")


class Rows(NamedTuple):
    """Some rows of a file, the first of which is number ``first`` of it, from 0."""

    table: Any
    path: Path
    first: int

    def location(self, number: int) -> str:
        """Row ``number`` of these, in words."""
        return f"row {self.first + number + 1} of {self.path} (the first below a header is 1)"

    def whole(self, name: str) -> Any:
        """A column in which no value is missing."""
        column = self.table.column(name)
        if arrow().types.is_float16(column.type):  # older releases look for NaN in wider ones only
            column = column.cast(arrow().float32())
        missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if missing.any():
            raise DataError(
                f"wanted a value in column {name!r}, got none in "
                f"{self.location(int(np.argmax(missing)))}; fill it in, or leave the row out"
            )
        return column

    def naming(self, wanted: str) -> Any:
        """What pyarrow raises inside says what was wanted, and of which file."""
        return naming(self.path, wanted)


@contextmanager
def naming(
    path: Path, wanted: str, advice: str = "write it anew, or leave it out"
) -> Iterator[None]:
    """What pyarrow raises inside says what was wanted, and of which file."""
    try:
        yield
    except DataError:
        raise
    except (arrow().ArrowException, OSError, ValueError, KeyError) as error:
        raise FileError(f"wanted {wanted}, got {path}: {error}; {advice}") from error
