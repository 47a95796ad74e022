"""Layers that disturb the signal in training and leave it alone afterwards."""

import math
from collections.abc import Callable
from typing import Any

from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.local_rows import Stretch
from xpnn.typing import Array, Namespace, Range, Shape, State


class Disturbance(Layer):
    """Base of the layers that draw random numbers in training.

    What is drawn is a function of (seed, layer, draw): the same on every backend and device.
    ``draw`` counts the batches and lives in ``state``, so that a resumed run goes on where it
    stopped.
    """

    def init_state(self, input_shape: Shape) -> State:
        return {"draw": self.backend.counter()}

    def next_draw(self) -> Any:
        """The number of this draw; the next call gets the next one."""
        draw = self.state["draw"]
        self.state["draw"] = draw + 1
        return draw

    def random_bits(self, shape: Shape, axis: int | None = 0) -> Array:
        """``Backend.random_bits`` of the next draw: words for the samples of a batch.

        Where several processes train together, they are those that one alone would draw for the
        rows that this one has.

        Args:
            axis: which one of ``shape`` numbers the samples; None where the words are for all.
        """
        stretch = self._stretch(shape, axis)
        return self.backend.random_bits(self.seed, self.next_draw(), shape, *stretch)

    def random_mask(self, keep: float, shape: Shape, axis: int | None = 0) -> Array:
        """``Backend.random_mask`` of the next draw, likewise."""
        stretch = self._stretch(shape, axis)
        return self.backend.random_mask(keep, self.seed, self.next_draw(), shape, *stretch)

    def _stretch(self, shape: Shape, axis: int | None) -> tuple[Stretch, ...]:
        """Where an array of draws lies in that of all processes, if there are others."""
        if self.replica is None or axis is None:
            return ()
        return (self.replica.rows.stretch(shape, axis),)


