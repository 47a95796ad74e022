"""Callback and the hooks that the loop calls, at its seams.

A callback overrides the hooks that it needs. ``trainer`` gives it the network, the optimizer state,
``trainer.epoch`` and ``trainer.stop(reason)``. Numbers reach it at log points only, as Python
floats that are already on the host.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from xpnn.training.trainer import Trainer

logger = logging.getLogger("xpnn")

Logs = dict[str, float]


class Callback:
    """Base of all callbacks: hooks with nothing in them.

    Attributes:
        runs_last: whether its hooks are called behind those of all other callbacks.
    """

    runs_last: ClassVar[bool] = False

    def on_fit_begin(self, trainer: "Trainer", epochs: int) -> None:
        """``fit`` starts and will run for up to ``epochs`` epochs."""

    def on_epoch_begin(self, trainer: "Trainer", steps: int | None) -> None:
        """An epoch of ``steps`` steps starts; None where an iterable does not say how many."""

    def on_step_end(self, trainer: "Trainer", step: int) -> None:
        """Step number ``step`` of this epoch, counted from 1, has been issued to the device."""

    def on_log(self, trainer: "Trainer", step: int, logs: Logs) -> None:
        """A log point: the epoch's mean loss up to step ``step``."""

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        """An epoch ended: its loss, its validation results, the rate of its last step."""

    def on_interrupt(self, trainer: "Trainer") -> None:
        """Ctrl-C ends ``fit``, between two steps, when nothing is half done."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """``fit`` ends, whether all went well or not."""

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of it, by name; None if there is nothing to keep.

        Arrays, numbers, texts, None, and dicts and lists of such, which come back as NumPy arrays
        and as lists.
        """
        return None

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` once returned; after ``on_fit_begin`` of a resumed ``fit``."""


class CallbackList:
    """Calls the hooks of several callbacks, and only of those that override them."""

    def __init__(self, callbacks: Sequence[Callback], trainer: "Trainer"):
        callbacks = sorted(callbacks, key=lambda callback: callback.runs_last)
        self.callbacks, self.trainer = callbacks, trainer
        self._hooks = {
            hook: [
                getattr(callback, hook)
                for callback in callbacks
                if getattr(type(callback), hook) is not getattr(Callback, hook)
            ]
            for hook in vars(Callback)
            if hook.startswith("on_")
        }

    def fit_begin(self, epochs: int) -> None:
        self._call("on_fit_begin", epochs)

    def epoch_begin(self, steps: int | None) -> None:
        self._call("on_epoch_begin", steps)

    def step_end(self, step: int) -> None:
        self._call("on_step_end", step)

    def log(self, step: int, logs: Logs) -> None:
        self._call("on_log", step, logs)

    def epoch_end(self, logs: Logs) -> None:
        self._call("on_epoch_end", logs)

    def interrupt(self) -> None:
        self._call("on_interrupt")

    def fit_end(self) -> None:
        self._call("on_fit_end")

    def states(self) -> list[list[Any]]:
        """What a checkpoint keeps: the kind of each callback that has something, and its state."""
        found = [(type(one).__name__, one.state()) for one in self.callbacks]
        return [[kind, state] for kind, state in found if state is not None]

    def load_states(self, states: list[list[Any]]) -> None:
        """Hand to each callback what the one of its kind had, the first of a kind to the first."""
        left = list(states)
        for callback in self.callbacks:
            kind = type(callback).__name__
            found = next((one for one in left if one[0] == kind), None)
            if found is not None:
                left.remove(found)
                callback.load_state(found[1])
            elif callback.state() is not None:
                logger.warning("the checkpoint knows of no %s more; it starts anew", kind)
        for kind, _ in left:
            logger.warning("there is no %s that takes up what the checkpoint has of one", kind)

    def _call(self, hook: str, *arguments: Any) -> None:
        for call in self._hooks[hook]:
            call(self.trainer, *arguments)
