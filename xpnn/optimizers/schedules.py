"""Schedules: hyperparameters as functions of the step, usable for any hyperparameter.

A schedule is called as ``schedule(step, xp)`` with ``step`` = 1, 2, 3, ... and a namespace: Python
numbers (``numerics.HOST``) where the step count is a Python integer, the backend's arrays where it
lives on the device. Each formula is written once, without branches on values, so that a compiled
training step can run it. Steps are batches, not epochs; ``steps_per_epoch`` of a training set of n
samples is ceil(n / batch_size).

>>> warm_up = WarmUp(10, Cosine(0.1, steps=100))
>>> round(warm_up(5), 4)
0.0497
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, TypeAlias

from xpnn.arguments import Unchanging
from xpnn.numerics import HOST
from xpnn.optimizers.parameters import Parametrized
from xpnn.typing import Namespace, Number

Hyper: TypeAlias = "float | Schedule"
"""A hyperparameter: a number, or one that changes from step to step."""

TINY = 1e-30  # what float32 holds, far below any share of a schedule


class Schedule(Parametrized, Unchanging):
    """Base of all schedules: a hyperparameter as a function of the step.

    ``schedule(step)`` is the value for step number ``step``, counted from 1, before which step - 1
    steps are done. A schedule stays as it was made: to change one, give the optimizer another one.
    A new one writes ``value``.

    >>> class Inverse(Schedule):
    ...     def value(self, xp, done):
    ...         return 0.1 / (1 + done)
    >>> Inverse()(1), Inverse()(2)
    (0.1, 0.05)
    """

    def __call__(self, step: Number, xp: Namespace = HOST) -> Number:
        """The value for step number ``step``, counted from 1."""
        return self.value(xp, step - 1)

    def value(self, xp: Namespace, done: Number) -> Number:
        """The value after ``done`` = 0, 1, 2, ... steps."""
        raise NotImplementedError(f"{type(self).__name__} has to define value")

    @property
    def ends(self) -> tuple[float, ...]:
        """The values between which it moves, which a hyperparameter has to allow.

        Unless a kind of schedule says otherwise, its first value.
        """
        return (float(self(1)),)

    @property
    def plateau(self) -> "ReduceOnPlateau | None":
        """The part that has to be told how training goes, if there is one."""
        return None

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"


class Constant(Schedule):
    """The same number for ever.

    After any number of steps::

        value = start

    Args:
        start: the number.

    >>> Constant(0.1)(1), Constant(0.1)(1000)
    (0.1, 0.1)
    """

    def __init__(self, start: float):
        self.start = float(start)

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start


def as_schedule(value: Hyper) -> Schedule:
    """A number as the schedule that stays there; a schedule as it is."""
    return value if isinstance(value, Schedule) else Constant(value)


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
            _steps(every, "every"),
            _positive(factor),
        )

    def value(self, xp: Namespace, done: Number) -> Number:
        drops = xp.floor((done + 0.5) / self.every)  # + 0.5: a quotient is never just below a whole
        return self.start * _power(xp, self.factor, drops)


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
        self.start, self.factor = float(start), _positive(factor)
        self.steps = _steps(steps, "steps")

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start * _power(xp, self.factor, done / self.steps)


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
        self.start, self.steps, self.end = float(start), _steps(steps, "steps"), float(end)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        share = xp.minimum(done / self.steps, 1.0)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + xp.cos(math.pi * share))


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
        self.start, self.end, self.steps = float(start), float(end), _steps(steps, "steps")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start + (self.end - self.start) * xp.minimum(done / self.steps, 1.0)


class WarmUp(Schedule):
    """Grows linearly over the first ``steps`` steps, in proportion to what follows.

    After ``done`` steps, where ``then`` counts from the start as well, and the first step is not
    lost to a rate of zero (Goyal et al., 2017, section 2.2)::

        value = min(1, (done + 1) / steps) then(done)

    Args:
        steps: length of the warm-up.
        then: a number, or the schedule that is warmed up.

    >>> schedule = WarmUp(4, 0.1)
    >>> schedule(1), schedule(2), schedule(4), schedule(100)
    (0.025, 0.05, 0.1, 0.1)
    """

    def __init__(self, steps: int, then: Hyper):
        self.steps = _steps(steps, "steps")
        self.then = as_schedule(then)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.then.ends

    def value(self, xp: Namespace, done: Number) -> Number:
        return xp.minimum((done + 1) / self.steps, 1.0) * self.then.value(xp, done)

    @property
    def plateau(self) -> "ReduceOnPlateau | None":
        return self.then.plateau


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
        self.peak, self.steps, self.rise = float(peak), _steps(steps, "steps"), float(rise)
        self.start_ratio, self.end_ratio = float(start_ratio), float(end_ratio)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.peak / self.start_ratio, self.peak

    def value(self, xp: Namespace, done: Number) -> Number:
        start = self.peak / self.start_ratio
        end = start / self.end_ratio
        top = self.rise * self.steps - 1.0
        up, down = max(top, 1e-6), max(self.steps - 1.0 - top, 1e-6)
        rising = _half_cosine(xp, start, self.peak, xp.minimum(done / up, 1.0))
        falling = _half_cosine(
            xp, self.peak, end, xp.minimum(xp.maximum((done - top) / down, 0.0), 1.0)
        )
        return xp.where(done <= top, rising, falling)


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
        self.steps, self.power = _steps(steps, "steps"), float(power)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        left = xp.maximum(1.0 - done / self.steps, TINY)  # of which there is a logarithm
        share = xp.where(done < self.steps, xp.exp(self.power * xp.log(left)), 0.0 * left)
        return self.end + (self.start - self.end) * share


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
        self.steps, self.growth = _steps(steps, "steps"), int(growth)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def value(self, xp: Namespace, done: Number) -> Number:
        length, begun = self._running(xp, done)
        share = xp.minimum(xp.maximum((done - begun) / length, 0.0), 1.0)
        return _half_cosine(xp, self.start, self.end, share)

    def _running(self, xp: Namespace, done: Number) -> tuple[Number, Number]:
        """The length of the cosine that runs, and after how many steps it began."""
        periods = (done + 0.5) / self.steps  # + 0.5: a quotient is never just below a whole
        if self.growth == 1:
            return float(self.steps), self.steps * xp.floor(periods)
        more = self.growth - 1.0  # begun = steps (1 + growth + ... + growth^(restarts - 1))
        restarts = xp.floor(xp.log(1.0 + more * periods) / math.log(self.growth))
        length = self.steps * _power(xp, self.growth, restarts)
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
        self.start, self.peak, self.factor = float(start), float(peak), _positive(factor)
        self.rise = _steps(rise, "rise")
        self.fall = _steps(rise if fall is None else fall, "fall")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.peak

    def value(self, xp: Namespace, done: Number) -> Number:
        length = self.rise + self.fall
        cycles = xp.floor((done + 0.5) / length)  # + 0.5: a quotient is never just below a whole
        inside = done - cycles * length
        share = xp.minimum(inside / self.rise, (length - inside) / self.fall)
        height = (self.peak - self.start) * _power(xp, self.factor, cycles)
        return self.start + height * share


class Chain(Schedule):
    """Several schedules one after another, each of which counts from where it begins.

    After ``done`` steps, with k the part that runs, which began after at[k - 1]::

        value = parts[k](done - at[k - 1])

    Args:
        *parts: schedules, or numbers that stay for a while.
        at: after how many steps the second part begins, the third, and so on.

    >>> from xpnn import Cosine, Linear
    >>> schedule = Chain(Linear(0.0, end=1.0, steps=10), 1.0, Cosine(1.0, steps=50), at=[10, 100])
    >>> schedule(6), schedule(50), schedule(126)
    (0.5, 1.0, 0.5)
    """

    def __init__(self, *parts: Hyper, at: Sequence[int]):
        self.parts = tuple(map(as_schedule, parts))
        self.at = _begins(at, len(parts), "Chain", "parts")
        if any(part.plateau for part in self.parts):
            raise ValueError(
                "Chain has no place for ReduceOnPlateau, which would lower all of its parts; "
                "write Product(Chain(...), ReduceOnPlateau(1.0)) if that is wanted"
            )

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(end for part in self.parts for end in part.ends)

    def value(self, xp: Namespace, done: Number) -> Number:
        found = self.parts[0].value(xp, done) + 0.0 * done
        for begin, part in zip(self.at, self.parts[1:], strict=True):
            since = xp.maximum(done - float(begin), 0.0)
            found = xp.where(done >= begin, part.value(xp, since) + 0.0 * done, found)
        return found


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
        self.at = _begins(at, len(values), "Piecewise", "values")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.values

    def value(self, xp: Namespace, done: Number) -> Number:
        found = self.values[0] + 0.0 * done
        for begin, value in zip(self.at, self.values[1:], strict=True):
            found = xp.where(done >= begin, value + 0.0 * done, found)
        return found


class Product(Schedule):
    """The product of several schedules, all of which count from the first step.

    After ``done`` steps::

        value = parts[0](done) parts[1](done) ...

    Args:
        *parts: schedules, or numbers, of at least 0; one of them may be a ``ReduceOnPlateau``.

    >>> from xpnn import Cosine, Exponential
    >>> Product(Cosine(1.0, steps=100), Exponential(0.5, factor=0.1, steps=50))(51)
    0.025
    """

    def __init__(self, *parts: Hyper):
        self.parts = tuple(map(as_schedule, parts))
        if not parts:
            raise ValueError("Product needs at least one schedule, got none")
        if any(end < 0 for part in self.parts for end in part.ends):
            raise ValueError(f"Product needs schedules of at least 0, got {self.parts}")
        if sum(part.plateau is not None for part in self.parts) > 1:
            raise ValueError(f"Product has room for one ReduceOnPlateau, got {self.parts}")

    @property
    def ends(self) -> tuple[float, ...]:
        ends = [part.ends for part in self.parts]
        return math.prod(map(min, ends)), math.prod(map(max, ends))

    def value(self, xp: Namespace, done: Number) -> Number:
        return math.prod(part.value(xp, done) for part in self.parts)

    @property
    def plateau(self) -> "ReduceOnPlateau | None":
        return next((part.plateau for part in self.parts if part.plateau is not None), None)


class ReduceOnPlateau(Schedule):
    """Multiplied by ``factor`` whenever the watched value has stopped falling.

    The trainer tells it the validation loss after each epoch (the training loss where there is no
    validation data). After more than ``patience`` epochs without a new best, the value drops; after
    k drops it is::

        value = max(lowest, start factor^k)

    What it has seen is kept in the optimizer state, so that it is saved with it, and one schedule
    may serve many runs. Called by itself, it says ``start``.

    Args:
        start: the first value.
        factor: what each drop multiplies by, in (0, 1).
        patience: how many epochs without a new best are borne.
        threshold: how far below the best a new best has to be, as a share of itself.
        lowest: the value never goes below this.

    >>> from xpnn import SGD
    >>> SGD(ReduceOnPlateau(0.1, patience=3)).rate
    ReduceOnPlateau(start=0.1, factor=0.1, patience=3, threshold=0.0001, lowest=0.0)
    """

    watched: ClassVar[dict[str, float]] = {"best": math.inf, "waited": 0.0, "scale": 1.0}

    def __init__(
        self,
        start: float,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        lowest: float = 0.0,
    ):
        if not 0 < factor < 1:
            raise ValueError(f"ReduceOnPlateau needs a factor in (0, 1), got {factor}")
        if not 0 <= lowest <= start or start == 0:
            raise ValueError(
                f"ReduceOnPlateau needs lowest between 0 and start, got lowest={lowest} and "
                f"start={start}"
            )
        if patience < 0 or patience != int(patience):
            raise ValueError(f"ReduceOnPlateau needs a patience of 0 or more, got {patience}")
        if not 0 <= threshold < math.inf:
            raise ValueError(f"ReduceOnPlateau needs a threshold of 0 or more, got {threshold}")
        self.start, self.factor, self.patience = float(start), float(factor), int(patience)
        self.threshold, self.lowest = float(threshold), float(lowest)

    def value(self, xp: Namespace, done: Number) -> Number:
        return self.start

    @property
    def plateau(self) -> "ReduceOnPlateau":
        return self

    def observe(
        self, xp: Namespace, value: float, best: Number, waited: Number, scale: Number
    ) -> tuple[Number, Number, Number]:
        """After an epoch: the best value, the epochs without a better one, the factors so far."""
        better = best - value > self.threshold * abs(value)
        waited = xp.where(better, 0.0, waited + 1.0)
        drops = waited > self.patience
        lower = xp.maximum(scale * self.factor, self.lowest / self.start)
        best = xp.where(better, value, best)
        return best, xp.where(drops, 0.0, waited), xp.where(drops, lower, scale)


def _power(xp: Namespace, base: float, exponent: Number) -> Number:
    """``base ** exponent`` for a constant base above 0."""
    return xp.exp(exponent * math.log(base))


def _half_cosine(xp: Namespace, start: float, end: float, share: Number) -> Number:
    return end + 0.5 * (start - end) * (1.0 + xp.cos(math.pi * share))


def _steps(count: int, name: str) -> int:
    if count < 1 or count != int(count):
        raise ValueError(f"{name} counts training steps, a whole number above 0, got {count}")
    return int(count)


def _begins(at: Sequence[int], count: int, kind: str, of: str) -> tuple[int, ...]:
    """The steps after which one part gives way to the next: one fewer than there are parts."""
    if not count:
        raise ValueError(f"{kind} needs at least one of {of}, got none")
    found = tuple(_steps(step, "at") for step in at)
    if len(found) != count - 1:
        raise ValueError(
            f"{kind} needs in at one step fewer than it has {of}, {count - 1} of them, got "
            f"{len(found)}"
        )
    if any(one >= other for one, other in pairwise(found)):
        raise ValueError(f"{kind} needs steps that rise in at, got {list(found)}")
    return found


def _positive(factor: float) -> float:
    if not factor > 0:
        raise ValueError(f"a schedule multiplies by a factor above 0, got {factor}")
    return float(factor)
