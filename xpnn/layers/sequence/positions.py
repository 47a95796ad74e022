"""Where a step stands in its sequence: turned into queries and keys, or added to the signal."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.initializers import Initializer
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.layers.embedding import SMALL
from xpnn.numerics import sum_over, widened
from xpnn.typing import Array, Namespace, Shape, State


class Rotary:
    """Turns pairs of features by angles that grow with the position (Su et al., 2021, section 3.2).

    Feature i of the first half and feature i of the second half are the two coordinates of a point,
    which at position p is turned by the angle ``t_i = p base^(-2i / features)``::

        y_i        = x_i cos t_i - x_(i+half) sin t_i
        y_(i+half) = x_(i+half) cos t_i + x_i sin t_i

    So the product of a query turned by p and a key turned by q depends on p - q alone. The paper
    pairs neighbouring features; halves are the same up to the order of the features, which is
    learned, and they are whole slices.

    As one formula: y is x cos t plus the other coordinate times sin(-t) or sin t. Angles, sines and
    cosines are of at least float32, whatever is turned.

    Args:
        backend: of the arrays.
        base: how slowly the slowest pair turns.
    """

    def __init__(self, backend: Backend, base: float = 10_000.0):
        self.backend, self.base = backend, base
        self._waves = backend.elementwise(waves_rule)
        self._combine = backend.elementwise(combine_rule)

    def turn(self, positions: Array | int, *arrays: Array) -> list[Array]:
        """Each array, turned.

        Args:
            positions: of the steps, an array that broadcasts to (..., time); or the position of the
                first step, an integer or a 0-d array, after which the others follow one by one.
            arrays: (..., heads, time, features), with an even number of features: queries and
                keys, all heads at once.
        """
        return self._turned(positions, arrays, (-1.0, 1.0))

    def turn_back(self, positions: Array | int, *deltas: Array) -> list[Array]:
        """The backward of ``turn``: given each dL/dy, returns each dL/dx.

        A rotation is orthogonal, so that the transpose that a backward takes is the turn by -t.
        """
        return self._turned(positions, deltas, (1.0, -1.0))

    def _turned(
        self, positions: Array | int, arrays: Sequence[Array], signs: tuple[float, float]
    ) -> list[Array]:
        xp, backend = self.backend.xp, self.backend
        time, half = arrays[0].shape[-2], arrays[0].shape[-1] // 2
        if isinstance(positions, int) or positions.ndim == 0:
            steps = backend.indices(time)
            positions = steps if isinstance(positions, int) and not positions else steps + positions
        paces = [self.base ** (-i / half) for i in range(half)]
        wide = "float64" if arrays[0].dtype == xp.float64 else "float32"
        pace = backend.constant(tuple(sign * one for sign in signs for one in paces), wide)
        cos, sin = self._waves(positions[..., None, None], xp.reshape(pace, (2, half)))
        turned = []
        for x in arrays:
            points = xp.reshape(x, (*x.shape[:-1], 2, half))
            y = self._combine(points, xp.flip(points, axis=-2), cos, sin)
            turned.append(xp.reshape(y, x.shape))
        return turned


def waves_rule(xp: Namespace, positions: Array, pace: Array) -> tuple[Array, Array]:
    """cos and sin of the angles, in the dtype of ``pace``."""
    angles = xp.astype(positions, pace.dtype) * pace
    return xp.cos(angles), xp.sin(angles)


def combine_rule(xp: Namespace, x: Array, other: Array, cos: Array, sin: Array) -> Array:
    """``x cos + other sin``, in the dtype of ``x``."""
    y = widened(x, xp) * cos + widened(other, xp) * sin
    return xp.astype(y, x.dtype, copy=False)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """By how much a head's scores fall with each step of distance (Press et al., 2022, section 3).

    ::

        slope_h = 2^(-8 h / heads)              for h = 1, ... heads, a power of two

    Where heads are no power of two, the first are those of the next lower one, p, and the others
    the first, the third and so on of 2 p heads, as in the code of the authors.

    >>> alibi_slopes(4)
    (0.25, 0.0625, 0.015625, 0.00390625)
    >>> alibi_slopes(3)
    (0.0625, 0.00390625, 0.25)
    """
    lower = 1 << (heads.bit_length() - 1)
    found = [2.0 ** (-8 * h / lower) for h in range(1, lower + 1)]
    between = [2.0 ** (-4 * h / lower) for h in range(1, 2 * lower, 2)]
    return tuple(found + between[: heads - lower])


def _angles(
    xp: Namespace, positions: Array | int, time: int, pairs: int, base: float, like: Array
) -> Array:
    """``p base^(-i / pairs)``, (..., time, pairs), beside ``like`` and in at least float32."""
    import array_api_compat

    device = array_api_compat.device(like)
    wide = xp.float64 if like.dtype == xp.float64 else xp.float32
    if not isinstance(positions, int):
        positions = xp.astype(positions, wide)
    if isinstance(positions, int) or positions.ndim == 0:
        positions = xp.arange(time, dtype=wide, device=device) + positions
    pace = xp.exp(xp.arange(pairs, dtype=wide, device=device) * (-math.log(base) / pairs))
    return positions[..., None] * pace


class LearnedPositions(Layer):
    """Adds a learned vector for each position (Gehring et al., 2017, section 3.1).

    Forward, for inputs Z of shape (batch, time, features)::

        S[n, t] = Z[n, t] + W[t]             W (length, features)

    Backward, given delta = dL/dS::

        dL/dW[t] = sum_n delta[n, t], 0 for t >= time         dL/dZ = delta

    Args:
        length: the longest sequence; that of the network's inputs, unless given.
        weight_init: draws ``W``.

    Raises:
        ShapeError: inputs are no sequences, or longer ones; from where a network is made.

    >>> from xpnn import Embedding, Network
    >>> net = Network([Embedding(65, 8), LearnedPositions()], input_shape=(20,))
    >>> net.params["1.learnedpositions.weight"].shape
    (20, 8)
    """

    fixed = ("length", "weight_init")
    gives = ANY_NUMBER

    def __init__(self, length: int | None = None, *, weight_init: Initializer = SMALL):
        super().__init__()
        if length is not None and length < 1:
            raise ValueError(f"LearnedPositions needs a length of at least 1, got length={length}")
        self.length, self.weight_init = length, weight_init

    def output_shape(self, input_shape: Shape) -> Shape:
        time, _ = _time_and_features(self, input_shape)
        if self.length is not None and time > self.length:
            raise ShapeError(
                f"{self!r} knows {self.length} positions, but sequences are {time} long; write "
                f"LearnedPositions({time})"
            )
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        return {"weight": self.weight_init((self.length or input_shape[0], input_shape[1]), rng)}

    def empty_past(self, batch: int, length: int) -> State:
        """How many positions were read; see ``generate``."""
        return {"position": self.backend.counter()}

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp, start, time = self.xp, _start(self, Z.shape[1]), Z.shape[1]
        if isinstance(start, int):
            return Z + self.params["weight"][start : start + time, :]
        positions = xp.arange(time, dtype=start.dtype, device=self.backend.device) + start
        return Z + xp.take(self.params["weight"], positions, axis=0)

    def backward(self, delta: Array) -> Array:
        xp, W = self.xp, self.params["weight"]
        seen = sum_over(delta, xp, axis=0)
        unseen = xp.zeros_like(W[seen.shape[0] :, :])
        self.grads["weight"] = xp.concat([seen, unseen], axis=0)
        return delta

    def __repr__(self) -> str:
        return f"LearnedPositions({self.length or ''})"


class SinusoidalPositions(Layer):
    """Adds waves of many lengths, from which a position can be told (Vaswani et al., 2017, 3.5).

    Forward, for inputs Z of shape (batch, time, features)::

        S[n, t, 2 i] = Z[n, t, 2 i] + sin(t / base^(2 i / features))
        S[n, t, 2 i + 1] = Z[n, t, 2 i + 1] + cos(t / base^(2 i / features))

    Backward, given delta = dL/dS::

        dL/dZ = delta

    Args:
        base: sets the longest wave, 2 pi base.

    Raises:
        ShapeError: inputs are no sequences, or of an odd number of features; from where a network
            is made.

    >>> from xpnn import Network
    >>> net = Network([SinusoidalPositions()], input_shape=(2, 4))
    >>> net.predict([[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]).tolist()
    [[[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.01, 0.9999]]]
    """

    gives = ANY_NUMBER

    def __init__(self, base: float = 10_000.0):
        super().__init__()
        if not base > 1:
            raise ValueError(f"SinusoidalPositions needs a base above 1, got base={base}")
        self.base = float(base)

    def output_shape(self, input_shape: Shape) -> Shape:
        _, features = _time_and_features(self, input_shape)
        if features % 2:
            raise ShapeError(f"{self!r} wants an even number of features, got {features}")
        return input_shape

    def empty_past(self, batch: int, length: int) -> State:
        """How many positions were read; see ``generate``."""
        return {"position": self.backend.counter()}

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp, (_, time, features) = self.xp, Z.shape
        angles = _angles(xp, _start(self, time), time, features // 2, self.base, Z)
        waves = xp.stack([xp.sin(angles), xp.cos(angles)], axis=-1)
        return Z + xp.astype(xp.reshape(waves, (time, features)), Z.dtype)

    def backward(self, delta: Array) -> Array:
        return delta

    def __repr__(self) -> str:
        return f"SinusoidalPositions({self.base})"


def _time_and_features(layer: Layer, input_shape: Shape) -> tuple[int, int]:
    if len(input_shape) != 2:
        raise ShapeError(
            f"{layer!r} wants inputs of shape (time, features), got {input_shape}; an Embedding "
            f"before it makes them from ids"
        )
    return input_shape[0], input_shape[1]


def _start(layer: Layer, time: int) -> Any:
    """The position of the first of ``time`` steps: 0, or the next one where a past is kept."""
    past = layer.cache.get("past")
    if past is None:
        return 0
    start = past["position"]
    past["position"] = start + time
    return start
