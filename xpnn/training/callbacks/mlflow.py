"""MLflow: a run on a tracking server of MLflow, or in its database."""

import re
import time
from collections.abc import Mapping
from typing import Any

from xpnn.training.callbacks.run_log import Numbers, Plain, RunLog, tag_of
from xpnn.training.checkpointing.fields import TEXT, check_fields
from xpnn.training.state import TrainingState

LONGEST = 6000  # letters of a parameter
MOST = 1000  # metrics in one call


class MLflow(RunLog):
    """Writes a run to MLflow by its client; needs the extra mlflow.

    Numbers of the history have their own names, those of log points are ``steps/loss`` and so on,
    see ``JSONLines``; hyperparameters are MLflow's parameters. Where a run of ``mlflow.start_run``
    is active it is that one, which stays active; otherwise one is made, whose status says how
    ``fit`` has ended. A run that is resumed goes on in the same one, and writes nothing that is
    there.

    Args:
        experiment: its name; made where there is none.
        run: the name of the run; MLflow finds one unless given.
        tracking_uri: where to write; what ``mlflow.get_tracking_uri`` says unless given.
        gradients, batch_metrics, hyperparameters: as for ``JSONLines``.

    Attributes:
        run_id: of the run that is written, or was last.

    Raises:
        ModuleNotFoundError: the package mlflow is missing.
        mlflow.MlflowException: from ``fit``: the server does not take it.
    """

    fixed = (*RunLog.fixed, "experiment", "run", "tracking_uri")

    def __init__(
        self,
        experiment: str = "xpnn",
        *,
        run: str | None = None,
        tracking_uri: str | None = None,
        gradients: bool = False,
        batch_metrics: bool = False,
        hyperparameters: Mapping[str, Any] | None = None,
    ):
        self.run_id: str | None = None
        super().__init__(gradients, batch_metrics, hyperparameters)
        _import()
        self.experiment, self.run, self.tracking_uri = experiment, run, tracking_uri
        self._client: Any = None
        self._is_own = True
        self._interrupted = False
        self._last: dict[str, int] = {}  # the step at which a number was written last

    def _forget(self) -> None:
        super()._forget()
        self.run_id = None

    def open(self, state: TrainingState, goes_on: bool) -> None:
        mlflow = _import()
        self._client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        self._interrupted, self._last = False, {}
        active = mlflow.active_run()
        self._is_own = active is None
        if active is not None:
            self._goes_on = goes_on and self.run_id == active.info.run_id
            self.run_id = active.info.run_id
        elif self.run_id is not None:
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            self.run_id = self._new_run()

    def _new_run(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self._client.create_experiment(self.experiment)
        run_id: str = self._client.create_run(number, run_name=self.run).info.run_id
        return run_id

    def write_hyperparameters(self, state: TrainingState, found: Plain) -> None:
        from mlflow.entities import Param

        params = [Param(_key(name), str(one)[:LONGEST]) for name, one in found.items()]
        self._client.log_batch(self.run_id, params=params)

    def write_steps(self, state: TrainingState, numbers: Numbers) -> None:
        self._write(state, {tag_of(name): one for name, one in numbers.items()})

    def write_epoch(self, state: TrainingState, numbers: Numbers) -> None:
        self._write(state, {**numbers, "epoch": state.epoch})

    def _write(self, state: TrainingState, numbers: Numbers) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [
            Metric(_key(name), value, now, state.steps)
            for name, value in numbers.items()
            if self._last_step(_key(name)) < state.steps
        ]
        for start in range(0, len(new), MOST):
            self._client.log_batch(self.run_id, metrics=new[start : start + MOST])

    def _last_step(self, key: str) -> int:
        """The step up to which a number is there already, of steps that are taken once more."""
        if key not in self._last:
            there = self._client.get_metric_history(self.run_id, key)
            self._last[key] = max((one.step for one in there), default=-1)
        return self._last[key]

    def on_interrupt(self, state: TrainingState) -> None:
        self._interrupted = True

    def close(self, state: TrainingState) -> None:
        if self._is_own:
            whole = state.ends and not state.epoch_steps
            status = "FINISHED" if whole else "KILLED" if self._interrupted else "FAILED"
            self._client.set_terminated(self.run_id, status)

    def state(self) -> dict[str, Any] | None:
        own = super().state()
        return own and {**own, "run_id": self.run_id}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        super().check_state(state, saved)
        check_fields(saved, {"run_id": TEXT}, "MLflow")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self.run_id = saved["run_id"]


def _import() -> Any:
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "MLflow needs the package of that name; type: pip install 'xpnn[mlflow]'"
        ) from error
    return mlflow


def _key(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
