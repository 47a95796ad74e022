"""Elementwise nonlinearities: each a rule and its derivative, from the array that suits it.

The guide calls a layer's weighted sum S and its activation z. Here S is the input and Z the output.
Which of the two the derivative is written in is part of each class: sigmoid' = Z (1 - Z) wants the
output, silu' wants the input, and giving a derivative the wrong one is the commonest error in
hand-written backprop (``xpnn.testing.check_gradients`` names it).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from xpnn.layers.base import Layer
from xpnn.numerics import sigmoid, softplus
from xpnn.typing import Array, Namespace


class Activation(Layer):
    """Base of all elementwise activations: ``Z = f(S)`` and ``dL/dS = delta * f'``.

    A new activation writes ``rule`` and ``slope`` and says what ``slope`` reads.

    Attributes:
        reads: "output" if ``slope`` is a formula in Z, "input" if it is one in S.
    """

    reads: ClassVar[Literal["input", "output"]]

    def rule(self, xp: Namespace, S: Array) -> Array:
        """``f(S)``, as a pure elementwise function."""
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def slope(self, xp: Namespace, kept: Array, delta: Array) -> Array:
        """``delta * f'``, from S or Z as ``reads`` says."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope")

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"activate": elementwise(self.rule), "pass_back": elementwise(self.slope)}

    def forward(self, S: Array, training: bool = False) -> Array:
        Z = self.fused["activate"](S)
        self.cache[self.reads] = S if self.reads == "input" else Z
        return Z

    def backward(self, delta: Array) -> Array:
        return self.fused["pass_back"](self.cache[self.reads], delta)


class Identity(Activation):
    """``Z = S`` and ``dL/dS = delta``."""

    reads = "output"

    def forward(self, S: Array, training: bool = False) -> Array:
        return S

    def backward(self, delta: Array) -> Array:
        return delta


class Sigmoid(Activation):
    """``Z = 1 / (1 + exp(-S))`` and ``dL/dS = delta Z (1 - Z)``."""

    reads = "output"

    def rule(self, xp: Namespace, S: Array) -> Array:
        return sigmoid(S, xp)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * Z * (1.0 - Z)


class Tanh(Activation):
    """``Z = tanh(S)`` and ``dL/dS = delta (1 - Z^2)``."""

    reads = "output"

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.tanh(S)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * (1.0 - Z * Z)


class ReLU(Activation):
    """``Z = max(S, 0)`` and ``dL/dS = delta where Z > 0, else 0`` (Nair and Hinton, 2010).

    At the kink, S = 0, the slope is taken as 0.
    """

    reads = "output"

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.maximum(S, 0.0)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * xp.astype(Z > 0, delta.dtype)


class LeakyReLU(Activation):
    """``Z = S where S > 0, else a S`` and ``dL/dS = delta, or a delta`` (Maas et al., 2013).

    Args:
        negative_slope: the ``a`` above.
    """

    reads = "input"

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = float(negative_slope)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.where(S > 0, S, self.negative_slope * S)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        return xp.where(S > 0, delta, self.negative_slope * delta)

    def __repr__(self) -> str:
        return f"LeakyReLU({self.negative_slope})"


class ELU(Activation):
    """``Z = S where S > 0, else a (exp(S) - 1)`` (Clevert et al., 2016).

    ``dL/dS = delta where S > 0, else delta a exp(S)``. The exponent is capped at 0, so that the
    branch that is not taken cannot overflow.

    Args:
        alpha: the ``a`` above: minus the limit for very negative inputs, at least 0.
    """

    reads = "input"

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        if alpha < 0:
            raise ValueError(f"ELU needs alpha of at least 0, got alpha={alpha}")
        self.alpha = float(alpha)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.where(S > 0, S, self.alpha * xp.expm1(xp.minimum(S, 0.0)))

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        return delta * xp.where(S > 0, 1.0, self.alpha * xp.exp(xp.minimum(S, 0.0)))

    def __repr__(self) -> str:
        return f"ELU({self.alpha})"


