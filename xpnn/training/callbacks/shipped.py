"""Callbacks: what happens beside training, at the seams of the loop; see ``hooks.py``."""

import difflib
import math
from typing import Any, ClassVar

import numpy as np

from xpnn.arguments import KnownAttributes, checked
from xpnn.training.callbacks.hooks import Callback, Logs
from xpnn.training.checkpointing.fields import COUNT, DICTIONARY, NUMBER, check_fields, or_none
from xpnn.training.names import METRICS
from xpnn.training.state import TrainingState


class Watching(KnownAttributes, Callback):
    """Base of callbacks that watch one number for its best value.

    In a second ``fit`` of the same trainer the best of the first one still counts, unless
    ``forget`` is called in between.

    Args:
        monitor: a name in the history, such as "val_loss" or "val_accuracy".
        higher_is_better: None works it out: losses and errors fall, and the trainer's metrics know
            it of themselves. Of any other number, which a callback may have measured, it has to be
            said.

    Raises:
        ValueError: from ``fit``: nobody knows which way that number goes, or it is not measured.
    """

    @checked
    def __init__(self, monitor: str = "val_loss", higher_is_better: bool | None = None):
        self.monitor, self.higher_is_better = monitor, higher_is_better
        self.best = math.nan
        self._watched: tuple[object, str, bool] | None = None  # in which training, what, which way
        self._worked_out: bool | None = None

    def forget(self) -> None:
        """Let the next ``fit`` begin as if nothing had been watched before."""
        self.best = math.nan

    def on_fit_check(self, state: TrainingState, steps: int) -> None:
        self._rises(state)

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        rises = self._rises(state)
        if self._is_to_work_out:
            self.higher_is_better = self._worked_out = rises
        if not self._is_of(state):
            self.forget()
            self._watched = state.training, self.monitor, rises

    def _is_of(self, state: TrainingState) -> bool:
        """Whether what is remembered is of this training, and of the number watched now."""
        return self._watched == (state.training, self.monitor, self.higher_is_better)

    @property
    def _is_to_work_out(self) -> bool:
        return self.higher_is_better in (None, self._worked_out)

    def _rises(self, state: TrainingState) -> bool:
        """Whether a higher number is a better one."""
        if not self._is_to_work_out:
            return bool(self.higher_is_better)
        name = self.monitor.removeprefix("val_")
        known = {metric.name: metric.higher_is_better for metric in state.metrics}
        if name in known:
            return known[name]
        if name.rpartition("_")[2] in ("loss", "error"):
            return False
        kind = type(self).__name__
        close = difflib.get_close_matches(name, [*known, "loss"], n=1)
        meant = f", did you mean {self.monitor.replace(name, close[0])!r}?" if close else "."
        give = f"give it to the trainer, metrics=[{name!r}]; or " if name in METRICS else ""
        raise ValueError(
            f"{kind} watches {self.monitor!r}, which is neither a loss nor one of the trainer's "
            f"metrics ({', '.join(known) or 'it has none'}){meant} To watch "
            f"it, {give}say whether more of it is better, {kind}(..., higher_is_better=True), or "
            f"False"
        )

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

    def known_by(self, state: TrainingState) -> str | None:
        rises = self._rises(state) if self.higher_is_better is None else self.higher_is_better
        return f"{self.monitor} ({'rising' if rises else 'falling'})"

    def state(self) -> dict[str, Any] | None:
        return {"best": self.best}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"best": NUMBER}, type(self).__name__)

    def load_state(self, saved: dict[str, Any]) -> None:
        self.best = saved["best"]


class EarlyStopping(Watching):
    """Ends training when the watched number has not improved for ``patience`` epochs.

    Each ``fit`` waits anew, for something better than the best of those before it. A run that it
    has ended goes on where it is resumed with more patience.

    An epoch in which it is a mean of nothing, as all weights are 0, does not count.

    Args:
        monitor: a name in the history, such as "val_loss" or "val_accuracy".
        patience: epochs without a new best that are borne.
        min_gain: how much better a new best has to be.
        higher_is_better: None works it out: losses and errors fall, and metrics know it of
            themselves. Of any other number it has to be said.

    Raises:
        ValueError: from ``fit``: nobody knows which way that number goes, or it is not measured.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,))
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.0), callbacks=[EarlyStopping("loss")])
    >>> len(trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=100, progress=False))
    6
    """

    @checked
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

    def forget(self) -> None:
        super().forget()
        self.waited = 0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        super().on_fit_begin(state, epochs)
        self.waited = 0

    def on_resume(self, state: TrainingState) -> None:
        if state.stop_reason == self._reason and self.waited < self.patience:
            state.stop_reason = None  # it has more patience now

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        if self.is_new_best(logs, self.min_gain):
            self.waited = 0
        elif self.monitor not in state.empty:
            self.waited += 1
        if self.waited >= self.patience:
            state.stop(self._reason)

    @property
    def _reason(self) -> str:
        return f"{self.monitor} has not improved on {self.best:.4g} for {self.waited} epochs"

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"best": NUMBER, "waited": COUNT}, "EarlyStopping")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self.waited = saved["waited"]


class BestWeights(Watching):
    """Puts the weights of the best epoch back when training ends, however it ends.

    It keeps a copy of them on the host, for a second ``fit``, too; ``forget`` gives that up.

    Args:
        monitor, higher_is_better: as for ``EarlyStopping``.

    Raises:
        ValueError: from ``fit``: nobody knows which way that number goes, or it is not measured.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,))
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[BestWeights("loss")])
    >>> history = trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=3, progress=False)
    >>> trainer.callbacks[0].best == min(history["loss"])
    True
    """

    replaces_weights: ClassVar[bool] = True

    @checked
    def __init__(self, monitor: str = "val_loss", higher_is_better: bool | None = None):
        super().__init__(monitor, higher_is_better)
        self.epoch: int | None = None
        self._kept: dict[str, Any] | None = None

    def forget(self) -> None:
        super().forget()
        self.epoch, self._kept = None, None

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        if self.is_new_best(logs):
            self.epoch, self._kept = state.epoch, state.network.numpy_arrays()

    def on_fit_end(self, state: TrainingState) -> None:
        if self._kept is not None and self._is_of(state):
            state.network.load(self._kept)

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


def _shapes(values: dict[str, Any]) -> dict[str, Any]:
    numbers = (int, float, np.ndarray)
    return {n: np.shape(one) if isinstance(one, numbers) else None for n, one in values.items()}
