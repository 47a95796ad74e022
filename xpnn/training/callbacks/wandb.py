"""WandB: a run for Weights & Biases."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.training.callbacks.run_log import Numbers, Plain, RunLog, tag_of
from xpnn.training.checkpointing.fields import TEXT, check_fields
from xpnn.training.state import TrainingState


class WandB(RunLog):
    """Writes a run to Weights & Biases; needs the extra wandb.

    Numbers of the history have their own names, those of log points are ``steps/loss`` and so on,
    see ``JSONLines``, hyperparameters are the run's config. Where a run of ``wandb.init`` is active
    it is that one, which stays open; otherwise one is made, and finished with ``fit``. A run that
    is resumed goes on under the same id, and writes nothing that the server has.

    Args:
        project: the name of the project.
        name: of the run; W&B finds one unless given.
        gradients, batch_metrics: as for ``JSONLines``.
        weights: whether to write histograms of the parameters behind each epoch, which copies them
            to the host.
        hyperparameters: what to write beside those of the trainer, such as {"layers": 3}.
        options: more arguments of ``wandb.init``, such as {"mode": "offline", "dir": "runs"}.

    Raises:
        ModuleNotFoundError: the package wandb is missing.
        wandb.Error: from ``fit``: the run cannot be begun.
    """

    fixed = (*RunLog.fixed, "project", "name", "weights", "options")

    def __init__(
        self,
        project: str = "xpnn",
        *,
        name: str | None = None,
        gradients: bool = False,
        batch_metrics: bool = False,
        weights: bool = False,
        hyperparameters: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        self.run_id: str | None = None
        super().__init__(gradients, batch_metrics, hyperparameters)
        _import()
        self.project, self.name, self.weights = project, name, weights
        self.options = dict(options or {})
        self._run: Any = None
        self._is_own = True

    def _forget(self) -> None:
        super()._forget()
        self.run_id = None

    def open(self, state: TrainingState, goes_on: bool) -> None:
        wandb = _import()
        self._is_own = wandb.run is None
        if not self._is_own:
            self._run = wandb.run
            self._goes_on = goes_on and self.run_id == self._run.id
        else:
            again = {} if self.run_id is None else {"id": self.run_id, "resume": "allow"}
            named = {"project": self.project, "name": self.name}
            self._run = wandb.init(**named, **{**self.options, **again})
        self.run_id = self._run.id

    def write_hyperparameters(self, state: TrainingState, found: Plain) -> None:
        self._run.config.update(found, allow_val_change=True)

    def write_steps(self, state: TrainingState, numbers: Numbers) -> None:
        self._write(state, {tag_of(name): one for name, one in numbers.items()}, commit=False)

    def write_epoch(self, state: TrainingState, numbers: Numbers) -> None:
        found: dict[str, Any] = {**numbers, "epoch": state.epoch}
        if self.weights:
            histogram, backend = _import().Histogram, state.network.backend
            for name, values in state.network.params.items():
                binned = _binned(backend.to_numpy(values))
                found[f"weights/{name}"] = histogram(np_histogram=binned)
        self._write(state, found, commit=True)

    def _write(self, state: TrainingState, found: dict[str, Any], commit: bool) -> None:
        if state.steps >= self._run.step:  # else these steps are taken once more, and are there
            self._run.log(found, step=state.steps, commit=commit)

    def close(self, state: TrainingState) -> None:
        if self._is_own:
            self._run.finish(exit_code=0 if state.ends and not state.epoch_steps else 1)
        self._run = None

    def state(self) -> dict[str, Any] | None:
        own = super().state()
        return own and {**own, "run_id": self.run_id}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        super().check_state(state, saved)
        check_fields(saved, {"run_id": TEXT}, "WandB")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self.run_id = saved["run_id"]


def _binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of the finite ones."""
    wide = values.astype(np.float64)
    return np.histogram(wide[np.isfinite(wide)], bins=64)


def _import() -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "WandB needs the package wandb; type: pip install 'xpnn[wandb]'"
        ) from error
    return wandb
