"""L-BFGS: steps by what gradients have told of the curvature, along lines that are searched.

A point is one flat array. What decides is read on the host, a few numbers for each evaluation.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from xpnn.typing import Array, Namespace

Evaluate = Callable[[Array], tuple[float, Array]]
"""``evaluate(w) -> (value, gradient)``."""

DECREASE, CURVATURE = 1e-4, 0.9  # c1 and c2 of Nocedal and Wright
MOST_TRIALS = 25  # evaluations along one line, to find a bracket and to narrow it down


class Point(NamedTuple):
    """A point on a line: how far, its value, the slope along the line, and its gradient."""

    t: float
    value: float
    slope: float
    gradient: Array


class Iterate(NamedTuple):
    """Where a step of L-BFGS has come to."""

    w: Array
    value: float
    gradient: Array


class LBFGS:
    """Limited-memory BFGS (Nocedal and Wright, 2006, algorithm 7.5).

    With s and y the changes of w and of its gradient g in one of the last ``memory`` steps::

        d = -H g            by the recursion over all s and y (algorithm 7.4), from
                            H_0 = s^T y / y^T y of the last step
        w <- w + t d        with t that meets the strong Wolfe conditions (algorithm 3.5)

    Args:
        evaluate: the value and the gradient at a point.
        memory: how many steps are remembered.
        xp: the namespace of the arrays.
        number: reads a 0-d array on the host.
    """

    def __init__(
        self, evaluate: Evaluate, memory: int, xp: Namespace, number: Callable[[Array], float]
    ):
        self.evaluate, self.memory, self.xp, self.number = evaluate, memory, xp, number
        self._pairs: list[tuple[Array, Array, float]] = []  # s, y and 1 / s^T y, the oldest first

    def steps(self, w: Array) -> Iterator[Iterate]:
        """The starting point, and each point that a step leads to, as long as one goes down."""
        here = Iterate(w, *self.evaluate(w))
        while True:
            yield here
            d = self.direction(here.gradient)
            slope = self.dot(here.gradient, d)
            if not slope < 0:  # rounding has spoilt what is remembered
                self._pairs = []
                d = -here.gradient
                slope = self.dot(here.gradient, d)
            first = 1.0
            if not self._pairs:
                first = min(1.0, 1.0 / max(self.number(self.xp.sum(self.xp.abs(d))), 1e-30))
            found = self._search(here, d, slope, first)
            if found is None or not found.value < here.value:
                return
            s, y = found.t * d, found.gradient - here.gradient
            curvature = self.dot(s, y)
            if curvature > 1e-10 * self.dot(y, y):
                self._pairs = [*self._pairs, (s, y, 1.0 / curvature)][-self.memory :]
            here = Iterate(here.w + s, found.value, found.gradient)

    def direction(self, gradient: Array) -> Array:
        """``-H g`` by the two loops of algorithm 7.4."""
        q, shares = gradient, []
        for s, y, rho in reversed(self._pairs):
            shares.append(rho * self.dot(s, q))
            q = q - shares[-1] * y
        if self._pairs:
            _, y, rho = self._pairs[-1]
            q = q / (rho * self.dot(y, y))
        for s, y, rho in self._pairs:
            q = q + (shares.pop() - rho * self.dot(y, q)) * s
        return -q

    def dot(self, one: Array, other: Array) -> float:
        return self.number(self.xp.sum(one * other))

    def _search(self, here: Iterate, d: Array, slope: float, first: float) -> Point | None:
        """A point on the line from ``here`` along ``d``; None if none is lower."""

        def along(t: float) -> Point:
            value, gradient = self.evaluate(here.w + t * d)
            return Point(t, value, self.dot(gradient, d), gradient)

        start = Point(0.0, here.value, slope, here.gradient)
        found = strong_wolfe(along, start, first)
        return found if found.t > 0 else None


def strong_wolfe(along: Callable[[float], Point], start: Point, first: float) -> Point:
    """A point that meets the strong Wolfe conditions (Nocedal and Wright, 2006, algorithm 3.5).

    ::

        value(t) <= value(0) + c1 t slope(0)          |slope(t)| <= c2 |slope(0)|

    Where rounding allows none it is the lowest that was seen, which may be the start.

    Args:
        along: the point at a distance.
        start: that at 0, where the slope is below 0.
        first: the distance that is tried first.
    """
    before, t = start, first
    for trial in range(MOST_TRIALS):
        now = along(t)
        if not _is_lower(now, start) or (trial and now.value >= before.value):
            return _zoom(along, start, before, now)
        if abs(now.slope) <= -CURVATURE * start.slope:
            return now
        if now.slope >= 0:
            return _zoom(along, start, now, before)
        lowest, longest = t + 0.01 * (t - before.t), 10.0 * t
        before, t = now, _minimum_of_cubic(before, now, lowest, longest)
    return before


def _zoom(along: Callable[[float], Point], start: Point, low: Point, high: Point) -> Point:
    """Narrow down an interval that has such a point inside (algorithm 3.6); ``low`` is lower.

    A cubic that is lowest next to an end is believed once: the second time it is kept away, so
    that the interval becomes shorter.
    """
    was_near = False
    for _ in range(MOST_TRIALS):
        width = abs(high.t - low.t)
        if width <= 1e-9 * max(low.t, high.t):
            break
        left, right = sorted((low.t, high.t))
        t = _minimum_of_cubic(low, high, left, right)
        inside = min(max(t, left + 0.1 * width), right - 0.1 * width)
        is_near = t != inside
        if is_near and (was_near or not left < t < right):
            t, is_near = inside, False
        was_near, now = is_near, along(t)
        if not _is_lower(now, start) or now.value >= low.value:
            high = now
            continue
        if abs(now.slope) <= -CURVATURE * start.slope:
            return now
        if now.slope * (high.t - low.t) >= 0:
            high = low
        low = now
    return low


def _is_lower(now: Point, start: Point) -> bool:
    """Whether the decrease is enough; never of a value that is NaN."""
    return now.value <= start.value + DECREASE * now.t * start.slope


def _minimum_of_cubic(one: Point, other: Point, lowest: float, highest: float) -> float:
    """Where the cubic through two values and slopes is lowest (equation 3.59), between bounds.

    If it is nowhere, as where a value is not finite, the middle of the bounds.
    """
    d1 = one.slope + other.slope - 3 * (one.value - other.value) / (one.t - other.t)
    square = d1 * d1 - one.slope * other.slope
    if 0 <= square < math.inf:
        d2 = math.copysign(math.sqrt(square), other.t - one.t)
        below = other.slope - one.slope + 2 * d2
        if below != 0:
            t = other.t - (other.t - one.t) * (other.slope + d2 - d1) / below
            return min(max(t, lowest), highest)
    return 0.5 * (lowest + highest)
