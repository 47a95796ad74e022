"""Fully connected layer."""

import math

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, glorot_uniform, zeros
from xpnn.layers.activated import Activated, AnyActivation
from xpnn.layers.base import ANY_NUMBER
from xpnn.numerics import product_over_rows, sum_over
from xpnn.typing import Array, Shape


class Dense(Activated):
    """Affine map in which every output sees every input.

    Forward, for inputs Z of shape (..., inputs)::

        S = Z W + b                 W (inputs, units)   b (units,)   S (..., units)

    Backward, given delta = dL/dS::

        dL/dW = Z^T delta           dL/db = sum of delta over the batch
        dL/dZ = delta W^T           (returned: the delta of the layer before)

    With an activation f the output is f(S), and delta = dL/df(S) f'(S).

    Axes between the batch and the last one (time, height, width) are treated as more batch.

    Args:
        units: number of output features.
        activation: f: "elu", "gelu", "hard_swish", "leaky_relu", "mish", "prelu", "relu", "selu",
            "sigmoid", "silu", "softmax", "softplus" or "tanh"; or a layer, ``LeakyReLU(0.1)``.
        use_bias: whether to add ``b``.
        weight_init: draws ``W`` on the host, so that one seed fits every backend.
        bias_init: draws ``b``.

    Raises:
        ShapeError: inputs are single numbers; from where a network is made.

    >>> Dense(3, activation="relu")
    Dense(3, activation=ReLU())
    >>> import numpy as np
    >>> from xpnn import Network
    >>> net = Network([Dense(1)], input_shape=(2,))
    >>> net.load({"0.dense.weight": [[2.0], [3.0]], "0.dense.bias": [1.0]})
    >>> net.forward([[1.0, 10.0]]).tolist(), net.backward(np.ones((1, 1), "float32")).tolist()
    ([[33.0]], [[2.0, 3.0]])
    >>> net.grads["0.dense.weight"].tolist(), net.grads["0.dense.bias"].tolist()
    ([[1.0], [10.0]], [1.0])
    """

    fixed = (*Activated.fixed, "units", "use_bias", "weight_init", "bias_init")
    gives = ANY_NUMBER

    def __init__(
        self,
        units: int,
        *,
        activation: AnyActivation = None,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
        bias_init: Initializer = zeros,
    ):
        super().__init__(activation)
        if units < 1:
            raise ValueError(f"Dense needs at least one unit, got units={units}")
        self.units, self.use_bias = units, use_bias
        self.weight_init, self.bias_init = weight_init, bias_init

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                f"Dense({self.units}) wants inputs of shape (..., features), got single numbers; "
                f"give the network input_shape=(1,) and inputs of shape (batch, 1)"
            )
        return (*input_shape[:-1], self.units)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        params = {"weight": self.weight_init((input_shape[-1], self.units), rng)}
        if self.use_bias:
            params["bias"] = self.bias_init((self.units,), rng)
        return params

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["Z"] = Z
        S = Z @ self.params["weight"]
        if self.use_bias:
            S += self.params["bias"]
        return self.activated(S, training)

    def backward(self, delta: Array) -> Array | None:
        xp, Z, W = self.xp, self.cache["Z"], self.params["weight"]
        delta = self.before_activation(delta)
        rows = xp.reshape(delta, (-1, self.units))
        self.grads["weight"] = product_over_rows(xp.reshape(Z, (-1, Z.shape[-1])), rows, xp)
        if self.use_bias:
            self.grads["bias"] = sum_over(rows, xp, axis=0)
        return delta @ W.T if self.passes_back else None

    def multiply_adds(self, input_shape: Shape) -> int:
        return math.prod(input_shape) * self.units

    def __repr__(self) -> str:
        return self.with_activation(f"Dense({self.units})")
