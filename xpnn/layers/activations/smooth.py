"""Activations that come near to ReLU without its kink."""

import math
from typing import Literal

from xpnn.layers.activations.base import Activation
from xpnn.layers.base import ANY_NUMBER
from xpnn.numerics import finite, sigmoid, softplus
from xpnn.typing import Array, Namespace


class SiLU(Activation):
    """Each input as far as its sigmoid lets it through, also called swish (Elfwing et al., 2018).

    Forward, for inputs S of any shape, with s the sigmoid::

        Z = S s(S)

    Backward, given delta = dL/dZ::

        dL/dS = delta s(S) (1 + S (1 - s(S)))

    Only S can say this, as two inputs share an output.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([SiLU()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.2689, 0.0, 1.762]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.07233, 0.5, 1.091]]
    """

    reads = "input"
    gives = ANY_NUMBER

    def rule(self, xp: Namespace, S: Array) -> Array:
        return finite(S, xp) * sigmoid(S, xp)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        S, s = finite(S, xp), sigmoid(S, xp)
        return delta * s * (1.0 + S * (1.0 - s))


class HardSwish(Activation):
    """``SiLU`` out of straight pieces (Howard et al., 2019, section 5.2).

    Forward, for inputs S of any shape::

        Z = S min(max(S + 3, 0), 6) / 6

    Backward, given delta = dL/dZ::

        dL/dS = 0 where S <= -3, delta where S >= 3, else delta (2 S + 3) / 6

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([HardSwish()], input_shape=(4,))
    >>> net.forward([[-2.0, -1.0, 0.0, 4.0]]).tolist()
    [[-0.3333, -0.3333, 0.0, 4.0]]
    >>> net.backward(np.ones((1, 4), "float32")).tolist()
    [[-0.1667, 0.1667, 0.5, 1.0]]
    """

    reads = "input"
    gives = ANY_NUMBER

    def rule(self, xp: Namespace, S: Array) -> Array:
        S = xp.maximum(S, -3.0)
        return S * ((xp.minimum(S, 3.0) + 3.0) / 6.0)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        between = (2.0 * xp.minimum(xp.maximum(S, -3.0), 3.0) + 3.0) / 6.0
        return delta * xp.where(S > -3, xp.where(S < 3, between, 1.0), 0.0)


class Mish(Activation):
    """Each input times the tanh of its softplus (Misra, 2020).

    Forward, for inputs S of any shape, with e = exp(S) and n = e (e + 2), for which tanh(log(1 +
    e)) is n / (n + 2)::

        Z = S tanh(log(1 + exp(S))) = S n / (n + 2)

    Backward, given delta = dL/dZ::

        dL/dS = delta (n / (n + 2) + 4 S e (1 + e) / (n + 2)^2)

    Inside of e, S is cut to where n / (n + 2) is 0 or 1.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Mish()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.3034, 0.0, 1.944]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.05922, 0.6, 1.069]]
    """

    reads = "input"
    gives = ANY_NUMBER

    def rule(self, xp: Namespace, S: Array) -> Array:
        _, _, n = _mish_powers(xp, S)
        return xp.maximum(S, -MISH_END) * (n / (n + 2.0))

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        S, e, n = _mish_powers(xp, S)
        return delta * (n / (n + 2.0) + (4.0 * S / (n + 2.0)) * (e * (1.0 + e) / (n + 2.0)))


MISH_END = 800.0  # below minus this, exp is 0 in float64


def _mish_powers(xp: Namespace, S: Array) -> tuple[Array, Array, Array]:
    """S, cut to where n / (n + 2) is 0 or 1, ``e = exp(S)``, and ``n = e (e + 2)``, finite."""
    high = 5.3 if float(xp.finfo(S.dtype).max) < 1e5 else 20.0
    S = xp.minimum(xp.maximum(S, -MISH_END), high)
    e = xp.exp(S)
    return S, e, e * (e + 2.0)


class Softplus(Activation):
    """``ReLU`` without a corner (Dugas et al., 2001).

    Forward, for inputs S of any shape, without overflow::

        Z = log(1 + exp(S))

    Backward, given delta = dL/dZ::

        dL/dS = delta / (1 + exp(-S))

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Softplus()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[0.3133, 0.6931, 2.127]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.2689, 0.5, 0.8808]]
    """

    reads = "input"
    gives = (0.0, math.inf)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return softplus(S, xp)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        return delta * sigmoid(S, xp)


class GELU(Activation):
    """Each input times how much of a normal distribution is below it (Hendrycks and Gimpel, 2016).

    Forward, for inputs S of any shape, with P the normal distribution function::

        Z = S P(S)              P(S) = erfc(-S / sqrt 2) / 2

    Backward, given delta = dL/dZ::

        dL/dS = delta (P(S) + S p(S))                p(S) = exp(-S^2 / 2) / sqrt(2 pi)

    With ``approximate="tanh"``, with u = sqrt(2 / pi) (S + 0.044715 S^3) and s the sigmoid::

        Z = S (1 + tanh u) / 2 = S s(2 u)
        dL/dS = delta (s(2 u) + S s(2 u) s(-2 u) 2 u')

    Inside of P and s, S is cut to where they are 0 or 1: so nothing overflows, and far out Z is
    0 or S, and the slope 0 or 1.

    Args:
        approximate: "none" or "tanh".

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([GELU()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.1587, 0.0, 1.954]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[-0.08332, 0.5, 1.085]]
    """

    reads = "input"
    gives = ANY_NUMBER

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU knows approximate='none' and 'tanh', got {approximate!r}")
        self.approximate = approximate

    def rule(self, xp: Namespace, S: Array) -> Array:
        if self.approximate == "none":
            S = xp.maximum(S, -EXACT_END)
            return S * (0.5 * self.backend.erfc(S * -(1 / math.sqrt(2))))
        power, _ = _gelu_power(xp, S)
        return xp.maximum(S, -TANH_END) * (power / (1.0 + power))

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        if self.approximate == "none":
            S = xp.minimum(xp.maximum(S, -EXACT_END), EXACT_END)
            density = xp.exp(-0.5 * S * S) * (1 / math.sqrt(2 * math.pi))
            return delta * (0.5 * self.backend.erfc(S * -(1 / math.sqrt(2))) + S * density)
        power, S_slope = _gelu_power(xp, S)
        rest = 1.0 / (1.0 + power)
        share = power * rest
        return delta * (share + S_slope * share * rest)

    def __repr__(self) -> str:
        return f"GELU({self.approximate!r})"


EXACT_END, TANH_END = 39.0, 22.0  # below minus these, P and s are 0 in float64


def _gelu_power(xp: Namespace, S: Array) -> tuple[Array, Array]:
    """``exp(2 u)`` and ``2 S u'``, with S cut to where s(2 u) is 0 or 1, and exp(2 u) finite.

    In float32 its square is finite, too, which appears where ``jax.grad`` differentiates s.
    """
    largest = float(xp.finfo(S.dtype).max)
    high = 4.0 if largest < 1e5 else 7.0 if largest < 1e39 else 9.0
    S = xp.minimum(xp.maximum(S, -TANH_END), high)
    square = S * S
    root = 2 * math.sqrt(2 / math.pi)
    return (
        xp.exp(S * (root + (0.044715 * root) * square)),
        S * (root + (3 * 0.044715 * root) * square),
    )
