"""The table of schedules: a line for each configuration, with its formula written out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from xpnn.optimizers import (
    Chain,
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
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


@dataclass
class Case:
    """One configuration of a schedule.

    Attributes:
        schedule: with its options.
        value: the value of step 1, 2, 3, ..., in numbers.
        by_hand: some values, worked out or read off the docstring.
    """

    schedule: Schedule
    value: Callable[[int], float]
    by_hand: dict[int, float]


def one_cycle(step):
    """torch.optim.lr_scheduler.OneCycleLR with peak 0.5, 40 steps, and its defaults."""
    top = 0.3 * 40 - 1
    if step - 1 <= top:
        return 0.02 + (0.5 - 0.02) * math.sin(math.pi * (step - 1) / top / 2) ** 2
    share = min((step - 1 - top) / (39 - top), 1)
    return 2e-6 + (0.5 - 2e-6) * math.cos(math.pi * share / 2) ** 2


def half_cosine(step):
    return math.cos(math.pi * min(step - 1, 30) / 60) ** 2


def restarting(step):
    """Cosines of 4, 8, 16, ... steps, counted off one by one."""
    begun, length = 1, 4
    while step >= begun + length:
        begun, length = begun + length, 2 * length
    return 0.1 + 0.4 * math.cos(math.pi * (step - begun) / length / 2) ** 2


def triangles(step):
    cycle, inside = divmod(step - 1, 12)
    return 0.1 + 0.4 * 0.5**cycle * (inside / 4 if inside <= 4 else (12 - inside) / 8)


SCHEDULES = {
    "constant": Case(Constant(0.3), lambda step: 0.3, {1: 0.3, 1000: 0.3}),
    "steps": Case(
        StepDecay(0.5, every=7, factor=0.3),
        lambda step: 0.5 * 0.3 ** ((step - 1) // 7),
        {1: 0.5, 7: 0.5, 8: 0.15, 14: 0.15, 15: 0.045},
    ),
    "exponential": Case(
        Exponential(0.5, factor=0.9),
        lambda step: 0.5 * 0.9 ** (step - 1),
        {1: 0.5, 2: 0.45, 3: 0.405},
    ),
    "exponential-slow": Case(
        Exponential(0.5, factor=0.1, steps=20),
        lambda step: 0.5 * 10 ** (-(step - 1) / 20),
        {1: 0.5, 21: 0.05, 11: 0.5 * math.sqrt(0.1)},
    ),
    "cosine": Case(
        Cosine(0.5, steps=30, end=0.1),
        lambda step: 0.1 + 0.4 * half_cosine(step),
        {1: 0.5, 16: 0.3, 31: 0.1, 99: 0.1},
    ),
    "linear": Case(
        Linear(0.5, end=0.1, steps=30),
        lambda step: max(0.5 - 0.4 * (step - 1) / 30, 0.1),
        {1: 0.5, 16: 0.3, 31: 0.1, 99: 0.1},
    ),
    "warm-up": Case(
        WarmUp(8, 0.5),
        lambda step: 0.5 * step / max(step, 8),
        {1: 0.5 / 8, 4: 0.25, 8: 0.5, 99: 0.5},
    ),
    "warm-up-cosine": Case(
        WarmUp(8, Cosine(0.5, steps=30)),
        lambda step: step / max(step, 8) * 0.5 * half_cosine(step),
        {1: 0.5 / 8, 16: 0.25, 31: 0.0},
    ),
    "one-cycle": Case(OneCycle(0.5, steps=40), one_cycle, {1: 0.02, 12: 0.5, 40: 2e-6, 99: 2e-6}),
    "polynomial": Case(
        Polynomial(0.5, steps=30, power=2.0),
        lambda step: 0.5 * max(1 - (step - 1) / 30, 0) ** 2,
        {1: 0.5, 16: 0.125, 31: 0.0, 99: 0.0},
    ),
    "polynomial-to": Case(
        Polynomial(0.5, steps=30, end=0.1, power=0.5),
        lambda step: 0.1 + 0.4 * math.sqrt(max(1 - (step - 1) / 30, 0)),
        {1: 0.5, 23.5: 0.3, 31: 0.1, 99: 0.1},
    ),
    "restarts": Case(
        CosineRestarts(0.5, steps=10, end=0.1),
        lambda step: 0.1 + 0.4 * math.cos(math.pi * ((step - 1) % 10) / 20) ** 2,
        {1: 0.5, 6: 0.3, 11: 0.5, 16: 0.3, 91: 0.5},
    ),
    "restarts-growing": Case(
        CosineRestarts(0.5, steps=4, end=0.1, growth=2),
        restarting,
        {1: 0.5, 3: 0.3, 5: 0.5, 9: 0.3, 13: 0.5, 21: 0.3, 29: 0.5},
    ),
    "cyclic": Case(
        Cyclic(0.1, peak=0.5, rise=4, fall=8, factor=0.5),
        triangles,
        {1: 0.1, 5: 0.5, 9: 0.3, 13: 0.1, 17: 0.3, 25: 0.1, 29: 0.2},
    ),
    "piecewise": Case(
        Piecewise([0.5, 0.1, 0.3], at=[7, 20]),
        lambda step: 0.5 if step <= 7 else 0.1 if step <= 20 else 0.3,
        {1: 0.5, 7: 0.5, 8: 0.1, 20: 0.1, 21: 0.3, 99: 0.3},
    ),
    "product": Case(
        Product(Exponential(1.0, factor=0.9), Linear(0.25, end=1.0, steps=3), 0.5),
        lambda step: 0.5 * 0.9 ** (step - 1) * min(0.25 + (step - 1) / 4, 1),
        {1: 0.125, 2: 0.225, 4: 0.3645},
    ),
    "chain": Case(
        Chain(0.2, Linear(0.5, end=0.1, steps=4), Exponential(0.4, factor=0.5), at=[3, 9]),
        lambda step: (
            0.2
            if step <= 3
            else max(0.5 - 0.1 * (step - 4), 0.1)
            if step <= 9
            else 0.4 * 0.5 ** (step - 10)
        ),
        {1: 0.2, 3: 0.2, 4: 0.5, 6: 0.3, 9: 0.1, 10: 0.4, 11: 0.2},
    ),
    # what it does when training stands still is in test_schedules.py
    "plateau": Case(ReduceOnPlateau(0.5), lambda step: 0.5, {1: 0.5, 99: 0.5}),
}

each_schedule = pytest.mark.parametrize("case", SCHEDULES.values(), ids=SCHEDULES)
