"""Schedules that rise and fall."""

import math

from xpnn.optimizers.schedules.arguments import above_zero, step_count
from xpnn.optimizers.schedules.base import Schedule
from xpnn.optimizers.schedules.curves import half_cosine, power
from xpnn.typing import Namespace, Number


class OneCycle(Schedule):
    """Up and down again over one training run (Smith and Topin, 2018), along half cosines.

    After ``done`` steps, with t the last step on the way up::

        first = peak / start_ratio          last = first / end_ratio            t = rise steps - 1
        value = first + (peak - first) (1 - cos(pi done / t)) / 2                where done <= t
        value = last + (peak - last) (1 + cos(pi (done - t) / (steps - 1 - t))) / 2     behind it

    Args:
        peak: the largest value.
        steps: length of the run; the value stays at its end afterwards.
        rise: share of the steps that goes up, in (0, 1).
        start_ratio: peak over first value.
        end_ratio: first value over last value.

    >>> schedule = OneCycle(1.0, steps=100)
    >>> schedule(1), schedule(30), schedule(100)
    (0.04, 1.0, 4e-06)
    """

    def __init__(
        self,
        peak: float,
        *,
        steps: int,
        rise: float = 0.3,
        start_ratio: float = 25.0,
        end_ratio: float = 1e4,
    ):
        if not 0 < rise < 1:
            raise ValueError(f"OneCycle needs a rise in (0, 1), got {rise}")
        if not (start_ratio > 0 and end_ratio > 0):
            raise ValueError(
                f"OneCycle needs ratios above 0, got start_ratio={start_ratio} and "
                f"end_ratio={end_ratio}"
            )
        self.peak, self.steps, self.rise = float(peak), step_count(steps, "steps"), float(rise)
        self.start_ratio, self.end_ratio = float(start_ratio), float(end_ratio)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.peak / self.start_ratio, self.peak

    def value(self, xp: Namespace, done: Number) -> Number:
        start = self.peak / self.start_ratio
        end = start / self.end_ratio
        top = self.rise * self.steps - 1.0
        up, down = max(top, 1e-6), max(self.steps - 1.0 - top, 1e-6)
        rising = half_cosine(xp, start, self.peak, xp.minimum(done / up, 1.0))
        falling = half_cosine(
            xp, self.peak, end, xp.minimum(xp.maximum((done - top) / down, 0.0), 1.0)
        )
        return xp.where(done <= top, rising, falling)


class CosineRestarts(Schedule):
    """Half cosines from ``start`` to ``end``, one after another (Loshchilov and Hutter, 2017).

    The first takes ``steps`` steps and each of the others ``growth`` times those of the one before
    it; with T_i the length of the one that runs, and T_cur the steps since it began::

        value = end + (start - end) (1 + cos(pi T_cur / T_i)) / 2

    Args:
        start: the value after each restart.
        steps: the length of the first.
        end: the value before which it restarts.
        growth: a whole number of at least 1, such as 2, so that restarts fall on steps. Where steps
            are counted on the device, in float32, those that grow do so for some 300,000 steps.

    >>> schedule = CosineRestarts(1.0, steps=10, growth=2)
    >>> schedule(1), schedule(6), schedule(11), schedule(21), schedule(31)
    (1.0, 0.5, 1.0, 0.5, 1.0)
    """

    def __init__(self, start: float, *, steps: int, end: float = 0.0, growth: int = 1):
        if growth < 1 or growth != int(growth):
            raise ValueError(f"CosineRestarts needs a whole growth of at least 1, got {growth}")
        self.start, self.end = float(start), float(end)
        self.steps, self.growth = step_count(steps, "steps"), int(growth)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        length, begun = self._running(xp, done)
        share = xp.minimum(xp.maximum((done - begun) / length, 0.0), 1.0)
        return half_cosine(xp, self.start, self.end, share)

    def _running(self, xp: Namespace, done: Number) -> tuple[Number, Number]:
        """The length of the cosine that runs, and after how many steps it began."""
        periods = (done + 0.5) / self.steps  # + 0.5: a quotient is never just below a whole
        if self.growth == 1:
            return float(self.steps), self.steps * xp.floor(periods)
        more = self.growth - 1.0  # begun = steps (1 + growth + ... + growth^(restarts - 1))
        restarts = xp.floor(xp.log(1.0 + more * periods) / math.log(self.growth))
        length = self.steps * power(xp, self.growth, restarts)
        return length, (length - self.steps) / more


class Cyclic(Schedule):
    """Up from ``start`` to ``peak`` and down again along lines, over and over (Smith, 2017).

    In cycle number k, counted from 0, after i of its steps::

        value = start + factor^k (peak - start) min(i / rise, (rise + fall - i) / fall)

    Args:
        start, peak: the values between which it goes.
        rise: steps from ``start`` up to ``peak``.
        fall: steps down again, as many as up unless given.
        factor: what the height above ``start`` is multiplied by after each cycle: 0.5 is Smith's
            "triangular2".

    >>> schedule = Cyclic(0.0, peak=1.0, rise=10, factor=0.5)
    >>> schedule(1), schedule(11), schedule(16), schedule(31)
    (0.0, 1.0, 0.5, 0.5)
    """

    def __init__(
        self, start: float, *, peak: float, rise: int, fall: int | None = None, factor: float = 1.0
    ):
        self.start, self.peak, self.factor = float(start), float(peak), above_zero(factor)
        self.rise = step_count(rise, "rise")
        self.fall = step_count(rise if fall is None else fall, "fall")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.peak

    def value(self, xp: Namespace, done: Number) -> Number:
        length = self.rise + self.fall
        cycles = xp.floor((done + 0.5) / length)  # + 0.5: a quotient is never just below a whole
        inside = done - cycles * length
        share = xp.minimum(inside / self.rise, (length - inside) / self.fall)
        height = (self.peak - self.start) * power(xp, self.factor, cycles)
        return self.start + height * share
