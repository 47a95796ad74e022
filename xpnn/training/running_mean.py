"""A mean of what lies on the device, read when it is asked for."""

from typing import Any

import numpy as np

from xpnn.typing import Array


class RunningMean:
    """A weighted mean of 0-d arrays that stay on the device until they are read.

    Sums are taken one value after another, so that they are the same to the last bit however often
    the mean is read on the way.
    """

    def __init__(self, backend: Any, total: float = 0.0, weight: float = 0.0):
        self.backend = backend
        self.total, self.weight = total, weight
        self._values: list[Array] = []
        self._weights: list[Any] = []

    def add(self, value: Array, weight: Any) -> None:
        """Take note of a value; nothing is computed and nothing waits."""
        self._values.append(value)
        self._weights.append(weight)

    def read(self) -> float:
        """The mean of all values so far, in float64 on the host; one transfer."""
        if self._values:
            self.settle(self._on_host(self._values), self._on_host(self._weights))
        return self.total / self.weight if self.weight else 0.0

    @property
    def pending(self) -> tuple[list[Array], list[Any]]:
        """The values and weights that were not read yet; hand them to ``settle`` from the host."""
        return self._values, self._weights

    def settle(self, values: list[float], weights: list[float]) -> None:
        """Count what was pending, now that its numbers are known."""
        for value, weight in zip(values, weights, strict=True):
            self.total += value * weight
            self.weight += weight
        self._values, self._weights = [], []

    def _on_host(self, numbers: list[Any]) -> list[float]:
        if isinstance(numbers[0], int):
            return [float(number) for number in numbers]
        stacked = self.backend.to_numpy(self.backend.xp.stack(numbers))
        return stacked.astype(np.float64).tolist()
