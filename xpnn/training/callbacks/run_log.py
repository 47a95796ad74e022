"""RunLog: which numbers of a run are written down, and when; a subclass says where."""

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from xpnn.arguments import KnownAttributes
from xpnn.backends import Backend
from xpnn.losses.by_output import losses_of
from xpnn.metrics import Metric
from xpnn.training.callbacks.hooks import Callback, Logs
from xpnn.training.checkpointing.fields import DICTIONARY, NUMBER, NUMBERS, check_fields, or_none
from xpnn.training.measuring import result_of_batch
from xpnn.training.state import TrainingState
from xpnn.training.stepping.settings import Settings
from xpnn.training.stepping.step import make_gradient_norms, make_weighing_eval_step
from xpnn.typing import Array

logger = logging.getLogger("xpnn")

Numbers = dict[str, float]
Plain = dict[str, bool | int | float | str]


class RunLog(KnownAttributes, Callback):
    """Base of callbacks that write a run down for a tool that shows it.

    At each log point, under the number of steps done over all calls of ``fit``, there are::

        loss                the mean since the log point before, of each output too
        rate                of the last step
        steps_per_second    since the log point before
        gradient_norm       with ``gradients``: of all gradients of that step together
        gradient_norm/NAME  and of each parameter that is trained
        accuracy, ...       with ``batch_metrics``: the metrics of the trainer, of that step's batch

    and behind each epoch all that the history lists. Nothing waits for the device but log points.
    In a second ``fit`` of a trainer the log goes on; so it does in a run that is resumed, behind
    the checkpoint: what is there already, of steps that are taken once more, is not there twice.

    Gradients and metrics are worked out beside the step, before it is taken, metrics in prediction
    mode: that costs a forward and a backward pass at each log point, and leaves the step as it is.
    Where several processes train together, process 0 writes, and gradients are those of the whole
    batch; metrics of batches are left out, as each process has some of the rows only:
    ``fit(..., train_metrics=True)`` measures the whole set.

    Args:
        gradients: whether to write the norms of gradients, before any limit.
        batch_metrics: whether to write the metrics of training batches.
        hyperparameters: what to write beside those of the trainer, such as {"layers": 3}.
    """

    steers: ClassVar[bool] = False
    first_process_only: ClassVar[bool] = True
    in_all_processes: ClassVar[tuple[str, ...]] = ("on_log_begin", "on_fit_end")
    fixed: ClassVar[tuple[str, ...]] = ("gradients", "batch_metrics", "hyperparameters")

    def __init__(
        self, gradients: bool, batch_metrics: bool, hyperparameters: Mapping[str, Any] | None
    ):
        self.gradients, self.batch_metrics = gradients, batch_metrics
        self.hyperparameters = dict(hyperparameters or {})
        self._training: object = None
        self._forget()

    def _forget(self) -> None:
        """Begin another log."""
        self._writes = self._goes_on = False
        self._read: tuple[Any, Any] = (0.0, 0.0)  # sums of losses and weights at a log point
        self._pending: Pending | Numbers | None = None  # of the step before a log point
        self._make_norms: Callable[..., Array] | None = None
        self._eval_step: Callable[..., Any] | None = None
        self._settings: Settings | None = None
        self._seconds, self._start = 0.0, 0.0
        self._clock, self._steps = 0.0, 0  # at the log point before

    # Where it goes -------------------------------------------------------------------------------

    def open(self, state: TrainingState, goes_on: bool) -> None:
        """Steps are about to be taken; ``goes_on``, where they follow some that are written."""
        raise NotImplementedError(f"{type(self).__name__} has to define open")

    def write_hyperparameters(self, state: TrainingState, found: Plain) -> None:
        """What the run was made with; once in a run."""

    def write_steps(self, state: TrainingState, numbers: Numbers) -> None:
        """A log point."""
        raise NotImplementedError(f"{type(self).__name__} has to define write_steps")

    def write_epoch(self, state: TrainingState, numbers: Numbers) -> None:
        """What the history lists of the epoch that has ended."""
        raise NotImplementedError(f"{type(self).__name__} has to define write_epoch")

    def close(self, state: TrainingState) -> None:
        """``fit`` ends, however it does."""

    # When ----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between calls of ``fit``."""
        return self._seconds + time.perf_counter() - self._start

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        if self._training is not state.training:
            self._forget()
            self._training = state.training
        self._start = time.perf_counter()

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        if not state.epoch_steps:
            self._read, self._pending = (0.0, 0.0), None
        if not self._writes:
            self.open(state, self._goes_on)
            if not self._goes_on:
                self.write_hyperparameters(state, self._found(state))
            self._writes = self._goes_on = True
            self._clock, self._steps = time.perf_counter(), state.steps
            if self.batch_metrics and state.metrics and state.by_rows is not None:
                logger.warning(
                    "%s leaves out batch_metrics, as each process has some rows of a batch only; "
                    "fit(..., train_metrics=True) measures them on the whole set",
                    type(self).__name__,
                )

    def on_log_begin(self, state: TrainingState, batch: tuple[Any, ...]) -> None:
        if not (self.gradients or self.batch_metrics):
            return
        alone = state.by_rows is None
        network, metrics = state.network, state.metrics if self.batch_metrics and alone else ()
        if self._settings is None or not self._settings.hold():
            self._settings = Settings(state)
            parts = network, state.loss
            self._make_norms = make_gradient_norms(
                *(*parts, state.precision, state.accumulate), state.by_rows
            )
            everything = None if network.backend.compiles == "all" else False
            self._eval_step = make_weighing_eval_step(*parts, metrics, everything)
        assert self._make_norms is not None
        assert self._eval_step is not None
        self._pending = pending = Pending(network.backend)
        if self.gradients:
            pending.names = [name for name in network.params if name in network.trainable()]
            pending.norms = self._make_norms(state.opt_state, *batch, state.local_rows)
        if metrics:
            _, rows = self._eval_step(network.params, network.state, *batch)
            pending.rows = list(zip(metrics, rows, strict=True))

    def on_log(self, state: TrainingState, step: int, logs: Logs) -> None:
        numbers = state.mean_losses_since(*self._read) | {"rate": state.rate_of_last_step()}
        self._read = state.losses.total, state.losses.weight
        now = time.perf_counter()
        if state.steps > self._steps:
            numbers["steps_per_second"] = (state.steps - self._steps) / (now - self._clock)
        self._clock, self._steps = now, state.steps
        numbers |= self._read_pending() or {}
        self._pending = None
        self.write_steps(state, numbers)

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self.write_epoch(state, {n: float(one) for n, one in logs.items() if isinstance(one, Real)})
        self._clock = time.perf_counter()  # what was measured meanwhile are no steps

    def on_fit_end(self, state: TrainingState) -> None:
        self._make_norms = self._eval_step = self._settings = None
        if self._writes:
            self._writes, self._seconds = False, self.seconds
            self.close(state)

    # What there is -------------------------------------------------------------------------------

    def _read_pending(self) -> Numbers | None:
        return self._pending.read() if isinstance(self._pending, Pending) else self._pending

    def _found(self, state: TrainingState) -> Plain:
        """What the run was made with, in plain numbers and texts."""
        network, optimizer = state.network, state.optimizer
        losses = [_called(one) for _, one, _ in losses_of(state.loss, network.output_names)]
        found = {
            "backend": network.backend.spec,
            "dtype": network.dtype,
            "parameters": sum(math.prod(one.shape) for one in network.params.values()),
            "loss": ", ".join(losses),
            "optimizer": type(optimizer).__name__,
            **optimizer.hyper,
            "batch_size": getattr(state.batches, "batch_size", None),
            "epochs": state.last_epoch - state.first_epoch,
            "seed": state.seed,
            "accumulate": state.accumulate,
            "precision": state.precision and state.precision.dtype,
            **self.hyperparameters,
        }
        return {name: _plain(one) for name, one in found.items() if one is not None}

    # In a checkpoint -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        if not self._goes_on:
            return None
        total, weight = self._read
        return {
            "seconds": self.seconds,
            "total": total,
            "weight": weight,
            "pending": self._read_pending(),
        }

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        wanted = {"seconds": NUMBER, "total": NUMBERS, "weight": NUMBERS}
        check_fields(saved, wanted | {"pending": or_none(DICTIONARY)}, type(self).__name__)
        check_fields(list((saved["pending"] or {}).values()), NUMBERS, "pending")

    def load_state(self, saved: dict[str, Any]) -> None:
        self._goes_on = True
        self._seconds, self._start = saved["seconds"], time.perf_counter()
        self._read, self._pending = (saved["total"], saved["weight"]), saved["pending"]


class Pending:
    """Norms of gradients and statistics of metrics, on the device until a log point has come."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.names: list[str] = []
        self.norms: Array = None
        self.rows: list[tuple[Metric, Array]] = []

    def read(self) -> Numbers:
        """The metrics; the norm of all gradients together, and of each by its parameter."""
        found = {
            metric.name: result_of_batch(metric, row, self.backend) for metric, row in self.rows
        }
        if self.norms is None:
            return found
        norms = self.backend.to_numpy(self.norms).astype(np.float64).tolist()
        each = {f"gradient_norm/{n}": one for n, one in zip(self.names, norms, strict=True)}
        return {**found, "gradient_norm": math.hypot(*norms), **each}


def tag_of(name: str) -> str:
    """What a number of a log point is called where tools put together what has one front."""
    return name if "/" in name else f"steps/{name}"


def _called(function: Any) -> str:
    """The name of a loss, of what is bound to arguments that of the function."""
    if isinstance(function, functools.partial):
        return _called(function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _plain(value: Any) -> bool | int | float | str:
    """A number or a text that says what something is."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else repr(value)
