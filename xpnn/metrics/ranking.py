"""Metrics of order: whether what is true has the larger outputs, whatever the threshold."""

import copy
import math
from typing import ClassVar, Self

import numpy as np

from xpnn.arguments import checked
from xpnn.backends import Backend
from xpnn.losses.outputs import Outputs
from xpnn.metrics.base import Metric
from xpnn.metrics.targets import (
    check_classes,
    check_yes_or_no,
    is_binary,
    one_for_each_item,
    true_class,
    wide_dtype,
)
from xpnn.numerics import one_hot, softmax, widened
from xpnn.typing import Array, Namespace, Shape

LARGEST = float(np.finfo(np.float64).max)  # as which an infinite score counts
COLUMNS = 4  # of a row of statistics: output, score, weight of yes, weight of no


class Order(Metric):
    """Base of the areas under curves that go through all thresholds.

    Statistics are a row for each item and output: the number of the output, its score, and the
    weights of yes and of no at that score. Rows of equal scores are added up on the host, and where
    more than ``bins`` different ones of an output are left, they are put together into so many of
    about equal weight.
    """

    fixed: ClassVar[tuple[str, ...]] = ("bins",)
    reads = "scores"
    of_classes = False

    @checked
    def __init__(self, bins: int = 100_000):
        if bins < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 bins, got bins={bins}")
        self.bins = bins

    def following(self, outputs: Outputs) -> Self:
        super().following(outputs)
        told = copy.copy(self)
        vars(told)["of_classes"] = outputs.name == "class logits"
        return told

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        several = output_shape[-1:] not in ((), (1,))
        if several and tuple(targets.shape)[1:] != output_shape:
            check_classes(targets, output_shape, backend, values, f"leave {self!r} out")
        else:
            check_yes_or_no(targets, output_shape, backend, values)

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        dtype = wide_dtype(predictions, xp)
        scores = widened(predictions, xp)
        if self.of_classes:
            scores = softmax(scores, xp)
        outputs = 1 if is_binary(predictions) else predictions.shape[-1]
        if outputs == 1:
            true = xp.astype(true_class(predictions, targets, xp), dtype)
        elif targets.shape == predictions.shape:
            true = xp.astype(xp.astype(targets, dtype) > 0.5, dtype)
        else:
            true = one_hot(targets, outputs, dtype, xp)
        shape = true.shape if outputs == 1 else true.shape[:-1]
        scores, true = (xp.reshape(one, (*shape, outputs)) for one in (scores, true))
        w = one_for_each_item(scores[..., 0], weight, dtype, xp)[..., None]
        number = xp.cumulative_sum(xp.ones_like(scores), axis=-1) - 1.0
        columns = number, scores, w * true, w * (1.0 - true)
        return xp.reshape(xp.stack(columns, axis=-1), (-1, COLUMNS))

    def merged(self, rows: np.ndarray) -> np.ndarray:
        weighed = rows[rows[:, 2] + rows[:, 3] > 0]
        weighed[:, 1] = np.clip(weighed[:, 1], -LARGEST, LARGEST)  # of which there is a middle
        each = [self._few(weighed[weighed[:, 0] == one]) for one in np.unique(weighed[:, 0])]
        return np.concatenate([weighed[:0], *each])

    def _few(self, rows: np.ndarray) -> np.ndarray:
        """The rows of one output, by ascending scores: one for each score, or for each bin."""
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        rows = _joined(rows, _changes(rows[:, 1]))
        if len(rows) <= self.bins:
            return rows
        weights = rows[:, 2] + rows[:, 3]
        bins = (np.cumsum(weights) - weights / 2) / weights.sum() * self.bins
        return _joined(rows, _changes(np.floor(bins)))

    def result(self, rows: np.ndarray) -> float:
        rows = self.merged(rows)
        if np.any(np.isnan(rows[:, 1])):
            return math.nan
        each = [self.area(*rows[rows[:, 0] == one, 2:].T) for one in np.unique(rows[:, 0])]
        found = [area for area in each if not math.isnan(area)]
        return float(np.mean(found)) if found else math.nan

    def area(self, yes: np.ndarray, no: np.ndarray) -> float:
        """That of one output, from the weights of yes and no at ascending scores."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.bins == 100_000 else f'bins={self.bins}'})"


def _changes(numbers: np.ndarray) -> np.ndarray:
    """Where a number begins that is not the one before it."""
    return np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)])


def _joined(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Runs of rows as one each, at the middle of their scores."""
    ends = np.append(starts[1:], len(rows)) - 1
    scores = 0.5 * rows[starts, 1] + 0.5 * rows[ends, 1]
    return np.column_stack([rows[starts, 0], scores, np.add.reduceat(rows[:, 2:], starts)])


class ROCAUC(Order):
    """Area under the ROC curve: how often a yes has a larger output than a no, ties counting half.

    For outputs a of all pairs of a yes i and a no j, each by the product of their weights::

        mean of [a_i > a_j] + [a_i = a_j] / 2

    1 is perfect, 0.5 what outputs are worth that know nothing. Of several outputs, each against the
    others, the mean of those for which there are both yes and no; of classes, it goes by their
    probabilities. Where there is nothing but yes or nothing but no, or an output is NaN, it is NaN.

    Args:
        bins: up to so many different scores of an output the area is exact; of more, as many bins
            of about equal weight are kept, in each of which scores count as ties.

    >>> import numpy as np
    >>> ROCAUC()(np.array([[0.1], [0.4], [0.3], [0.8]]), np.array([[0], [0], [1], [1]]))
    0.75
    """

    name = "roc_auc"

    def area(self, yes: np.ndarray, no: np.ndarray) -> float:
        if not (yes.sum() > 0 and no.sum() > 0):
            return math.nan
        below = np.cumsum(no) - no / 2
        return float(np.sum(yes * below) / (yes.sum() * no.sum()))


class AveragePrecision(Order):
    """Area under the curve of precision over recall, as the mean of the precisions at each yes.

    With P_k and R_k the precision and the recall at threshold k, from the largest output down::

        sum_k (R_k - R_(k-1)) P_k

    Outputs that know nothing are worth the share of yes, so that it is the stricter measure where
    that is small. Of several outputs, the mean of those for which there is a yes.

    Args:
        bins: as for ``ROCAUC``.

    >>> import numpy as np
    >>> AveragePrecision()(np.array([[0.1], [0.4], [0.3], [0.8]]), np.array([[0], [0], [1], [1]]))
    0.8333
    """

    name = "average_precision"

    def area(self, yes: np.ndarray, no: np.ndarray) -> float:
        if not yes.sum() > 0:
            return math.nan
        found, chosen = np.cumsum(yes[::-1]), np.cumsum((yes + no)[::-1])
        return float(np.sum(yes[::-1] * found / chosen) / yes.sum())
