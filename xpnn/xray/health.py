"""Signs of layers that hardly learn: units that are dead, activations that are near their ends."""

from typing import Any

import numpy as np

ENDS = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Kinds of activations, and the ends to which their outputs come near, but for rounding."""
NEAR = 0.01
"""How near to an end, as a share of the way from one end to the other, is saturated."""


def health(output: Any, kind: str) -> dict[str, Any]:
    """How many units of a layer are dead, and what share of its outputs is saturated.

    A unit is a place along the last axis, that of features or channels. It is dead where it gives
    exactly 0 for the whole batch, everywhere: then no gradient reaches what is in front of a ReLU.
    Of a sigmoid and of tanh an output is saturated within 1 % of the way from one end to the other:
    there the slope is below 0.01 of a sigmoid, and below 0.04 of tanh. Of softmax a sample is,
    where one of its outputs is above 0.99.

    Args:
        output: (batch, ..., units); of several outputs the first counts.
        kind: the name of the class that has made it.

    Returns:
        ``dead`` and ``units``, which are None of ids and of one number for each sample without an
        axis of its own; ``saturated``, None where the kind has no ends.

    >>> health(np.asarray([[0.0, 0.999], [0.0, 0.3]]), "Sigmoid")
    {'dead': 1, 'units': 2, 'saturated': 0.75}
    """
    first = next(iter(output), None) if isinstance(output, tuple) else output
    found: dict[str, Any] = {"dead": None, "units": None, "saturated": None}
    if first is None or first.dtype.kind in "iub" or first.ndim < 2 or not first.size:
        return found
    is_dead = np.all(first == 0, axis=tuple(range(first.ndim - 1)))
    found |= {"dead": int(np.count_nonzero(is_dead)), "units": int(first.shape[-1])}
    if kind in ENDS:
        low, high = ENDS[kind]
        near = NEAR * (high - low)
        numbers = first.astype(np.float32)
        is_near = numbers > high - near
        if kind == "Softmax":
            is_near = np.any(is_near, axis=-1)
        else:
            is_near |= numbers < low + near
        found["saturated"] = float(np.mean(is_near))
    return found
