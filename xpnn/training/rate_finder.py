"""A range test of learning rates: how the loss goes while the rate grows from step to step."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.figures import written
from xpnn.optimizers import Exponential
from xpnn.training.callbacks.curves import rates_figure
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.state import TrainingState
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.precision import skipped_steps
from xpnn.training.trainer import Trainer

DIVERGED = 4.0  # times the lowest loss: there the test ends
REACH = 3  # so many losses on either side a loss is smoothed with, which moves no slope


class RateCurve:
    """What ``find_rate`` has found.

    Attributes:
        rates: the rate of each step.
        losses: its loss, on its batch.
        smoothed: means of up to seven losses, the one in the middle.
        suggestion: the rate at which the smoothed loss falls fastest over the logarithm of the
            rate.

    >>> rates = [10.0 ** (k / 10) for k in range(-40, 0)]
    >>> losses = [4.0] * 10 + [4.0 - 0.2 * k for k in range(20)] + [0.2] * 10
    >>> RateCurve(rates, losses).suggestion
    0.00631
    """

    def __init__(self, rates: Sequence[float], losses: Sequence[float]):
        self.rates, self.losses = list(rates), list(losses)
        if not losses:
            raise ValueError(
                "the loss is not finite before the first step, so no rate is suggested"
            )
        self.smoothed = [
            float(np.mean(losses[max(k - REACH, 0) : k + REACH + 1])) for k in range(len(losses))
        ]
        self.suggestion = self._steepest()

    def _steepest(self) -> float:
        lowest = int(np.argmin(self.smoothed))
        if lowest <= REACH:
            raise ValueError(
                f"the loss falls at no rate from {self.rates[0]:g} to {self.rates[-1]:g}, so none "
                f"is suggested: begin at a lower one"
            )
        slopes = np.gradient(self.smoothed[: lowest + 1], np.log(self.rates[: lowest + 1]))
        # the first means are of fewer losses, which says more of their batches than of the rates
        return self.rates[REACH + int(np.argmin(slopes[REACH:]))]

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the losses over the rates; needs matplotlib.

        Args:
            path: of a picture file to write, where one is wanted.

        Returns:
            The figure, of matplotlib, which a notebook shows where it ends a cell.
        """
        figure = rates_figure(self.rates, self.losses, self.smoothed, self.suggestion)
        return written(figure, path)

    def __repr__(self) -> str:
        return (
            f"<losses of {len(self.rates)} rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g}; "
            f"suggested {self.suggestion:.3g}>"
        )


def find_rate(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int | None = None,
    sample_weight: Any = None,
) -> RateCurve:
    """Train a copy while the rate grows, and tell at which rate the loss falls fastest.

    The rate goes from ``low`` to ``high`` along an exponential (Smith, 2017, section 3.3); the test
    ends sooner where the loss is four times the lowest, or not finite. Network, optimizer and
    trainer stay as they are: a copy is trained, from the weights of now, and its optimizer begins
    anew.

    Args:
        trainer: whose network, loss, optimizer and precision it is.
        x, y: as for ``Trainer.fit``; gone through as often as it takes.
        low, high: the first rate and the last.
        steps: how many, at least 10.
        batch_size, sample_weight: as for ``Trainer.fit``.

    Returns:
        The rates and their losses, with the rate to begin at.

    Raises:
        ValueError: the loss falls at none of the rates, or the range is none.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,), seed=1)
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1))
    >>> curve = find_rate(trainer, [[1.0], [2.0], [3.0]], [[1.0], [2.0], [3.0]])
    >>> 1e-3 < curve.suggestion < 1.0
    True
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"find_rate needs 0 < low < high, got low={low} and high={high}")
    if steps < 10 or steps != int(steps):
        raise ValueError(f"find_rate needs steps, a whole number of at least 10, got {steps}")
    there = trainer.to(trainer.network.backend)
    there.callbacks, there.opt_state = (), None
    there.epoch = there.steps = 0
    there.optimizer = copy.copy(trainer.optimizer)
    there.optimizer.rate = Exponential(low, factor=high / low, steps=int(steps) - 1)
    curve = _Recorder(there, int(steps))
    try:
        there.fit(
            *(x, y),
            epochs=int(steps) * 1000,  # of which the recorder ends the last
            batch_size=batch_size,
            sample_weight=sample_weight,
            callbacks=[curve],
            progress=False,
        )
    except _Enough:
        return RateCurve(curve.rates, curve.losses)
    raise AssertionError("the recorder ends the test")


class _Enough(Exception):  # noqa: N818 - it is none
    """Ends the test."""


class _Recorder(Callback):
    """Reads the loss of each step, and ends the test when enough is known."""

    def __init__(self, trainer: Trainer, steps: int):
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._steps, self._optimizer = steps, trainer.optimizer
        self._take_step, self._value = trainer.state.train_step, math.nan
        trainer.state.train_step = self._step
        self._lowest = math.inf

    def _step(self, *batch: Any) -> Any:
        self._value, whole = self._take_step(*batch)
        return self._value, whole

    def on_step_end(self, state: TrainingState, step: int) -> None:
        assert state.opt_state is not None
        backend = state.network.backend
        value = Objective(state.network, state.loss).total(self._value)
        loss = float(backend.to_numpy(value))
        number = state.steps - skipped_steps(state.opt_state, backend)
        if not math.isfinite(loss):
            raise _Enough
        if number == len(self.rates):  # mixed precision has skipped the step
            return
        self.rates.append(self._optimizer.hyper_at(number)["rate"])
        self.losses.append(loss)
        recent = float(np.mean(self.losses[-2 * REACH - 1 :]))
        if len(self.losses) > 2 * REACH:
            self._lowest = min(self._lowest, recent)
        if len(self.rates) < self._steps and recent < DIVERGED * self._lowest:
            return
        raise _Enough
