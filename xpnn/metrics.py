"""Metrics: what predictions are worth, in words a person uses.

A metric is computed in two halves. ``statistics`` turns one batch into a short 1-d array, on the
device; ``result`` turns the rows of all batches into a number, on the host, in float64, once. So
measuring waits for the device hardly ever, and F1 or R2 are those of the whole data set, not means
over batches. In between, ``merged`` makes few rows of many. Where all weights are 0, it is NaN.

>>> import numpy as np
>>> Accuracy()(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
0.5
"""

import math
import warnings
from collections.abc import Collection
from typing import Any, ClassVar, Literal

import numpy as np

from xpnn.arguments import KnownAttributes
from xpnn.backends import Backend, backend_of
from xpnn.errors import EmptyMeanWarning
from xpnn.numerics import one_hot, widened
from xpnn.typing import Array, Namespace, Shape


class Metric(KnownAttributes):
    """Base of all metrics; a new one writes ``statistics``, ``result`` and perhaps ``merged``.

    Called with predictions and targets, a metric is a number: ``Accuracy()(network(x), y)``.

    Attributes:
        name: its key in histories and results.
        higher_is_better: for callbacks that watch it.
    """

    name: str
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        """Most metrics have no options."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "result" in vars(cls) and "merged" not in vars(cls):  # it may look at single batches
            cls.merged = Metric.merged  # type: ignore[method-assign]

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        """One batch as a 1-d array of floats, or of counts.

        Args:
            predictions: what the network puts out.
            targets: as the loss takes them.
            weight: sample weights, (batch, ...), or None.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define statistics")

    def merged(self, rows: np.ndarray) -> np.ndarray:
        """Rows that ``result`` makes the same of, but fewer; unless written, all are kept.

        Called now and then while a long data set is measured, with those that it returned before
        and the new ones.
        """
        return rows

    def result(self, rows: np.ndarray) -> float:
        """The metric, from the statistics of all batches, (rows, numbers) in float64."""
        raise NotImplementedError(f"{type(self).__name__} has to define result")

    def __call__(
        self,
        predictions: Array,
        targets: Array,
        *,
        sample_weight: Array | None = None,
        backend: Backend | None = None,
    ) -> float:
        """The metric of predictions that are all at hand; waits for the device.

        Without any samples, or where all weights are 0, it is NaN, and an EmptyMeanWarning says so.
        """
        backend = backend or backend_of(predictions)
        weight = None if sample_weight is None else backend.asarray(sample_weight)
        with backend.on_device():
            arrays = backend.asarray(predictions), backend.asarray(targets)
            row = self.statistics(*arrays, weight, backend.xp)
        value = self.result(backend.to_numpy(row)[None, :].astype(np.float64))
        if math.isnan(value):
            some = arrays[1].shape[0] if weight is None else backend.to_numpy(weight).any()
            tell_of_empty_means([] if some else [self.name])
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# Means -----------------------------------------------------------------------------------------


