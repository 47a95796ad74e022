"""Elementwise nonlinearities: each a rule and its derivative, from the array that suits it.

The guide calls a layer's weighted sum S and its activation z. Here S is the input and Z the output.
Which of the two the derivative is written in is part of each class: sigmoid' = Z (1 - Z) wants the
output, silu' wants the input, and giving a derivative the wrong one is the commonest error in
hand-written backprop (``xpnn.testing.check_gradients`` names it).
"""

from xpnn.layers.activations.base import Activation, Identity
from xpnn.layers.activations.bounded import Sigmoid, Tanh
from xpnn.layers.activations.rectified import ELU, SELU, LeakyReLU, PReLU, ReLU
from xpnn.layers.activations.smooth import GELU, HardSwish, Mish, SiLU, Softplus
from xpnn.layers.activations.softmax import Softmax, product_rule, softmax_slope

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "Mish",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "product_rule",
    "softmax_slope",
]
