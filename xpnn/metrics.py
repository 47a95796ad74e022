"""Metrics: what predictions are worth, in words a person uses.

In a ``Trainer`` a metric follows the loss: yes is what is above 0 where that takes outputs for
logits, above 0.5 where it takes them for probabilities, and what a metric cannot measure of such
outputs is refused before the first step. Called by itself, a metric goes by the predictions alone.

A metric is computed in two halves. ``statistics`` turns one batch into a short 1-d array, on the
device; ``result`` turns the rows of all batches into a number, on the host, in float64, once. So
measuring waits for the device hardly ever, and F1 or R2 are those of the whole data set, not means
over batches. In between, ``merged`` makes few rows of many. Where all weights are 0, it is NaN.

>>> import numpy as np
>>> Accuracy()(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
0.5
"""

import copy
import logging
import math
import warnings
from collections.abc import Collection, Iterator
from typing import Any, ClassVar, Literal, Self

import numpy as np

from xpnn.arguments import KnownAttributes, checked, same_length
from xpnn.backends import Backend, backend_of
from xpnn.backends.advice import rewording
from xpnn.errors import Change, DataError, EmptyMeanWarning, ShapeError
from xpnn.losses.outputs import MEANINGS, Outputs
from xpnn.numerics import one_hot, widened
from xpnn.typing import Array, Namespace, Shape

logger = logging.getLogger("xpnn")

Kind = Literal["answers", "ranks", "values"]
LOOKED_AT_ONCE = 1 << 22  # targets, before anything is measured


class Metric(KnownAttributes):
    """Base of all metrics; a new one writes ``statistics``, ``result`` and perhaps ``merged``.

    Called with predictions and targets, a metric is a number: ``Accuracy()(network(x), y)``.

    Attributes:
        name: its key in histories and results.
        higher_is_better: for callbacks that watch it.
        reads: what it takes outputs for: "answers", yes or no, or the largest of several classes;
            "ranks", the larger the likelier a class; "values", numbers to compare with the targets;
            None for whatever they are.
    """

    name: str
    higher_is_better: ClassVar[bool] = True
    reads: ClassVar[Kind | None] = None

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

    def following(self, outputs: Outputs) -> "Metric":
        """The metric as it measures these outputs: itself, unless it depends on what they are.

        Raises:
            ValueError: it cannot measure them; the message says what to write.
        """
        if self.reads == "values" and outputs.name in ("logits", "class logits", "margins"):
            raise ValueError(
                f"{self!r} compares outputs with targets as numbers, but {outputs.loss} takes them "
                f"for {MEANINGS[outputs.name].words}; leave it out, or measure Accuracy()"
            )
        if self.reads == "ranks" and outputs.single:
            raise ValueError(
                f"{self!r} ranks the outputs of several classes, got a network with one output; "
                f"leave it out, or measure Accuracy()"
            )
        return self

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        """Look at targets once, before anything is measured; see ``xpnn.losses.check_targets``.

        Raises:
            ShapeError, DataError: it cannot measure outputs of that shape by these targets.
        """
        if self.reads == "values":
            _check_shape(targets, output_shape)

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
        given = targets
        predictions, targets = backend.asarray(predictions), backend.asarray(targets)
        weight = None if sample_weight is None else backend.asarray(sample_weight)
        if predictions.shape[0] or targets.shape[0]:
            same_length(predictions=predictions, targets=targets, sample_weight=weight)
        with backend.on_device(), rewording(y=given):
            self.check_targets(targets, tuple(predictions.shape[1:]), backend)
            self.check_predictions(predictions, backend)
            row = self.statistics(predictions, targets, weight, backend.xp)
        value = self.result(backend.to_numpy(row)[None, :].astype(np.float64))
        if math.isnan(value):
            some = targets.shape[0] if weight is None else backend.to_numpy(weight).any()
            tell_of_empty_means([] if some else [self.name])
        return value

    def check_predictions(self, predictions: Array, backend: Backend) -> None:
        """Refuse predictions that may be one thing or another, where no loss says which.

        Raises:
            DataError: the metric would be another number.
        """

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


