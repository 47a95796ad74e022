"""Starting weights, drawn on the host: one seed gives the same weights on every backend.

An initializer is a function ``(shape, rng) -> float64 array``. For a weight, the last axis of
``shape`` counts the outputs; the axes before it, taken together, count the inputs that one output
sums over ("fan in"). Gains keep the variance of the signal about 1 from layer to layer.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from xpnn.typing import Shape

Initializer: TypeAlias = Callable[[Shape, Generator], np.ndarray]


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs one output sums over, and how many outputs one input reaches.

    >>> fans((784, 30))
    (784, 30)
    >>> fans((3, 3, 16, 32))
    (144, 288)
    """
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def zeros(shape: Shape, rng: Generator) -> np.ndarray:
    """All zero, as biases start."""
    return np.zeros(shape)


def ones(shape: Shape, rng: Generator) -> np.ndarray:
    """All one, as the scales of normalisations start."""
    return np.ones(shape)


def constant(value: float) -> Initializer:
    """All ``value``."""
    return lambda shape, rng: np.full(shape, float(value))


def normal(spread: float = 1.0) -> Initializer:
    """Normal with mean 0 and standard deviation ``spread``.

    ``normal(1.0)`` is how the networks of Nielsen's book start.
    """
    return lambda shape, rng: spread * rng.standard_normal(shape)


def uniform(limit: float = 0.05) -> Initializer:
    """Uniform in [-limit, limit)."""
    return lambda shape, rng: rng.uniform(-limit, limit, shape)


def glorot_uniform(shape: Shape, rng: Generator) -> np.ndarray:
    """Uniform with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010, eq. 16)."""
    limit = math.sqrt(6 / sum(fans(shape)))
    return rng.uniform(-limit, limit, shape)


def glorot_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""
    return math.sqrt(2 / sum(fans(shape))) * rng.standard_normal(shape)


def he_uniform(shape: Shape, rng: Generator) -> np.ndarray:
    """Uniform with variance ``2 / fan_in``, for ReLU (He et al., 2015, eq. 10)."""
    limit = math.sqrt(6 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def he_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``2 / fan_in``, for ReLU (He et al., 2015, eq. 10)."""
    return math.sqrt(2 / fans(shape)[0]) * rng.standard_normal(shape)


def lecun_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``1 / fan_in`` (LeCun et al., Efficient BackProp, 1998, eq. 16)."""
    return math.sqrt(1 / fans(shape)[0]) * rng.standard_normal(shape)


def orthogonal(shape: Shape, rng: Generator) -> np.ndarray:
    """Columns (or rows, whichever are fewer) that are orthonormal (Saxe et al., 2014)."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draw = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draw)
    q = q * np.sign(np.diag(r))  # otherwise QR's choice of signs makes the draw uneven
    return (q if rows >= columns else q.T).reshape(shape)
