"""Which classes are taken for which, and what each of them is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.errors import ShapeError
from xpnn.figures import new_figure, written
from xpnn.metrics.classification import Answers
from xpnn.metrics.targets import is_binary, one_for_each_item, wide_dtype
from xpnn.numerics import one_hot
from xpnn.typing import Array, Namespace

HEADINGS = ("class", "precision", "recall", "F1", "support")


class Pairs(Answers):
    """Counts of pairs of a true class and a predicted one; ``ConfusionMatrix`` is made of them."""

    name = "confusion"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        dtype, classes = wide_dtype(predictions, xp), predictions.shape[-1]
        if is_binary(predictions):
            classes = 2
        chosen, true = self.answers(predictions, targets, xp)
        w = xp.reshape(one_for_each_item(chosen, weight, dtype, xp), (-1, 1))
        rows, columns = (
            xp.reshape(one_hot(one, classes, dtype, xp), (-1, classes)) for one in (true, chosen)
        )
        # a sum of float32 counts right up to 2^24, and a batch is smaller
        return xp.reshape(xp.matrix_transpose(rows * w) @ columns, (-1,))

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        matrix = ConfusionMatrix.of_counts(rows.sum(axis=0))
        return matrix.report().accuracy


class ClassScores(NamedTuple):
    """What one class is worth; 0 for a fraction of nothing.

    Attributes:
        name: of the class.
        precision: of what was predicted to be of it, the share that is.
        recall: of what is of it, the share that was predicted to be.
        f1: their harmonic mean.
        support: how much is of it, by weights.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: float


@dataclass(frozen=True)
class ClassReport:
    """Precision, recall and F1 of each class; ``print`` it.

    Attributes:
        classes: the scores of each.
        accuracy: the share of right answers.
        macro: the mean over the classes, each counting alike.
        weighted: the mean over the classes by their support.

    >>> import numpy as np
    >>> from xpnn.metrics import ConfusionMatrix
    >>> report = ConfusionMatrix(np.array([[8, 2], [1, 4]]), ("no", "yes")).report()
    >>> report.accuracy, report.classes[1].recall
    (0.8, 0.8)
    """

    classes: tuple[ClassScores, ...]
    accuracy: float
    macro: ClassScores
    weighted: ClassScores

    def __str__(self) -> str:
        lines = [HEADINGS, *map(_as_line, self.classes)]
        whole = f"{self.macro.support:.10g}"
        lines += [("accuracy", "", "", f"{self.accuracy:.3f}", whole)]
        lines += map(_as_line, (self.macro, self.weighted))
        return _aligned(lines)


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """How often each class was taken for which; ``Trainer.confusion_matrix`` measures it.

    Attributes:
        counts: (classes, classes), a row for each true class, a column for each predicted one:
            numbers of samples, or sums of their weights.
        names: of the classes.

    >>> import numpy as np
    >>> matrix = ConfusionMatrix(np.array([[8, 2], [1, 4]]), ("no", "yes"))
    >>> print(matrix)
    true, predicted  no  yes
    no                8    2
    yes               1    4
    >>> print(matrix.report())
    class          precision  recall     F1  support
    no                 0.889   0.800  0.842       10
    yes                0.667   0.800  0.727        5
    accuracy                          0.800       15
    macro mean         0.778   0.800  0.785       15
    weighted mean      0.815   0.800  0.804       15
    """

    counts: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if np.shape(self.counts) != (count, count):
            raise ShapeError(
                f"wanted a name for each class, got {count} of them for counts of shape "
                f"{np.shape(self.counts)}; give the names in the order of the classes"
            )

    @classmethod
    def of_counts(cls, counts: np.ndarray, names: Sequence[str] | None = None) -> "ConfusionMatrix":
        """The matrix of counts row after row; classes without names are called by their numbers."""
        classes = round(np.size(counts) ** 0.5)
        named = range(classes) if names is None else names
        return cls(np.reshape(counts, (classes, classes)), tuple(map(str, named)))

    def report(self) -> ClassReport:
        """Precision, recall and F1 of each class, and their means."""
        both = np.diagonal(self.counts).astype(np.float64)
        chosen, true = self.counts.sum(axis=0), self.counts.sum(axis=1)
        columns = [_fraction(both, chosen), _fraction(both, true)]
        columns += [_fraction(2 * both, chosen + true), true]
        classes = [
            ClassScores(name, *map(float, scores))
            for name, *scores in zip(self.names, *columns, strict=True)
        ]
        whole = float(true.sum())
        means = [np.mean(columns[:3], axis=1), _fraction(np.array(columns[:3]) @ true, whole)]
        macro, weighted = (
            ClassScores(f"{kind} mean", *map(float, [*scores, whole]))
            for kind, scores in zip(("macro", "weighted"), means, strict=True)
        )
        accuracy = float(both.sum() / whole) if whole else float("nan")
        return ClassReport(tuple(classes), accuracy, macro, weighted)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw it, colored by the share of each row; needs matplotlib.

        Args:
            path: of a picture file to write, where one is wanted; where its ending does not say in
                what format, it is a PNG.

        Returns:
            The figure, of matplotlib, which a notebook shows where it ends a cell.

        Raises:
            ModuleNotFoundError: matplotlib is not installed; the message says how to.
        """
        count = len(self.names)
        size = 2.2 + 0.45 * count
        figure = new_figure(size, size)
        axes = figure.add_subplot()
        shares = _fraction(self.counts, self.counts.sum(axis=1, keepdims=True))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.5 else "black"
            text = f"{self.counts[row, column]:.10g}"
            axes.text(column, row, text, ha="center", va="center", color=color)
        ticks = range(count)
        axes.set(xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
        axes.set_xticklabels(self.names, rotation=45 if max(map(len, self.names)) > 3 else 0)
        axes.set_yticklabels(self.names)
        return written(figure, path)

    def __str__(self) -> str:
        rows = [
            (name, *(f"{count:.10g}" for count in row))
            for name, row in zip(self.names, self.counts, strict=True)
        ]
        return _aligned([("true, predicted", *self.names), *rows])


def _fraction(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
    """Elementwise, 0 of nothing."""
    some = np.asarray(whole) > 0
    return np.asarray(np.where(some, part / np.where(some, whole, 1), 0.0))


def _as_line(scores: ClassScores) -> tuple[str, ...]:
    name, *fractions, support = scores
    return (name, *(f"{one:.3f}" for one in fractions), f"{support:.10g}")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(row).rstrip() for row in rows)
