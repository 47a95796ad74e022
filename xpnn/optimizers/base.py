"""Optimizer: walks the named parameters; a subclass writes one rule for one parameter."""

from collections.abc import Callable
from typing import Any, ClassVar

from xpnn.backends import Backend
from xpnn.numerics import HOST
from xpnn.optimizers.clipping import Clipping
from xpnn.optimizers.schedules import ReduceOnPlateau, Schedule
from xpnn.typing import Array, Namespace, Number, OptState, Params

Update = Callable[[Params, Params, OptState], tuple[Params, OptState]]


def matrices_only(name: str, param: Array) -> bool:
    """Decay matrices and kernels, but not biases or the scales of norms, which have one axis."""
    return len(param.shape) > 1


def every_parameter(name: str, param: Array) -> bool:
    """Decay all that is trained."""
    return True


class Optimizer:
    """What all optimizers share: hyperparameters, weight decay, clipping, the walk over parameters.

    A new optimizer names its ``slots`` (arrays kept for each parameter, zero at first) and writes
    ``rule``, which is elementwise and pure: arrays in, arrays out. Where the rule needs numbers
    beyond its hyperparameters, it names them in ``carried`` and works them out in ``numbers``.

    An optimizer object holds hyperparameters and nothing else. What changes from step to step is
    the optimizer state, made by ``init``: ``{"step": t, slot: {parameter: array}, ...}``. So one
    optimizer object may serve many networks, on many backends.

    Every hyperparameter is a number or a ``Schedule``.

    Args:
        rate: the learning rate.
        weight_decay: pulls parameters towards zero: added to the gradient as ``weight_decay * w``
            (L2), or, where ``decoupled_decay`` is set, taken from the parameter as
            ``rate * weight_decay * w``.
        decays: ``(name, parameter) -> bool``, which parameters decay; ``matrices_only`` leaves out
            biases and norms.
        clip: limits the gradients before anything else: ``ClipByGlobalNorm`` or ``ClipByValue``.
        hyper: the subclass's hyperparameters, in the order in which ``rule`` takes them.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    carried: ClassVar[dict[str, float]] = {}
    decoupled_decay: ClassVar[bool] = False

    def __init__(
        self,
        rate: float | Schedule,
        *,
        weight_decay: float | Schedule = 0.0,
        decays: Callable[[str, Array], bool] = every_parameter,
        clip: Clipping | None = None,
        **hyper: float | Schedule,
    ):
        self.hyper: dict[str, float | Schedule] = {
            "rate": rate,
            "weight_decay": weight_decay,
            **hyper,
        }
        for name, value in self.hyper.items():
            if not isinstance(value, Schedule | int | float):
                raise TypeError(f"{name} is a number or a Schedule, got {value!r}")
            if not isinstance(value, Schedule) and not value >= 0:
                raise ValueError(f"{type(self).__name__} needs {name} of at least 0, got {value}")
        self.decays, self.clip = decays, clip

    # What a kind of optimizer says about itself -------------------------------------------------

    def rule(self, xp: Namespace, param: Array, grad: Array, *slots_and_numbers: Any) -> Any:
        """The new parameter and slots, given the old ones, the gradient and ``numbers``."""
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def numbers(
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> tuple[tuple[Number, ...], dict[str, Number]]:
        """What ``rule`` takes behind the slots, and the carried numbers for the next step.

        ``xp`` is a namespace of Python numbers where counters are Python integers.
        """
        return tuple(v for k, v in hyper.items() if k != "weight_decay"), carried

    # What every optimizer can do -----------------------------------------------------------------

    def init(self, params: Params, backend: Backend) -> OptState:
        """The state before the first step."""
        state: OptState = {"step": backend.counter()}
        state |= {name: backend.scalar(start) for name, start in self.carried.items()}
        for name in self._plateaus():
            state[f"plateau.{name}"] = backend.scalar(1.0)
        for slot in self.slots:
            state[slot] = {name: self._slot(param, backend) for name, param in params.items()}
        return state

    def make_update(self, backend: Backend) -> Update:
        """``update(params, grads, opt_state) -> (params, opt_state)``, a pure function.

        Parameters without a gradient pass unchanged. Gradients and slots are donated.
        """
        donate = (0, *range(2, 2 + len(self.slots)))
        sweep = {
            decay: backend.elementwise(self._whole_rule(decay), donate) for decay in (False, True)
        }
        prepare = self._make_prepare(backend)
        decaying = self.hyper["weight_decay"] != 0.0

        def update(params: Params, grads: Params, opt_state: OptState) -> tuple[Params, OptState]:
            numbers, after = prepare(opt_state)
            scale = self.clip.scale(grads, backend.xp) if self.clip else 1.0
            new_params, new_slots = dict(params), [dict(opt_state[slot]) for slot in self.slots]
            for name, grad in grads.items():
                param = params[name]
                slots = [opt_state[slot][name] for slot in self.slots]
                decay = decaying and self.decays(name, param)
                new_params[name], *after_slots = sweep[decay](param, grad, *slots, scale, *numbers)
                for kept, new in zip(new_slots, after_slots, strict=True):
                    kept[name] = new
            return new_params, {**opt_state, **after, **dict(zip(self.slots, new_slots, strict=True))}

        return update

    def observe(self, opt_state: OptState, value: float, backend: Backend) -> OptState:
        """Tell the schedules that watch a value (ReduceOnPlateau) what it is after an epoch."""
        for name, schedule in self._plateaus().items():
            factor = schedule.observe(value)
            opt_state = {**opt_state, f"plateau.{name}": backend.scalar(factor)}
        return opt_state

    def hyper_at(self, step: int) -> dict[str, float]:
        """The hyperparameters that step number ``step`` (from 1) uses, for display."""
        return {
            name: float(value(step, HOST)) if isinstance(value, Schedule) else float(value)
            for name, value in self.hyper.items()
        }

    def _plateaus(self) -> dict[str, ReduceOnPlateau]:
        return {k: v for k, v in self.hyper.items() if isinstance(v, ReduceOnPlateau)}

    def _slot(self, param: Array, backend: Backend) -> Array:
        """Zeros beside a parameter, of its dtype, but of at least 32 bits."""
        xp = backend.xp
        if _is_half(param, xp):
            return xp.zeros(param.shape, dtype=xp.float32, device=backend.device)
        return xp.zeros_like(param)

    def _make_prepare(self, backend: Backend) -> Callable[[OptState], tuple[Any, OptState]]:
        """``prepare(opt_state)``: this step's numbers, and the counters after it."""
        names = [*self.carried, *(f"plateau.{name}" for name in self._plateaus())]

        def rule(xp: Namespace, step: Any, *carried: Any) -> tuple[Any, ...]:
            step = step + 1
            time = xp.astype(step, xp.float32) if backend.counters_on_device else step
            known = dict(zip(names, carried, strict=True))
            hyper = {
                name: value(time, xp) * known.get(f"plateau.{name}", 1.0)
                if isinstance(value, Schedule)
                else value
                for name, value in self.hyper.items()
            }
            numbers, after = self.numbers(xp, time, hyper, {k: known[k] for k in self.carried})
            numbers = (hyper["weight_decay"], *numbers)
            if backend.counters_on_device:  # a compiled rule returns arrays only
                numbers = tuple(number + 0.0 * time for number in numbers)
            return (step, *after.values(), *numbers)

        def prepare(opt_state: OptState) -> tuple[Any, OptState]:
            carried = [opt_state[name] for name in names]
            if backend.counters_on_device:
                step, *rest = on_device(opt_state["step"], *carried)
            else:
                step, *rest = rule(HOST, opt_state["step"], *carried)
            after = dict(zip(self.carried, rest, strict=False))
            return rest[len(self.carried) :], {"step": step, **after}

        on_device = backend.elementwise(rule)
        return prepare

    def _whole_rule(self, decay: bool) -> Callable[..., Any]:
        """``rule`` with clipping before it, decay around it, and dtypes kept: one sweep in all."""
        count = len(self.slots)

        def whole(xp: Namespace, param: Array, grad: Array, *rest: Any) -> tuple[Array, ...]:
            slots, (scale, strength, *numbers) = rest[:count], rest[count:]
            dtype, wide = param.dtype, slots[0].dtype if slots else param.dtype
            if wide != dtype:
                param, grad = xp.astype(param, wide), xp.astype(grad, wide)
            if self.clip:
                grad = self.clip.apply(xp, grad, scale)
            if decay and self.decoupled_decay:
                param = param - numbers[0] * strength * param
            elif decay:
                grad = grad + strength * param
            new = self.rule(xp, param, grad, *slots, *numbers)
            dtypes = (dtype, *[wide] * count)
            return tuple(
                a if a.dtype == d else xp.astype(a, d) for a, d in zip(new, dtypes, strict=True)
            )

        whole.__qualname__ = type(self).__name__.lower() + ("_decay" if decay else "")
        return whole

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.hyper.items())
        return f"{type(self).__name__}({settings})"


def _is_half(param: Array, xp: Namespace) -> bool:
    return xp.finfo(param.dtype).bits < 32
