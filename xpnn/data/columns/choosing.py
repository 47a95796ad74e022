"""Which encoding a column gets, and what it learns of the training rows."""

from typing import Any

import numpy as np

from xpnn.arguments import by_name
from xpnn.data.columns.column import Column, Kind, kind_of_objects
from xpnn.data.columns.encodings import (
    Dates,
    Embedded,
    Encoding,
    Numbers,
    OneHot,
    Standardized,
)
from xpnn.data.columns.written import ENCODINGS
from xpnn.errors import DataError

FEW = 10
"""Labels that are one-hot; more are embedded."""
NUMERIC: set[Kind] = {"integers", "floats"}
BY_KIND: dict[Kind, Encoding] = {
    "floats": Standardized(),
    "integers": Standardized(),
    "booleans": Numbers(),
    "texts": OneHot(),
    "categories": OneHot(),
    "dates": Dates(),
}


def as_encoding(column: str, given: Any) -> Encoding | None:
    """An encoding, which may have been given by its name.

    Raises:
        ValueError: there is none of that name.
        TypeError: it is none.
    """
    if isinstance(given, str):
        return by_name(given, ENCODINGS, "encoding")()
    if given is not None and not isinstance(given, Encoding):
        raise TypeError(
            f"wanted an encoding of column {column!r}, such as OneHot(), its name, or None to "
            f"leave it out, got {given!r}"
        )
    return given


class Learner:
    """Notes down the training rows of a column.

    Args:
        encoding: None where the column is left out, or where one is to be chosen.
        is_chosen: whether one is to be chosen.
    """

    def __init__(self, encoding: Encoding | None, is_chosen: bool):
        self.encoding, self.is_chosen = encoding, is_chosen
        self.missing = 0  # before an encoding is chosen
        self.noted: Any = None if encoding is None else encoding.statistics()

    def __repr__(self) -> str:
        return f"<learner for {self.encoding!r}>"

    def note(self, column: Column) -> None:
        """Take in a stretch of rows."""
        if self.encoding is None and self.is_chosen:
            self._choose(column)
        if self.encoding is not None:
            self.encoding.note(column, self.noted)

    def _choose(self, column: Column) -> None:
        if column.kind == "nothing":
            self.missing += len(column)
            return
        if column.kind == "mixed":
            column.refuse(_unlike_the_first(column), "values of one kind")
        self.encoding = BY_KIND[column.kind]
        self.noted = self.encoding.statistics()
        self.noted.missing += self.missing

    def learned(self, name: str, embed: bool) -> Encoding | None:
        """The encoding with what it has learned; None where the column is left out."""
        if self.encoding is None:
            return None
        encoding = self.encoding
        if self.is_chosen and not self.noted.has_values:
            return None
        if self.is_chosen and isinstance(encoding, OneHot) and embed:
            encoding = Embedded() if len(self.noted.counts) > FEW else encoding
        try:
            return encoding.learned(self.noted)
        except DataError as error:
            raise DataError(f"column {name!r}: {error}") from None


def _unlike_the_first(column: Column) -> np.ndarray:
    """Where values are of another kind than the first one."""
    kinds = [kind_of_objects([column.value(row)], column.name) for row in range(len(column))]
    first = next(kind for kind in kinds if kind != "nothing")
    alike = {first, "nothing"} | (NUMERIC if first in NUMERIC else set())
    return np.asarray([kind not in alike for kind in kinds])
