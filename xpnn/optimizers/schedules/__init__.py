"""Schedules: hyperparameters as functions of the step, usable for any hyperparameter.

A schedule is called as ``schedule(step, xp)`` with ``step`` = 1, 2, 3, ... and a namespace: Python
numbers (``numerics.HOST``) where the step count is a Python integer, the backend's arrays where it
lives on the device. Each formula is written once, without branches on values, so that a compiled
training step can run it. Steps are batches, not epochs; ``steps_per_epoch`` of a training set of n
samples is ceil(n / batch_size).

>>> warm_up = WarmUp(10, Cosine(0.1, steps=100))
>>> round(warm_up(5), 4)
0.0497
"""

from xpnn.optimizers.schedules.base import Constant, Hyper, ReduceOnPlateau, Schedule, as_schedule
from xpnn.optimizers.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from xpnn.optimizers.schedules.decays import (
    Cosine,
    Exponential,
    Linear,
    Piecewise,
    Polynomial,
    StepDecay,
)
from xpnn.optimizers.schedules.joined import Chain, Product, WarmUp

__all__ = [
    "Chain",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "Hyper",
    "Linear",
    "OneCycle",
    "Piecewise",
    "Polynomial",
    "Product",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "as_schedule",
]
