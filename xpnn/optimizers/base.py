"""Optimizer: walks the named parameters; a subclass writes one rule for one parameter."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

from xpnn.backends import Backend
from xpnn.numerics import HOST
from xpnn.optimizers.clipping import Clipping
from xpnn.optimizers.scaling import Advance, LossScaling, on_device
from xpnn.optimizers.schedules import Hyper, ReduceOnPlateau, Schedule
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
    that change with every step, it names them in ``carried`` or ``derived`` and works them out in
    ``carry``.

    An optimizer object holds hyperparameters and nothing else. What changes from step to step is
    the optimizer state, made by ``init``: ``{"step": t, slot: {parameter: array}, ...}``. So one
    optimizer object may serve many networks, on many backends.

    Every hyperparameter is a number or a ``Schedule``.

    Args:
        rate: the learning rate.
        hyper: the subclass's own hyperparameters.
        weight_decay: pulls parameters towards zero: added to the gradient as ``weight_decay * w``
            (L2), or, where ``decoupled_decay`` is set, taken from the parameter as
            ``rate * weight_decay * w``.
        decays: ``(name, parameter) -> bool``, which parameters decay; ``matrices_only`` leaves out
            biases and norms.
        clip: limits the gradients before anything else: ``ClipByGlobalNorm`` or ``ClipByValue``.

    Attributes:
        slots: the names of the arrays kept for each parameter.
        carried: the starting values of the numbers that ``carry`` hands on from step to step.
        derived: the names of those that it works out beside them, for the ``rule`` of that step.
        fractions: hyperparameters that have to be below 1.
        decoupled_decay: which kind of weight decay it is.
    """

    slots: tuple[str, ...] = ()
    carried: ClassVar[dict[str, float]] = {}
    derived: tuple[str, ...] = ()
    fractions: ClassVar[frozenset[str]] = frozenset()
    decoupled_decay: ClassVar[bool] = False

    def __init__(
        self,
        rate: Hyper,
        hyper: Mapping[str, Hyper] | None = None,
        *,
        weight_decay: Hyper = 0.0,
        decays: Callable[[str, Array], bool] = every_parameter,
        clip: Clipping | None = None,
    ):
        given = {"rate": rate, "weight_decay": weight_decay, **(hyper or {})}
        self.hyper = {name: self._checked(name, value) for name, value in given.items()}
        if not (clip is None or isinstance(clip, Clipping)):
            raise TypeError(f"clip is an object such as ClipByGlobalNorm(1.0), got {clip!r}")
        self.decays, self.clip = decays, clip

    # What a kind of optimizer says about itself -------------------------------------------------

    def rule(
        self, xp: Namespace, param: Array, grad: Array, *slots: Any, **numbers: Any
    ) -> tuple[Array, ...]:
        """The new parameter and slots, given the old ones and the gradient.

        ``numbers`` are the hyperparameters but for ``weight_decay``, and what is carried.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def carry(
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> dict[str, Number]:
        """The carried and derived numbers of this step, 1, 2, ..., given those carried to it.

        ``xp`` is a namespace of Python numbers where counters are Python integers.
        """
        return carried

    # What every optimizer can do -----------------------------------------------------------------

    def init(
        self, params: Params, backend: Backend, scaling: LossScaling | None = None
    ) -> OptState:
        """The state before the first step, that of the loss scale included if there is one."""
        state: OptState = {"step": backend.counter()}
        state |= {name: backend.scalar(start) for name, start in self._numbers_at_start().items()}
        if scaling is not None:
            counters = {"step": 0, **self.carried}
            state |= {name: on_device(start, backend) for name, start in counters.items()}
            state |= scaling.init(backend)
        for slot in self.slots:
            state[slot] = {name: _zeros_beside(param, backend) for name, param in params.items()}
        return state

    def make_update(self, backend: Backend, scaling: LossScaling | None = None) -> Update:
        """``update(params, grads, opt_state) -> (params, opt_state)``, a pure function.

        Parameters without a gradient pass unchanged. Parameters and slots are donated.

        Args:
            scaling: by what the gradients are too large, if they are; ``init`` wants it too.
        """
        donate = (0, *range(2, 2 + len(self.slots)))
        sweep = {
            decay: backend.elementwise(
                self._whole_rule(decay, backend, scaling is not None), donate
            )
            for decay in (False, True)
        }
        advance = self._make_advance(backend, scaling)

        def update(params: Params, grads: Params, opt_state: OptState) -> tuple[Params, OptState]:
            params, slots = dict(params), {slot: dict(opt_state[slot]) for slot in self.slots}
            groups = self._updated_together(params, grads, backend)
            read, written = [params, grads, *slots.values()], [params, *slots.values()]
            scale: Number = 1.0
            if self.clip:
                share = None if scaling is None else 1.0 / opt_state["loss_scale"]
                scale = self.clip.scale_of(grads, share, backend.xp)
            joint = [  # only so far can memory run out: what follows writes over what is donated
                [backend.join([held[name] for name in names]) for held in read]
                for _, names in groups
            ]
            counted, guard, changing = advance(opt_state, grads)
            numbers = [*guard, scale, *changing]
            for (decay, names), columns in zip(groups, joint, strict=True):
                shapes = [params[name].shape for name in names]
                for held, new in zip(written, sweep[decay](*columns, *numbers), strict=True):
                    held.update(zip(names, backend.split(new, shapes), strict=True))
            return params, {**opt_state, **counted, **slots}

        return update

    def observe(self, opt_state: OptState, value: float, backend: Backend) -> OptState:
        """Tell the schedules that watch a value (ReduceOnPlateau) what it is after an epoch."""
        xp = backend.xp if backend.counters_on_device else HOST
        for name, plateau in self._plateaus().items():
            keys = [f"plateau.{name}.{key}" for key in plateau.watched]
            best, waited, scale = (opt_state[key] for key in keys)
            new = plateau.observe(value, best, waited, scale, xp)
            opt_state = {**opt_state, **dict(zip(keys, new, strict=True))}
        return opt_state

    def hyper_at(self, step: int, opt_state: OptState | None = None) -> dict[str, float]:
        """The hyperparameters that step number ``step`` (from 1) uses, for display.

        Given the optimizer state, with what ReduceOnPlateau has made of them; this reads a number
        from the device.
        """
        known = {} if opt_state is None else opt_state
        return {name: float(self._value(name, step, known, HOST)) for name in self.hyper}

    # How it is done -----------------------------------------------------------------------------

    def _checked(self, name: str, value: Any) -> Hyper:
        """A hyperparameter as a Schedule or a Python float; NumPy's would widen what they meet."""
        if isinstance(value, Schedule):
            return value
        if not isinstance(value, Real):
            raise TypeError(f"{name} is a number or a Schedule, got {value!r}")
        value = float(value)
        if not 0 <= value < (1.0 if name in self.fractions else math.inf):
            wanted = "in [0, 1)" if name in self.fractions else "of at least 0"
            raise ValueError(f"{type(self).__name__} needs {name} {wanted}, got {value}")
        return value

    def _plateaus(self) -> dict[str, ReduceOnPlateau]:
        found = {k: v.plateau for k, v in self.hyper.items() if isinstance(v, Schedule)}
        return {name: plateau for name, plateau in found.items() if plateau is not None}

    def _numbers_at_start(self) -> dict[str, float]:
        """All numbers in the optimizer state: what is carried, and what plateaus have seen."""
        plateaus = {
            f"plateau.{name}.{key}": start
            for name, plateau in self._plateaus().items()
            for key, start in plateau.watched.items()
        }
        return {**self.carried, **plateaus}

    def _value(self, name: str, step: Number, known: Mapping[str, Number], xp: Namespace) -> Number:
        """A hyperparameter at a step."""
        value = self.hyper[name]
        if not isinstance(value, Schedule):
            return value
        return value(step, xp) * known.get(f"plateau.{name}.scale", 1.0)

    def _changing(self) -> list[str]:
        """The names of the numbers that change from step to step, in the order of ``advance``."""
        scheduled = (name for name, value in self.hyper.items() if isinstance(value, Schedule))
        return [*self.carried, *self.derived, *scheduled]

    def _updated_together(
        self, params: Params, grads: Params, backend: Backend
    ) -> list[tuple[bool, list[str]]]:
        """Whether they decay, and the names, of the parameters of each sweep: of one kind."""
        decaying = self.hyper["weight_decay"] != 0.0
        kinds: dict[tuple[Any, ...], dict[str, Array]] = {}
        for name, grad in grads.items():
            param = params[name]
            decay = decaying and self.decays(name, param)
            kinds.setdefault((decay, param.dtype, grad.dtype), {})[name] = param
        return [
            (decay, names)
            for (decay, *_), alike in kinds.items()
            for names in backend.joint_groups(alike)
        ]

    def _make_advance(self, backend: Backend, scaling: LossScaling | None) -> Advance:
        """The counters after a step, and the numbers that change from step to step."""
        names, changing = list(self._numbers_at_start()), self._changing()
        own = [*self.carried, *self.derived]
        fixed = {name: v for name, v in self.hyper.items() if not isinstance(v, Schedule)}
        scheduled = [name for name in self.hyper if name not in fixed]

        def rule(xp: Namespace, step: Any, *given: Any) -> tuple[Any, ...]:
            step = step + 1
            if not changing:
                return (step,)
            time, known, hyper = step + 0.0, dict(zip(names, given, strict=True)), fixed.copy()
            for name in scheduled:
                hyper[name] = self._value(name, time, known, xp)
            made = self.carry(xp, time, hyper, known)
            numbers = [made[name] for name in own] + [hyper[name] for name in scheduled]
            if xp is HOST:
                return (step, *map(float, numbers))
            # + 0.0: a sweep on the device returns arrays of the old dtype, also of what is constant
            olds = [known.get(name, time) for name in changing]
            return (step, *(new + 0.0 * old for new, old in zip(numbers, olds, strict=True)))

        if scaling is not None:
            return scaling.make_advance(rule, ["step", *names], 1 + len(self.carried), backend)
        count = backend.counting(rule, donate=range(1 + len(self.carried)))

        def advance(opt_state: OptState, grads: Params) -> tuple[OptState, list[Any], list[Any]]:
            step, *changing = count(*(opt_state[name] for name in ("step", *names)))
            return {"step": step, **dict(zip(self.carried, changing, strict=False))}, [], changing

        return advance

    def _whole_rule(self, decay: bool, backend: Backend, guarded: bool) -> Callable[..., Any]:
        """``rule`` with clipping before it, decay around it, and dtypes kept: one sweep in all."""
        count, changing = len(self.slots), self._changing()
        fixed = {name: v for name, v in self.hyper.items() if not isinstance(v, Schedule)}

        def whole(xp: Namespace, param: Array, grad: Array, *rest: Any) -> tuple[Array, ...]:
            slots, rest = rest[:count], rest[count:]
            guard, (scale, *moved) = (rest[:2], rest[2:]) if guarded else ((), rest)
            narrow, wide = param.dtype, _at_least_float32(param.dtype, xp)
            old = param, grad = _as(wide, param, xp), _as(wide, grad, xp)
            if guard:
                grad = grad * guard[1]
            if backend.counters_on_device:
                moved = [_as(wide, number, xp) for number in moved]
            numbers = {**fixed, **dict(zip(changing, moved, strict=True))}
            strength = numbers.pop("weight_decay")
            if self.clip:
                grad = self.clip.apply(xp, grad, scale)
            if decay and self.decoupled_decay:
                param = param - numbers["rate"] * strength * param
            elif decay:
                grad = grad + strength * param
            param, *new_slots = self.rule(xp, param, grad, *slots, **numbers)
            if guard:
                param = xp.where(guard[0], param, old[0])
                new_slots = [xp.where(guard[0], *p) for p in zip(new_slots, slots, strict=True)]
            return (_as(narrow, param, xp), *(_as(wide, slot, xp) for slot in new_slots))

        whole.__qualname__ = type(self).__name__.lower() + ("_decay" if decay else "")
        return whole

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.hyper.items())
        return f"{type(self).__name__}({settings})"


def _at_least_float32(dtype: Any, xp: Namespace) -> Any:
    """The dtype to work in: half precision would lose small steps."""
    return xp.float32 if xp.finfo(dtype).bits < 32 else dtype


def _zeros_beside(param: Array, backend: Backend) -> Array:
    xp = backend.xp
    dtype = _at_least_float32(param.dtype, xp)
    return xp.zeros(param.shape, dtype=dtype, device=backend.device)


def _as(dtype: Any, array: Array, xp: Namespace) -> Array:
    return array if array.dtype == dtype else xp.astype(array, dtype)