class _Answers(Metric):
    """Base of the metrics that compare answers: yes or no, or one class of several."""

    fixed: ClassVar[tuple[str, ...]] = ("threshold", "multilabel")
    reads = "answers"
    threshold: float | None = None
    multilabel: bool = False

    @checked
    def __init__(self, threshold: float | None = None, multilabel: bool = False):
        self.threshold, self.multilabel = threshold, multilabel

    def answers(self, predictions: Array, targets: Array, xp: Namespace) -> tuple[Array, Array]:
        """The answers given and the true ones: 0 and 1, or class numbers, of the items' shape."""
        if self.multilabel:
            predictions, targets = predictions[..., None], targets[..., None]
        return chosen_class(predictions, self.threshold, xp), true_class(predictions, targets, xp)

    def following(self, outputs: Outputs) -> Self:
        super().following(outputs)
        if self.multilabel and outputs.name == "class logits":
            raise ValueError(
                f"{self!r} takes each output for a yes or no of its own, but {outputs.loss} takes "
                f"them for {MEANINGS[outputs.name].words}; leave multilabel=True out, or choose "
                f"binary_cross_entropy"
            )
        if self.multilabel and outputs.sum_to_1:
            raise ValueError(
                f"{self!r} takes each output for a yes or no of its own, but those of "
                f"{outputs.last!r} sum to 1; leave multilabel=True out, or end the network in "
                f"Sigmoid()"
            )
        if not (outputs.single or self.multilabel):
            return self
        threshold = self._threshold_for(outputs) if self.threshold is None else self.threshold
        if outputs.are_shares and not 0 < threshold < 1:
            raise ValueError(
                f"{self!r} has its threshold at {threshold:g}, but outputs lie from 0 to 1; leave "
                f"threshold out, or write threshold=0.5"
            )
        told = copy.copy(self)
        vars(told)["threshold"] = threshold
        return told

    def _threshold_for(self, outputs: Outputs) -> float:
        """Above which number these outputs say yes."""
        if outputs.are_shares:
            return 0.5
        if outputs.name == "values":
            raise ValueError(
                f"{self!r} does not know above which number an output says yes, as {outputs.loss} "
                f"takes outputs for {MEANINGS[outputs.name].words}; write threshold=0.5 for "
                f"targets of 0 and 1, threshold=0 for targets of -1 and 1"
            )
        if outputs.name is None:
            logger.warning(
                "%s does not say what it takes outputs for, so %r takes those above 0 for yes; "
                "write threshold=0 if they are logits, threshold=0.5 if they are probabilities",
                *(outputs.loss, self),
            )
            return 0.0
        threshold = MEANINGS[outputs.name].threshold
        assert threshold is not None  # but for logits of classes, and these are never single
        return threshold

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        if self.multilabel or output_shape[-1:] in ((), (1,)):
            _check_yes_or_no(targets, output_shape, backend, values)
        else:
            _check_classes(self, targets, output_shape, backend, values)

    def check_predictions(self, predictions: Array, backend: Backend) -> None:
        one_each = self.multilabel or _is_binary(predictions)
        if self.threshold is not None or not one_each or not predictions.shape[0]:
            return
        xp = backend.xp
        if not xp.isdtype(predictions.dtype, "real floating"):
            return
        shares = xp.all((predictions >= 0) & (predictions <= 1))
        unclear = xp.any((predictions > 0) & (predictions <= 0.5))
        if bool(backend.to_numpy(shares & unclear)):
            raise DataError(
                f"wanted predictions of which {self!r} can tell yes from no, got numbers from 0 to "
                f"1, which may be probabilities or logits; write threshold=0.5 for probabilities, "
                f"threshold=0 for logits"
            )

    def __repr__(self) -> str:
        options = {"threshold": (self.threshold, None), "multilabel": (self.multilabel, False)}
        given = [
            f"{name}={value!r}" for name, (value, left_out) in options.items() if value != left_out
        ]
        return f"{type(self).__name__}({', '.join(given)})"


class Accuracy(_Answers, _Mean):
    """Share of right answers.

    Many outputs: the largest is the class; targets are class numbers or one-hot rows. One output:
    yes where it is above ``threshold``; targets of 0 or -1 are no, of 1 yes. Several labels at once
    (``multilabel=True``): each output is a yes or no of its own, and each counts.

    Args:
        threshold: above which an output says yes; left out, 0 where the loss of the ``Trainer``
            takes outputs for logits, 0.5 where it takes them for probabilities.
        multilabel: whether a sample may be of several classes at once, or of none.
    """

    name = "accuracy"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        chosen, true = self.answers(predictions, targets, xp)
        return xp.astype(chosen == true, _wide(predictions, xp))


class TopK(_Mean):
    """Share of samples whose class is among the k largest outputs.

    An output that ties with the true class counts as larger, so that constant outputs earn nothing;
    NaN counts as larger, too.
    """

    fixed = ("k",)
    reads = "ranks"

    @checked
    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopK needs k of at least 1, got {k}")
        self.k, self.name = k, f"top_{k}"

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        if output_shape[-1:] in ((), (1,)):
            raise ShapeError(
                f"{self!r} ranks the outputs of several classes, got predictions with one output; "
                f"measure Accuracy()"
            )
        _check_classes(self, targets, output_shape, backend, values)

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        true = one_hot(true_class(predictions, targets, xp), predictions.shape[-1], xp.bool, xp)
        own = xp.max(xp.where(true, predictions, -xp.inf), axis=-1, keepdims=True)
        at_least = xp.count_nonzero(~(predictions < own), axis=-1)
        return xp.astype(at_least <= self.k, _wide(predictions, xp))


