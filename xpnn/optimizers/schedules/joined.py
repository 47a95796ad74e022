"""Schedules made of others."""

import math
from collections.abc import Sequence

from xpnn.optimizers.schedules.arguments import beginnings, step_count
from xpnn.optimizers.schedules.base import Hyper, ReduceOnPlateau, Schedule, as_schedule
from xpnn.typing import Namespace, Number


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
        self.steps = step_count(steps, "steps")
        self.then = as_schedule(then)

    @property
    def ends(self) -> tuple[float, ...]:
        return self.then.ends

    def value(self, xp: Namespace, done: Number) -> Number:
        return xp.minimum((done + 1) / self.steps, 1.0) * self.then.value(xp, done)

    @property
    def plateau(self) -> "ReduceOnPlateau | None":
        return self.then.plateau


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
        self.at = beginnings(at, len(parts), "Chain", "parts")
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
