"""Central differences of a layer or a loss, and whether they can be trusted."""

import numpy as np

from xpnn.testing.subjects import Subject, Values

STEP = 2.0**-17  # near the cube root of float64's rounding, where the two errors balance
BEND = 1e-3  # a slope that changes by this much within one step has a kink in it
Index = tuple[int, ...]


class Point:
    """One place at which ``L = sum(delta * output)`` is differentiated.

    Attributes:
        values: where: the parameters and what flows in, by name.
        start: the output there.
        delta: dL/d(output), random; 1 for a loss, whose output is L itself.
        noise: how far rounding can put a difference off.
    """

    def __init__(self, subject: Subject, values: Values, rng: np.random.Generator):
        self.subject, self.values = subject, values
        self.start = subject.outputs(values)
        self.delta = rng.standard_normal(self.start.shape) if self.start.ndim else np.ones(())
        size = float(np.sum(np.abs(self.start * self.delta))) + 1.0
        self.noise = 10 * float(np.finfo(np.float64).eps) * size / STEP

    def jacobian(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """d output / d values[name], and at which elements a kink lies within the step."""
        shape = self.values[name].shape
        jacobian, kinks = np.empty((*shape, *self.start.shape)), np.zeros(shape, dtype=bool)
        for index in np.ndindex(shape):
            plus, minus, h = self._around(name, index, STEP)
            jacobian[index] = slope = (plus - minus) / (2 * h)
            change = np.max(np.abs(plus - 2 * self.start + minus), initial=0.0) / h
            kinks[index] = change > BEND * max(1.0, float(np.max(np.abs(slope), initial=0.0)))
        return jacobian, kinks

    def bends(self, name: str, index: Index, numeric: float, allowed: float) -> bool:
        """Whether a smaller step gives another derivative, so that neither proves anything."""
        plus, minus, h = self._around(name, index, STEP / 8)
        smaller = float(np.sum((plus - minus) * self.delta)) / (2 * h)
        return abs(smaller - numeric) > max(8 * self.noise, 0.5 * allowed)

    def _around(self, name: str, index: Index, step: float) -> tuple[np.ndarray, np.ndarray, float]:
        """The outputs with one element moved up and down by h, and h as it was really taken."""
        centre = self.values[name]
        h = step * max(1.0, abs(float(centre[index])))
        moved = []
        for move in (h, -h):
            array = centre.copy()
            array[index] += move
            moved.append(array)
        plus, minus = (self.subject.outputs({**self.values, name: array}) for array in moved)
        return plus, minus, float(moved[0][index] - moved[1][index]) / 2
