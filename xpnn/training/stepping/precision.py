"""Mixed precision: layers compute in half precision, what has to be exact stays in float32."""

from collections.abc import Sequence
from typing import Any

from xpnn.arguments import KnownAttributes
from xpnn.backends import Backend
from xpnn.errors import BackendUnavailable
from xpnn.network import Network
from xpnn.optimizers.scaling import LossScaling
from xpnn.typing import Array, OptState, Params, State

HALVES = ("float16", "bfloat16")
FOR_LONG = 10  # skipped steps in a row


class MixedPrecision(KnownAttributes):
    """How a training step computes in half precision (Micikevicius et al., 2018, section 3).

    ::

        float32   parameters (the master weights), optimizer slots, penalties, the loss, running
                  statistics, and inside of layers all long sums
        half      copies of the parameters, made for each step; inputs, activations, deltas
        gradients half as layers write them, float32 from the optimizer's sweep on

    float16 ends at 65,504 and at 6e-8, so the first delta is multiplied by a scale, and the
    gradients are divided by it in the optimizer's sweep, before clipping and weight decay. Where a
    gradient is not finite, the step is skipped and the scale shrinks; after ``patience`` steps
    without one it grows. A skipped step leaves all as it was, but for the counts of dropout's
    draws. The decision is made on the device, and nobody waits for it.

    bfloat16 has the range of float32 and needs no scale. It has 8 significant bits, float16 has 11.

    Evaluation and prediction are in float32, with the master weights.

    Args:
        dtype: "float16" or "bfloat16".
        initial_scale: before the first step; 2^16 for float16 and no scaling for bfloat16, unless
            given.
        growth: what the scale is multiplied by after ``patience`` finite steps.
        shrink: what it is multiplied by where a gradient is not finite.
        patience: how many finite steps in a row it takes.

    Attributes:
        scaling: the rule of the scale, or None; ``Optimizer.init`` and ``make_update`` want it. In
            the optimizer state stand ``loss_scale``, ``good_steps`` and ``skipped_steps``.

    >>> MixedPrecision("float16")
    MixedPrecision('float16')
    """

    fixed = ("dtype", "initial_scale", "growth", "shrink", "patience", "scaling")

    def __init__(
        self,
        dtype: str = "float16",
        *,
        initial_scale: float | None = None,
        growth: float = 2.0,
        shrink: float = 0.5,
        patience: int = 2000,
    ):
        if dtype not in HALVES:
            raise ValueError(f"mixed precision is in 'float16' or 'bfloat16', got {dtype!r}")
        self.dtype = dtype
        scales = dtype == "float16" or initial_scale is not None
        if not scales and (growth, shrink, patience) != (2.0, 0.5, 2000):
            raise ValueError(
                f"growth, shrink and patience are those of a loss scale, and {dtype} needs none; "
                f"leave them out, or give an initial_scale"
            )
        start = 2.0**16 if initial_scale is None else initial_scale
        self.scaling = LossScaling(start, growth, shrink, patience) if scales else None

    def check(self, network: Network) -> None:
        """Whether ``network`` can be trained so.

        Raises:
            ValueError: its own dtype is not float32.
            BackendUnavailable: its library has no such dtype.
        """
        if network.dtype != "float32":
            raise ValueError(
                f"mixed precision keeps its parameters in float32, but this network was made with "
                f"dtype={network.dtype!r}; leave out one of the two"
            )
        missing = {one: _lack_of(one, network.backend) for one in HALVES}
        if missing[self.dtype] is not None:
            name = network.backend.name
            others = [f"precision={one!r}" for one in HALVES if missing[one] is None]
            others += ["backend='torch' or 'jax'", "no precision at all"]
            raise BackendUnavailable(
                f"{name} does not compute in {self.dtype}; choose {', or '.join(others)} "
                f"({missing[self.dtype]})"
            )

    def narrowed(self, x: Array, backend: Backend) -> Array:
        """Floats in half precision; integers, such as ids, as they are."""
        xp = backend.xp
        if not xp.isdtype(x.dtype, "real floating"):
            return x
        return xp.astype(x, backend.dtype(self.dtype), copy=False)

    def lent(
        self, params: Params, backend: Backend, groups: Sequence[Sequence[str]] = ()
    ) -> Params:
        """The copies that layers compute with; those of each group of small ones are made together.

        Args:
            groups: names of parameters that are updated together, and so may lie side by side.
        """
        lent: Params = {}
        grouped = {name for names in groups for name in names}
        others = {name: param for name, param in params.items() if name not in grouped}
        for names in (*groups, *backend.joint_groups(others)):
            joint = self.narrowed(backend.join([params[name] for name in names]), backend)
            shapes = [params[name].shape for name in names]
            lent |= zip(names, backend.split(joint, shapes), strict=True)
        return lent

    def __repr__(self) -> str:
        return f"MixedPrecision({self.dtype!r})"


def as_precision(given: Any, network: Network) -> MixedPrecision | None:
    """What a user writes, "float16" for short, found fit for ``network``."""
    if given is None:
        return None
    if isinstance(given, str):
        given = MixedPrecision(given)
    if not isinstance(given, MixedPrecision):
        raise TypeError(
            f"precision is 'float16', 'bfloat16', a MixedPrecision or None, got {given!r}"
        )
    given.check(network)
    return given


def skipped_steps(opt_state: OptState, backend: Backend) -> int:
    """How many steps were skipped; waits for the device."""
    if "skipped_steps" not in opt_state:
        return 0
    return int(backend.to_numpy(opt_state["skipped_steps"]))


class SkipWatch:
    """Notices where mixed precision takes no step any more, and says so once.

    That gradients overflow for a while is in the nature of a scale that looks for its size. Where
    it has come below 1, and steps are skipped all the same, it is not the scale that is to blame.
    """

    def __init__(self, steps: int, opt_state: OptState | None, backend: Backend):
        self.backend, self.has_told, self.in_a_row = backend, False, 0
        self.seen = steps, 0 if opt_state is None else skipped_steps(opt_state, backend)

    def is_stuck(self, steps: int, opt_state: OptState) -> bool:
        """Whether no step was taken for long, said once; waits for the device."""
        seen, self.seen = self.seen, (steps, skipped_steps(opt_state, self.backend))
        given, skipped = (now - before for now, before in zip(self.seen, seen, strict=True))
        self.in_a_row = self.in_a_row + given if given == skipped else 0
        if self.has_told or self.in_a_row < FOR_LONG:
            return False
        self.has_told = float(self.backend.to_numpy(opt_state["loss_scale"])) < 1.0
        return self.has_told


def state_after(new: State, old: State, taken: Array, backend: Backend) -> State:
    """The state after a step: running statistics and memories as they were, if it was skipped."""
    where = backend.xp.where
    return {
        name: where(taken, value, old[name]) if is_floats(value, backend) else value
        for name, value in new.items()
    }


def is_floats(value: Any, backend: Backend) -> bool:
    """Whether a part of a network's state is an array of floats, and no count."""
    return hasattr(value, "dtype") and backend.xp.isdtype(value.dtype, "real floating")


def _lack_of(dtype: str, backend: Backend) -> BackendUnavailable | None:
    """What a backend says of a dtype that it does not have."""
    try:
        backend.dtype(dtype)
    except BackendUnavailable as error:
        return error
    return None
