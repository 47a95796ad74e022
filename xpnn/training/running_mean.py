"""A mean of what lies on the device, read when it is asked for."""

from typing import Any

import numpy as np

from xpnn.typing import Array


class RunningMean:
    """A weighted mean of 0-d arrays that stay on the device until they are read."""

    def __init__(self, backend: Any):
        self.backend = backend
        self._values: list[Array] = []
        self._weights: list[Any] = []
        self._sum, self._weight = 0.0, 0.0

    def add(self, value: Array, weight: Any) -> None:
        """Take note of a value; nothing is computed and nothing waits."""
        self._values.append(value)
        self._weights.append(weight)

    def read(self) -> float:
        """The mean of all values so far, in float64 on the host; one transfer."""
        if self._values:
            values, weights = self._on_host(self._values), self._on_host(self._weights)
            self._sum += float(values @ weights)
            self._weight += float(weights.sum())
            self._values, self._weights = [], []
        return self._sum / self._weight if self._weight else 0.0

    def _on_host(self, numbers: list[Any]) -> np.ndarray:
        if isinstance(numbers[0], int):
            return np.asarray(numbers, dtype=np.float64)
        return self.backend.to_numpy(self.backend.xp.stack(numbers)).astype(np.float64)
