"""What steps were made for, so that a change of it is noticed before the next step."""

from functools import partial
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnn.network import Network
from xpnn.training.describing import described
from xpnn.training.state import TrainingState

PLAIN = (bool, int, float, str, tuple, np.generic)


def hyperparameters(network: Network) -> list[dict[str, Any]]:
    """The numbers and names that each layer was made with, such as ``{"rate": 0.5, ...}``.

    What is frozen and what is regularised is among them.
    """
    return [
        {
            key: value
            for key, value in vars(layer).items()
            if isinstance(value, PLAIN) and not key.startswith("_")
        }
        for layer in network.all_layers
    ]


def options_by_value(state: TrainingState) -> str:
    """What loss, metrics and rules were given, such as a list of class weights, and hold now."""
    rules = state.network.regularizers().values()
    parts = [state.loss, *state.metrics, *(rule for of_name in rules for rule in of_name)]
    return repr([described(_options_of(one)) for one in parts])


def _options_of(function: Any) -> Any:
    """What a part of a step was made with; what a function closes over is its own."""
    if isinstance(function, partial):
        return [function.args, function.keywords]
    return {k: v for k, v in getattr(function, "__dict__", {}).items() if not callable(v)}


class Settings:
    """What steps were made for: the values of attributes that may be changed between two of them.

    Of each layer these are its hyperparameters, its regularizers and whether it is frozen; beside
    them the loss, the optimizer with its hyperparameters, and what else the trainer was told. An
    array among the hyperparameters is only looked at where two settings are compared.
    """

    def __init__(self, state: TrainingState):
        layers = {f"layer{number}": layer for number, layer in enumerate(state.network.all_layers)}
        names, self._arrays = [], []
        for key, layer in layers.items():
            for name in layer.hyperparameters:
                value = getattr(layer, name)
                if hasattr(value, "shape"):
                    self._arrays.append(value)
                else:
                    names.append(f"{key}.{name}")
            if layer is state.network.root or layer.params or layer.ties or layer.children():
                names.append(f"{key}.trainable")
            if layer.params:
                names.append(f"{key}.regularizers")
        self._state, self._layers = state, SimpleNamespace(**layers)
        self._of_state = attrgetter("loss", "optimizer", "metrics", "accumulate", "compile")
        self._of_layers = attrgetter(*names)
        self._own, self._inner = self._of_state(state), self._of_layers(self._layers)
        self._version = state.optimizer.version

    def hold(self) -> bool:
        """Whether nothing has changed since: looked at before every step, so in few calls."""
        state = self._state
        return (
            self._of_state(state) == self._own
            and state.optimizer.version is self._version
            and self._of_layers(self._layers) == self._inner
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Settings)
            and (self._own, self._inner) == (other._own, other._inner)
            and self._version is other._version
            and [*map(id, self._arrays)] == [*map(id, other._arrays)]
        )
