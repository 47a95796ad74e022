"""Signs of layers that hardly learn: units that are dead, activations that are near their ends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.typing import Range

SIGMOID, TANH = (0.0, 1.0), (-1.0, 1.0)
ENDS: dict[str, Range] = {"Sigmoid": SIGMOID, "Softmax": SIGMOID, "Tanh": TANH}
"""Kinds of activations, and the ends to which their outputs come near, but for rounding."""
GATES: dict[str, dict[str, Range]] = {
    "LSTM": {"i": SIGMOID, "f": SIGMOID, "g": TANH, "o": SIGMOID},
    "GRU": {"r": SIGMOID, "z": SIGMOID, "n": TANH},
}
"""Kinds of layers, and what of that which they keep has ends, by name."""
NEAR = 0.01
"""How near to an end, as a share of the way from one end to the other, is saturated."""


def health(output: Any, kind: str, kept: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """How many units of a layer are dead, and what share of its outputs is saturated.

    A unit is a place along the last axis, that of features or channels. It is dead where it gives
    exactly 0 for the whole batch, everywhere: then no gradient reaches what is in front of a ReLU.
    Of a sigmoid and of tanh an output is saturated within 1 % of the way from one end to the other:
    there the slope is below 0.01 of a sigmoid, and below 0.04 of tanh. Of softmax a sample is,
    where one of its outputs is above 0.99. Gates inside of recurrent layers are told one by one:
    those that are always near their ends let no gradient through.

    Args:
        output: (batch, ..., units); of several outputs the first counts.
        kind: the name of the class that has made it.
        kept: what the layer keeps, by name.

    Returns:
        ``dead`` and ``units``, which are None of ids and of one number for each sample without an
        axis of its own; ``saturated``, None where the kind has no ends; ``gates``, the saturated
        share of each.

    >>> found = health(np.asarray([[0.0, 0.999], [0.0, 0.3]]), "Sigmoid")
    >>> found["dead"], found["units"], found["saturated"]
    (1, 2, 0.75)
    >>> health(np.ones((1, 1)), "GRU", {"r": np.asarray([0.999, 0.5])})["gates"]
    {'r': 0.5}
    """
    first = next(iter(output), None) if isinstance(output, tuple) else output
    found: dict[str, Any] = {"dead": None, "units": None, "saturated": None}
    found["gates"] = gates(kind, kept or {})
    if first is None or first.dtype.kind in "iub" or first.ndim < 2 or not first.size:
        return found
    is_dead = np.all(first == 0, axis=tuple(range(first.ndim - 1)))
    found |= {"dead": int(np.count_nonzero(is_dead)), "units": int(first.shape[-1])}
    if kind == "Softmax":
        found["saturated"] = float(np.mean(np.any(_is_near(first, SIGMOID)[1], axis=-1)))
    elif kind in ENDS:
        found["saturated"] = _share(first, ENDS[kind])
    return found


def gates(kind: str, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Which share of the values of each gate is saturated, of a layer that has gates."""
    ends = GATES.get(kind, {})
    return {name: _share(kept[name], ends[name]) for name in ends if name in kept}


def _share(values: np.ndarray, ends: Range) -> float:
    return float(np.mean(np.logical_or(*_is_near(values, ends)))) if values.size else 0.0


def _is_near(values: np.ndarray, ends: Range) -> tuple[np.ndarray, np.ndarray]:
    """Where values are near the lower end, and where near the upper one."""
    low, high = ends
    near, numbers = NEAR * (high - low), values.astype(np.float32)
    return numbers < low + near, numbers > high - near
