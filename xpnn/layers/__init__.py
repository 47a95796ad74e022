"""The layers, from arrays in to arrays out: each a forward and its hand-written backward."""

from xpnn.layers.activations import (
    ELU,
    GELU,
    SELU,
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
from xpnn.layers.attention import MultiHeadAttention
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container, Parallel, Residual, Sequential
from xpnn.layers.convolution import Conv1D, Conv2D
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import AlphaDropout, Dropout, GaussianNoise, SpatialDropout
from xpnn.layers.embedding import Embedding
from xpnn.layers.global_pooling import GlobalAveragePool, GlobalMaxPool
from xpnn.layers.group_norm import GroupNorm
from xpnn.layers.normalization import BatchNorm, LayerNorm, RMSNorm
from xpnn.layers.padding import Masked
from xpnn.layers.pooling import AveragePool1D, AveragePool2D, MaxPool1D, MaxPool2D
from xpnn.layers.positions import LearnedPositions, SinusoidalPositions
from xpnn.layers.recomputation import Recompute
from xpnn.layers.recurrence import Recurrent
from xpnn.layers.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from xpnn.layers.registration import KINDS, register
from xpnn.layers.regularization import L1, L2, MaxNorm
from xpnn.layers.reshaping import Flatten, Reshape
from xpnn.layers.transformer import TransformerBlock
from xpnn.layers.transposed import ConvTranspose2D
from xpnn.layers.tying import TiedDense

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "L1",
    "L2",
    "LSTM",
    "SELU",
    "Activation",
    "AlphaDropout",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "Bidirectional",
    "Container",
    "Conv1D",
    "Conv2D",
    "ConvTranspose2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNorm",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "Masked",
    "MaxNorm",
    "MaxPool1D",
    "MaxPool2D",
    "MultiHeadAttention",
    "Parallel",
    "RMSNorm",
    "ReLU",
    "Recompute",
    "Recurrent",
    "Reshape",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SimpleRNN",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "SpatialDropout",
    "Tanh",
    "TiedDense",
    "TransformerBlock",
    "register",
]

BASES = (Activation, Container, Layer, Recurrent)  # no network holds one of these itself
KINDS |= {name: globals()[name] for name in __all__ if name != "register"}
for _base in BASES:
    del KINDS[_base.__name__]
