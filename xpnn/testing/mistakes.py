"""Guesses what went wrong in a hand-written backward, from what its wrong gradient looks like.

Each guess is a function of the evidence that returns its words, or None where it does not fit. The
first that fits is told, so the sure ones stand first.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

ALIKE = 1e-4  # relative to the largest element; two wrong formulas that agree so well are one
RATES = (0.1, 0.01, 0.001, 3e-4, 1e-4)


@dataclass
class Evidence:
    """A wrong gradient and all that may explain it, as float64 arrays on the host.

    Attributes:
        given: what ``backward`` says, of any shape.
        numeric: the derivative by differences.
        jacobian: d output / d element, of shape (*numeric.shape, *output.shape).
        delta: dL/d(output), which ``backward`` was given; 0-d for a loss.
        arrays: input, output, delta and parameters by name.
        batch: number of samples.
        flows_in: whether this is the gradient of the input.
        at_output: runs the differences and ``backward`` again, with the output for an input; None
            where that has no meaning.
    """

    given: np.ndarray
    numeric: np.ndarray
    jacobian: np.ndarray
    delta: np.ndarray
    arrays: dict[str, np.ndarray]
    batch: int
    flows_in: bool = False
    at_output: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


def likely_mistake(e: Evidence) -> str:
    """The first guess that fits, in words."""
    same = e.given.shape == e.numeric.shape
    found = (guess(e) for guess in (ANY_SHAPE + SAME_SHAPE if same else ANY_SHAPE))
    return next((words for words in found if words), _unknown(e) if same else _misshapen(e))


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays agree to rounding, and are not just both zero."""
    size = np.max(np.abs(b), initial=0.0)
    return a.shape == b.shape and size > 0 and bool(np.max(np.abs(a - b)) <= ALIKE * size)


