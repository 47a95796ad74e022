"""How a column becomes numbers, or ids that an ``Embedding`` looks up.

An encoding is made with its settings. ``learned`` gives another one that knows, from what was noted
of the training rows, what it needs to encode any row; that is plain values, which files hold.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from xpnn.data.columns.column import Column, Label
from xpnn.data.columns.statistics import Counts, Moments, Sample
from xpnn.errors import DataError, NotBuiltError

Statistics = Moments | Counts | Sample

YEAR, WEEK, LEAST_SPREAD = 365.2425, 7.0, 1e-12  # days; of a day in days
ONE_HOT, IDS = 50, 10_000  # labels that have a place of their own unless another number is given
MISSING, OTHERS, FIRST = 0, 1, 2  # ids: no value, a label that is unknown, the first known one


@dataclass(frozen=True)
class Encoding(ABC):
    """Base of what makes numbers or ids of a column.

    >>> from xpnn.data import Columns
    >>> columns = Columns({"size": "numbers", "age": None}).fit({"size": [1.0, 2.0], "age": [3, 4]})
    >>> columns.encodings
    {'size': Numbers(marks_missing=False), 'age': None}
    """

    kind: ClassVar[str]

    @property
    def is_known(self) -> bool:
        """Whether it has learned from training rows."""
        return True

    @property
    def looks_up(self) -> bool:
        """Whether it gives ids, (rows, 1) int64, rather than numbers, (rows, width) float32."""
        return False

    @property
    def vocabulary(self) -> int:
        """How many ids there are; 0 where it gives numbers."""
        return 0

    @property
    def size(self) -> int:
        """The features of the vector of an id; 0 where it gives numbers."""
        return 0

    @abstractmethod
    def statistics(self) -> Statistics:
        """What notes down training rows."""

    @abstractmethod
    def note(self, column: Column, noted: Any) -> None:
        """Take in a stretch of training rows."""

    @abstractmethod
    def learned(self, noted: Any) -> Self:
        """The same encoding, which knows the training rows."""

    @abstractmethod
    def names(self, name: str) -> list[str]:
        """What the features that it makes of a column of that name are called."""

    @abstractmethod
    def encode(self, column: Column) -> np.ndarray:
        """The features of some rows, (rows, width) float64; or their ids, (rows, 1) int64."""

    def check_known(self, column: Column) -> None:
        """Raise NotBuiltError if it has not learned yet."""
        if not self.is_known:
            raise NotBuiltError(
                f"the encoding of column {column.name!r}, {self!r}, has learned nothing yet; call "
                f"columns.fit(table) with the training rows first"
            )


def _filled(numbers: np.ndarray, value: float, marks: bool) -> list[np.ndarray]:
    """The numbers with ``value`` where one is missing, and a second column that says where."""
    missing = np.isnan(numbers)
    filled = np.where(missing, value, numbers)
    return [filled, missing.astype(np.float64)] if marks else [filled]


@dataclass(frozen=True)
class Standardized(Encoding):
    """Numbers as z = (x - mean) / deviation, with the mean and deviation of the training rows.

    Where a value is missing z is 0, that of the mean. If any was missing in training, a second
    feature is 1 there, and else 0. Where all training rows are alike, the deviation is taken for 1.

    Attributes:
        mean, deviation: of the training rows (population, not sample, deviation); None before.
        marks_missing: whether there is the second feature.

    >>> from xpnn.data import Columns
    >>> table = {"size": [1.0, 3.0, None]}
    >>> Columns({"size": Standardized()}).fit(table).transform(table).tolist()
    [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    kind = "standardized"
    mean: float | None = None
    deviation: float | None = None
    marks_missing: bool = False

    @property
    def is_known(self) -> bool:
        return self.mean is not None and self.deviation is not None

    def statistics(self) -> Moments:
        return Moments()

    def note(self, column: Column, noted: Moments) -> None:
        noted.add(column.numbers())

    def learned(self, noted: Moments) -> Self:
        if not math.isfinite(noted.deviation):
            raise DataError("wanted numbers whose squares float64 holds, got larger ones")
        return replace(
            self, mean=noted.mean, deviation=noted.deviation, marks_missing=noted.missing > 0
        )

    def names(self, name: str) -> list[str]:
        return [name, *([f"{name} is missing"] * self.marks_missing)]

    def encode(self, column: Column) -> np.ndarray:
        self.check_known(column)
        assert self.mean is not None
        assert self.deviation is not None
        z = (column.numbers() - self.mean) / self.deviation
        return np.stack(_filled(z, 0.0, self.marks_missing), axis=1)

    def decoded(self, encoded: np.ndarray) -> np.ndarray:
        """The numbers that z stands for: z deviation + mean."""
        assert self.mean is not None
        assert self.deviation is not None
        return np.asarray(encoded, np.float64) * self.deviation + self.mean


@dataclass(frozen=True)
class Numbers(Encoding):
    """Numbers as they are; booleans are 0 and 1.

    Where a value is missing it is 0. If any was missing in training, a second feature is 1 there.

    Attributes:
        marks_missing: whether there is the second feature; None before it has learned.

    >>> from xpnn.data import Columns
    >>> table = {"size": [1.0, 3.0, None]}
    >>> Columns({"size": Numbers()}).fit(table).transform(table).tolist()
    [[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]
    """

    kind = "numbers"
    marks_missing: bool | None = None

    @property
    def is_known(self) -> bool:
        return self.marks_missing is not None

    def statistics(self) -> Moments:
        return Moments()

    def note(self, column: Column, noted: Moments) -> None:
        noted.add(column.numbers())

    def learned(self, noted: Moments) -> Self:
        return replace(self, marks_missing=noted.missing > 0)

    def names(self, name: str) -> list[str]:
        return [name, *([f"{name} is missing"] if self.marks_missing else [])]

    def encode(self, column: Column) -> np.ndarray:
        self.check_known(column)
        return np.stack(_filled(column.numbers(), 0.0, bool(self.marks_missing)), axis=1)

    def decoded(self, encoded: np.ndarray) -> np.ndarray:
        """The numbers themselves."""
        return np.asarray(encoded, np.float64)


class OfLabels(Encoding):
    """Base of encodings that know labels.

    Attributes:
        labels: those that have a place of their own, sorted; None before it has learned.
    """

    labels: tuple[Label, ...] | None

    @property
    def is_known(self) -> bool:
        return self.labels is not None

    def statistics(self) -> Counts:
        return Counts()

    def note(self, column: Column, noted: Counts) -> None:
        noted.add(*column.labels())

    def places(self, column: Column) -> np.ndarray:
        """For each row the place of its label among the known ones; -1 unknown, -2 missing.

        Raises:
            DataError: none of the rows has a known label, and they are of another kind.
        """
        self.check_known(column)
        assert self.labels is not None
        known = {label: place for place, label in enumerate(self.labels)}
        codes, labels = column.labels()
        found = np.asarray([*(known.get(label, -1) for label in labels), -2], np.int64)
        if labels and self.labels and (found[:-1] < 0).all():
            here, there = (any(isinstance(x, str) for x in one) for one in (labels, self.labels))
            if here != there:
                kinds = ["numbers", "texts"]
                wanted = f"{kinds[there]}, as in training,"
                column.refuse(
                    codes >= 0,
                    wanted,
                    "write the column as it was then, or read a CSV file by TableFiles(..., "
                    "texts=columns.texts)",
                )
        return found[codes]


def _positive(given: Any, name: str) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ValueError(f"wanted {name} to be a whole number of at least 1, got {given!r}")


@dataclass(frozen=True)
class OneHot(OfLabels):
    """A feature for each label, which is 1 where the label stands, and else 0.

    Labels beyond the ``limit`` most frequent ones share a feature, "others", which those that are
    unknown in training have, too; where there is none, the features of an unknown label are all 0.
    A value that is missing has a feature of its own if any was missing in training, and is taken
    for unknown if not.

    Args:
        limit: how many labels have a feature of their own.

    Attributes:
        labels: those that have, in order; None before it has learned.
        marks_others, marks_missing: whether there is a feature for other labels, and for no value.

    >>> from xpnn.data import Columns
    >>> columns = Columns({"color": OneHot()}).fit({"color": ["red", "blue", "red"]})
    >>> columns.feature_names, columns.transform({"color": ["red", "green"]}).tolist()
    (['color=blue', 'color=red'], [[0.0, 1.0], [0.0, 0.0]])
    """

    kind = "one-hot"
    limit: int = ONE_HOT
    labels: tuple[Label, ...] | None = None
    marks_others: bool = False
    marks_missing: bool = False

    def __post_init__(self) -> None:
        _positive(self.limit, "limit")

    def learned(self, noted: Counts) -> Self:
        return replace(
            self,
            labels=tuple(noted.most_common(self.limit)),
            marks_others=len(noted.counts) > self.limit or noted.uncounted > 0,
            marks_missing=noted.missing > 0,
        )

    def names(self, name: str) -> list[str]:
        others = [f"{name} is another"] * self.marks_others
        return [
            *(f"{name}={label}" for label in self.labels or ()),
            *others,
            *([f"{name} is missing"] * self.marks_missing),
        ]

    def encode(self, column: Column) -> np.ndarray:
        places = self.places(column)
        width = len(self.labels or ())
        columns = np.arange(width + self.marks_others)
        places = np.where(places == -1, width, places)
        if not self.marks_missing:
            places = np.where(places == -2, width, places)
        found = (places[:, None] == columns).astype(np.float64)
        if self.marks_missing:
            found = np.concatenate([found, (places == -2)[:, None]], axis=1)
        return found


@dataclass(frozen=True)
class Embedded(OfLabels):
    """An id for each label, whose vector an ``Embedding`` learns (Guo and Berkhahn, 2016).

    ::

        0   no value            1   a label that is unknown, or too rare           2, 3, ...  labels

    The vectors of 0 and 1 are learned where training rows have such values, and else stay as they
    were drawn, small.

    Args:
        features: of each vector; min(50, round(1.6 labels^0.56)) unless given, as fastai has it.
        limit: how many labels have an id of their own, the most frequent ones.

    Attributes:
        labels: those that have, in the order of their ids; None before it has learned.

    >>> from xpnn.data import Columns
    >>> columns = Columns({"color": Embedded(8)}).fit({"color": ["red", "blue", "red"]})
    >>> {name: ids.tolist() for name, ids in columns.transform({"color": ["red", "green"]}).items()}
    {'color': [[3], [1]]}
    """

    kind = "embedded"
    features: int | None = None
    limit: int = IDS
    labels: tuple[Label, ...] | None = None

    def __post_init__(self) -> None:
        _positive(self.features, "features")
        _positive(self.limit, "limit")

    @property
    def looks_up(self) -> bool:
        return True

    @property
    def vocabulary(self) -> int:
        return len(self.labels or ()) + FIRST

    @property
    def size(self) -> int:
        return self.features or max(1, min(50, round(1.6 * len(self.labels or ()) ** 0.56)))

    def learned(self, noted: Counts) -> Self:
        return replace(self, labels=tuple(noted.most_common(self.limit)))

    def names(self, name: str) -> list[str]:
        return [name]

    def encode(self, column: Column) -> np.ndarray:
        places = self.places(column)
        ids = np.where(places == -2, MISSING, np.where(places == -1, OTHERS, places + FIRST))
        return ids[:, None]


@dataclass(frozen=True)
class Bucketed(Encoding):
    """Numbers by the bucket into which they fall; as many training rows fall into each.

    Bucket k holds bounds[k - 1] <= x < bounds[k]. Of up to 100,000 rows the bounds are exact; of
    more they are those of a sample that is drawn at random, the same one every time. Where many
    rows are alike there are fewer buckets.

    Args:
        buckets: how many.
        features: of the vector that an ``Embedding`` learns for each bucket; None makes one feature
            for each bucket, 1 where a row falls into it. A value that is missing has a place of its
            own: id 0, or all features 0.

    Attributes:
        bounds: between the buckets; None before it has learned.

    >>> from xpnn.data import Columns
    >>> columns = Columns({"size": Bucketed(2)}).fit({"size": [1.0, 2.0, 3.0, 4.0]})
    >>> columns.encodings["size"].bounds, columns.transform({"size": [1.5, 9.0]}).tolist()
    ((2.5,), [[1.0, 0.0], [0.0, 1.0]])
    """

    kind = "bucketed"
    buckets: int = 10
    features: int | None = None
    bounds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _positive(self.buckets, "buckets")
        _positive(self.features, "features")

    @property
    def is_known(self) -> bool:
        return self.bounds is not None

    @property
    def looks_up(self) -> bool:
        return self.features is not None

    @property
    def vocabulary(self) -> int:
        return (len(self.bounds or ()) + 2) * self.looks_up

    @property
    def size(self) -> int:
        return self.features or 0

    def statistics(self) -> Sample:
        return Sample()

    def note(self, column: Column, noted: Sample) -> None:
        noted.add(column.numbers())

    def learned(self, noted: Sample) -> Self:
        if not len(noted.numbers):
            return replace(self, bounds=())
        shares = np.arange(1, self.buckets) / self.buckets
        found = np.unique(np.quantile(noted.numbers, shares))
        kept = found[found > noted.numbers.min()]  # below the least one there is nothing
        return replace(self, bounds=tuple(kept.tolist()))

    def names(self, name: str) -> list[str]:
        if self.looks_up:
            return [name]
        bounds = [f"{bound:g}" for bound in self.bounds or ()]
        pairs = zip(["", *bounds], [*bounds, ""], strict=True)
        return [f"{name} in [{low}, {high})" for low, high in pairs]

    def encode(self, column: Column) -> np.ndarray:
        self.check_known(column)
        numbers = column.numbers()
        places = np.searchsorted(np.asarray(self.bounds), numbers, side="right")
        if self.looks_up:
            return np.where(np.isnan(numbers), 0, places + 1)[:, None].astype(np.int64)
        places = np.where(np.isnan(numbers), -1, places)
        return (places[:, None] == np.arange(len(self.bounds or ()) + 1)).astype(np.float64)


@dataclass(frozen=True)
class Dates(Encoding):
    """Dates as the number of days, standardized, and where in the year and in the week they lie.

    ::

        (days - mean) / deviation       sin, cos of 2 pi days / 365.2425      of 2 pi days / 7

    Days are counted from the beginning of 1970, in UTC. If there were times in training, sin and
    cos of the time of day follow. Where a value is missing all are 0, and if any was missing in
    training a last feature is 1 there.

    Attributes:
        mean, deviation: of the days of the training rows; None before it has learned.
        has_times: whether there are features for the time of day.
        marks_missing: whether there is the last feature.

    >>> import numpy as np
    >>> from xpnn.data import Columns
    >>> days = np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]")
    >>> Columns({"day": Dates()}).fit({"day": days}).feature_names
    ['day', 'day, sin of year', 'day, cos of year', 'day, sin of week', 'day, cos of week']
    """

    kind = "dates"
    mean: float | None = None
    deviation: float | None = None
    has_times: bool = False
    marks_missing: bool = False

    @property
    def is_known(self) -> bool:
        return self.mean is not None and self.deviation is not None

    def statistics(self) -> Moments:
        return DayMoments()

    def note(self, column: Column, noted: Moments) -> None:
        noted.add(column.dates())

    def learned(self, noted: Any) -> Self:
        return replace(
            self,
            mean=noted.mean,
            deviation=noted.deviation,
            has_times=noted.has_times,
            marks_missing=noted.missing > 0,
        )

    @property
    def _cycles(self) -> dict[str, float]:
        return {"year": YEAR, "week": WEEK, **({"day": 1.0} if self.has_times else {})}

    def names(self, name: str) -> list[str]:
        waves = [f"{name}, {wave} of {one}" for one in self._cycles for wave in ("sin", "cos")]
        return [name, *waves, *([f"{name} is missing"] * self.marks_missing)]

    def encode(self, column: Column) -> np.ndarray:
        self.check_known(column)
        assert self.mean is not None
        assert self.deviation is not None
        days = column.dates()
        missing = np.isnan(days)
        found = [(days - self.mean) / self.deviation]
        for length in self._cycles.values():
            angle = 2 * np.pi * np.remainder(days, length) / length
            found += [np.sin(angle), np.cos(angle)]
        found = [np.where(missing, 0.0, one) for one in found]
        if self.marks_missing:
            found.append(missing.astype(np.float64))
        return np.stack(found, axis=1)


class DayMoments(Moments):
    """Of days, which also tell whether any has a time of day."""

    has_times = False

    def add(self, numbers: np.ndarray) -> None:
        super().add(numbers)
        there = numbers[~np.isnan(numbers)]
        self.has_times = self.has_times or bool((there != np.floor(there)).any())
