"""What an update does to parameters that go together: one sweep of the rule, and all around it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnn.backends import Backend
from xpnn.optimizers.scaling import FINITE, UNSCALE
from xpnn.typing import Array, Namespace, Params

if TYPE_CHECKING:
    from xpnn.optimizers.base import Optimizer

CLIP = "gradients.clip"
"""The name of what ``Clipping.scale`` finds, among the numbers of a sweep."""


class Kind(NamedTuple):
    """What the parameters of one sweep have in common.

    Attributes:
        decay: whether they decay.
        whole: whether each of them is updated by itself, by ``rule_of_whole``.
        slots: the names of the slots that are kept for them.
        part: the number of the pattern in ``factors`` that they match, from 1 on; 0 for none.
    """

    decay: bool
    whole: bool
    slots: tuple[str, ...]
    part: int


class Together:
    """Which parameters go through one sweep, looked for once for all that are of the same form.

    Of the form are names, shapes and dtypes, and the kind of array: those of a recording are
    grouped in another way than arrays are.
    """

    def __init__(self, optimizer: "Optimizer", backend: Backend):
        self.optimizer, self.backend = optimizer, backend
        self._found: dict[Any, list[tuple[Kind, list[str]]]] = {}

    def of(self, params: Params, grads: Params) -> list[tuple[Kind, list[str]]]:
        """``updated_together`` of the optimizer.

        Raises:
            ValueError: a pattern of its ``factors`` is that of no parameter.
        """
        form = tuple(
            [
                (
                    name,
                    type(one),
                    one.shape,
                    one.dtype,
                    grads[name].dtype if name in grads else None,
                )
                for name, one in params.items()
            ]
        )
        if form not in self._found:
            self.optimizer.check_factors(params)
            self._found[form] = self.optimizer.updated_together(params, grads, self.backend)
        return self._found[form]


def make_sweep(
    optimizer: "Optimizer",
    fixed: Mapping[str, float],
    names: Sequence[str],
    kind: Kind,
    backend: Backend,
) -> Callable[..., Any]:
    """A rule with clipping before it, decay around it, and dtypes kept: one sweep in all.

    Args:
        optimizer: whose rule it is.
        fixed: its hyperparameters that are the same at every step.
        names: of the numbers that come behind the slots.
    """
    count, clip = len(kind.slots), optimizer.clip
    rule = optimizer.rule_of_whole if kind.whole else optimizer.rule

    def sweep(xp: Namespace, param: Array, grad: Array, *rest: Any) -> tuple[Array, ...]:
        slots, given = rest[:count], dict(zip(names, rest[count:], strict=True))
        narrow, wide = param.dtype, at_least_float32(xp, param.dtype)
        finite, limit = given.pop(FINITE, None), given.pop(CLIP, None)
        w = old = _as(xp, wide, param)
        g = _as(xp, wide, grad)
        if UNSCALE in given:
            g = g * given.pop(UNSCALE)
        if backend.counters_on_device:
            given = {name: _as(xp, wide, number) for name, number in given.items()}
        numbers = {**fixed, **given}
        strength = numbers.pop("weight_decay")
        if clip:
            g = clip.apply(xp, g, limit)
        if optimizer.own_decay:
            numbers["weight_decay"] = strength if kind.decay else 0.0
        elif kind.decay and optimizer.decoupled_decay:
            w = w - numbers["rate"] * strength * w
        elif kind.decay:
            g = g + strength * w
        w, *new_slots = rule(xp, w, g, *slots, **numbers)
        if finite is not None:
            w = xp.where(finite, w, old)
            new_slots = [xp.where(finite, *p) for p in zip(new_slots, slots, strict=True)]
        return (_as(xp, narrow, w), *(_as(xp, wide, slot) for slot in new_slots))

    sweep.__qualname__ = type(optimizer).__name__.lower() + ("_decay" if kind.decay else "")
    return sweep


def at_least_float32(xp: Namespace, dtype: Any) -> Any:
    """The dtype to work in: half precision would lose small steps."""
    return xp.float32 if xp.finfo(dtype).bits < 32 else dtype


def _as(xp: Namespace, dtype: Any, array: Array) -> Array:
    return array if array.dtype == dtype else xp.astype(array, dtype)
