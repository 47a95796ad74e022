"""Metrics: what predictions are worth, in words a person uses.

A metric is computed in two halves. ``statistics`` turns one batch into a short 1-d array, on the
device; ``result`` turns the rows of all batches into a number, on the host, in float64, once. So
measuring never waits for the device in between, and F1 or R2 are those of the whole data set, not
means over batches.
"""

import math
from typing import ClassVar, Literal

import numpy as np

from xpnn.numerics import one_hot
from xpnn.typing import Array, Namespace


class Metric:
    """Base of all metrics; a new one writes ``statistics`` and ``result``.

    Attributes:
        name: its key in histories and results.
        higher_is_better: for callbacks that watch it.
    """

    name: str
    higher_is_better: ClassVar[bool] = True

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        """One batch as a 1-d float array.

        Args:
            predictions: what the network puts out.
            targets: as the loss takes them.
            weight: sample weights, (batch, ...), or None.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define statistics")

    def result(self, rows: np.ndarray) -> float:
        """The metric, from the statistics of all batches, (batches, numbers) in float64."""
        raise NotImplementedError(f"{type(self).__name__} has to define result")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Accuracy(Metric):
    """Share of right classes.

    Many outputs: the largest is the class; targets are class numbers or one-hot rows. One output,
    or targets of the outputs' shape in {0, 1}: yes where the output is above ``threshold``.

    Args:
        threshold: 0 for logits, 0.5 for probabilities.
    """

    name = "accuracy"

    def __init__(self, threshold: float = 0.0):
        self.threshold = threshold

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        right = chosen_class(predictions, self.threshold, xp) == true_class(predictions, targets, xp)
        return _share_of(xp.astype(right, predictions.dtype), weight, xp)

    def result(self, rows: np.ndarray) -> float:
        return _ratio(*rows.sum(axis=0))


class TopK(Metric):
    """Share of samples whose class is among the k largest outputs.

    An output that ties with the true class counts as larger, so that constant outputs earn nothing.
    """

    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopK needs k of at least 1, got {k}")
        self.k, self.name = k, f"top_{k}"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        classes = predictions.shape[-1]
        chosen = one_hot(true_class(predictions, targets, xp), classes, predictions.dtype, xp)
        own = xp.sum(predictions * chosen, axis=-1, keepdims=True)
        at_least = xp.sum(xp.astype(predictions >= own, predictions.dtype), axis=-1)
        return _share_of(xp.astype(at_least <= self.k, predictions.dtype), weight, xp)

    def result(self, rows: np.ndarray) -> float:
        return _ratio(*rows.sum(axis=0))


class _Counting(Metric):
    """Base of the metrics of counts: true positives, predicted and actual members of each class."""

    def __init__(
        self, average: Literal["macro", "binary"] | None = None, threshold: float = 0.0
    ):
        if average not in (None, "macro", "binary"):
            raise ValueError(f"{type(self).__name__} averages 'macro' or 'binary', got {average!r}")
        self.average, self.threshold = average, threshold

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        classes = max(predictions.shape[-1], 2)
        chosen = chosen_class(predictions, self.threshold, xp)
        true = true_class(predictions, targets, xp)
        chosen_rows, true_rows = (
            xp.reshape(one_hot(labels, classes, predictions.dtype, xp), (-1, classes))
            for labels in (chosen, true)
        )
        w = xp.reshape(_broadcast(weight, chosen, predictions, xp), (-1, 1))
        sums = (chosen_rows * true_rows, chosen_rows, true_rows)
        return xp.concat([xp.sum(w * each, axis=0) for each in sums])

    def result(self, rows: np.ndarray) -> float:
        both, chosen, true = rows.sum(axis=0).reshape(3, -1)
        each = [_ratio(*self.fraction(*counts)) for counts in zip(both, chosen, true, strict=True)]
        average = self.average or ("binary" if len(each) == 2 else "macro")
        return each[1] if average == "binary" else float(np.mean(each))

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        """Numerator and denominator for one class."""
        raise NotImplementedError


class Precision(_Counting):
    """Of what was predicted to be of a class, the share that is.

    For two classes that of class 1, else the mean over all classes ("macro"); a class that was
    never predicted counts as 0.

    Args:
        average: "binary", "macro", or None for whichever fits the number of classes.
        threshold: for one output, above which it says yes.
    """

    name = "precision"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, chosen


class Recall(_Counting):
    """Of what is of a class, the share that was predicted to be. Arguments as ``Precision``."""

    name = "recall"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, true


class F1(_Counting):
    """Harmonic mean of precision and recall, for each class. Arguments as ``Precision``."""

    name = "f1"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return 2 * both, chosen + true


class MAE(Metric):
    """Mean absolute error, in the units of the targets."""

    name = "mae"
    higher_is_better = False

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        error = xp.abs(predictions - xp.astype(targets, predictions.dtype))
        return _share_of(error, weight, xp)

    def result(self, rows: np.ndarray) -> float:
        return _ratio(*rows.sum(axis=0))


class R2(Metric):
    """Coefficient of determination: ``1 - sum (y - a)^2 / sum (y - mean y)^2``.

    1 is perfect, 0 is as good as the mean. For several outputs, the mean of theirs. The spread of
    the targets is put together from the batches' means and spreads (Chan et al., 1979), which loses
    no digits to large offsets.
    """

    name = "r2"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
        a = xp.reshape(predictions, (-1, outputs))
        y = xp.reshape(xp.astype(targets, predictions.dtype), (-1, outputs))
        w = _broadcast(weight, predictions, predictions, xp)
        w = xp.reshape(w, (-1, outputs))
        total = xp.sum(w, axis=0)
        mean = xp.sum(w * y, axis=0) / xp.where(total > 0, total, 1.0)
        spread, missed = w * (y - mean) ** 2, w * (y - a) ** 2
        return xp.concat([total, mean, xp.sum(spread, axis=0), xp.sum(missed, axis=0)])

    def result(self, rows: np.ndarray) -> float:
        total, mean, spread, missed = rows.reshape(len(rows), 4, -1).transpose(1, 0, 2)
        overall = (total * mean).sum(axis=0) / np.maximum(total.sum(axis=0), 1e-300)
        spread = spread.sum(axis=0) + (total * (mean - overall) ** 2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.mean(1 - missed.sum(axis=0) / spread))


def chosen_class(predictions: Array, threshold: float, xp: Namespace) -> Array:
    """The class that outputs stand for: the largest, or, of a single output, yes (1) or no (0)."""
    if predictions.shape[-1] > 1:
        return xp.argmax(predictions, axis=-1)
    return xp.astype(predictions[..., 0] > threshold, xp.int32)


def true_class(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Class numbers, from class numbers, from one-hot rows or from a single column of 0 and 1."""
    if tuple(targets.shape) != tuple(predictions.shape):
        return targets
    if predictions.shape[-1] > 1:
        return xp.argmax(targets, axis=-1)
    return xp.astype(targets[..., 0] > 0, xp.int32)


def _broadcast(weight: Array | None, items: Array, like: Array, xp: Namespace) -> Array:
    """One weight for each item, ones where no weights came."""
    ones = xp.ones_like(like) if items is like else xp.astype(items == items, like.dtype)
    if weight is None:
        return ones
    weight = xp.astype(weight, like.dtype)
    return ones * xp.reshape(weight, weight.shape + (1,) * (items.ndim - weight.ndim))


def _share_of(values: Array, weight: Array | None, xp: Namespace) -> Array:
    """``[sum of w * value, sum of w]``."""
    w = _broadcast(weight, values, values, xp)
    return xp.stack([xp.sum(values * w), xp.sum(w)])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else (0.0 if not math.isnan(part) else math.nan)
