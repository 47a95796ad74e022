"""Layers that disturb the signal in training and leave it alone afterwards."""

from collections.abc import Callable
from typing import Any

from xpnn.layers.base import Layer
from xpnn.typing import Array, Namespace, Shape, State


class Dropout(Layer):
    """Zeroes each input with probability ``rate`` in training (Srivastava et al., 2014).

    In training, with a mask m of ones (kept) and zeros::

        S = Z m / (1 - rate)        dL/dZ = delta m / (1 - rate)

    The division keeps the expected sum, so that nothing is left to do in prediction: S = Z.

    The mask is a function of (seed, layer, draw): the same on every backend and device. ``draw``
    counts the batches and lives in ``state``, so that a resumed run goes on where it stopped.

    Args:
        rate: share of inputs to drop, in [0, 1).
    """

    def __init__(self, rate: float = 0.5):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout needs a rate in [0, 1), got rate={rate}")
        self.rate = float(rate)

    def init_state(self, input_shape: Shape) -> State:
        assert self.backend is not None
        return {"draw": self.backend.counter()}

    def rule(self, xp: Namespace, Z: Array, kept: Array) -> Array:
        """``Z m / (1 - rate)``; serves forward and backward."""
        return Z * (xp.astype(kept, Z.dtype) * (1 / (1 - self.rate)))

    def fuse(self, elementwise: Callable[..., Any]) -> None:
        self._drop = elementwise(self.rule)

    def forward(self, Z: Array, training: bool = False) -> Array:
        if not training or self.rate == 0:
            self.cache["kept"] = None
            return Z
        assert self.backend is not None
        kept = self.backend.random_mask(1 - self.rate, self.seed, self.state["draw"], Z.shape)
        self.state["draw"] = self.state["draw"] + 1
        self.cache["kept"] = kept
        return self._drop(Z, kept)

    def backward(self, delta: Array) -> Array:
        kept = self.cache["kept"]
        return delta if kept is None else self._drop(delta, kept)

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"
