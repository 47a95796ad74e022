"""A loss scale for gradients in half precision, and steps that are skipped where it was too large.

Half precision cannot hold small gradients: float16 ends at 6e-8. So the first delta is multiplied
by a number, which the chain rule hands on to all gradients, and the optimizer divides by it
(Micikevicius et al., 2018, section 3.2).
"""

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends import Backend
from xpnn.typing import Array, Namespace, OptState

Numbers = dict[str, Any]
"""Counters, rates and the like by name: Python numbers, or 0-d arrays."""

Advance = Callable[[OptState, Sequence[Array]], tuple[OptState, Numbers]]
"""``advance(opt_state, grads) -> (counters, numbers)``: what a step works out once.

``counters`` are those of the optimizer's state after the step, ``numbers`` what the sweeps over
parameters want beside the hyperparameters that never change.
"""

FINITE, UNSCALE = "gradients.finite", "gradients.unscale"
"""The names of two numbers: whether a step counts, and one over the scale."""

INTEGERS = frozenset({"step", "good_steps", "skipped_steps"})

SMALLEST, LARGEST = 2.0**-32, 2.0**32
"""Between these the scale moves: far from where float32 could not hold it, or one over it."""


class LossScaling:
    """How large the scale is, from step to step.

    With s the scale, and F whether all gradients of a step are finite::

        not F:    the step is skipped              s <- s shrink
        F:        w <- update(w, g / s)            s <- s growth after ``patience`` such in a row

    (Micikevicius et al., 2018, section 3.2, "dynamic loss scaling".) A skipped step leaves
    parameters, slots, the step count and all that depends on it as they were.

    The scale and the two counts stand in the optimizer state, under the names in ``names``. Whether
    a step counts is known on the device alone, and nobody waits for it: there all counters are 0-d
    arrays, on every backend.

    Args:
        initial: s before the first step.
        growth: above 1, or 1 for a scale that does not grow.
        shrink: in (0, 1).
        patience: finite steps before the scale grows.
    """

    names = ("loss_scale", "good_steps", "skipped_steps")

    def __init__(self, initial: float, growth: float, shrink: float, patience: int):
        if not SMALLEST <= initial <= LARGEST:
            raise ValueError(f"wanted an initial_scale from 2**-32 to 2**32, got {initial}")
        if not growth >= 1:
            raise ValueError(f"wanted growth of at least 1, such as 2.0, got {growth}")
        if not 0 < shrink < 1:
            raise ValueError(f"wanted shrink between 0 and 1, such as 0.5, got {shrink}")
        if patience < 1 or patience != int(patience):
            raise ValueError(f"patience counts steps, at least 1, got {patience}")
        self.initial, self.growth, self.shrink = float(initial), float(growth), float(shrink)
        self.patience = int(patience)

    def init(self, backend: Backend) -> OptState:
        """The scale and the counts before the first step."""
        start = (self.initial, 0, 0)
        return {k: on_device(n, backend) for k, n in zip(self.names, start, strict=True)}

    def rule(
        self, xp: Namespace, finite: Array, scale: Array, good: Array, skipped: Array
    ) -> tuple[Any, ...]:
        """The scale and the counts after a step whose gradients were finite, or not."""
        good = xp.where(finite, good + 1, 0 * good)
        full = good >= self.patience
        grown = xp.minimum(scale * self.growth, LARGEST)
        shrunk = xp.maximum(scale * self.shrink, SMALLEST)
        scale = xp.where(finite, xp.where(full, grown, scale), shrunk)
        return scale, xp.where(full, 0 * good, good), xp.where(finite, skipped, skipped + 1)

    def taken(self, before: OptState, after: OptState) -> Array:
        """Whether the step between two optimizer states was not skipped: a 0-d boolean."""
        return before["skipped_steps"] == after["skipped_steps"]

    def make_advance(
        self,
        rule: Callable[..., Any],
        before: Sequence[str],
        after: Sequence[str],
        changing: Sequence[str],
        backend: Backend,
    ) -> Advance:
        """An optimizer's counters under its scale: where a step is skipped they stay.

        Args:
            rule: ``(xp, *before) -> ("step", *changing)``, of numbers in these orders; elementwise.
            before: the names of the counters that the rule takes.
            after: the names of those that a step changes.
            changing: the names of the numbers that the rule works out.
        """
        read = (FINITE, *self.names, *before)
        counters, numbers = (*self.names, *after), (UNSCALE, *changing)

        def loss_scaling(xp: Namespace, *values: Any) -> tuple[Any, ...]:
            old = dict(zip(read, values, strict=True))
            finite, scale, good, skipped = (old[name] for name in (FINITE, *self.names))
            found = rule(xp, *(old[name] for name in before))
            new = dict(zip(("step", *changing), found, strict=True))
            kept = [xp.where(finite, new[name], old[name]) for name in after]
            own = self.rule(xp, finite, scale, good, skipped)
            given = (*own, *kept, 1.0 / scale, *(new[name] for name in changing))
            return in_their_dtypes(xp, given) if backend.counters_on_device else given

        def in_their_dtypes(xp: Namespace, found: Sequence[Any]) -> tuple[Any, ...]:
            pairs = zip((*counters, *numbers), found, strict=True)
            return tuple(_in_its_dtype(xp, name, one) for name, one in pairs)

        counted = backend.elementwise(loss_scaling)

        def advance(opt_state: OptState, grads: Sequence[Array]) -> tuple[OptState, Numbers]:
            old = {**opt_state, FINITE: gradients_are_finite(grads, backend)}
            found = counted(*(old[name] for name in read))
            if not backend.counters_on_device:
                found = in_their_dtypes(backend.xp, found)
            new, now = found[: len(counters)], found[len(counters) :]
            sweep = {FINITE: old[FINITE], **dict(zip(numbers, now, strict=True))}
            return dict(zip(counters, new, strict=True)), sweep

        return advance


def gradients_are_finite(grads: Sequence[Array], backend: Backend) -> Array:
    """Whether no number of any gradient is NaN or infinite: one 0-d boolean on the device.

    It is told from the sum of all in float32, in which no float16 could overflow. Numbers of 1e30
    and more, as bfloat16 and float32 hold, may: such gradients count as infinite.
    """
    xp = backend.xp
    total = xp.zeros((), dtype=xp.float32, device=backend.device)
    for grad in grads:
        narrow = xp.finfo(grad.dtype).bits < 32
        total = total + (xp.sum(grad, dtype=xp.float32) if narrow else xp.sum(grad))
    return xp.isfinite(total)


def on_device(number: float, backend: Backend) -> Array:
    """A counter or a number as a 0-d array, on every backend."""
    dtype = backend.xp.int32 if isinstance(number, int) else backend.xp.float32
    return backend.xp.asarray(number, dtype=dtype, device=backend.device)


def _in_its_dtype(xp: Namespace, name: str, number: Array) -> Array:
    """A count as int32 and all else as float32; Python's numbers have made some of them wider."""
    dtype = xp.int32 if name in INTEGERS else xp.float32
    return number if number.dtype == dtype else xp.astype(number, dtype)
