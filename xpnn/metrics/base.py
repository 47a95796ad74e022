"""Metric, and the metrics that are a mean of one value for each item."""

import math
import warnings
from collections.abc import Collection
from typing import Any, ClassVar, Literal

import numpy as np

from xpnn.arguments import KnownAttributes, same_length
from xpnn.backends import Backend, backend_of
from xpnn.backends.advice import rewording
from xpnn.errors import EmptyMeanWarning
from xpnn.losses.outputs import MEANINGS, Outputs
from xpnn.metrics.targets import check_shape, one_for_each_item
from xpnn.typing import Array, Namespace, Shape

Kind = Literal["answers", "ranks", "scores", "values", "probabilities"]


class Metric(KnownAttributes):
    """Base of all metrics; a new one writes ``statistics``, ``result`` and perhaps ``merged``.

    Called with predictions and targets, a metric is a number: ``Accuracy()(network(x), y)``.

    Attributes:
        name: its key in histories and results.
        higher_is_better: for callbacks that watch it.
        reads: what it takes outputs for: "answers", yes or no, or the largest of several classes;
            "ranks", the larger the likelier a class; "scores", the larger the likelier yes;
            "values", numbers to compare with the targets; "probabilities", what ``predict`` makes
            of them; None for whatever they are.

    >>> import numpy as np
    >>> class Largest(Metric):
    ...     name = "largest"
    ...
    ...     def statistics(self, predictions, targets, weight, xp):
    ...         return xp.reshape(xp.max(predictions), (1,))
    ...
    ...     def result(self, rows):
    ...         return float(rows.max())
    >>> Largest()(np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]]))
    3.0
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
        """One batch as a 1-d array of floats, or of counts; or as several rows, a 2-d array.

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
        meaning = None if outputs.name is None else MEANINGS[outputs.name]
        if meaning is not None and self.reads is not None and self.reads not in meaning.read:
            otherwise = ", or measure Accuracy()" if "answers" in meaning.read else ""
            raise ValueError(
                f"{self!r} compares outputs with targets as {self.reads}, but {outputs.loss} takes "
                f"them for {meaning.words}; leave it out{otherwise}"
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
            check_shape(targets, output_shape)

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
        value = self.result(np.atleast_2d(backend.to_numpy(row)).astype(np.float64))
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


class Mean(Metric):
    """Base of the metrics that are the weighted mean of one value for each item."""

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        """The value of each item, (batch, ...), a float array."""
        raise NotImplementedError

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        values = self.values(predictions, targets, xp)
        w = one_for_each_item(values, weight, values.dtype, xp)
        return xp.stack([xp.sum(w * values), xp.sum(w)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        total, weight = rows.sum(axis=0)
        return float(total / weight) if weight else math.nan


def tell_of_empty_means(names: Collection[str]) -> None:
    """Say which of the numbers that were measured are NaN, as there is nothing to measure."""
    if names:
        warnings.warn(
            f"{', '.join(names)}: NaN, as a mean of nothing, since the weights of all samples, or "
            f"of all their classes, are 0; give some of them a weight above 0",
            EmptyMeanWarning,
            stacklevel=3,
        )
