"""Optimizers: pure update rules, their schedules and their limits on gradients."""

from xpnn.optimizers.adam import Adam, AdamW, NAdam
from xpnn.optimizers.adaptive import Adagrad, Lion, RMSprop
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

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
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
    "NAdam",
    "OneCycle",
    "Optimizer",
    "Piecewise",
    "Polynomial",
    "Product",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "every_parameter",
    "matrices_only",
]
