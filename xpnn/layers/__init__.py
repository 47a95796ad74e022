"""The layers, from arrays in to arrays out: each a forward and its hand-written backward."""

from xpnn.layers.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.layers.augmentation import Cutout, RandomCrop, RandomFlip, RandomShift
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container, Parallel, Residual, Sequential
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import AlphaDropout, Dropout, GaussianNoise, SpatialDropout
from xpnn.layers.embedding import Embedding
from xpnn.layers.gated import GLU, Maxout, SwiGLU
from xpnn.layers.graphs.graph import Graph
from xpnn.layers.joints import Add, Average, Concatenate, Dot, Joint, Multiply, Subtract
from xpnn.layers.lambda_layer import Lambda
from xpnn.layers.nodes import Input, Node
from xpnn.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from xpnn.layers.recomputation import Recompute
from xpnn.layers.registration import KINDS, register
from xpnn.layers.regularization import L1, L2, MaxNorm
from xpnn.layers.reshaping import Flatten, Permute, Repeat, Reshape
from xpnn.layers.sampling import GaussianSample
from xpnn.layers.sequence.attention import MultiHeadAttention
from xpnn.layers.sequence.cross_attention import CrossAttention, PaddingMask
from xpnn.layers.sequence.masking import Masked
from xpnn.layers.sequence.positions import LearnedPositions, SinusoidalPositions
from xpnn.layers.sequence.recurrence import Recurrent
from xpnn.layers.sequence.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from xpnn.layers.sequence.transformer import TransformerBlock, TransformerDecoderBlock
from xpnn.layers.sliding.convolution import Conv1D, Conv2D, Conv3D
from xpnn.layers.sliding.pooling import (
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from xpnn.layers.sliding.resizing import (
    AdaptiveAveragePool,
    Cropping,
    PixelShuffle,
    UpSampling,
    ZeroPadding,
)
from xpnn.layers.sliding.separable import SeparableConv1D, SeparableConv2D
from xpnn.layers.sliding.transposed import ConvTranspose1D, ConvTranspose2D, ConvTranspose3D
from xpnn.layers.standardization import Standardize
from xpnn.layers.tying import TiedDense
from xpnn.layers.weight_normalization import WeightNorm

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "L1",
    "L2",
    "LSTM",
    "SELU",
    "Activation",
    "AdaptiveAveragePool",
    "Add",
    "AlphaDropout",
    "Average",
    "AveragePool1D",
    "AveragePool2D",
    "AveragePool3D",
    "BatchNorm",
    "Bidirectional",
    "Concatenate",
    "Container",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "Cropping",
    "CrossAttention",
    "Cutout",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GaussianSample",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Graph",
    "GroupNorm",
    "HardSwish",
    "Identity",
    "Input",
    "InstanceNorm",
    "Joint",
    "Lambda",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "Masked",
    "MaxNorm",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "Maxout",
    "Mish",
    "MultiHeadAttention",
    "Multiply",
    "Node",
    "PReLU",
    "PaddingMask",
    "Parallel",
    "Permute",
    "PixelShuffle",
    "RMSNorm",
    "RandomCrop",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Recompute",
    "Recurrent",
    "Repeat",
    "Reshape",
    "Residual",
    "SeparableConv1D",
    "SeparableConv2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SimpleRNN",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "SpatialDropout",
    "Standardize",
    "Subtract",
    "SwiGLU",
    "Tanh",
    "TiedDense",
    "TransformerBlock",
    "TransformerDecoderBlock",
    "UpSampling",
    "WeightNorm",
    "ZeroPadding",
    "register",
]

BASES = (Activation, Container, Joint, Layer, Recurrent)  # no network holds one of these itself
NODES = (Input, Node)  # what layers are called on
KINDS |= {name: globals()[name] for name in __all__ if name != "register"}
for _base in (*BASES, *NODES, Lambda):
    del KINDS[_base.__name__]
