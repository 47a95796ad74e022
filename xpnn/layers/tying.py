"""A layer that learns the same array as another one."""

import math

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, zeros
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import product_over_rows, sum_over
from xpnn.typing import Array, Params, Shape


class TiedDense(Layer):
    """A Dense whose weight is another layer's, transposed (Press and Wolf, 2017, section 2).

    Forward, for inputs Z of shape (..., features), with the weight E of an Embedding, or of a Dense
    on the way in::

        S = Z E^T + b               E (units, features)   b (units,)   S (..., units)

    Backward, given delta = dL/dS::

        dL/dZ = delta E             dL/db = sum of delta over the batch
        dL/dE = delta^T Z, added to what E gets from its own layer

    E is one array with one name, that of the layer it comes from: it is saved once, updated once,
    and frozen with that layer. What goes in at an embedding so comes out as the scores of all ids;
    with a Dense it makes an autoencoder whose decoder mirrors its encoder.

    Args:
        units: number of output features: the rows of E.
        source: the layer with E, earlier in the same network.
        use_bias: whether to add ``b``.
        bias_init: draws ``b``.

    Raises:
        ShapeError: the weight of ``source`` has another shape; from where a network is made.

    >>> from xpnn import Dense, Network
    >>> encoder = Dense(2)
    >>> net = Network([encoder, TiedDense(5, encoder)], input_shape=(5,))
    >>> sorted(net.params), net.output_shape
    (['0.dense.bias', '0.dense.weight', '1.tieddense.bias'], (5,))
    """

    fixed = ("units", "source", "use_bias", "bias_init")
    gives = ANY_NUMBER

    def __init__(
        self, units: int, source: Layer, *, use_bias: bool = True, bias_init: Initializer = zeros
    ):
        super().__init__()
        if units < 1:
            raise ValueError(f"TiedDense needs at least one unit, got units={units}")
        if not isinstance(source, Layer):
            raise TypeError(f"TiedDense is tied to a layer such as an Embedding, got {source!r}")
        self.units, self.source = units, source
        self.use_bias, self.bias_init = use_bias, bias_init
        self.ties = {"weight": source}

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError("TiedDense wants inputs of shape (..., features), got single numbers")
        return (*input_shape[:-1], self.units)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        weight = self.source.params.get("weight") if self.source.built else None
        wanted = self.units, input_shape[-1]
        if weight is None or tuple(weight.shape) != wanted:
            found = "none yet" if weight is None else f"one of shape {tuple(weight.shape)}"
            raise ShapeError(
                f"{self!r} wants a weight of shape {wanted} from {self.source!r}, which has "
                f"{found}; give it {wanted[0]} rows and this layer inputs of as many features as "
                f"it has columns, and put it earlier into the same network"
            )
        return {"bias": self.bias_init((self.units,), rng)} if self.use_bias else {}

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["Z"] = Z
        S = Z @ self.source.params["weight"].T
        if self.use_bias:
            S += self.params["bias"]
        return S

    def backward(self, delta: Array) -> Array:
        xp, Z = self.xp, self.cache["Z"]
        rows = xp.reshape(delta, (-1, self.units))
        self.grads["weight"] = product_over_rows(rows, xp.reshape(Z, (-1, Z.shape[-1])), xp)
        if self.use_bias:
            self.grads["bias"] = sum_over(rows, xp, axis=0)
        return delta @ self.source.params["weight"]

    def multiply_adds(self, input_shape: Shape) -> int:
        return math.prod(input_shape) * self.units

    def __repr__(self) -> str:
        return f"TiedDense({self.units}, {self.source!r})"


def ties(root: Layer, strict: bool = True) -> dict[str, str]:
    """The tied arrays below ``root``: the name here to the name of the array itself.

    Raises:
        ValueError: an array belongs to a layer that is not below ``root``, and ``strict`` is set.
    """
    layers = list(root.walk())
    names = {id(layer): name for name, layer in layers}
    found = {}
    for name, layer in layers:
        for key, source in layer.ties.items():
            if id(source) in names:
                found[_joined_name(name, key)] = _joined_name(names[id(source)], key)
            elif strict:
                raise ValueError(
                    f"{layer!r} is tied to a layer of another network; put {source!r} into this one"
                )
    return found


def joined(grads: Params, tied: dict[str, str]) -> Params:
    """Gradients by name, with those of tied arrays added to the gradient of the array itself."""
    for name, own in tied.items():
        part = grads.pop(name, None)
        if part is not None:
            grads[own] = grads[own] + part if own in grads else part
    return grads


def _joined_name(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