class MAE(_Mean):
    """Mean absolute error, in the units of the targets."""

    name = "mae"
    higher_is_better = False
    reads = "values"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        predictions = widened(predictions, xp)
        return xp.abs(predictions - _as(predictions, targets, xp))


# Counts ----------------------------------------------------------------------------------------


class _Counting(_Answers):
    """Base of the metrics of counts: true positives, predicted and actual members of each class."""

    fixed = ("average", *_Answers.fixed)

    @checked
    def __init__(
        self,
        average: Literal["macro", "binary"] | None = None,
        threshold: float | None = None,
        multilabel: bool = False,
    ):
        if average not in (None, "macro", "binary"):
            raise ValueError(f"{type(self).__name__} averages 'macro' or 'binary', got {average!r}")
        if multilabel and average == "binary":
            raise ValueError(
                f"{type(self).__name__} of several labels is the mean over them; leave "
                f"average='binary' out, or write average='macro'"
            )
        super().__init__(threshold, multilabel)
        self.average = average

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        answers = self.answers(predictions, targets, xp)
        dtype = xp.int32 if weight is None else _wide(predictions, xp)  # sums of int32 are wider
        weights = _one_each(answers[0], weight, dtype, xp)
        classes = 2 if _is_binary(predictions) else predictions.shape[-1]
        if self.multilabel:  # each label is counted where the answer is yes
            labels = 1 if _is_binary(predictions) else classes
            chosen, true, w = (
                xp.reshape(xp.astype(one, dtype), (-1, labels)) for one in (*answers, weights)
            )
        else:
            w = xp.reshape(weights, (-1, 1))
            chosen, true = (
                xp.reshape(one_hot(one, classes, dtype, xp), (-1, classes)) for one in answers
            )
        counts = [xp.sum(w * each, axis=0) for each in (chosen * true, chosen, true)]
        return xp.concat([*counts, xp.reshape(xp.sum(w), (1,))])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        *counts, weight = rows.sum(axis=0)
        if not weight:
            return math.nan
        both, chosen, true = np.reshape(counts, (3, -1))
        fractions = [self.fraction(*counts) for counts in zip(both, chosen, true, strict=True)]
        each = [float(part / whole) if whole else 0.0 for part, whole in fractions]
        of_two = len(each) == 2 and not self.multilabel
        if (self.average or ("binary" if of_two else "macro")) == "binary":
            return each[1]
        seen = [value for value, count in zip(each, chosen + true, strict=True) if count > 0]
        return sum(seen) / len(seen) if seen else 0.0

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        """Numerator and denominator for one class."""
        raise NotImplementedError


class Precision(_Counting):
    """Of what was predicted to be of a class, the share that is.

    For two classes that of class 1, else the mean over the classes that occur or were predicted
    ("macro"); a class that was never predicted counts as 0. Of several labels at once
    (``multilabel=True``), the mean over the labels.

    Args:
        average: "binary", "macro", or None for whichever fits the number of classes.
        threshold, multilabel: as for ``Accuracy``.
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
    reads = "values"

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


def chosen_class(predictions: Array, threshold: float | None, xp: Namespace) -> Array:
    """The class that outputs stand for: the largest, or, of a single output, yes (1) or no (0)."""
    if _is_binary(predictions):
        if not xp.isdtype(predictions.dtype, "real floating"):  # answers already
            predictions = xp.astype(predictions, xp.float32)
        says_yes = xp.reshape(predictions, _items(predictions)) > (threshold or 0.0)
        return xp.astype(says_yes, xp.int32)
    return xp.argmax(predictions, axis=-1)


def true_class(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Class numbers, from class numbers, from one-hot rows or from 0 (or -1) and 1."""
    if _is_binary(predictions):
        _check_shape(targets, tuple(predictions.shape)[1:])
        share = xp.astype(xp.reshape(targets, _items(predictions)), xp.float32)
        return xp.astype(share > 0.5, xp.int32)
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int32)
    return xp.argmax(targets, axis=-1) if targets.shape == predictions.shape else targets


def _is_binary(predictions: Array) -> bool:
    return predictions.ndim == 1 or predictions.shape[-1] == 1


def _items(predictions: Array) -> Shape:
    """The shape of the yes or no answers that single outputs give."""
    return tuple(predictions.shape if predictions.ndim == 1 else predictions.shape[:-1])


