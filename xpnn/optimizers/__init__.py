"""Optimizers: pure update rules, their schedules and their limits on gradients."""

from xpnn.optimizers.adam import Adam, AdamW, NAdam
from xpnn.optimizers.adaptive import Adagrad, Lion, RMSprop
from xpnn.optimizers.base import Optimizer, every_parameter, matrices_only
from xpnn.optimizers.clipping import ClipByGlobalNorm, ClipByValue, Clipping
from xpnn.optimizers.schedules import (
    Constant,
    Cosine,
    Exponential,
    Hyper,
    Linear,
    OneCycle,
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
    "ClipByGlobalNorm",
    "ClipByValue",
    "Clipping",
    "Constant",
    "Cosine",
    "Exponential",
    "Hyper",
    "Linear",
    "Lion",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "every_parameter",
    "matrices_only",
]
