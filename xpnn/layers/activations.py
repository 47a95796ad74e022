"""Elementwise nonlinearities: each a rule and its derivative, from the array that suits it.

The guide calls a layer's weighted sum S and its activation z. Here S is the input and Z the output.
Which of the two the derivative is written in is part of each class: sigmoid' = Z (1 - Z) wants the
output, silu' wants the input, and giving a derivative the wrong one is the commonest error in
hand-written backprop (``xpnn.testing.check_gradients`` names it).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, constant
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import finite, sigmoid, softplus, widened
from xpnn.typing import Array, Namespace, Range, Shape

QUARTER = constant(0.25)


class Activation(Layer):
    """Base of all elementwise activations.

    Forward, for inputs S of any shape::

        Z = f(S)

    Backward, given delta = dL/dZ::

        dL/dS = delta f'(S)

    A new activation writes ``rule`` and ``slope`` and says what ``slope`` reads.

    Attributes:
        reads: "output" if ``slope`` is a formula in Z, "input" if it is one in S.

    >>> class Square(Activation):
    ...     reads = "input"
    ...
    ...     def rule(self, xp, S):
    ...         return S * S
    ...
    ...     def slope(self, xp, S, delta):
    ...         return 2.0 * S * delta
    >>> from xpnn.testing import check_gradients
    >>> check_gradients(Square(), input_shape=(3,)).wrong
    False
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
    """What comes in, as it is.

    Forward, for inputs S of any shape::

        Z = S

    Backward, given delta = dL/dZ::

        dL/dS = delta

    >>> from xpnn import Network
    >>> Network([Identity()], input_shape=(3,)).predict([[-1.0, 0.0, 2.0]]).tolist()
    [[-1.0, 0.0, 2.0]]
    """

    reads = "output"

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, S: Array, training: bool = False) -> Array:
        return S

    def backward(self, delta: Array) -> Array:
        return delta


class Sigmoid(Activation):
    """The logistic function, which brings every number to between 0 and 1.

    Forward, for inputs S of any shape::

        Z = 1 / (1 + exp(-S))

    Backward, given delta = dL/dZ::

        dL/dS = delta Z (1 - Z)

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Sigmoid()], input_shape=(3,))
    >>> net.forward([[-2.0, 0.0, 2.0]]).tolist()
    [[0.1192, 0.5, 0.8808]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.105, 0.25, 0.105]]
    """

    reads = "output"
    gives = (0.0, 1.0)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return sigmoid(S, xp)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * Z * (1.0 - Z)


class Tanh(Activation):
    """The hyperbolic tangent, which brings every number to between -1 and 1.

    Forward, for inputs S of any shape::

        Z = tanh(S)

    Backward, given delta = dL/dZ::

        dL/dS = delta (1 - Z^2)

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Tanh()], input_shape=(3,))
    >>> net.forward([[-1.0, 0.0, 2.0]]).tolist()
    [[-0.7616, 0.0, 0.964]]
    >>> net.backward(np.ones((1, 3), "float32")).tolist()
    [[0.42, 1.0, 0.07065]]
    """

    reads = "output"
    gives = (-1.0, 1.0)

    def rule(self, xp: Namespace, S: Array) -> Array:
        return xp.tanh(S)

    def slope(self, xp: Namespace, Z: Array, delta: Array) -> Array:
        return delta * (1.0 - Z * Z)


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


class Softmax(Layer):
    """Numbers of the last axis as probabilities, which sum to 1 (Bridle, 1990).

    Forward, for inputs S of shape (batch, ..., classes)::

        Z_i = exp(S_i) / sum_j exp(S_j)

    Backward, given delta = dL/dZ::

        dL/dS_i = Z_i (delta_i - sum_j delta_j Z_j)

    The largest S is subtracted first, so nothing overflows. For training a classifier leave it out:
    ``cross_entropy`` takes S itself.

    Raises:
        ShapeError: inputs are single numbers; from where a network is made.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Softmax()], input_shape=(3,))
    >>> net.forward([[1.0, 2.0, 3.0]]).tolist()
    [[0.09003, 0.2447, 0.6652]]
    >>> net.backward(np.asarray([[1.0, 0.0, 0.0]], "float32")).tolist()
    [[0.08193, -0.02203, -0.05989]]
    """

    gives = (0.0, 1.0)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                "Softmax shares out 1 over the last axis of a sample, and samples of shape () have "
                "none; put a Dense in front of it, or read samples of shape (features,)"
            )
        return input_shape

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