def _as(predictions: Array, targets: Array, xp: Namespace) -> Array:
    """Targets in the shape and dtype of the predictions."""
    _check_shape(targets, tuple(predictions.shape)[1:])
    return xp.astype(xp.reshape(targets, predictions.shape), predictions.dtype, copy=False)


def _check_shape(targets: Array, output_shape: Shape) -> None:
    """Refuse targets that are not one for each output; an axis of one may be there or not."""
    shape = tuple(targets.shape)[1:]
    if shape != output_shape and (*shape, 1) != output_shape and shape != (*output_shape, 1):
        raise ShapeError(
            f"wanted targets of the predictions' shape (batch, "
            f"{', '.join(map(str, output_shape))}), got {tuple(targets.shape)}; reshape them"
        )


def _check_yes_or_no(targets: Array, output_shape: Shape, backend: Backend, values: bool) -> None:
    """Refuse targets that are not one yes or no for each output."""
    _check_shape(targets, output_shape)
    xp = backend.xp
    if not values or xp.isdtype(targets.dtype, "bool") or not targets.shape[0]:
        return
    least, most = _extremes(targets, backend)
    if least < -1 or most > 1:
        raise DataError(
            f"wanted targets of 0 or -1 for no and 1 for yes, got numbers from {least:g} to "
            f"{most:g}; give the network an output for each class, or, if class 1 is the yes",
            change=Change("y", "{array} == 1"),
        )


def _extremes(targets: Array, backend: Backend) -> tuple[float, float]:
    """The smallest and the largest number, on the host."""
    least, most = (backend.to_numpy(find(targets)) for find in (backend.xp.min, backend.xp.max))
    return float(least), float(most)


def _check_classes(
    metric: Metric, targets: Array, output_shape: Shape, backend: Backend, values: bool
) -> None:
    """Refuse targets that are neither class numbers nor rows of one class each."""
    shape, xp = tuple(targets.shape)[1:], backend.xp
    if shape == output_shape[:-1]:
        if values and targets.shape[0] and not xp.isdtype(targets.dtype, "bool"):
            _, most = _extremes(targets, backend)
            if most >= output_shape[-1]:
                raise DataError(
                    f"wanted class numbers from 0 to {output_shape[-1] - 1}, got numbers up to "
                    f"{most:g}; count classes from 0, or give the last layer {int(most) + 1} units"
                )
        return
    if shape != output_shape:
        rows = ", ".join(["batch", *map(str, output_shape[:-1])])
        wanted = (
            f"wanted class numbers of shape ({rows}) or rows of the predictions' shape, got "
            f"{tuple(targets.shape)}"
        )
        if shape == (*output_shape[:-1], 1):
            raise ShapeError(wanted, change=Change("y", "{array}[..., 0]"))
        raise ShapeError(f"{wanted}; reshape the targets")
    if not values:
        return
    if not all(_of_one_class(part, backend) for part in _parts(targets)):
        name = type(metric).__name__
        raise DataError(
            "wanted targets of one class a row, got rows of several, or of none; "
            + (
                f"write {name}(multilabel=True) if each output is a yes or no of its own"
                if isinstance(metric, _Answers)
                else f"leave {metric!r} out"
            )
        )


def _parts(targets: Array) -> Iterator[Array]:
    """Rows after rows, so many that what is worked out of them is of bounded size."""
    count = int(targets.shape[0])
    step = max(1, LOOKED_AT_ONCE // max(1, math.prod(targets.shape[1:])))
    return (targets[start : min(start + step, count), ...] for start in range(0, count, step))


def _of_one_class(rows: Array, backend: Backend) -> bool:
    """Whether each row has one yes, or is a row of probabilities."""
    xp = backend.xp
    y = xp.astype(rows, xp.float32)
    of_one = xp.count_nonzero(y > 0.5, axis=-1) == 1
    sums_to_1 = xp.abs(xp.sum(xp.maximum(y, 0.0), axis=-1) - 1.0) < 0.01
    return bool(backend.to_numpy(xp.all(of_one | sums_to_1)))


def _one_each(items: Array, weight: Array | None, dtype: object, xp: Namespace) -> Array:
    """One weight for each item, ones where no weights came."""
    if weight is None:
        return xp.ones_like(items, dtype=dtype)
    if weight.ndim == items.ndim + 1 and weight.shape[-1] == 1:
        weight = weight[..., 0]
    if weight.shape != items.shape[: weight.ndim]:
        raise ShapeError(
            f"wanted sample_weight of shape {tuple(items.shape[:1])}, or of more axes up to "
            f"{tuple(items.shape)}, got {tuple(weight.shape)}; give each sample one weight"
        )
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