class Masking(Disturbance):
    """Base of all kinds of dropout: a random mask in training, the same one in backward.

    A new kind writes ``rule`` and ``slope``, and ``mask_shape`` where one decision holds for
    several inputs.

    Args:
        rate: share of inputs to drop, in [0, 1).
    """

    def __init__(self, rate: float = 0.5):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"{type(self).__name__} needs a rate in [0, 1), got rate={rate}")
        self.rate = float(rate)

    def rule(self, xp: Namespace, Z: Array, kept: Array) -> Array:
        """``S``, from Z and the mask."""
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def slope(self, xp: Namespace, delta: Array, kept: Array) -> Array:
        """``dL/dZ``, from delta and the mask."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope")

    def mask_shape(self, shape: Shape) -> Shape:
        """The shape of the mask for inputs of ``shape``, which it broadcasts to."""
        return shape

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"drop": elementwise(self.rule), "pass_back": elementwise(self.slope)}

    def forward(self, Z: Array, training: bool = False) -> Array:
        if not training or self.rate == 0:
            self.cache["kept"] = None
            return Z
        one, two = (self.mask_shape((count, *Z.shape[1:])) for count in (1, 2))
        axis = None if one == two else 0  # whether the samples share one mask
        kept = self.random_mask(1 - self.rate, self.mask_shape(Z.shape), axis)
        self.cache["kept"] = kept
        return self.fused["drop"](Z, kept)

    def backward(self, delta: Array) -> Array:
        kept = self.cache["kept"]
        return delta if kept is None else self.fused["pass_back"](delta, kept)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rate})"


class Dropout(Masking):
    """Zeroes each input with probability ``rate`` in training (Srivastava et al., 2014).

    Forward, for inputs Z of any shape, in training, with a mask m of ones (kept) and zeros::

        S = Z m / (1 - rate)

    Backward, given delta = dL/dS::

        dL/dZ = delta m / (1 - rate)

    The division keeps the expected sum, so that nothing is left to do in prediction: S = Z. One
    seed gives the same masks on every backend and device, also in a resumed run.

    Args:
        rate: share of inputs to drop, in [0, 1).

    >>> from xpnn import Network
    >>> net = Network([Dropout(0.5)], input_shape=(6,), seed=1)
    >>> net.forward([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]], training=True).tolist()
    [[0.0, 2.0, 0.0, 2.0, 0.0, 2.0]]
    >>> net.predict([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]).tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """

    def output_range(self, input_range: Range | None) -> Range | None:
        if input_range is None:
            return None
        low, high = (bound / (1 - self.rate) for bound in input_range)
        return min(low, 0.0), max(high, 0.0)

    def rule(self, xp: Namespace, Z: Array, kept: Array) -> Array:
        return Z * (xp.astype(kept, Z.dtype) * (1 / (1 - self.rate)))

    def slope(self, xp: Namespace, delta: Array, kept: Array) -> Array:
        return self.rule(xp, delta, kept)


class SpatialDropout(Dropout):
    """Dropout of whole features, at all positions of a sample at once (Tompson et al., 2015, 3.2).

    Forward, for inputs Z of shape (batch, ..., features), in training, with a mask m of ones (kept)
    and zeros::

        S = Z m / (1 - rate)                m (batch, 1, ..., 1, features)

    Backward, given delta = dL/dS::

        dL/dZ = delta m / (1 - rate)

    What neighbouring pixels or steps know of each other cannot fill in for a feature that was
    dropped. In prediction S = Z.

    Args:
        rate: share of features to drop, in [0, 1).

    >>> from xpnn import Network
    >>> net = Network([SpatialDropout(0.5)], input_shape=(2, 4), seed=2)
    >>> net.forward([[[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]], training=True).tolist()
    [[[2.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]]
    """

    def mask_shape(self, shape: Shape) -> Shape:
        return (shape[0], *[1] * (len(shape) - 2), *shape[1:][-1:])


class AlphaDropout(Masking):
    """Dropout that keeps mean 0 and variance 1, for self-normalising networks.

    A dropped input becomes a' = -1.7581, the limit of SELU for very negative inputs, and all are
    scaled and shifted back (Klambauer et al., 2017, section "New Dropout Technique").

    Forward, for inputs Z of any shape, in training, with q = 1 - rate and a mask m of ones (kept)
    and zeros::

        S = a (Z m + a' (1 - m)) + b
        a = 1 / sqrt(q + a'^2 q (1 - q))                   b = -a a' (1 - q)

    Backward, given delta = dL/dS::

        dL/dZ = delta a m

    In prediction S = Z.

    Args:
        rate: share of inputs to drop, in [0, 1).

    >>> from xpnn import Network
    >>> net = Network([AlphaDropout(0.5)], input_shape=(4,), seed=1)
    >>> net.forward([[0.0, 0.0, 1.0, 1.0]], training=True).tolist()
    [[0.7792, -0.7792, 1.666, 1.666]]
    """

    gives = ANY_NUMBER
    DROPPED = -1.7580993408473766  # -lambda alpha of SELU

    def __init__(self, rate: float = 0.1):
        super().__init__(rate)

    @property
    def scale(self) -> float:
        """``a``."""
        q = 1 - self.rate
        return 1 / math.sqrt(q + self.DROPPED**2 * q * (1 - q))

    @property
    def shift(self) -> float:
        """``b``."""
        return -self.scale * self.DROPPED * self.rate

    def rule(self, xp: Namespace, Z: Array, kept: Array) -> Array:
        m = xp.astype(kept, Z.dtype)
        return self.scale * (Z * m + self.DROPPED * (1.0 - m)) + self.shift

    def slope(self, xp: Namespace, delta: Array, kept: Array) -> Array:
        return delta * (xp.astype(kept, delta.dtype) * self.scale)


def normal_of(xp: Namespace, u: Array, v: Array) -> Array:
    """Numbers of mean 0 and variance 1, in float32, from two arrays of random words."""
    u, v = (xp.astype(word, xp.float32) * 2.0**-32 + 2.0**-33 for word in (u, v))
    return xp.sqrt(-2.0 * xp.log(u)) * xp.cos(2 * math.pi * v)


class GaussianNoise(Disturbance):
    """Adds normal noise in training (Bishop, 1995, shows how that regularises).

    Forward, for inputs Z of any shape, in training, with normal draws e of mean 0 and variance 1::

        S = Z + spread e

    Backward, given delta = dL/dS::

        dL/dZ = delta

    Each e comes from two random words u, v in (0, 1), by ``sqrt(-2 log u) cos(2 pi v)`` (Box and
    Muller, 1958). The words are the same on every backend; log and cos differ between libraries in
    their last bits, and so does the noise. In prediction S = Z.

    Args:
        spread: the standard deviation of the noise, at least 0.

    >>> from xpnn import Network
    >>> net = Network([GaussianNoise(0.1)], input_shape=(3,), seed=1)
    >>> net.forward([[1.0, 2.0, 3.0]], training=True).tolist()
    [[1.063, 1.959, 2.73]]
    """

    gives = ANY_NUMBER

    def __init__(self, spread: float = 0.1):
        super().__init__()
        if not spread >= 0:
            raise ValueError(f"GaussianNoise needs a spread of at least 0, got spread={spread}")
        self.spread = float(spread)

    def rule(self, xp: Namespace, Z: Array, u: Array, v: Array) -> Array:
        """``Z + spread N``, from Z and two arrays of random words; N is computed in float32."""
        return Z + xp.astype(self.spread * normal_of(xp, u, v), Z.dtype)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"disturb": elementwise(self.rule)}

    def forward(self, Z: Array, training: bool = False) -> Array:
        if not training or self.spread == 0:
            return Z
        words = self.random_bits((2, *Z.shape), axis=1)
        return self.fused["disturb"](Z, words[0, ...], words[1, ...])

    def backward(self, delta: Array) -> Array:
        return delta

    def __repr__(self) -> str:
        return f"GaussianNoise({self.spread})"
