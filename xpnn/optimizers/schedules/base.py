"""What schedules have in common, and the two that hyperparameters may have without one."""

import math
from typing import ClassVar, TypeAlias

from xpnn.arguments import Unchanging
from xpnn.numerics import HOST
from xpnn.optimizers.parameters import Parametrized
from xpnn.typing import Namespace, Number

Hyper: TypeAlias = "float | Schedule"
"""A hyperparameter: a number, or one that changes from step to step."""


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
