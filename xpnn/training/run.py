"""Run: one call of ``fit``, epoch after epoch, which knows at every step where it stands."""

import logging
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from xpnn.data.batches import Batches
from xpnn.data.stream import Stream
from xpnn.training.callbacks.hooks import CallbackList
from xpnn.training.intake.sources import Sources
from xpnn.training.interrupts import Interrupts
from xpnn.training.running_mean import RunningMean
from xpnn.training.stepping.precision import skipped_steps

if TYPE_CHECKING:
    from xpnn.training.trainer import Trainer

logger = logging.getLogger("xpnn")


class Run:
    """The loop over epochs and steps, from wherever the trainer stands.

    Between two steps, all that the rest of the run depends on is in the trainer (network, optimizer
    state, counts), in the callbacks, and in ``position``.

    Args:
        trainer: what is trained.
        sources: where batches come from, and what is held out.
        hooks: called at the seams.
        epochs: how many, from the trainer's epoch on.
    """

    def __init__(self, trainer: "Trainer", sources: Sources, hooks: CallbackList, epochs: int):
        self.trainer, self.hooks, self.epochs = trainer, hooks, epochs
        self.make_batches, self.held = sources
        self.first_epoch = trainer.epoch
        self.logged = 0
        self.losses = RunningMean(trainer.network.backend)

    @property
    def position(self) -> dict[str, Any]:
        """Where it stands, beside what the trainer says; a checkpoint keeps it."""
        return {
            "first_epoch": self.first_epoch,
            "epoch_steps": self.trainer.epoch_steps,
            "logged": self.logged,
            "stop_reason": self.trainer.stop_reason,
            "losses": self.losses.pending,
        }

    def stand_at_the_beginning(self) -> None:
        """Stand before the first step of the trainer's epoch, and be the trainer's run."""
        self.first_epoch = self.trainer.epoch
        self.trainer.stop_reason, self.trainer.epoch_steps, self.trainer.run = None, 0, self

    def settle(self, position: dict[str, Any]) -> None:
        """Put into a position on the host the sum of its losses, in place of the losses."""
        self.losses.settle(*position["losses"])
        position["losses"] = {"total": self.losses.total, "weight": self.losses.weight}

    def take_up(self, position: dict[str, Any]) -> None:
        """Stand where another run stood."""
        self.first_epoch, self.logged = position["first_epoch"], position["logged"]
        self.trainer.epoch_steps = position["epoch_steps"]
        self.trainer.stop_reason = position["stop_reason"]
        self.losses = RunningMean(self.trainer.network.backend, **position["losses"])

    def go(self, states: list[list[Any]] | None = None) -> None:
        """Run all epochs that are left.

        Args:
            states: what a checkpoint has of the callbacks.
        """
        trainer, hooks, last = self.trainer, self.hooks, self.first_epoch + self.epochs
        with Interrupts() as interrupts, trainer.network.backend.on_device():
            try:
                hooks.fit_begin(max(last - trainer.epoch, 0))
                if states is not None:
                    hooks.load_states(states)
                while trainer.epoch < last:
                    if trainer.stop_reason is not None and not trainer.epoch_steps:
                        break
                    self._epoch(interrupts)
            except KeyboardInterrupt:
                self._explain_interrupt(interrupts.between_steps)
                if interrupts.between_steps:
                    hooks.interrupt()
                raise
            finally:
                hooks.fit_end()

    @property
    def ends(self) -> bool:
        """Whether the epoch that has just ended is the last one."""
        done = self.trainer.epoch >= self.first_epoch + self.epochs
        return done or self.trainer.stop_reason is not None

    def take_step(self, x: Any, y: Any, weight: Any) -> None:
        """Train on the next batch of the epoch."""
        value = self.trainer.step(x, y, weight)
        xp = self.trainer.network.backend.xp
        self.losses.add(value, x.shape[0] if weight is None else xp.sum(weight))
        self.trainer.epoch_steps += 1

    def _epoch(self, interrupts: Interrupts) -> None:
        trainer, hooks = self.trainer, self.hooks
        batches = trainer.batches = self.make_batches(trainer.epoch)
        hooks.epoch_begin(batches.steps)
        self._log_if_due(batches.steps)
        left = _interruptibly(batches, trainer.epoch_steps, interrupts)
        with closing(left):  # at once, whatever keeps this frame: a thread may be making batches
            for x, y, weight in left:
                self.take_step(x, y, weight)
                hooks.step_end(trainer.epoch_steps)
                self._log_if_due(batches.steps)
                interrupts.check()
        logs = {"loss": self.losses.read()}
        if self.logged != trainer.epoch_steps:
            self._log(logs)
        if self.held is not None:
            logs |= trainer.measure_held_out(self.held, interrupts.check)
        self._end_epoch(logs)
        interrupts.check()

    def _log_if_due(self, steps: int | None) -> None:
        number = self.trainer.epoch_steps
        if number % self.trainer.log_every == 0 and number not in (self.logged, steps):
            self._log({"loss": self.losses.read()})

    def _log(self, logs: dict[str, float]) -> None:
        self.logged = self.trainer.epoch_steps
        self.hooks.log(self.logged, logs)

    def _end_epoch(self, logs: dict[str, float]) -> None:
        trainer = self.trainer
        optimizer, backend = trainer.optimizer, trainer.network.backend
        trainer.epoch, trainer.epoch_steps, self.logged = trainer.epoch + 1, 0, 0
        self.losses = RunningMean(backend)
        assert trainer.opt_state is not None
        taken = trainer.steps - skipped_steps(trainer.opt_state, backend)
        logs["rate"] = optimizer.hyper_at(taken, trainer.opt_state)["rate"]
        watched = logs.get("val_loss", logs["loss"])
        trainer.opt_state = optimizer.observe(trainer.opt_state, watched, backend)
        self.hooks.epoch_end(logs)

    def _explain_interrupt(self, between_steps: bool) -> None:
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
            self.trainer.epoch + 1,
            self.trainer.epoch_steps,
            whole if between_steps else torn,
        )

    def facts(self, batches: Batches | Stream | None) -> dict[str, Any] | None:
        """What is known of the data, as the order of batches depends on it."""
        if batches is None:
            return None
        size = self.held.steps if isinstance(self.held, Stream) else self.held and len(self.held)
        if isinstance(batches, Stream):
            return {"batches": batches.steps, **batches.order, "validation": size}
        return {
            "samples": batches.rows,
            "batch_size": batches.batch_size,
            "shuffle": batches.shuffle,
            "validation": size,
        }


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
