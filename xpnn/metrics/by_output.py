"""A metric of one of several outputs."""

from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.layers.nodes import is_several
from xpnn.metrics.base import Metric
from xpnn.typing import Array, Namespace


class OfOutput(Metric):
    """A metric that is given all outputs and all targets, and measures those of one.

    Args:
        metric: of the one.
        output: its name, which stands before the metric's.
        number: its place among the outputs.
    """

    fixed = ("metric", "output", "number")

    def __init__(self, metric: Metric, output: str, number: int):
        super().__init__()
        if not isinstance(metric, Metric):
            raise TypeError(f"metrics: wanted objects such as [Accuracy()], got {metric!r}")
        self.metric, self.output, self.number = metric, output, number
        self.name = f"{output}_{metric.name}"

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """For callbacks that watch it."""
        return self.metric.higher_is_better

    def _own(self, of_all: Any) -> Any:
        return of_all[self.number] if isinstance(of_all, tuple) else of_all

    def following(self, outputs: Any) -> Metric:
        return OfOutput(self.metric.following(self._own(outputs)), self.output, self.number)

    def statistics(self, predictions: Any, targets: Any, weight: Any, xp: Namespace) -> Array:
        predictions, targets, weight = map(self._own, (predictions, targets, weight))
        return self.metric.statistics(predictions, targets, weight, xp)

    def check_targets(
        self, targets: Any, output_shape: Any, backend: Backend, values: bool = True
    ) -> None:
        shape = output_shape[self.number] if is_several(output_shape) else output_shape
        self.metric.check_targets(self._own(targets), shape, backend, values)

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return self.metric.merged(rows)

    def result(self, rows: np.ndarray) -> float:
        return self.metric.result(rows)

    def __repr__(self) -> str:
        return f"{self.metric!r} of {self.output!r}"
