"""Callbacks: what happens beside training, at the seams of the loop; see ``hooks.py``."""

import csv
import math
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xpnn.arguments import KnownAttributes
from xpnn.training.callbacks.hooks import Callback, Logs
from xpnn.training.checkpointing.columns import as_columns, from_columns
from xpnn.training.checkpointing.fields import (
    BYTES,
    COUNT,
    DICTIONARY,
    NUMBER,
    check_fields,
    or_none,
)
from xpnn.training.state import TrainingState


class History(KnownAttributes, Callback):
    """Keeps the numbers of every epoch: ``history["val_loss"]`` is a list, one entry an epoch."""

    def __init__(self) -> None:
        self.epochs: list[Logs] = []

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self.epochs.append({"epoch": state.epoch, **logs})

    def state(self) -> dict[str, Any]:
        return as_columns(self.epochs)

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        from_columns(saved)

    def load_state(self, saved: dict[str, Any]) -> None:
        self.epochs = from_columns(saved)

    def __getitem__(self, name: str) -> list[float]:
        if self.epochs and name not in self.epochs[0]:
            raise KeyError(f"there is no {name!r} in this history, only {', '.join(self.names)}")
        return [epoch[name] for epoch in self.epochs]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def names(self) -> list[str]:
        """What was measured, in the order in which it was."""
        return list(self.epochs[0]) if self.epochs else []

    def plot(self, path: str | Path) -> None:
        """Draw losses and metrics over the epochs into a picture file; needs matplotlib."""
        from xpnn.training.callbacks.curves import draw_curves

        draw_curves({name: self[name] for name in self.names}, Path(path))

    def __repr__(self) -> str:
        last = ", ".join(f"{k}={v:.4g}" for k, v in (self.epochs or [{}])[-1].items())
        return f"<history of {len(self)} epochs: {last}>"


class ProgressBar(KnownAttributes, Callback):
    """A bar for each epoch, with the loss while it runs and all results behind it (tqdm)."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._last = 0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self._last = state.epoch + epochs

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=steps,
            initial=state.epoch_steps,
            desc=f"epoch {state.epoch + 1}/{self._last}",
            unit="step",
            dynamic_ncols=True,
        )

    def on_step_end(self, state: TrainingState, step: int) -> None:
        self._bar.update()

    def on_log(self, state: TrainingState, step: int, logs: Logs) -> None:
        self._bar.set_postfix(_rounded(logs), refresh=False)

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self._bar.set_postfix(_rounded(logs))
        self._close()

    def on_fit_end(self, state: TrainingState) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Watching(KnownAttributes, Callback):
    """Base of callbacks that watch one number for its best value.

    Args:
        monitor: a name in the history, such as "val_loss" or "val_accuracy".
        higher_is_better: None works it out: losses and errors fall, other metrics rise.
    """

    def __init__(self, monitor: str = "val_loss", higher_is_better: bool | None = None):
        self.monitor, self.higher_is_better = monitor, higher_is_better
        self.best = math.nan

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        if self.higher_is_better is None:
            name = self.monitor.removeprefix("val_")
            rising = {metric.name for metric in state.metrics if metric.higher_is_better}
            self.higher_is_better = name in rising
        self.best = math.nan

    def is_new_best(self, logs: Logs, by: float = 0.0) -> bool:
        """Whether the watched number beats its best by more than ``by``; takes note of it."""
        if self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, which is not measured, only "
                f"{', '.join(logs)}; pass validation data to fit, or watch another number"
            )
        value = logs[self.monitor]
        gain = value - self.best if self.higher_is_better else self.best - value
        if math.isnan(self.best) or gain > by:
            self.best = value
            return not math.isnan(value)
        return False

    def state(self) -> dict[str, Any] | None:
        return {"best": self.best}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"best": NUMBER}, type(self).__name__)

    def load_state(self, saved: dict[str, Any]) -> None:
        self.best = saved["best"]


class EarlyStopping(Watching):
    """Ends training when the watched number has not improved for ``patience`` epochs.

    Args:
        monitor, higher_is_better: see ``Watching``.
        patience: epochs without a new best that are borne.
        min_gain: how much better a new best has to be.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        min_gain: float = 0.0,
        higher_is_better: bool | None = None,
    ):
        super().__init__(monitor, higher_is_better)
        if patience < 1:
            raise ValueError(f"EarlyStopping needs patience of at least 1, got {patience}")
        self.patience, self.min_gain = patience, min_gain
        self.waited = 0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        super().on_fit_begin(state, epochs)
        self.waited = 0

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self.waited = 0 if self.is_new_best(logs, self.min_gain) else self.waited + 1
        if self.waited >= self.patience:
            state.stop(
                f"{self.monitor} has not improved on {self.best:.4g} for {self.patience} epochs"
            )

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"best": NUMBER, "waited": COUNT}, "EarlyStopping")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self.waited = saved["waited"]


class BestWeights(Watching):
    """Puts the weights of the best epoch back when training ends, however it ends."""

    replaces_weights: ClassVar[bool] = True

    def __init__(self, monitor: str = "val_loss", higher_is_better: bool | None = None):
        super().__init__(monitor, higher_is_better)
        self.epoch: int | None = None
        self._kept: dict[str, Any] | None = None

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        super().on_fit_begin(state, epochs)
        self.epoch, self._kept = None, None

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        if self.is_new_best(logs):
            self.epoch, self._kept = state.epoch, state.network.numpy_arrays()

    def on_fit_end(self, state: TrainingState) -> None:
        if self._kept is not None:
            state.network.load(self._kept)
            self._kept = None

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch, "kept": self._kept}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        wanted = {"best": NUMBER, "epoch": or_none(COUNT), "kept": or_none(DICTIONARY)}
        check_fields(saved, wanted, "BestWeights")
        if saved["kept"] is not None:
            own = state.network.numpy_arrays()
            if _shapes(saved["kept"]) != _shapes(own):
                raise ValueError("its 'BestWeights' kept weights of another network")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self.epoch, self._kept = saved["epoch"], saved["kept"]


class CSVLogger(KnownAttributes, Callback):
    """Writes a line for each epoch into a CSV file, at once, so that a crash loses nothing.

    A resumed ``fit`` puts the lines back that were there at the checkpoint, and no others.

    Args:
        path: of the file; folders are made. An existing file is replaced unless ``append``.
        append: go on behind the lines of an existing file.
    """

    fixed = ("path",)

    def __init__(self, path: str | Path, *, append: bool = False):
        self.path, self.append = Path(path), append
        self._start = 0.0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.append:
            self.path.write_text("")
        self._start = time.perf_counter()

    def state(self) -> dict[str, Any]:
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = np.frombuffer(content, dtype=np.uint8)
        return {"lines": lines, "seconds": time.perf_counter() - self._start}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"lines": BYTES, "seconds": NUMBER}, "CSVLogger")

    def load_state(self, saved: dict[str, Any]) -> None:
        self.path.write_bytes(saved["lines"].tobytes())
        self._start = time.perf_counter() - saved["seconds"]

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        row = {
            "epoch": state.epoch,
            "seconds": round(time.perf_counter() - self._start, 3),
            **logs,
        }
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


def _shapes(values: dict[str, Any]) -> dict[str, Any]:
    numbers = (int, float, np.ndarray)
    return {n: np.shape(one) if isinstance(one, numbers) else None for n, one in values.items()}


def _rounded(logs: Logs) -> dict[str, str]:
    return {name: f"{value:.4g}" for name, value in logs.items() if name != "rate"}
