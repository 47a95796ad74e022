"""Starting weights, drawn on the host: one seed gives the same weights on every backend.

An initializer is a function ``(shape, rng) -> float64 array``. For a weight, the last axis of
``shape`` counts the outputs; the axes before it, taken together, count the inputs that one output
sums over ("fan in"). Gains keep the variance of the signal about 1 from layer to layer.
"""

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator

from xpnn.errors import OutOfMemory, ShapeError
from xpnn.typing import Shape

Initializer: TypeAlias = Callable[[Shape, Generator], np.ndarray]

_ROOM: ContextVar[list[int] | None] = ContextVar("room", default=None)


@contextmanager
def zeros_for(elements: int) -> Iterator[None]:
    """While it holds, all initializers give zeros, and no more than so many numbers in all.

    For layers whose weights come from a file: nothing is drawn in vain, and what claims to need
    more than the file holds is refused before memory is asked for.

    >>> with zeros_for(4):
    ...     glorot_uniform((2, 2), np.random.default_rng(0))
    array([[0., 0.],
           [0., 0.]])
    """
    token = _ROOM.set([elements])
    try:
        yield
    finally:
        _ROOM.reset(token)


def claim(shape: Shape) -> bool:
    """Whether zeros are wanted, see ``zeros_for``; takes room for an array of that shape.

    Raises:
        ShapeError: there is no room left, or that is no shape.
    """
    room = _ROOM.get()
    if room is None:
        return False
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ShapeError(f"wanted a shape of integers, got {shape}")
    room[0] -= math.prod(shape)
    if room[0] < 0:
        raise ShapeError(f"an array of shape {shape} is more than there are numbers for")
    return True


def _sparing(draw: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """``draw``, or zeros where ``zeros_for`` holds."""

    @functools.wraps(draw)
    def drawn(shape: Shape, rng: Generator, **options: Any) -> np.ndarray:
        if claim(shape):
            return np.zeros(shape)
        check_room(shape)
        return draw(shape, rng, **options)

    return drawn


def check_room(shape: Shape) -> None:
    """Refuse what this machine cannot hold, before memory is asked for.

    A system that lends more memory than it has would end the process instead.

    Raises:
        OutOfMemory: an array of that shape, in float64, as numbers are drawn, is larger than the
            memory.
    """
    what = f"an array of shape {shape} in float64"
    check_memory(8 * math.prod(shape), what, "make the layer or its inputs smaller")


def check_memory(nbytes: int, what: str, advice: str) -> None:
    """Raise OutOfMemory where something would be larger than all the memory of this machine."""
    memory = memory_of_machine()
    if nbytes > memory:
        raise OutOfMemory(
            f"wanted {what}, {nbytes >> 30:,} GiB, and this machine has {memory / 2**30:,.0f} GiB; "
            f"{advice}"
        )


@functools.cache
def memory_of_machine() -> int:
    """Bytes of memory; where the system does not tell, more than any machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 2**46


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs one output sums over, and how many outputs one input reaches.

    Args:
        shape: of a weight: (inputs, outputs), or (*window, inputs, outputs) of a convolution.

    Returns:
        fan_in and fan_out.

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


@_sparing
def zeros(shape: Shape, rng: Generator) -> np.ndarray:
    """All zero, as biases start: ``W = 0``.

    >>> import numpy as np
    >>> zeros((2,), np.random.default_rng(0)).tolist()
    [0.0, 0.0]
    """
    return np.zeros(shape)


@_sparing
def ones(shape: Shape, rng: Generator) -> np.ndarray:
    """All one, as the scales of normalisations start: ``W = 1``.

    >>> import numpy as np
    >>> ones((2,), np.random.default_rng(0)).tolist()
    [1.0, 1.0]
    """
    return np.ones(shape)


def constant(value: float) -> Initializer:
    """All of them one number: ``W = value``.

    Args:
        value: the number.

    >>> import numpy as np
    >>> constant(0.5)((2,), np.random.default_rng(0)).tolist()
    [0.5, 0.5]
    """
    return functools.partial(_constant, value=float(value))


def normal(spread: float = 1.0) -> Initializer:
    """Normal with mean 0 and standard deviation ``spread``.

    With normal draws N of mean 0 and variance 1::

        W = spread N

    ``normal(1.0)`` is how the networks of Nielsen's book start.

    Args:
        spread: at least 0.

    >>> import numpy as np
    >>> float(normal(0.1)((400, 400), np.random.default_rng(0)).std())
    0.1002
    """
    return functools.partial(_normal, spread=float(spread))


def uniform(limit: float = 0.05) -> Initializer:
    """Uniform in [-limit, limit).

    With uniform draws U in [-1, 1)::

        W = limit U

    Args:
        limit: at least 0.

    >>> import numpy as np
    >>> draw = uniform(0.5)((400, 400), np.random.default_rng(0))
    >>> float(draw.min()), float(draw.max())
    (-0.5, 0.5)
    """
    return functools.partial(_uniform, limit=float(limit))


@_sparing
def glorot_uniform(shape: Shape, rng: Generator) -> np.ndarray:
    """Uniform with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010, eq. 16).

    With uniform draws U in [-1, 1), and ``fans`` of the shape::

        W = sqrt(6 / (fan_in + fan_out)) U

    >>> import numpy as np
    >>> float(glorot_uniform((400, 200), np.random.default_rng(0)).var()), 2 / 600
    (0.00332, 0.003333)
    """
    limit = math.sqrt(6 / sum(fans(shape)))
    return rng.uniform(-limit, limit, shape)


@_sparing
def glorot_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010, eq. 12).

    With normal draws N of mean 0 and variance 1, and ``fans`` of the shape::

        W = sqrt(2 / (fan_in + fan_out)) N

    >>> import numpy as np
    >>> float(glorot_normal((400, 200), np.random.default_rng(0)).var()), 2 / 600
    (0.003331, 0.003333)
    """
    return math.sqrt(2 / sum(fans(shape))) * rng.standard_normal(shape)


