"""Loop: one call of ``fit``, epoch after epoch."""

import logging
import math
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from xpnn.agreeing import told_by_all
from xpnn.data.batches import Batches
from xpnn.data.stream import Stream
from xpnn.metrics.base import tell_of_empty_means
from xpnn.training.callbacks.diagnosis import first_bad_layer
from xpnn.training.callbacks.hooks import CallbackList
from xpnn.training.callbacks.saved import Saved, take_up
from xpnn.training.checkpointing.processes import (
    check_end_of_epoch,
    check_first_batch,
    check_same_batches,
    here,
)
from xpnn.training.intake.sources import MakeBatches
from xpnn.training.interrupts import Interrupts
from xpnn.training.state import TrainingState
from xpnn.training.stepping.conversion import BatchForm, as_batch
from xpnn.training.stepping.precision import SkipWatch

logger = logging.getLogger("xpnn")


class Loop:
    """The loop over epochs and steps, from wherever the state stands.

    Args:
        state: what is trained, and where it stands; all counting is done there.
        make_batches: the batches of an epoch, by its number.
        hooks: called at the seams.
        log_every: steps between two log points.
        measure: ``(between_batches) -> (numbers, names of those that are means of nothing)``, of
            all that is measured after an epoch.
        agree: makes sure that all processes have the same settings.
    """

    def __init__(
        self,
        state: TrainingState,
        make_batches: MakeBatches,
        hooks: CallbackList,
        log_every: int,
        measure: Callable[[Callable[[], None]], tuple[dict[str, float], list[str]]],
        agree: Callable[[], None],
    ):
        self.state, self.make_batches, self.hooks = state, make_batches, hooks
        self.log_every, self.measure, self.agree = log_every, measure, agree
        self._told_of: frozenset[str] = frozenset()  # means of nothing
        self._has_told_of_nan = False
        self.skips = SkipWatch(state.steps, state.opt_state, state.network.backend)

    def run(self, callback_states: list[Saved] | None = None) -> None:
        """Run all epochs that are left, up to ``state.last_epoch``.

        Args:
            callback_states: what a checkpoint has of the callbacks.
        """
        state, hooks = self.state, self.hooks
        with Interrupts(state.communicator) as interrupts, state.network.backend.on_device():
            try:
                hooks.fit_begin(max(state.last_epoch - state.epoch, 0))
                if callback_states is not None:
                    take_up(hooks.callbacks, state, callback_states)
                    hooks.resume()
                if self._is_over():
                    self._explain_end()
                while not self._is_over():
                    self._epoch(interrupts)
            except KeyboardInterrupt as interrupt:
                self._explain_interrupt(interrupts.between_steps)
                if interrupts.between_steps:
                    hooks.interrupt(interrupt)
                hooks.fit_end(interrupt)
                if interrupts.between_steps:
                    self._wait_for_all()
                raise
            except BaseException as error:
                hooks.fit_end(error)
                raise
            else:
                hooks.fit_end()
                self._wait_for_all()

    def _wait_for_all(self) -> None:
        """Let no process go on, or end, before the files of this training are written."""
        if self.state.communicator is not None:
            told_by_all(self.state.communicator, "the end of fit")

    def _is_over(self) -> bool:
        state = self.state
        stopped = state.stop_reason is not None and not state.epoch_steps
        return stopped or state.epoch >= state.last_epoch

    def _epoch(self, interrupts: Interrupts) -> None:
        state, hooks = self.state, self.hooks
        shared = state.portion, state.communicator is not None
        batches = state.batches = self.make_batches(state.epoch).taking(*shared)
        hooks.epoch_begin(batches.steps)
        self.agree()
        self._log_if_due(batches.steps)
        form = BatchForm(state.network)
        left = _interruptibly(batches, state.epoch_steps, interrupts)
        with closing(left):  # at once, whatever keeps this frame: a thread may be making batches
            for parts in left:
                batch = form.whole(parts)
                if state.communicator is not None and not state.epoch_steps:
                    check_first_batch(state.communicator, batches)
                state.local_rows = batches.local_rows(state.epoch_steps)
                hooks.step_begin(batch)
                if self._is_log_point(state.epoch_steps + 1, batches.steps):
                    hooks.log_begin(batch)
                state.advance(*batch, state.local_rows)
                hooks.step_end(state.epoch_steps)
                self._log_if_due(batches.steps)
                check_same_batches(interrupts.check_together(batches.checksum), here(state))
        logs = state.mean_losses()
        if state.logged != state.epoch_steps:
            self._log(logs)
        check_end_of_epoch(state)
        hooks.steps_end()
        empty = ["loss"] if state.losses.is_empty else []
        found, more = self.measure(interrupts.check)
        logs |= found
        state.empty = frozenset([*empty, *more])
        tell_of_empty_means([name for name in [*empty, *more] if name not in self._told_of])
        self._tell_of_nan(logs["loss"])
        self._told_of |= state.empty
        self._end_epoch(logs)
        interrupts.check_together(now=True)

    def _is_log_point(self, number: int, steps: int | None) -> bool:
        """Whether the loss is read behind that step of an epoch of ``steps``, if that is known."""
        return number % self.log_every == 0 or number == steps

    def _log_if_due(self, steps: int | None) -> None:
        number = self.state.epoch_steps
        if number % self.log_every == 0 and number not in (self.state.logged, steps):
            self._log(self.state.mean_losses())

    def _log(self, logs: dict[str, float]) -> None:
        state = self.state
        state.logged = state.epoch_steps
        scaled = state.precision is not None and state.precision.scaling is not None
        if scaled and state.opt_state and self.skips.is_stuck(state.steps, state.opt_state):
            self._explain_skipping()
        self.hooks.log(state.logged, logs)

    def _end_epoch(self, logs: dict[str, float]) -> None:
        state, backend = self.state, self.state.network.backend
        state.epoch, state.epoch_steps = state.epoch + 1, 0
        state.begin_epoch()
        assert state.opt_state is not None
        logs["rate"] = state.rate_of_last_step()
        watched = "val_loss" if "val_loss" in logs else "loss"
        if watched not in state.empty:
            state.opt_state = state.optimizer.observe(state.opt_state, logs[watched], backend)
        self.hooks.epoch_end(logs)
        state.agree_to_stop()

    def _tell_of_nan(self, loss: float) -> None:
        """Warn, once, of a loss that is not finite, though something was to be learned."""
        state = self.state
        if math.isfinite(loss) or state.losses.is_empty or self._has_told_of_nan:
            return
        self._has_told_of_nan = True
        if state.is_first:
            logger.warning(
                "the loss of epoch %d is %s: bring inputs and targets to mean 0 and deviation 1, "
                "or take a smaller rate; StopOnNaN() among the callbacks ends training at the step "
                "where that begins, and names the layer",
                state.epoch + 1,
                loss,
            )

    def _explain_skipping(self) -> None:
        """Say that mixed precision takes no steps, and which layer is to blame."""
        state, culprit = self.state, None
        if not state.is_first:
            return
        rows = state.local_rows
        if isinstance(state.batches, Batches) and (rows is None or any(one.count for one in rows)):
            parts = state.batches[state.epoch_steps - 1]
            batch = as_batch(state.network, *BatchForm(state.network).whole(parts))
            culprit = first_bad_layer(state.network, state.loss, *batch, state.precision)
        logger.warning(
            "no step was taken for long: in %r gradients are not finite, though the loss scale is "
            "below 1%s. Train with precision='bfloat16' or without precision, or keep what "
            "overflows small: scale the inputs, or put a norm in front",
            state.precision,
            f"; {culprit} is the first that is not" if culprit else "",
        )

    def _explain_end(self) -> None:
        """Say why a run that was resumed has nothing more to do."""
        state = self.state
        if not state.is_first:
            return
        if state.epoch >= state.last_epoch:
            logger.warning(
                "nothing is trained, as %d epochs of this run are done and epochs=%d were asked "
                "for; resume with more of them to train on",
                state.epoch - state.first_epoch,
                state.last_epoch - state.first_epoch,
            )
        else:
            logger.warning(
                "nothing is trained, as this run ended after epoch %d: %s; to train on all the "
                "same, give an EarlyStopping more patience, or call trainer.load(path) and fit "
                "without resume",
                state.epoch,
                state.stop_reason,
            )

    def _explain_interrupt(self, between_steps: bool) -> None:
        if between_steps and not self.state.is_first:
            return
        whole = (
            "the network keeps what was trained. trainer.save(path) now, or a Checkpoint among the "
            "callbacks, and fit(..., resume=path) later go on from here"
        )
        if others := self.hooks.replacing_weights:
            whole = (
                f"{' and '.join(others)} now puts other weights in place of those that training "
                f"stood at, so that trainer.save(path) comes too late to go on from here; only a "
                f"Checkpoint among the callbacks has saved them, for fit(..., resume=folder)"
            )
        torn = (
            "inside of a step, which may have changed some parameters and not others; go on from "
            "the last checkpoint, fit(..., resume=folder)"
        )
        logger.warning(
            "training was interrupted in epoch %d, after %d of its steps; %s",
            self.state.epoch + 1,
            self.state.epoch_steps,
            whole if between_steps else torn,
        )


def _interruptibly(
    batches: Batches | Stream, start: int, interrupts: Interrupts
) -> Generator[tuple[Any, ...]]:
    """The batches from ``start`` on; Ctrl-C ends the wait for one, as nothing is half done."""
    left = batches.starting_at(start)
    while True:
        with interrupts.allowed():
            batch = next(left, None)
        if batch is None:
            return
        yield batch
