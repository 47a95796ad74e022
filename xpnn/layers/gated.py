"""Layers that make one feature of several: products with a gate, and the largest of a group."""

from collections.abc import Callable
from typing import Any, ClassVar

from xpnn.errors import ShapeError
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import finite, sigmoid
from xpnn.typing import Array, Namespace, Range, Shape


class Gated(Layer):
    """Base of the layers that cut the last axis into halves A and B and join them to one.

    A new one writes ``rule`` and ``slope``. Put a ``Dense`` of twice the features in front of it.
    """

    gives = ANY_NUMBER
    parts_kept: ClassVar[dict[str, tuple[str, ...]]] = {"halves": ("A", "B")}

    def rule(self, xp: Namespace, A: Array, B: Array) -> Array:
        """``Z``, as a pure elementwise function of the halves."""
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def slope(self, xp: Namespace, A: Array, B: Array, delta: Array) -> tuple[Array, Array]:
        """``dL/dA`` and ``dL/dB``."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope")

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] % 2:
            raise ShapeError(
                f"{self!r} cuts the features, the last axis, into two halves, got inputs of shape "
                f"{input_shape}; give it an even number of them"
            )
        return (*input_shape[:-1], input_shape[-1] // 2)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"join": elementwise(self.rule), "pass_back": elementwise(self.slope)}

    def forward(self, S: Array, training: bool = False) -> Array:
        half = S.shape[-1] // 2
        self.cache["halves"] = S[..., :half], S[..., half:]
        return self.fused["join"](*self.cache["halves"])

    def backward(self, delta: Array) -> Array:
        slopes = self.fused["pass_back"](*self.cache["halves"], delta)
        return self.xp.concat(slopes, axis=-1)


class GLU(Gated):
    """Gated linear unit: one half of the features, each as far as the other one lets it through.

    Forward, for inputs S = [A, B] of shape (..., 2 features), halves of the last axis, and the
    sigmoid s (Dauphin et al., 2017, eq. 1; ``torch.nn.GLU``)::

        Z = A s(B)

    Backward, given delta = dL/dZ::

        dL/dA = delta s(B)              dL/dB = delta A s(B) (1 - s(B))

    >>> from xpnn import Network
    >>> Network([GLU()], input_shape=(4,)).predict([[1.0, 2.0, 0.0, 9.0]]).tolist()
    [[0.5, 2.0]]
    """

    def rule(self, xp: Namespace, A: Array, B: Array) -> Array:
        return finite(A, xp) * sigmoid(B, xp)

    def slope(self, xp: Namespace, A: Array, B: Array, delta: Array) -> tuple[Array, Array]:
        s = sigmoid(B, xp)
        passed = delta * s
        return passed, passed * (finite(A, xp) * (1.0 - s))


class SwiGLU(Gated):
    """``GLU`` with SiLU for a gate, in the first half (Shazeer, 2020, eq. 6; LLaMA's).

    Forward, for inputs S = [A, B] of shape (..., 2 features), halves of the last axis, and the
    sigmoid s::

        Z = A s(A) B

    Backward, given delta = dL/dZ::

        dL/dA = delta B s(A) (1 + A (1 - s(A)))             dL/dB = delta A s(A)

    The paper's FFN_SwiGLU, of weights W, V and W_2, is ``Dense(2 * hidden, use_bias=False)``, whose
    weight is W and V side by side, ``SwiGLU()``, and ``Dense(features, use_bias=False)``.

    >>> from xpnn import Network
    >>> Network([SwiGLU()], input_shape=(4,)).predict([[0.0, 2.0, 3.0, 3.0]]).tolist()
    [[0.0, 5.285]]
    """

    def rule(self, xp: Namespace, A: Array, B: Array) -> Array:
        return finite(A, xp) * sigmoid(A, xp) * B

    def slope(self, xp: Namespace, A: Array, B: Array, delta: Array) -> tuple[Array, Array]:
        A, s = finite(A, xp), sigmoid(A, xp)
        return delta * B * (s * (1.0 + A * (1.0 - s))), delta * (A * s)


class Maxout(Layer):
    """The largest of each few neighbouring features (Goodfellow et al., 2013, section 3).

    Forward, for inputs S of shape (..., units * pieces)::

        Z[..., i] = max_j S[..., i pieces + j]          Z (..., units)

    Backward, given delta = dL/dZ, all of delta[..., i] goes to the largest of its pieces, to the
    first of them where several are equal::

        dL/dS[..., i pieces + j] = delta[..., i] where j has won, else 0

    Behind ``Dense(units * pieces)`` it is the paper's maxout layer.

    Args:
        pieces: how many features make one.

    Raises:
        ShapeError: they do not divide the features; from where a network is made.

    >>> from xpnn import Network
    >>> Network([Maxout(2)], input_shape=(4,)).predict([[1.0, 3.0, -2.0, -5.0]]).tolist()
    [[3.0, -2.0]]
    """

    fixed = ("pieces",)

    def __init__(self, pieces: int):
        super().__init__()
        if pieces < 1:
            raise ValueError(f"Maxout needs at least one piece, got pieces={pieces}")
        self.pieces = pieces

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] % self.pieces:
            raise ShapeError(
                f"{self!r} makes one feature of each {self.pieces}, got inputs of shape "
                f"{input_shape}; give it a multiple of {self.pieces} features in the last axis"
            )
        return (*input_shape[:-1], input_shape[-1] // self.pieces)

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, S: Array, training: bool = False) -> Array:
        xp, pieces = self.xp, self.pieces
        groups = xp.reshape(S, (*S.shape[:-1], S.shape[-1] // pieces, pieces))
        self.cache["winner"] = xp.argmax(groups, axis=-1, keepdims=True)
        return xp.max(groups, axis=-1)

    def backward(self, delta: Array) -> Array:
        xp, winner = self.xp, self.cache["winner"]
        number = xp.arange(self.pieces, dtype=winner.dtype, device=self.backend.device)
        won = xp.astype(number == winner, delta.dtype)
        shape = (*delta.shape[:-1], delta.shape[-1] * self.pieces)
        return xp.reshape(delta[..., None] * won, shape)

    def __repr__(self) -> str:
        return f"Maxout({self.pieces})"
