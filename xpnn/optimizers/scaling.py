"""A loss scale for gradients in half precision, and steps that are skipped where it was too large.

Half precision cannot hold small gradients: float16 ends at 6e-8. So the first delta is multiplied
by a number, which the chain rule hands on to all gradients, and the optimizer divides by it
(Micikevicius et al., 2018, section 3.2).
"""

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends import Backend
from xpnn.typing import Array, Namespace, OptState, Params

Numbers = dict[str, Any]
"""Counters, rates and the like by name: Python numbers, or 0-d arrays."""

Count = Callable[[Namespace, Numbers], tuple[Numbers, Numbers]]
"""``count(xp, old) -> (new, numbers)``: the counters after a step, given those before it, and the
numbers that the update rule gets in this step."""

Advance = Callable[[OptState, Params], tuple[OptState, Numbers]]
"""``advance(opt_state, grads) -> (new, numbers)``: ``count`` on the optimizer's state."""

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
        count: Count,
        before: Sequence[str],
        after: Sequence[str],
        changing: Sequence[str],
        backend: Backend,
    ) -> Advance:
        """An optimizer's ``count`` under its scale: the counters stay where a step is skipped.

        Args:
            count: elementwise.
            before, after, changing: the names of what it takes, and of what it gives.
        """
        before, after = (FINITE, *self.names, *before), (*self.names, *after)
        changing = (UNSCALE, *changing)

        def loss_scaling(xp: Namespace, old: Numbers) -> tuple[Numbers, Numbers]:
            finite = old[FINITE]
            new, numbers = count(xp, old)
            new = {name: xp.where(finite, one, old[name]) for name, one in new.items()}
            own = self.rule(xp, finite, *(old[name] for name in self.names))
            new |= zip(self.names, own, strict=True)
            numbers = {UNSCALE: 1.0 / old["loss_scale"], **numbers}
            if backend.counters_on_device:
                new, numbers = _in_their_dtypes(xp, new), _in_their_dtypes(xp, numbers)
            return new, numbers

        counted = backend.elementwise(by_position(loss_scaling, before, after, changing))

        def advance(opt_state: OptState, grads: Params) -> tuple[OptState, Numbers]:
            old = {**opt_state, FINITE: all_finite(grads, backend)}
            found = counted(*(old[name] for name in before))
            new = dict(zip(after, found[: len(after)], strict=True))
            numbers = dict(zip(changing, found[len(after) :], strict=True))
            if not backend.counters_on_device:
                new, numbers = (
                    _in_their_dtypes(backend.xp, new),
                    _in_their_dtypes(backend.xp, numbers),
                )
            return new, {FINITE: old[FINITE], **numbers}

        return advance


def by_position(
    count: Count, before: Sequence[str], after: Sequence[str], changing: Sequence[str]
) -> Callable[..., tuple[Any, ...]]:
    """``count`` with its numbers behind each other, as a backend wants a rule to take them.

    Returns:
        ``rule(xp, *before) -> (*after, *changing)``.
    """

    def rule(xp: Namespace, *values: Any) -> tuple[Any, ...]:
        new, numbers = count(xp, dict(zip(before, values, strict=True)))
        return (*(new[name] for name in after), *(numbers[name] for name in changing))

    rule.__qualname__ = count.__name__
    return rule


def all_finite(grads: Params, backend: Backend) -> Array:
    """Whether no number of any gradient is NaN or infinite: one 0-d boolean on the device.

    It is told from the sum of all in float32, in which no float16 could overflow. Numbers of 1e30
    and more, as bfloat16 and float32 hold, may: such gradients count as infinite.
    """
    xp = backend.xp
    total = xp.zeros((), dtype=xp.float32, device=backend.device)
    for grad in grads.values():
        narrow = xp.finfo(grad.dtype).bits < 32
        total = total + (xp.sum(grad, dtype=xp.float32) if narrow else xp.sum(grad))
    return xp.isfinite(total)


def on_device(number: float, backend: Backend) -> Array:
    """A counter or a number as a 0-d array, on every backend."""
    dtype = backend.xp.int32 if isinstance(number, int) else backend.xp.float32
    return backend.xp.asarray(number, dtype=dtype, device=backend.device)


def _in_their_dtypes(xp: Namespace, numbers: Numbers) -> Numbers:
    """Counts as int32 and all else as float32; Python's numbers have made some of them wider."""
    found = {}
    for name, one in numbers.items():
        dtype = xp.int32 if name in INTEGERS else xp.float32
        found[name] = one if one.dtype == dtype else xp.astype(one, dtype)
    return found
