"""The layers, from arrays in to arrays out: each a forward and its hand-written backward."""

from xpnn.layers.activations import (
    ELU,
    GELU,
    Activation,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container, Parallel, Residual, Sequential
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import Dropout
from xpnn.layers.reshaping import Flatten, Reshape

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Container",
    "Dense",
    "Dropout",
    "Flatten",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Parallel",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
