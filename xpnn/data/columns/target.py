"""The column, or columns, that a network learns to tell: classes with their labels, or numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from xpnn.backends import backend_of
from xpnn.backends.registry import class_recognizing
from xpnn.data.columns.column import Column, Label
from xpnn.data.columns.encodings import (
    Encoding,
    Numbers,
    OneHot,
    Standardized,
)
from xpnn.data.columns.statistics import Counts, Moments
from xpnn.data.columns.table import Table
from xpnn.data.columns.written import as_plain, from_plain
from xpnn.errors import DataError, NotBuiltError, ShapeError

Task: TypeAlias = Literal["classes", "numbers", "standardized"]
TASKS = ("classes", "numbers", "standardized")
FEW = 20
TO_CLASSES = "mend it, or learn classes, by target_as='classes' or --task classes"
"""Different whole numbers that are taken for classes unless told otherwise, at most."""


class Target:
    """What the targets are; made by ``Columns``.

    Args:
        names: of the columns; several hold numbers.
        task: what they are, or None to choose it by what the column holds: "classes" for texts,
            booleans, categories, and whole numbers of which there are 20 different ones at most and
            each comes twice on average; else "numbers".

    Attributes:
        labels: of the classes, sorted; None where the targets are numbers.
        encodings: of the columns, where they are numbers.

    >>> from xpnn.data import Columns
    >>> table = {"size": [1.0, 2.0], "sold": ["no", "yes"]}
    >>> columns = Columns(target="sold").fit(table)
    >>> columns.target.labels, columns.targets(table).tolist()
    (('no', 'yes'), [0, 1])
    """

    def __init__(self, names: Sequence[str], task: Task | None = None):
        if task is not None and task not in TASKS:
            raise ValueError(f"wanted target_as to be one of {', '.join(TASKS)}, got {task!r}")
        if task == "classes" and len(names) > 1:
            raise ValueError(f"wanted one column of classes, got {', '.join(names)}; name one")
        self.names, self.task = tuple(names), task
        self.labels: tuple[Label, ...] | None = None
        self.encodings: list[Standardized | Numbers] = []
        self._moments = [Moments() for _ in self.names]
        self._counts: Counts | None = Counts() if len(self.names) == 1 else None
        self._kinds: set[str] = set()

    def __repr__(self) -> str:
        what = f"{len(self.labels)} classes" if self.labels else (self.task or "not known yet")
        return f"<target {', '.join(self.names)}: {what}>"

    # Learning -------------------------------------------------------------------------------------

    def note(self, table: Table) -> None:
        """Take in a stretch of training rows."""
        for name, moments in zip(self.names, self._moments, strict=True):
            column = table.column(name)
            self._kinds.add(column.kind)
            if self._counts is not None and self.task in (None, "classes"):
                codes, labels = column.labels()
                _refuse_missing(column, codes < 0)
                self._counts.add(codes, labels)
            if not self._are_labels(column):
                numbers = column.numbers(TO_CLASSES)
                _refuse_missing(column, np.isnan(numbers))
                moments.add(numbers)

    def _are_labels(self, column: Column) -> bool:
        if self.task is not None:
            return self.task == "classes"
        return len(self.names) == 1 and column.kind not in ("integers", "floats")

    def learned(self) -> Self:
        """The same target, which knows the training rows."""
        self.task = self.task or self._chosen()
        if self.task == "classes":
            counts = self._counts
            assert counts is not None
            if counts.uncounted:
                raise DataError(
                    f"wanted classes in column {self.names[0]!r}, got more than {counts.most} "
                    f"different values; if they are numbers, write target_as='numbers'"
                )
            self.labels = tuple(counts.most_common(counts.most))
            if len(self.labels) < 2:
                raise DataError(
                    f"wanted at least two classes in column {self.names[0]!r}, got only "
                    f"{', '.join(map(repr, self.labels))}; learn on rows of all classes"
                )
        else:
            kind = Standardized if self.task == "standardized" else Numbers
            for name, moments in zip(self.names, self._moments, strict=True):
                try:
                    self.encodings.append(kind().learned(moments))
                except DataError as error:
                    raise DataError(f"column {name!r}: {error}") from None
        self._moments, self._counts = [], None
        return self

    def _chosen(self) -> Task:
        kinds, counts = self._kinds - {"nothing"}, self._counts
        if counts is None or "floats" in kinds:
            return "numbers"
        different, rows = len(counts.counts), sum(counts.counts.values())
        if kinds == {"integers"} and (different > FEW or rows < 2 * different):
            return "numbers"
        return "classes"

    # Knowing --------------------------------------------------------------------------------------

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one for each class, or for each column of numbers."""
        return len(self._known() or self.encodings)

    def encode(self, table: Table) -> np.ndarray:
        """Class numbers, (rows,) int64; or numbers, (rows, columns) float32.

        Raises:
            DataError: a value is missing, or is none of the classes; the first such row is named.
        """
        labels = self._known()
        if labels is not None:
            column = table.column(self.names[0])
            codes, found = column.labels()
            _refuse_missing(column, codes < 0)
            known = {label: place for place, label in enumerate(labels)}
            places = np.asarray([*(known.get(one, -1) for one in found), -1], np.int64)[codes]
            listed = ", ".join(map(repr, labels[:10])) + (", ..." if labels[10:] else "")
            wanted = f"a class that was there in training, one of {listed},"
            column.refuse(places < 0, wanted, "leave such rows out, or learn anew")
            return places
        parts = []
        for name, encoding in zip(self.names, self.encodings, strict=True):
            column = table.column(name)
            numbers = column.numbers(TO_CLASSES)
            _refuse_missing(column, np.isnan(numbers))
            part = encoding.encode(column)[:, :1]
            column.refuse(
                np.abs(part[:, 0]) > np.finfo(np.float32).max,
                "numbers that fit into float32",
                "write target_as='standardized', or give it in a larger unit, and learn anew",
            )
            parts.append(part)
        return np.concatenate(parts, axis=1).astype(np.float32)

    def decode(self, outputs: Any) -> np.ndarray:
        """What the outputs of a network say: the label of the largest one, or numbers.

        Args:
            outputs: (rows, classes), or (rows, columns) of numbers, of any library. Of two classes
                (rows, 1) are taken for logits: the second class where they are above 0.

        Returns:
            (rows,) labels, or (rows, columns) float64, the standardization undone.
        """
        labels = self._known()
        if class_recognizing(outputs) is not None:
            outputs = backend_of(outputs).to_numpy(outputs)
        found = np.asarray(outputs)
        wanted = [self.outputs] + ([1] if labels is not None and len(labels) == 2 else [])
        if found.ndim != 2 or found.shape[1] not in wanted:
            raise ShapeError(
                f"wanted outputs of shape (rows, {self.outputs}) for {self!r}, got {found.shape}"
            )
        if labels is None:
            columns = zip(self.encodings, found.T, strict=True)
            return np.stack([one.decoded(column) for one, column in columns], axis=1)
        numbers = np.argmax(found, axis=1) if found.shape[1] > 1 else (found[:, 0] > 0).astype(int)
        texts = all(isinstance(label, str) for label in labels)
        return np.asarray(labels, None if not texts else object)[numbers]

    def _known(self) -> tuple[Label, ...] | None:
        if self.labels is None and not self.encodings:
            raise NotBuiltError(
                f"{self!r} has learned nothing yet; call columns.fit(table) with the training rows"
            )
        return self.labels

    # In files -------------------------------------------------------------------------------------

    def as_plain(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        labels = self._known()
        return {
            "names": list(self.names),
            "task": self.task,
            "labels": None if labels is None else list(labels),
            "encodings": [as_plain(one) for one in self.encodings],
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The target again; raises ValueError if it makes no sense."""
        if not isinstance(plain, Mapping) or plain.keys() != {
            "names", "task", "labels", "encodings",
        }:  # fmt: skip
            raise ValueError(f"a target {str(plain)[:100]}")
        names, task, labels = plain["names"], plain["task"], plain["labels"]
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise ValueError("a target without names")
        if not isinstance(task, str):
            raise ValueError("a target without a task")
        made = cls(names, task)  # type: ignore[arg-type]
        if (task == "classes") != (labels is not None):
            raise ValueError(f"labels of {task}")
        if labels is not None:
            read = from_plain({"kind": OneHot.kind, "labels": labels})
            assert isinstance(read, OneHot)
            made.labels = read.labels
            if len(labels) < 2:
                raise ValueError("a target of less than two classes")
            return made
        encodings: list[Encoding] = [from_plain(one) for one in plain["encodings"]]
        kind = Standardized if task == "standardized" else Numbers
        if len(encodings) != len(names) or not all(isinstance(one, kind) for one in encodings):
            raise ValueError("a target whose encodings are not those of its columns")
        made.encodings = [one for one in encodings if isinstance(one, Standardized | Numbers)]
        return made


def _refuse_missing(column: Column, missing: np.ndarray) -> None:
    if missing.any():
        raise DataError(
            f"wanted a target in every row of column {column.name!r}, got none in "
            f"{column.place(int(np.argmax(missing)))}; leave such rows out"
        )