class SELU(Activation):
    """``Z = l S where S > 0, else l a (exp(S) - 1)`` (Klambauer et al., 2017, eq. 2).

    ``dL/dS = delta l where S > 0, else delta l a exp(S)``, with the l and a that make mean 0 and
    variance 1 a fixed point. It wants weights from ``lecun_normal`` and, for dropout,
    ``AlphaDropout``.
    """

    reads = "input"
    SCALE = 1.0507009873554805  # l
    ALPHA = 1.6732632423543772  # a

    def rule(self, xp: Namespace, S: Array) -> Array:
        low = self.SCALE * self.ALPHA * xp.expm1(xp.minimum(S, 0.0))
        return xp.where(S > 0, self.SCALE * S, low)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        low = self.SCALE * self.ALPHA * xp.exp(xp.minimum(S, 0.0))
        return delta * xp.where(S > 0, self.SCALE, low)


class SiLU(Activation):
    """``Z = S s(S)`` with s the sigmoid, also called swish (Elfwing et al., 2018).

    ``dL/dS = delta s(S) (1 + S (1 - s(S)))``: only S can say this, as two inputs share an output.
    """

    reads = "input"

    def rule(self, xp: Namespace, S: Array) -> Array:
        return S * sigmoid(S, xp)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        s = sigmoid(S, xp)
        return delta * s * (1.0 + S * (1.0 - s))


class Softplus(Activation):
    """``Z = log(1 + exp(S))`` and ``dL/dS = delta / (1 + exp(-S))``; never overflows."""

    reads = "input"

    def rule(self, xp: Namespace, S: Array) -> Array:
        return softplus(S, xp)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        return delta * sigmoid(S, xp)


class GELU(Activation):
    """``Z = S P(S)`` with P the normal distribution function (Hendrycks and Gimpel, 2016).

    Exact::

        Z = S P(S)              P(S) = (1 + erf(S / sqrt 2)) / 2
        dL/dS = delta (P(S) + S p(S))                p(S) = exp(-S^2 / 2) / sqrt(2 pi)

    With ``approximate="tanh"``, with u = sqrt(2 / pi) (S + 0.044715 S^3)::

        Z = S (1 + tanh u) / 2
        dL/dS = delta ((1 + tanh u) / 2 + S (1 - tanh^2 u) u' / 2)

    Args:
        approximate: "none" or "tanh".
    """

    reads = "input"

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU knows approximate='none' and 'tanh', got {approximate!r}")
        self.approximate = approximate

    def rule(self, xp: Namespace, S: Array) -> Array:
        return S * self._share(xp, S)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        if self.approximate == "none":
            density = xp.exp(-0.5 * S * S) * (1 / math.sqrt(2 * math.pi))
            return delta * (self._share(xp, S) + S * density)
        root = math.sqrt(2 / math.pi)
        share = self._share(xp, S)
        return delta * share * (1.0 + S * (2.0 - 2.0 * share) * root * (1.0 + 0.134145 * S * S))

    def _share(self, xp: Namespace, S: Array) -> Array:
        """The share of S that passes, between 0 and 1."""
        if self.approximate == "none":
            return 0.5 * (1.0 + self.backend.erf(S * (1 / math.sqrt(2))))
        root = math.sqrt(2 / math.pi)
        return 0.5 * (1.0 + xp.tanh(root * S * (1.0 + 0.044715 * S * S)))

    def __repr__(self) -> str:
        return f"GELU({self.approximate!r})"


class Softmax(Layer):
    """``Z_i = exp(S_i) / sum_j exp(S_j)`` over the last axis.

    ``dL/dS = Z (delta - sum_j delta_j Z_j)``. The largest S is subtracted first, so nothing
    overflows. For training a classifier leave it out: ``cross_entropy`` takes S itself.
    """

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "sum_of_products": self.backend.sums(product_rule),
            "pass_back": elementwise(softmax_slope),
        }

    def forward(self, S: Array, training: bool = False) -> Array:
        Z = self.backend.softmax(S)
        self.cache["output"] = Z
        return Z

    def backward(self, delta: Array) -> Array:
        Z, fused = self.cache["output"], self.fused
        return fused["pass_back"](Z, delta, fused["sum_of_products"](delta, Z))


def product_rule(xp: Namespace, a: Array, b: Array) -> Array:
    """``a b``."""
    return a * b


def softmax_slope(xp: Namespace, Z: Array, delta: Array, total: Array) -> Array:
    """``dL/dS = Z (delta - total)``, where ``total`` is the sum of delta Z."""
    return xp.astype(Z * (delta - total), Z.dtype, copy=False)
