"""Curves that several schedules are made of."""

import math

from xpnn.typing import Namespace, Number


def power(xp: Namespace, base: float, exponent: Number) -> Number:
    """``base ** exponent`` for a constant base above 0."""
    return xp.exp(exponent * math.log(base))


def half_cosine(xp: Namespace, start: float, end: float, share: Number) -> Number:
    return end + 0.5 * (start - end) * (1.0 + xp.cos(math.pi * share))
