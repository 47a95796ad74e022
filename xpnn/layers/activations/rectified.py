"""Activations that let positive values through, and treat the others in ways of their own."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, constant
from xpnn.layers.activations.base import Activation
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape

QUARTER = constant(0.25)


class ReLU(Activation):
    """Rectified linear unit: what is above 0 (Nair and Hinton, 2010).

    Forward, for inputs S of any shape::

        Z = max(S, 0)

    Backward, given delta = dL/dZ::

        dL/dS = delta where Z > 0, else 0

    At the kink, S = 0, the slope is taken as 0.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([ReLU()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[0.0, 0.0, 2.0]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.0, 0.0, 1.0]]
    """

    reads = "output"
    gives = (0.0, math.inf)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.maximum(S, 0.0)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * xp.astype(Z > 0, delta.dtype)


class LeakyReLU(Activation):
    """``ReLU`` that lets a share of what is below 0 through (Maas et al., 2013).

    Forward, for inputs S of any shape::

        Z = S where S > 0, else a S

    Backward, given delta = dL/dZ::

        dL/dS = delta where S > 0, else a delta

    Args:
        negative_slope: the ``a`` above.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([LeakyReLU(0.1)], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.1, 0.0, 2.0]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.1, 0.1, 1.0]]
    """

    reads = "input"
    gives = ANY_NUMBER

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = float(negative_slope)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.where(S > 0, S, self.negative_slope * S)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        return xp.where(S > 0, delta, self.negative_slope * delta)

    def __repr__(self) -> str:
        return f"LeakyReLU({self.negative_slope})"


class PReLU(Layer):
    """``LeakyReLU`` whose slope is learned, one for each feature (He et al., 2015, eq. 1, 8 and 9).

    Forward, for inputs S of shape (batch, ..., features)::

        Z = S where S > 0, else a S             a (features,), or (1,) if it is shared

    Backward, given delta = dL/dZ::

        dL/dS = delta where S > 0, else a delta
        dL/da = sum of delta min(S, 0) over all axes but the last, or over all if a is shared

    Args:
        shared: whether all features have one slope, as ``torch.nn.PReLU`` unless told otherwise.
        slope_init: draws ``a``; 0.25 unless given, as in the paper.

    Raises:
        ShapeError: inputs are single numbers; from where a network is made.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([PReLU()], input_shape=(2,))
    >>> net.forward([[-2.0, 1.0], [-4.0, -1.0]]).tolist()
    [[-0.5, 1.0], [-1.0, -0.25]]
    >>> delta = net.backward(np.ones((2, 2), "float32"))
    >>> net.grads["0.prelu.slope"].tolist()
    [-6.0, -1.0]
    """

    fixed = ("shared", "slope_init")
    gives = ANY_NUMBER

    def __init__(self, shared: bool = False, *, slope_init: Initializer = QUARTER):
        super().__init__()
        self.shared, self.slope_init = shared, slope_init

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                f"{self!r} wants inputs of shape (..., features), got single numbers; give the "
                f"network input_shape=(1,) and inputs of shape (batch, 1)"
            )
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        return {"slope": self.slope_init((1,) if self.shared else input_shape[-1:], rng)}

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "activate": elementwise(prelu_rule),
            "pass_back": elementwise(prelu_slope),
            "sum_below": self.backend.sums(below_rule, features=True),
        }

    def forward(self, S: Array, training: bool = False) -> Array:
        self.cache["input"] = S
        return self.fused["activate"](S, self.params["slope"])

    def backward(self, delta: Array) -> Array:
        xp, S, a = self.xp, self.cache["input"], self.params["slope"]
        total = self.fused["sum_below"](S, delta)
        if self.shared:
            total = xp.sum(total, axis=-1, keepdims=True)
        self.grads["slope"] = xp.astype(total, a.dtype, copy=False)
        return self.fused["pass_back"](S, a, delta)

    def __repr__(self) -> str:
        return f"PReLU({'shared=True' if self.shared else ''})"


def prelu_rule(xp: Namespace, S: Array, a: Array) -> Array:
    """``S where S > 0, else a S``."""
    return xp.where(S > 0, S, a * S)


def prelu_slope(xp: Namespace, S: Array, a: Array, delta: Array) -> Array:
    """``delta where S > 0, else a delta``."""
    return xp.where(S > 0, delta, a * delta)


def below_rule(xp: Namespace, S: Array, delta: Array) -> Array:
    """``delta min(S, 0)``, in at least float32."""
    return widened(delta, xp) * xp.minimum(widened(S, xp), 0.0)


class ELU(Activation):
    """Exponential linear unit: ``ReLU`` that bends towards a limit below 0 (Clevert et al., 2016).

    Forward, for inputs S of any shape::

        Z = S where S > 0, else a (exp(S) - 1)

    Backward, given delta = dL/dZ::

        dL/dS = delta where S > 0, else delta a exp(S)

    The exponent is capped at 0, so that the branch that is not taken cannot overflow.

    Args:
        alpha: the ``a`` above: minus the limit for very negative inputs, at least 0.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([ELU()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.6321, 0.0, 2.0]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.3679, 1.0, 1.0]]
    """

    reads = "input"
    gives = ANY_NUMBER

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
    """``ELU`` that keeps mean 0 and variance 1 from layer to layer (Klambauer et al., 2017, eq. 2).

    Forward, for inputs S of any shape, with l = 1.0507 and a = 1.6733, for which that is a fixed
    point::

        Z = l S where S > 0, else l a (exp(S) - 1)

    Backward, given delta = dL/dZ::

        dL/dS = delta l where S > 0, else delta l a exp(S)

    It wants weights from ``lecun_normal`` and, for dropout, ``AlphaDropout``.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([SELU()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-1.111, 0.0, 2.101]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.6468, 1.758, 1.051]]
    """

    reads = "input"
    gives = ANY_NUMBER
    SCALE = 1.0507009873554805  # l
    ALPHA = 1.6732632423543772  # a

    def rule(self, xp: Namespace, S: Array) -> Array:
        low = self.SCALE * self.ALPHA * xp.expm1(xp.minimum(S, 0.0))
        return xp.where(S > 0, self.SCALE * S, low)

    def slope(self, xp: Namespace, S: Array, delta: Array) -> Array:
        low = self.SCALE * self.ALPHA * xp.exp(xp.minimum(S, 0.0))
        return delta * xp.where(S > 0, self.SCALE, low)
