"""Schedules that go from one value to another, and stay there."""

import math
from collections.abc import Sequence

from xpnn.optimizers.schedules.arguments import above_zero, beginnings, step_count
from xpnn.optimizers.schedules.base import Schedule
from xpnn.optimizers.schedules.curves import power
from xpnn.typing import Namespace, Number

TINY = 1e-30  # what float32 holds, far below any share of a schedule


class StepDecay(Schedule):
    """A staircase: multiplied by ``factor`` behind each flight of ``every`` steps.

    After ``done`` steps::

        value = start factor^k              k = floor(done / every)

    Args:
        start: the first value.
        every: steps between two drops.
        factor: what each drop multiplies by.

    >>> schedule = StepDecay(1.0, every=10, factor=0.5)
    >>> schedule(10), schedule(11), schedule(21)
    (1.0, 0.5, 0.25)
    """

    def __init__(self, start: float, *, every: int, factor: float = 0.1):
        self.start, self.every, self.factor = (
            float(start),
            step_count(every, "every"),
            above_zero(factor),
        )

    def value(self, xp: Namespace, done: Number) -> Number:
        drops = xp.floor((done + 0.5) / self.every)  # + 0.5: a quotient is never just below a whole
        return self.start * power(xp, self.factor, drops)


class Exponential(Schedule):
    """Multiplied by ``factor`` over every ``steps`` steps, smoothly.

    After ``done`` steps::

        value = start factor^(done / steps)

    Args:
        start: the first value.
        factor: above 0.
        steps: how many it takes for one factor.

    >>> schedule = Exponential(1.0, factor=0.1, steps=100)
    >>> schedule(1), schedule(51), schedule(101)
    (1.0, 0.3162, 0.1)
    """

    def __init__(self, start: float, *, factor: float, steps: int = 1):
        self.start, self.factor = float(start), above_zero(factor)
        self.steps = step_count(steps, "steps")

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start * power(xp, self.factor, done / self.steps)


class Polynomial(Schedule):
    """From ``start`` to ``end`` along a power of what is left of ``steps`` steps, then ``end``.

    After ``done`` of these::

        value = end + (start - end) (1 - done / steps)^power

    Args:
        start: the first value.
        steps: how many steps lie between the two.
        end: the last value.
        power: above 0; 1 is a line, 2 a parabola that ends flat.

    >>> schedule = Polynomial(1.0, steps=10, power=2.0)
    >>> schedule(1), schedule(6), schedule(11)
    (1.0, 0.25, 0.0)
    """

    def __init__(self, start: float, *, steps: int, end: float = 0.0, power: float = 1.0):
        if not 0 < power < math.inf:
            raise ValueError(f"Polynomial needs a power above 0, got {power}")
        self.start, self.end = float(start), float(end)
        self.steps, self.power = step_count(steps, "steps"), float(power)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        left = xp.maximum(1.0 - done / self.steps, TINY)  # of which there is a logarithm
        share = xp.where(done < self.steps, xp.exp(self.power * xp.log(left)), 0.0 * left)
        return self.end + (self.start - self.end) * share


class Linear(Schedule):
    """From ``start`` to ``end`` along a line of ``steps`` steps, then ``end``.

    After ``done`` of these::

        value = start + (end - start) done / steps

    Args:
        start: the first value.
        end: the last value.
        steps: how many steps lie between the two.

    >>> schedule = Linear(1.0, end=0.0, steps=10)
    >>> schedule(1), schedule(6), schedule(20)
    (1.0, 0.5, 0.0)
    """

    def __init__(self, start: float, *, end: float, steps: int):
        self.start, self.end, self.steps = float(start), float(end), step_count(steps, "steps")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start + (self.end - self.start) * xp.minimum(done / self.steps, 1.0)


class Cosine(Schedule):
    """From ``start`` to ``end`` along half a cosine, then ``end`` (Loshchilov and Hutter, 2017).

    After ``done`` of ``steps`` steps::

        value = end + (start - end) (1 + cos(pi done / steps)) / 2

    Args:
        start: the first value.
        steps: how many steps lie between the two.
        end: the last value.

    >>> schedule = Cosine(1.0, steps=100)
    >>> schedule(1), schedule(26), schedule(51), schedule(101)
    (1.0, 0.8536, 0.5, 0.0)
    """

    def __init__(self, start: float, *, steps: int, end: float = 0.0):
        self.start, self.steps, self.end = float(start), step_count(steps, "steps"), float(end)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        share = xp.minimum(done / self.steps, 1.0)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + xp.cos(math.pi * share))


class Piecewise(Schedule):
    """Stairs of any form.

    After ``done`` steps::

        value = values[k] where at[k - 1] <= done < at[k]

    Args:
        values: one after another.
        at: after how many steps the second begins, the third, and so on.

    >>> schedule = Piecewise([0.1, 0.01, 0.001], at=[100, 200])
    >>> schedule(100), schedule(101), schedule(500)
    (0.1, 0.01, 0.001)
    """

    def __init__(self, values: Sequence[float], *, at: Sequence[int]):
        self.values = tuple(map(float, values))
        self.at = beginnings(at, len(values), "Piecewise", "values")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.values

    def value(self, xp: Namespace, done: Number) -> Number:
        found = self.values[0] + 0.0 * done
        for begin, value in zip(self.at, self.values[1:], strict=True):
            found = xp.where(done >= begin, value + 0.0 * done, found)
        return found