@_sparing
def he_uniform(shape: Shape, rng: Generator) -> np.ndarray:
    """Uniform with variance ``2 / fan_in``, for ReLU (He et al., 2015, eq. 10).

    With uniform draws U in [-1, 1), and ``fans`` of the shape::

        W = sqrt(6 / fan_in) U

    >>> import numpy as np
    >>> float(he_uniform((400, 200), np.random.default_rng(0)).var()), 2 / 400
    (0.00498, 0.005)
    """
    limit = math.sqrt(6 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


@_sparing
def he_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``2 / fan_in``, for ReLU (He et al., 2015, eq. 10).

    With normal draws N of mean 0 and variance 1, and ``fans`` of the shape::

        W = sqrt(2 / fan_in) N

    >>> import numpy as np
    >>> float(he_normal((400, 200), np.random.default_rng(0)).var()), 2 / 400
    (0.004997, 0.005)
    """
    return math.sqrt(2 / fans(shape)[0]) * rng.standard_normal(shape)


@_sparing
def lecun_normal(shape: Shape, rng: Generator) -> np.ndarray:
    """Normal with variance ``1 / fan_in`` (LeCun et al., Efficient BackProp, 1998, eq. 16).

    With normal draws N of mean 0 and variance 1, and ``fans`` of the shape::

        W = sqrt(1 / fan_in) N

    >>> import numpy as np
    >>> float(lecun_normal((400, 200), np.random.default_rng(0)).var()), 1 / 400
    (0.002498, 0.0025)
    """
    return math.sqrt(1 / fans(shape)[0]) * rng.standard_normal(shape)


@_sparing
def orthogonal(shape: Shape, rng: Generator) -> np.ndarray:
    """Columns (or rows, whichever are fewer) that are orthonormal (Saxe et al., 2014).

    Of normal draws N of mean 0 and variance 1, with as many rows as columns or more, Q having
    orthonormal columns and R being triangular::

        N = Q R                 W = Q, or Q^T, with the signs that make the diagonal of R positive

    >>> import numpy as np
    >>> W = orthogonal((4, 2), np.random.default_rng(0))
    >>> np.allclose(W.T @ W, np.eye(2))
    True
    """
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draw = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draw)
    q = q * np.sign(np.diag(r))  # otherwise QR's choice of signs makes the draw uneven
    return (q if rows >= columns else q.T).reshape(shape)


# Functions with a name, which can be pickled, and described in a file -----------------------------


@_sparing
def _constant(shape: Shape, rng: Generator, *, value: float) -> np.ndarray:
    return np.full(shape, value)


@_sparing
def _normal(shape: Shape, rng: Generator, *, spread: float) -> np.ndarray:
    return spread * rng.standard_normal(shape)


@_sparing
def _uniform(shape: Shape, rng: Generator, *, limit: float) -> np.ndarray:
    return rng.uniform(-limit, limit, shape)
