"""The mean loss of many batches, which stays on the device until it is asked for."""

import math
from typing import Any

import numpy as np

from xpnn.backends import Communicator
from xpnn.trees import leaves
from xpnn.typing import Array


class RunningMean:
    """A weighted mean of 0-d arrays that stay on the device until they are read.

    Sums are taken one value after another, so that they are the same to the last bit however often
    the mean is read on the way. Values may be 1-d, such as the losses of several outputs: then
    totals, means and, where they are 1-d too, weights are lists.
    """

    def __init__(self, backend: Any, total: Any = 0.0, weight: Any = 0.0):
        self.backend = backend
        self.total, self.weight = total, weight
        self._values: list[Array] = []
        self._weights: list[Any] = []

    def add(self, value: Array, weight: Any) -> None:
        """Take note of a value and its weight; nothing is computed and nothing waits.

        A value without any weight, which is NaN where it is a mean itself, counts for nothing.
        """
        self._values.append(value)
        self._weights.append(weight)

    def read(self) -> Any:
        """The mean of all values so far, in float64 on the host; NaN if they weigh nothing."""
        if self._values:
            values, weights = self._on_host(self._values), self._on_host(self._weights)
            self.total, self.weight = self.sums(values, weights)
            self._values, self._weights = [], []
        if isinstance(self.total, list):
            pairs = zip(self.total, self.weight, strict=True)
            return [total / weight if weight else math.nan for total, weight in pairs]
        return math.nan if self.is_empty else self.total / self.weight

    def since(self, total: Any, weight: Any) -> Any:
        """The mean of the values behind those that had these sums; NaN if they weigh nothing.

        Of values that were read: nothing waits.
        """
        if not isinstance(self.total, list):
            more = self.weight - weight
            return (self.total - total) / more if more else math.nan
        count = len(self.total)
        before = (one if isinstance(one, list) else [one] * count for one in (total, weight))
        rows = zip(self.total, self.weight, *before, strict=True)
        return [(now - then) / (n - m) if n != m else math.nan for now, n, then, m in rows]

    def add_others(self, communicator: Communicator) -> None:
        """Take in what other processes have read of values of their own, if they had any."""
        own = np.asarray([self.total, self.weight], dtype=np.float64)  # (2,), or (2, values)
        kinds = communicator.gathered(np.asarray([own.ndim * bool(np.any(own[1]))]))
        kind = int(max(kinds)[0])
        if not kind:
            return
        given = own.reshape(-1) if int(kinds[communicator.rank][0]) else np.zeros(0)
        found = [one.reshape(2, -1) for one in communicator.gathered(given) if one.size]
        total, weight = np.sum(found, axis=0).tolist()
        self.total, self.weight = (total[0], weight[0]) if kind == 1 else (total, weight)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was read so far has any weight."""
        return not any(self.weight) if isinstance(self.weight, list) else self.weight == 0

    @property
    def is_finite(self) -> bool:
        """Whether all sums that were read so far are."""
        return all(map(math.isfinite, leaves(self.total)))

    @property
    def pending(self) -> tuple[list[Array], list[Any]]:
        """The values and weights that were not read yet."""
        return self._values, self._weights

    def sums(self, values: list[Any], weights: list[Any]) -> tuple[Any, Any]:
        """The sums of weighted values and of weights, with what was pending, from the host."""
        total, whole = self.total, self.weight
        for value, weight in zip(values, weights, strict=True):
            if isinstance(value, list):
                total, whole = _each_added(total, whole, value, weight)
            elif weight != 0:
                total += value * weight
                whole += weight
        return total, whole

    def _on_host(self, numbers: list[Any]) -> list[Any]:
        """Python's numbers as they are, arrays of one shape in one transfer."""
        arrays = [one for one in numbers if hasattr(one, "dtype")]
        if not arrays:
            return numbers
        stacked = self.backend.to_numpy(self.backend.xp.stack(arrays))
        read = iter(stacked.astype(np.float64).tolist())
        return [next(read) if hasattr(one, "dtype") else one for one in numbers]


def _each_added(
    totals: Any, wholes: Any, values: list[float], weights: Any
) -> tuple[list[float], list[float]]:
    """Sums of several values, each with its own weight, or all with the same."""
    count = len(values)
    sums = zip(
        *(one if isinstance(one, list) else [one] * count for one in (totals, wholes, weights)),
        values,
        strict=True,
    )
    found = [(t + v * w, n + w) if w != 0 else (t, n) for t, n, w, v in sums]
    return [total for total, _ in found], [whole for _, whole in found]
