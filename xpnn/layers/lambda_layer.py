"""A layer of two functions of the user's: one forward, one backward."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnn.backends import Backend, get_backend
from xpnn.errors import GradientError, ShapeError
from xpnn.layers.base import Layer
from xpnn.typing import Array, Shape

SAMPLES = 2
STEP = 1e-7  # in float64; a kink that lies within it is seldom
TOLERANCE = 1e-3  # of a slope's length: a wrong formula is off by more, a kink by less


class Lambda(Layer):
    """What a function makes of a batch, with its derivative as a second function.

    Forward, for a rule f of inputs Z of shape (batch, ...)::

        S = f(Z)                        by ``rule(xp, Z)``

    Backward, given delta = dL/dS::

        dL/dZ = f'(Z) delta             by ``slope(xp, Z, delta)``, of the shape of Z

    Both are written over ``xp``, the functions of the array API standard, and so run on every
    backend. When the layer is built, slope is held against differences of rule, on NumPy, in
    double precision, along directions that are drawn.

    A file cannot hold functions. What is to be saved is a class of its own, which
    ``xpnn.register`` gives a name: with the two as its ``forward`` and ``backward``, or made from
    this class, with an ``__init__`` that gives them.

    Args:
        rule: ``(xp, Z) -> S``.
        slope: ``(xp, Z, delta) -> dL/dZ``.
        shape: of one output sample; that of an input one unless given.
        check: whether slope is checked when the layer is built.

    Raises:
        GradientError: slope is not the derivative of rule; from ``build``, so where a network is
            made.

    >>> def slope(xp, Z, delta):
    ...     return delta * xp.cos(Z)
    >>> Lambda(lambda xp, Z: xp.sin(Z), slope).output_shape((4,))
    (4,)
    """

    fixed = ("rule", "slope", "shape", "check")

    def __init__(
        self,
        rule: Callable[..., Array],
        slope: Callable[..., Array],
        *,
        shape: Shape | None = None,
        check: bool = True,
    ):
        super().__init__()
        self.rule, self.slope = rule, slope
        self.shape = shape if shape is None else tuple(shape)
        self.check = check

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape if self.shape is None else self.shape

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        if self.check:
            self._check_slope(input_shape)
        return super().build(input_shape, backend, seed=seed, name=name, dtype=dtype)

    def forward(self, Z: Array, training: bool = False) -> Array:
        S = self.rule(self.xp, Z)
        self.cache["Z"] = Z
        return S

    def backward(self, delta: Array) -> Array:
        return self.slope(self.xp, self.cache["Z"], delta)

    # Holding slope against rule -------------------------------------------------------------------

    def _check_slope(self, input_shape: Shape) -> None:
        """Along the third of three directions, too, it has to be wrong: a kink lies in few."""
        for numeric, given, size in self._differences((SAMPLES, *input_shape)):
            if abs(numeric - given) <= TOLERANCE * size:
                return
        raise GradientError(
            f"slope of {self!r} is not the derivative of its rule: along a direction that was "
            f"drawn, differences of rule say {numeric:.6g}, and slope {given:.6g}. To see more, "
            f"hand the same Lambda, with check=False, to xpnn.testing.check_gradients"
        )

    def _differences(self, shape: Shape) -> Iterator[tuple[float, float, float]]:
        """The derivative of sum(R S) along a direction V, by differences and by slope, and a size.

        That is the length of what is added up over V, so that rounding and kinks are small by it.
        """
        xp, rng = get_backend("numpy").xp, np.random.default_rng(0)
        for _ in range(3):
            Z, V = self._inputs(rng, shape), rng.standard_normal(shape)
            S = self._checked_output(self.rule(xp, Z), shape)
            R = rng.standard_normal(S.shape)
            back = self.slope(xp, Z, R)
            if tuple(np.shape(back)) != shape:
                raise ShapeError(
                    f"slope of {self!r} returned {tuple(np.shape(back))} for inputs of {shape}, "
                    f"where the batch comes first; return dL/dZ, of the shape of Z"
                )
            ends = [np.sum(R * self.rule(xp, Z + h * V)) for h in (STEP, -STEP)]
            terms = np.asarray(back) * V
            size = math.sqrt(np.sum(terms * terms))
            numeric = float(ends[0] - ends[1]) / (2 * STEP)
            yield numeric, float(np.sum(terms)), max(size, TOLERANCE * abs(numeric))

    def _inputs(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Normal ones, or between 0 and 1, for rules that are finite there only."""
        for Z in (rng.standard_normal(shape), rng.uniform(0.1, 0.9, shape)):
            with np.errstate(all="ignore"):
                S = self._checked_output(self.rule(get_backend("numpy").xp, Z), shape)
            if np.all(np.isfinite(S)):
                return Z
        raise GradientError(
            f"rule of {self!r} is not finite at normal inputs, nor between 0 and 1, so that its "
            f"slope cannot be checked there; pass check=False"
        )

    def _checked_output(self, S: Any, shape: Shape) -> np.ndarray:
        wanted = (shape[0], *self.output_shape(shape[1:]))
        made = tuple(np.shape(S))
        if made[:1] != shape[:1]:
            raise ShapeError(
                f"rule of {self!r} makes {made} of {shape}, where the batch comes first; return "
                f"an array with an output for each sample"
            )
        if made != wanted:
            raise ShapeError(
                f"rule of {self!r} makes {made} of {shape}, where the batch comes first, and "
                f"{wanted} was said; say shape={made[1:]}"
            )
        return np.asarray(S)

    def __repr__(self) -> str:
        rule = getattr(self.rule, "__name__", type(self.rule).__name__)
        return f"Lambda({rule}{'' if self.shape is None else f', shape={self.shape}'})"
