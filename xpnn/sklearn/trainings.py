"""Trainings of estimators: kept in a pickle, and followed by callbacks of scikit-learn."""

import copy
from collections.abc import Callable
from typing import Any

from xpnn.moving import copied_like
from xpnn.training import Callback, Trainer
from xpnn.training.state import TrainingState
from xpnn.trees import tree_map


def kept(trainer: Trainer) -> dict[str, Any]:
    """All that the rest of a training depends on, arrays on the host: what a pickle can hold."""
    backend, state = trainer.network.backend, trainer.state

    def copied(leaf: Any) -> Any:
        return backend.to_numpy(leaf).copy() if backend.recognizes(leaf) else leaf

    with trainer.network.at_rest(), backend.on_device():
        return {
            "made_with": {
                "network": trainer.network,
                "loss": trainer.loss,
                "optimizer": trainer.optimizer,
                "metrics": trainer.metrics,
                "callbacks": trainer.callbacks,
                "seed": trainer.seed,
            },
            "stands": {
                "epoch": state.epoch,
                "steps": state.steps,
                "opt_state_of": state.opt_state_of,
                "training": state.training,
            },
            "opt_state": None if state.opt_state is None else tree_map(copied, state.opt_state),
        }


def revived(parts: dict[str, Any]) -> Trainer:
    """A trainer that goes on exactly where the one stood that ``kept`` was given."""
    trainer = Trainer(**parts["made_with"])
    for name, value in parts["stands"].items():
        setattr(trainer.state, name, value)
    if parts["opt_state"] is not None:
        backend = trainer.network.backend
        with backend.on_device():
            fresh = trainer.state.fresh_opt_state()
            found = copied_like(parts["opt_state"], fresh, backend, take=backend.asarray)
        trainer.state.opt_state = found
    return trainer


def forget_data(trainer: Trainer) -> None:
    """Let go of what was trained on, which a trainer keeps for checkpoints: a ``fit`` has ended."""
    state = trainer.state
    state.batches, state.held_out, state.callbacks = None, None, ()
    state.identify_data, state.in_fit = dict, False


class Followed(Callback):
    """Tells callbacks of scikit-learn of each epoch, and ends training where one asks for it.

    Args:
        estimator: whose training it is.
        begin: called when all that came in was looked at, before the first step.
        context: of the ``fit`` of the estimator; None where nothing follows it.
        X, y, metadata: what ``fit`` was given.
    """

    runs_last = True
    steers = False

    def __init__(
        self,
        estimator: Any,
        begin: Callable[[], None],
        context: Any = None,
        X: Any = None,
        y: Any = None,
        metadata: dict[str, Any] | None = None,
    ):
        self.estimator, self.begin, self.context = estimator, begin, context
        self._given = {"X": X, "y": y, "metadata": metadata}
        self._epoch: Any = None

    def _as_it_is(self) -> dict[str, Any]:
        """What makes a copy of the estimator one that has been trained so far."""
        return {"network_": copy.deepcopy(self.estimator.network_)}

    def _told(self) -> dict[str, Any]:
        return {
            "estimator": self.estimator,
            **self._given,
            "reconstruction_attributes": self._as_it_is,
        }

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self.begin()
        if self.context is not None:
            self.context.call_on_fit_task_begin(**self._told())

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        if self.context is not None:
            self._epoch = self.context.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._told())

    def on_epoch_end(self, state: TrainingState, logs: dict[str, float]) -> None:
        if self._epoch is not None and self._epoch.call_on_fit_task_end(**self._told()):
            state.stop("a callback of scikit-learn has ended it")

    def end(self) -> None:
        """Tell that ``fit`` has done its work."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self._told())
