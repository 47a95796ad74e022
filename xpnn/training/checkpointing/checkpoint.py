"""Checkpoint: a run in files, from which it goes on as if nothing had happened."""

import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xpnn.agreeing import done_by_first
from xpnn.arguments import checked
from xpnn.errors import FileError
from xpnn.files import clear_away_torn
from xpnn.training.callbacks.hooks import Logs
from xpnn.training.callbacks.shipped import Watching
from xpnn.training.checkpointing.contents import Contents, NoCheckpointError, write_contents
from xpnn.training.checkpointing.resuming import (
    SUFFIX,
    number_of,
    numbered,
    read_checkpoint,
    state_contents,
)
from xpnn.training.state import TrainingState
from xpnn.typing import OptState

logger = logging.getLogger("xpnn")


class Checkpoint(Watching):
    """Saves the run as it goes, so that ``fit(..., resume=folder)`` goes on from where it was.

    A checkpoint holds all that the rest of the run depends on: parameters, optimizer state, counts
    of random draws, the place inside of the epoch, callbacks and history. A run that goes on from
    one ends with the same weights and the same history as one that was never interrupted, bit for
    bit on the same backend. It is a safetensors file named by the number of steps, and it is
    written whole or not at all, whatever moment the process dies at.

    Ctrl-C saves a checkpoint, too, and so does the end of ``fit``.

    Where several processes train together, process 0 writes, the others wait, and all go on from
    the same file, which they have to see; however many there are then.

    Where the mean loss of the epoch or a parameter is NaN or infinite, nothing is written, and a
    message says so: the newest checkpoint is one from before, and the good ones stay.

    Args:
        folder: for the files of one run; made if it is missing.
        every_steps: steps between two checkpoints, counted over all epochs; None for none inside
            of an epoch.
        every_epochs: epochs between two checkpoints; None for none at the end of an epoch.
        keep: how many of the newest stay; None for all of them.
        best: a number in the history, such as "val_loss" or "val_accuracy"; the checkpoint of the
            epoch with the best one stays in ``best.safetensors`` besides.
        higher_is_better: as for ``EarlyStopping``.
        background: write in a thread, while training goes on. Values are copied before, and a
            second writing waits for the first. What goes wrong is raised at the next step.

    Raises:
        OSError: from ``fit``: a file could not be written. Those before it are whole.
        FileError: from ``fit``: the folder has later checkpoints, of another run or of this one.

    >>> Checkpoint("runs/digits", every_steps=500, best="val_accuracy").folder.name
    'digits'
    """

    fixed = ("folder", "background")
    kept_as: ClassVar[dict[str, str]] = {"best": "monitor"}
    steers: ClassVar[bool] = False
    runs_last: ClassVar[bool] = True  # what the others know has to be in it

    @checked
    def __init__(
        self,
        folder: str | Path,
        *,
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int | None = 3,
        best: str | None = None,
        higher_is_better: bool | None = None,
        background: bool = False,
    ):
        super().__init__(best or "", higher_is_better)
        counts = {"every_steps": every_steps, "every_epochs": every_epochs, "keep": keep}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"Checkpoint needs {name} of at least 1, or None, got {count!r}")
        self.folder, self.keep = Path(folder), keep
        self.every_steps, self.every_epochs = every_steps, every_epochs
        self._writer = Writer(background)
        self._saved: tuple[int, int] | None = None
        self._loss, self._told = 0.0, False

    def on_fit_check(self, state: TrainingState, steps: int) -> None:
        if self.monitor:
            super().on_fit_check(state, steps)
        for path in numbered(self.folder):
            if (number_of(path) or 0) > steps and _is_whole(path):
                raise FileError(
                    f"{self.folder} has {path.name}, which is later than the {steps} steps "
                    f"that this training has done; go on from it with fit(..., "
                    f"resume={str(self.folder)!r}), choose another folder, or delete it"
                )

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self._saved, self._loss, self._told = None, 0.0, False
        if state.is_first:
            clear_away_torn(self.folder, f"*{SUFFIX}")
        if self.monitor:
            super().on_fit_begin(state, epochs)
            if math.isnan(self.best):
                self.best = self._best_in_file(state)
        state.identify_data()  # which may wait for the device, once, before the first step

    def on_step_end(self, state: TrainingState, step: int) -> None:
        self._writer.check()
        if self.every_steps and state.steps % self.every_steps == 0:
            self._save(state)

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self._writer.check()
        self._loss, before = 0.0 if "loss" in state.empty else logs["loss"], self.best
        is_best = bool(self.monitor) and self.is_new_best(logs)
        due = self.every_epochs and state.epoch % self.every_epochs == 0
        last = state.ends
        if is_best:
            # the best one first: if it is all that gets written, the next attempt makes it again
            newest = [self._path(state)] if due or last else []
            if not self._save(state, self.best_path, *newest):
                self.best = before
        elif due or last:
            self._save(state)

    def on_interrupt(self, state: TrainingState) -> None:
        is_saved = self._saved == (state.epoch, state.epoch_steps) or self._save(state)
        self._writer.wait()
        if is_saved and state.is_first:
            logger.warning("go on from here with fit(..., resume=%r)", str(self.folder))

    def on_fit_end(self, state: TrainingState) -> None:
        self._writer.wait()

    def known_by(self, state: TrainingState) -> str | None:
        return super().known_by(state) if self.monitor else None

    def state(self) -> dict[str, Any] | None:
        return super().state() if self.monitor else None

    @property
    def best_path(self) -> Path:
        """Where the checkpoint of the best epoch lies."""
        return self.folder / f"best{SUFFIX}"

    def _best_in_file(self, state: TrainingState) -> float:
        """What another one has found to be the best in this training, before; or NaN."""
        if not self.best_path.is_file():
            return math.nan
        try:
            tree = read_checkpoint(self.best_path)
        except NoCheckpointError:
            return math.nan
        own = type(self).__name__, self.known_by(state)
        found = (one for one in tree["callbacks"] if (one["kind"], one["known_by"]) == own)
        if tree["trainer"]["steps"] > state.steps:  # it is of another training, or of what comes
            return math.nan
        best: float = next((one["state"]["best"] for one in found), math.nan)
        return best

    def _path(self, state: TrainingState) -> Path:
        return self.folder / f"checkpoint-{state.steps:09d}{SUFFIX}"

    def _save(self, state: TrainingState, *paths: Path) -> bool:
        """Write it, or say why not; whether it was, or will be soon."""
        newest = self._path(state)
        paths = paths or (newest,)
        save = partial(self._save_here, state, state.whole_opt_state(), paths)
        is_saved = done_by_first(state.communicator, "a Checkpoint", save)
        if is_saved and newest in paths:
            self._saved = state.epoch, state.epoch_steps
        return is_saved

    def _save_here(
        self, state: TrainingState, opt_state: OptState | None, paths: tuple[Path, ...]
    ) -> bool:
        self._writer.wait()  # before more copies are made
        contents = state_contents(state, opt_state)
        if not self._is_sound(state, contents):
            self._tell_once(state)
            return False
        self._told = False
        self._writer.run(lambda: self._write(contents, paths))
        return True

    def _tell_once(self, state: TrainingState) -> None:
        if not self._told:
            logger.warning(
                "no checkpoint after %d steps, nor until this is over, as the loss or a "
                "parameter is NaN or infinite; those before it stay in %s",
                state.steps,
                self.folder,
            )
        self._told = True

    def _is_sound(self, state: TrainingState, contents: Contents) -> bool:
        """Whether it is worth going on from: a run that has gone bad stays so."""
        is_finite = math.isfinite(self._loss) if state.losses.is_empty else state.losses.is_finite
        arrays = (contents.tensors.get(f"network.{name}") for name in state.network.params)
        return is_finite and all(
            bool(np.isfinite(one.values).all()) for one in arrays if one is not None
        )

    def _write(self, contents: Contents, paths: tuple[Path, ...]) -> None:
        for path in paths:
            write_contents(path, contents)
        if self.keep is not None:
            steps = contents.tree["trainer"]["steps"]
            past = [
                path
                for path in numbered(self.folder)
                if (number_of(path) or 0) <= steps and path.is_file()
            ]
            for path in past[: -self.keep]:
                path.unlink(missing_ok=True)


class Writer:
    """Runs one thing after another, in a thread of its own if that is wanted.

    The process does not end before the thread has.
    """

    def __init__(self, background: bool):
        self.background = background
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self, write: Callable[[], None]) -> None:
        """Do it now, or begin with it once what came before is done."""
        self.wait()
        if not self.background:
            write()
            return
        self._thread = threading.Thread(target=self._try, args=(write,), name="xpnn-checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong in the thread, without waiting for it."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until it is done, and raise what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error


def _is_whole(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except (NoCheckpointError, FileNotFoundError):
        return False
    return True