def through(jacobian: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The gradient that ``delta`` causes, by the chain rule."""
    return np.asarray(np.tensordot(jacobian, delta, axes=delta.ndim))


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    """The number that makes ``a = number * b`` as true as it can be."""
    return float(np.sum(a * b) / max(np.sum(b * b), 1e-300))


# Of any shape -------------------------------------------------------------------------------------


def _not_a_number(e: Evidence) -> str | None:
    bad = int(np.sum(~np.isfinite(e.given)))
    if not bad:
        return None
    return f"NaN: {bad} of {e.given.size} elements are not finite, while the differences are"


def _not_summed(e: Evidence) -> str | None:
    extra = e.given.ndim - e.numeric.ndim
    if extra < 1 or not alike(np.sum(e.given, axis=tuple(range(extra))), e.numeric):
        return None
    if math.prod(e.given.shape[:extra]) == 1:
        return "shape: an axis of length 1 too many at the front; sum without keepdims"
    axes = "the batch" if extra == 1 else "the batch and the axes between"
    return f"missing sum: a gradient for each sample came; sum over {axes}"


def _turned(e: Evidence) -> str | None:
    if e.numeric.ndim != 2 or not alike(e.given.T, e.numeric):
        return None
    return "transposed: the right numbers with rows and columns exchanged; Z^T delta, not delta^T Z"


def _misshapen(e: Evidence) -> str:
    return f"shape: wanted {e.numeric.shape}, that of the array itself, got {e.given.shape}"


# Of the right shape -------------------------------------------------------------------------------


def _zero(e: Evidence) -> str | None:
    if np.any(e.given):
        return None
    return "zero: nothing arrives here; delta is lost on the way, or this is never computed"


def _of_no_influence(e: Evidence) -> str | None:
    if np.max(np.abs(e.numeric)) > 1e-9:
        return None
    return "extra: the output does not depend on this at all, so its gradient is 0"


def _constant_factor(e: Evidence) -> str | None:
    ratio = _ratio(e.given, e.numeric)
    if not alike(e.given, ratio * e.numeric):
        return None
    if abs(ratio + 1) < ALIKE:
        return "sign: minus the right gradient"
    kind = "sign and factor" if ratio < 0 else "factor"
    known = (
        words for number, words in _numbers(e) if math.isclose(abs(ratio), number, rel_tol=ALIKE)
    )
    meaning = next(known, "a constant is missing, or one too many")
    return f"{kind}: {ratio:.6g} times the right gradient; {meaning}"


def _numbers(e: Evidence) -> Iterator[tuple[float, str]]:
    """What a factor may stand for, the likeliest first."""
    n, shape = e.batch, e.delta.shape or e.numeric.shape
    rows = math.prod(shape[:-1])
    yield n, f"{n} is the batch size: a division by it is missing"
    yield 1 / n, f"1/{n} is one over the batch size: a mean where the sum over the batch belongs"
    yield 2.0, "a 2 too many, as from the square"
    yield 0.5, "a factor of 2 is missing, as from the square"
    yield rows, f"{rows} counts all rows of the batch: a division is missing"
    yield 1 / rows, f"1/{rows} is one over all rows of the batch: a mean where the sum belongs"
    for rate in RATES:
        yield rate, "it looks like a learning rate, which is the optimizer's to multiply with"
    for axis, length in enumerate(shape):
        yield length, f"{length} is the length of axis {axis} of the output"
        yield 1 / length, f"1/{length} is one over the length of axis {axis} of the output"


def _nearly(e: Evidence) -> str | None:
    if np.max(np.abs(e.given - e.numeric)) > 1e-3 * np.max(np.abs(e.numeric)):
        return None
    return (
        "precision: right to three digits; something is computed in float32, a constant is "
        "rounded, or a small term is missing"
    )


def _one_sample(e: Evidence) -> str | None:
    if e.flows_in or e.batch < 2 or e.delta.ndim == 0 or e.delta.shape[0] != e.batch:
        return None
    for sample in range(e.batch):
        alone = np.zeros_like(e.delta)
        alone[sample] = e.delta[sample]
        if alike(e.given, through(e.jacobian, alone)):
            return f"missing sum: only sample {sample} counts; sum over the batch"
    return None


def _wrong_array(e: Evidence) -> str | None:
    if e.at_output is None:
        return None
    numeric_there, given_there = e.at_output()
    if alike(e.given, numeric_there):
        return "f' of the wrong array: evaluated at the output, while its formula is in the input"
    if alike(given_there, e.numeric):
        return "f' of the wrong array: evaluated at the input, while its formula is in the output"
    return None


def _delta_unchanged(e: Evidence) -> str | None:
    if not e.flows_in or not alike(e.given, e.delta):
        return None
    return "delta unchanged: it is returned as it came; f', a weight or a mask is not applied"


def _delta_as_a_term(e: Evidence) -> str | None:
    if not e.flows_in or e.delta.shape != e.numeric.shape:
        return None
    if alike(e.numeric - e.given, e.delta):
        return "missing term: with delta added it would be right; a shortcut is forgotten"
    if alike(e.given - e.numeric, e.delta):
        return "extra term: delta is added once too often"
    return None


def _weight_not_turned(e: Evidence) -> str | None:
    for name, array in e.arrays.items():
        fits = e.flows_in and e.delta.ndim and array.ndim == 2
        if fits and e.delta.shape[-1] == array.shape[0] and alike(e.given, e.delta @ array):
            return f"transposed: delta times {name} where delta times {name}^T belongs"
    return None


def _mask(e: Evidence) -> str | None:
    dead = np.abs(e.numeric) <= ALIKE * np.max(np.abs(e.numeric))
    if not 0 < np.sum(dead) < dead.size or not np.any(e.given[dead]):
        return None
    given, numeric = e.given[~dead], e.numeric[~dead]
    if not alike(given, _ratio(given, numeric) * numeric):
        return None
    return "mask: wrong only where it should be 0; what forward zeroes, backward must zero as well"


def _factor_array(e: Evidence) -> str | None:
    for name, array in e.arrays.items():
        try:
            factor = np.broadcast_to(array, e.numeric.shape)
        except ValueError:
            continue
        if alike(e.given * factor, e.numeric):
            return f"missing factor: times {name} it would be right"
        if alike(e.numeric * factor, e.given):
            return f"extra factor: {name} is multiplied in once too often"
    return None


def _swapped(e: Evidence) -> str | None:
    if e.delta.ndim < 2:
        return None
    for shift in range(1, e.delta.shape[-1]):
        if alike(e.given, through(e.jacobian, np.roll(e.delta, shift, axis=-1))):
            return (
                f"swapped: it would be right for delta rolled by {shift} along its last axis; "
                f"branches, or parts of the output, get each other's delta"
            )
    return None


def _unknown(e: Evidence) -> str:
    wrong = np.abs(e.given - e.numeric) > ALIKE * np.max(np.abs(e.numeric))
    words = f"unknown: {int(np.sum(wrong))} of {wrong.size} elements are wrong"
    for axis, places in enumerate(np.nonzero(wrong)):
        if len(set(places)) == 1 and wrong.shape[axis] > 1:
            words += f", all at index {places[0]} of axis {axis}"
    return words + "; no common mistake looks like this"


ANY_SHAPE = (_not_a_number, _not_summed, _turned)
SAME_SHAPE = (
    _zero,
    _of_no_influence,
    _nearly,
    _constant_factor,
    _one_sample,
    _wrong_array,
    _delta_unchanged,
    _delta_as_a_term,
    _weight_not_turned,
    _mask,
    _factor_array,
    _swapped,
)
