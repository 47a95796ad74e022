"""Pooling over all positions at once, which leaves one number for each channel."""

import math

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.typing import Array, Shape


class GlobalPooling(Layer):
    """Base of the layers that turn (batch, *positions, channels) into (batch, channels)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise ShapeError(
                f"{self!r} wants inputs of shape (*positions, channels), got {input_shape}; there "
                f"is nothing to pool over, so leave it out"
            )
        return input_shape[-1:]


class GlobalAveragePool(GlobalPooling):
    """The mean of each channel over all positions (Lin et al., Network in network, 2014, 3.2).

    For P positions, over any number of axes::

        S[n] = 1/P sum_p Z[n, p]            dL/dZ[n, p] = delta[n] / P

    >>> GlobalAveragePool().output_shape((7, 7, 64))
    (64,)
    """

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["shape"] = Z.shape
        return self.xp.mean(Z, axis=tuple(range(1, Z.ndim - 1)))

    def backward(self, delta: Array) -> Array:
        xp, shape = self.xp, self.cache["shape"]
        positions = shape[1:-1]
        delta = xp.reshape(delta, (shape[0], *(1,) * len(positions), shape[-1]))
        return xp.broadcast_to(delta * (1 / math.prod(positions)), shape)


class GlobalMaxPool(GlobalPooling):
    """The largest entry of each channel over all positions.

    Over any number of axes of positions p::

        S[n] = max_p Z[n, p]

    Backward: all of delta[n] goes to the largest entry, to the first of them in row-major order
    where several are equal.

    >>> GlobalMaxPool().output_shape((7, 7, 64))
    (64,)
    """

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp = self.xp
        rows = xp.reshape(Z, (Z.shape[0], -1, Z.shape[-1]))
        self.cache["shape"], self.cache["winner"] = Z.shape, xp.argmax(rows, axis=1, keepdims=True)
        return xp.max(rows, axis=1)

    def backward(self, delta: Array) -> Array:
        xp, shape, winner = self.xp, self.cache["shape"], self.cache["winner"]
        assert self.backend is not None
        positions = xp.arange(
            math.prod(shape[1:-1]), dtype=winner.dtype, device=self.backend.device
        )
        won = xp.astype(positions[None, :, None] == winner, delta.dtype)
        return xp.reshape(delta[:, None, :] * won, shape)
