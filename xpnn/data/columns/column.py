"""Columns of tables of any library: their names, what they hold, and where values are missing.

A column is asked for numbers, for dates or for labels, whichever its encoding takes. Nothing else
of xpnn knows pandas, polars or pyarrow, and none of them is imported before a table of it comes.
"""

import datetime
import decimal
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import numpy as np

from xpnn.errors import DataError

Kind: TypeAlias = Literal[
    "floats", "integers", "booleans", "texts", "categories", "dates", "mixed", "nothing"
]
"""What the values of a column are; "nothing" where all of them are missing."""
Label: TypeAlias = str | int | float | bool

KINDS_OF_TYPES: dict[type, Kind] = {
    bool: "booleans",
    np.bool_: "booleans",
    int: "integers",
    float: "floats",
    decimal.Decimal: "floats",
    str: "texts",
    np.str_: "texts",
    datetime.date: "dates",
    datetime.datetime: "dates",
}
DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")  # microseconds


class Column(ABC):
    """A column of a table, with the name and the place that errors say.

    Args:
        name: of the column.
        values: as the library of the table has them.
        place: a row of it, in words, by its number here.
    """

    kind: Kind

    def __init__(self, name: str, values: Any, place: Callable[[int], str] = "row {}".format):
        self.name, self.values, self.place = name, values, place

    def __repr__(self) -> str:
        return f"<column {self.name!r}, {self.kind}>"

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def value(self, row: int) -> Any:
        """The value in a row, as Python has it."""

    @abstractmethod
    def _floats(self) -> np.ndarray:
        """Numbers or booleans in float64, NaN for those that are missing."""

    @abstractmethod
    def _microseconds(self) -> np.ndarray:
        """Dates since 1970, in float64, NaN for those that are missing."""

    @abstractmethod
    def _labels(self) -> tuple[np.ndarray, list[Label]]:
        """What ``labels`` gives, of all but dates."""

    def labels(self) -> tuple[np.ndarray, list[Label]]:
        """For each row the place of its value in a list, -1 where it is missing; and the list.

        The list has each value once, in the order in which they come first; dates as texts, such as
        2024-02-29 or 2024-02-29T12:30:00.
        """
        if self.kind == "nothing":
            return np.full(len(self), -1), []
        if self.kind != "dates":
            return self._labels()
        codes, found = factorized(self._microseconds().tolist())
        return codes, [_as_text(float(one)) for one in found]

    def numbers(self, advice: str = "") -> np.ndarray:
        """The values in float64, NaN for those that are missing.

        Args:
            advice: what to do about a value that is no number; another encoding unless given.

        Raises:
            DataError: a value is no number, or infinite; the first such row is named.
        """
        if self.kind == "nothing":
            return np.full(len(self), np.nan)
        if self.kind in ("floats", "integers", "booleans"):
            found = self._floats()
        else:
            codes, labels = self.labels()
            dates = self.kind == "dates"
            parsed = [None if dates else _as_number(label) for label in labels]
            self.refuse(np.asarray([*(one is None for one in parsed), False])[codes], advice=advice)
            found = np.asarray([*parsed, np.nan], np.float64)[codes]
        self.refuse(np.isinf(found), advice=advice)
        return found

    def refuse(self, wrong: Any, wanted: str = "finite numbers", advice: str = "") -> None:
        """Raise DataError, with the first row that is wrong, if any is."""
        wrong = np.asarray(wrong)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"wanted {wanted} in column {self.name!r}, got {_shown(self.value(row))} in "
                f"{self.place(row)}; {advice or self._mend}"
            )

    @property
    def _mend(self) -> str:
        return (
            f"mend it, or choose another encoding for the column, such as Columns({{{self.name!r}: "
            f"'one-hot'}}) or --encode {self.name}=one-hot, and learn anew"
        )

    def dates(self) -> np.ndarray:
        """Days since the beginning of 1970 (UTC) in float64, NaN for those that are missing.

        Texts are read as ISO 8601 has them, such as 2024-02-29 or 2024-02-29T12:30.

        Raises:
            DataError: a value is no date; the first such row is named.
        """
        if self.kind == "nothing":
            return np.full(len(self), np.nan)
        if self.kind == "dates":
            return self._microseconds() / DAY
        codes, labels = self.labels()
        parsed = [_as_microseconds(label) for label in labels]
        wrong = np.asarray([*(one is None for one in parsed), False])[codes]
        self.refuse(wrong, "dates, such as 2024-02-29,")
        return np.asarray([*parsed, np.nan], np.float64)[codes] / DAY


