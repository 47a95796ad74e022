"""What steps were made for, so that a change of it is noticed before the next step."""

from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnn.network import Network
from xpnn.training.state import TrainingState

PLAIN = (bool, int, float, str, tuple, np.generic)


def described(network: Network) -> list[dict[str, Any]]:
    """The numbers and names by which each layer is described, such as ``{"rate": 0.5, ...}``.

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
