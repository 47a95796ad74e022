"""Activations with values between two ends."""

from xpnn.layers.activations.base import Activation
from xpnn.numerics import sigmoid
from xpnn.typing import Array, Namespace


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