class _Mean(Metric):
    """Base of the metrics that are the weighted mean of one value for each item."""

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        """The value of each item, (batch, ...), a float array."""
        raise NotImplementedError

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        values = self.values(predictions, targets, xp)
        w = _one_each(values, weight, values.dtype, xp)
        return xp.stack([xp.sum(w * values), xp.sum(w)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        total, weight = rows.sum(axis=0)
        return float(total / weight) if weight else math.nan


class Accuracy(_Mean):
    """Share of right classes.

    Many outputs: the largest is the class; targets are class numbers or one-hot rows. One output:
    yes where it is above ``threshold``; targets of 0 or -1 are no, of 1 yes.

    Args:
        threshold: 0 for logits, 0.5 for probabilities.
    """

    fixed = ("threshold",)
    name = "accuracy"

    def __init__(self, threshold: float = 0.0):
        self.threshold = threshold

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        chosen = chosen_class(predictions, self.threshold, xp)
        return xp.astype(chosen == true_class(predictions, targets, xp), _wide(predictions, xp))


class TopK(_Mean):
    """Share of samples whose class is among the k largest outputs.

    An output that ties with the true class counts as larger, so that constant outputs earn nothing;
    NaN counts as larger, too.
    """

    fixed = ("k",)

    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopK needs k of at least 1, got {k}")
        self.k, self.name = k, f"top_{k}"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        true = one_hot(true_class(predictions, targets, xp), predictions.shape[-1], xp.bool, xp)
        own = xp.max(xp.where(true, predictions, -xp.inf), axis=-1, keepdims=True)
        at_least = xp.count_nonzero(~(predictions < own), axis=-1)
        return xp.astype(at_least <= self.k, _wide(predictions, xp))


class MAE(_Mean):
    """Mean absolute error, in the units of the targets."""

    name = "mae"
    higher_is_better = False

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        predictions = widened(predictions, xp)
        return xp.abs(predictions - _as(predictions, targets, xp))


# Counts ----------------------------------------------------------------------------------------


class _Counting(Metric):
    """Base of the metrics of counts: true positives, predicted and actual members of each class."""

    fixed = ("average", "threshold")

    def __init__(self, average: Literal["macro", "binary"] | None = None, threshold: float = 0.0):
        if average not in (None, "macro", "binary"):
            raise ValueError(f"{type(self).__name__} averages 'macro' or 'binary', got {average!r}")
        self.average, self.threshold = average, threshold

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        classes = 2 if _is_binary(predictions) else predictions.shape[-1]
        chosen = chosen_class(predictions, self.threshold, xp)
        true = true_class(predictions, targets, xp)
        dtype = xp.int32 if weight is None else _wide(predictions, xp)  # sums of int32 are wider
        w = xp.reshape(_one_each(chosen, weight, dtype, xp), (-1, 1))
        chosen, true = (
            xp.reshape(one_hot(labels, classes, dtype, xp), (-1, classes))
            for labels in (chosen, true)
        )
        return xp.concat([xp.sum(w * each, axis=0) for each in (chosen * true, chosen, true)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        both, chosen, true = rows.sum(axis=0).reshape(3, -1)
        if not true.any():
            return math.nan
        fractions = [self.fraction(*counts) for counts in zip(both, chosen, true, strict=True)]
        each = [float(part / whole) if whole else 0.0 for part, whole in fractions]
        if (self.average or ("binary" if len(each) == 2 else "macro")) == "binary":
            return each[1]
        seen = [value for value, count in zip(each, chosen + true, strict=True) if count > 0]
        return sum(seen) / len(seen)

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        """Numerator and denominator for one class."""
        raise NotImplementedError


class Precision(_Counting):
    """Of what was predicted to be of a class, the share that is.

    For two classes that of class 1, else the mean over the classes that occur or were predicted
    ("macro"); a class that was never predicted counts as 0.

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


# Regression ------------------------------------------------------------------------------------


class R2(Metric):
    """Coefficient of determination: ``1 - sum (y - a)^2 / sum (y - mean y)^2``.

    1 is perfect, 0 is as good as the mean. For several outputs, the mean of theirs. An output whose
    targets are all equal counts as 1 if all its predictions are right, else as 0.

    The spread of the targets is put together from the batches' means and spreads (Chan et al.,
    1979), and each batch is measured from about its mean: large offsets cost no digits.
    """

    name = "r2"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
        predictions = widened(predictions, xp)
        w = _one_each(predictions, weight, predictions.dtype, xp)
        w, a, y = (
            xp.reshape(array, (-1, outputs))
            for array in (w, predictions, _as(predictions, targets, xp))
        )
        total = xp.sum(w, axis=0)
        center = xp.sum(w * y, axis=0) / xp.where(total > 0, total, 1.0)
        sums = (w * (y - center), w * (y - center) ** 2, w * (y - a) ** 2)
        return xp.concat([total, center, *(xp.sum(each, axis=0) for each in sums)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        total, center, off, squares, missed = rows.reshape(len(rows), 5, -1).transpose(1, 0, 2)
        off = off / np.maximum(total, 1e-300)  # from each batch's center to its mean
        mean = np.sum(total * (center + off), axis=0) / np.maximum(total.sum(axis=0), 1e-300)
        spread = np.sum(squares - total * off**2 + total * (center + off - mean) ** 2, axis=0)
        sums = (total.sum(axis=0), mean, np.zeros_like(mean), spread, missed.sum(axis=0))
        return np.concatenate(sums)[None, :]

    def result(self, rows: np.ndarray) -> float:
        total, _, _, spread, missed = self.merged(rows).reshape(5, -1)
        if not total.any():
            return math.nan
        share = missed / np.where(spread > 0, spread, 1.0)
        return float(np.mean(1.0 - np.where(spread > 0, share, missed != 0)))


# Classes and weights ---------------------------------------------------------------------------


def chosen_class(predictions: Array, threshold: float, xp: Namespace) -> Array:
    """The class that outputs stand for: the largest, or, of a single output, yes (1) or no (0)."""
    if _is_binary(predictions):
        return xp.astype(xp.reshape(predictions, _items(predictions)) > threshold, xp.int32)
    return xp.argmax(predictions, axis=-1)


def true_class(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Class numbers, from class numbers, from one-hot rows or from 0 (or -1) and 1."""
    if _is_binary(predictions):
        share = xp.astype(xp.reshape(targets, _items(predictions)), xp.float32)
        return xp.astype(share > 0.5, xp.int32)
    return xp.argmax(targets, axis=-1) if targets.shape == predictions.shape else targets


def _is_binary(predictions: Array) -> bool:
    return predictions.ndim == 1 or predictions.shape[-1] == 1


def _items(predictions: Array) -> Shape:
    """The shape of the yes or no answers that single outputs give."""
    return tuple(predictions.shape if predictions.ndim == 1 else predictions.shape[:-1])


def _as(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Targets in the shape and dtype of the predictions."""
    return xp.astype(xp.reshape(targets, predictions.shape), predictions.dtype, copy=False)


def _one_each(items: Array, weight: Array | None, dtype: object, xp: Namespace) -> Array:
    """One weight for each item, ones where no weights came."""
    if weight is None:
        return xp.ones_like(items, dtype=dtype)
    column = xp.reshape(weight, (*weight.shape, *[1] * (items.ndim - weight.ndim)))
    return xp.astype(xp.broadcast_to(column, items.shape), dtype, copy=False)


def _wide(predictions: Array, xp: Namespace) -> object:
    """The dtype in which weights and counts are added up."""
    return xp.float64 if predictions.dtype == xp.float64 else xp.float32


def tell_of_empty_means(names: Collection[str]) -> None:
    """Say which of the numbers that were measured are NaN, as there is nothing to measure."""
    if names:
        warnings.warn(
            f"{', '.join(names)}: NaN, as a mean of nothing, since the weights of all samples, or "
            f"of all their classes, are 0; give some of them a weight above 0",
            EmptyMeanWarning,
            stacklevel=3,
        )