def _as_number(label: Any) -> float | None:
    """A text as a number, as CSV files have them; None if it is none."""
    try:
        return float(label)
    except (TypeError, ValueError, OverflowError):
        return None


def is_date(label: Label) -> bool:
    """Whether it is a text that is read as a date."""
    return _as_microseconds(label) is not None


def _as_microseconds(label: Any) -> float | None:
    try:
        return since_1970(datetime.datetime.fromisoformat(label))
    except (TypeError, ValueError):
        return None


def since_1970(date: datetime.date | np.datetime64 | None) -> float:
    """Microseconds; dates without a time zone are taken for UTC."""
    if date is None or date != date:  # pandas' NaT, which is not equal to itself
        return math.nan
    if isinstance(date, np.datetime64):
        return float(date.astype("datetime64[us]").astype(np.int64))
    if not isinstance(date, datetime.datetime):
        date = datetime.datetime(date.year, date.month, date.day)
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (date - epoch) / datetime.timedelta(microseconds=1)


def _as_text(microseconds: float) -> str:
    """A date, with its time if it has one."""
    text = str(np.datetime64(int(microseconds), "us"))  # of any year
    return text.removesuffix(".000000").removesuffix("T00:00:00")


def _shown(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def unknown(name: str, dtype: Any) -> DataError:
    return DataError(
        f"wanted numbers, booleans, texts, categories or dates in column {name!r}, got {dtype}; "
        f"convert it, or leave it out: Columns({{{name!r}: None}})"
    )


def kind_of_objects(values: Iterable[Any], name: str) -> Kind:
    """What Python's objects are; those that are missing are passed over."""
    kinds: set[Kind] = set()
    for kind in {type(one): one for one in values if not is_missing(one)}:
        known = KINDS_OF_TYPES.get(kind)
        if known is None and issubclass(kind, np.generic | str | datetime.datetime):
            known = _kind_of_generic(kind)
        if known is None:
            raise unknown(name, f"objects of type {kind.__name__}")
        kinds.add(known)
    if not kinds:
        return "nothing"
    if kinds == {"integers", "floats"}:
        return "floats"
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _kind_of_generic(kind: type) -> Kind | None:
    for base, found in ((np.integer, "integers"), (np.floating, "floats"), (str, "texts")):
        if issubclass(kind, base):
            return found  # type: ignore[return-value]
    return "dates" if issubclass(kind, datetime.datetime | np.datetime64) else None


def is_missing(value: Any) -> bool:
    """None, NaN, and pandas' NA and NaT, which are equal to nothing."""
    if value is None:
        return True
    if isinstance(value, np.ndarray):
        return False
    equal = value == value
    return equal is not True and not (isinstance(equal, np.bool_) and bool(equal))


def factorized(values: Iterable[Any]) -> tuple[np.ndarray, list[Label]]:
    """The labels of Python's objects; see ``Column.labels``."""
    places: dict[Any, int] = {}
    codes = [-1 if is_missing(one) else places.setdefault(one, len(places)) for one in values]
    return np.asarray(codes, np.int64), [plain_label(one) for one in places]


def plain_label(label: Any) -> Label:
    """A label as JSON can hold it."""
    label = label.item() if isinstance(label, np.generic) else label
    if isinstance(label, bool | int | str):
        return label
    if isinstance(label, float | decimal.Decimal):
        number = float(label)
        return int(number) if number.is_integer() else number
    return label.isoformat() if isinstance(label, datetime.date) else str(label)
