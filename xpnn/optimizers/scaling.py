"""A loss scale for gradients in half precision, and steps that are skipped where it was too large.

Half precision cannot hold small gradients: float16 ends at 6e-8. So the first delta is multiplied
by a number, which the chain rule hands on to all gradients, and the optimizer divides by it
(Micikevicius et al., 2018, section 3.2).
"""

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends import Backend
from xpnn.typing import Array, Namespace, OptState, Params

Advance = Callable[[OptState, Params], tuple[OptState, list[Any], list[Any]]]
"""``advance(opt_state, grads) -> (counted, guard, changing)``, all of them for one step.

``counted`` is what the step makes of the counters. ``guard`` is empty, or, where gradients are
scaled, whether they are finite and one over the scale. ``changing`` are the numbers of the rule.
"""

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
        self, rule: Callable[..., Any], names: Sequence[str], kept: int, backend: Backend
    ) -> Advance:
        """An optimizer's counters under its scale; see ``Advance``.

        Args:
            rule: ``(xp, *counters) -> (*new ones, *numbers that change)``, elementwise.
            names: of the counters in the optimizer state.
            kept: how many of them, from the first, stay as they are if the step is skipped.
        """
        own = len(self.names)
        names = [*self.names, *names]

        def loss_scaling(xp: Namespace, finite: Array, *given: Any) -> tuple[Any, ...]:
            own_new, new = self.rule(xp, finite, *given[:own]), rule(xp, *given[own:])
            pairs = zip(new[:kept], given[own:], strict=False)
            counted = [xp.where(finite, after, before) for after, before in pairs]
            found = (1.0 / given[0], *own_new, *counted, *new[1:])
            return _fitted(found, xp) if backend.counters_on_device else found

        count = backend.elementwise(loss_scaling)

        def advance(opt_state: OptState, grads: Params) -> tuple[OptState, list[Any], list[Any]]:
            finite = all_finite(grads, backend)
            found = count(finite, *(opt_state[name] for name in names))
            if not backend.counters_on_device:
                found = _fitted(found, backend.xp)
            share, *counted = found[: 1 + own + kept]
            counters = dict(zip(names, counted, strict=False))
            return counters, [finite, share], list(found[1 + own + kept :])

        return advance


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


def _fitted(found: Sequence[Any], xp: Namespace) -> tuple[Any, ...]:
    """What a step finds in the dtypes that it began with; Python's numbers have made some wider.

    After one over the scale and the scale come the counts of good, of skipped and of all steps.
    """
    dtypes = [xp.int32 if 2 <= place <= 4 else xp.float32 for place in range(len(found))]
    pairs = zip(found, dtypes, strict=True)
    return tuple(one if one.dtype == dtype else xp.astype(one, dtype) for one, dtype in pairs)
