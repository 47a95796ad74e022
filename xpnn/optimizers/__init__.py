"""Optimizers: pure update rules, their schedules and their limits on gradients."""

from xpnn.optimizers.adam import Adam, Adamax, AdamW, NAdam, RAdam
from xpnn.optimizers.adaptive import Adadelta, Adagrad, Lion, RMSprop
from xpnn.optimizers.base import Optimizer, every_parameter, matrices_only
from xpnn.optimizers.clipping import ClipByGlobalNorm, ClipByValue, Clipping
from xpnn.optimizers.schedules import (
    Chain,
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
    Hyper,
    Linear,
    OneCycle,
    Piecewise,
    Polynomial,
    Product,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    WarmUp,
)
from xpnn.optimizers.sgd import SGD
from xpnn.optimizers.whole_parameters import LAMB, Adafactor, Muon

__all__ = [
    "LAMB",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Chain",
    "ClipByGlobalNorm",
    "ClipByValue",
    "Clipping",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "Hyper",
    "Linear",
    "Lion",
    "Muon",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "Piecewise",
    "Polynomial",
    "Product",
    "RAdam",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "every_parameter",
    "matrices_only",
]
