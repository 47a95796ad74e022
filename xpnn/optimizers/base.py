"""Optimizer: walks the named parameters; a subclass writes one rule for one parameter."""

import copy
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from operator import attrgetter
from typing import Any, ClassVar, Self

from xpnn.arguments import KnownAttributes
from xpnn.backends import Backend
from xpnn.numerics import HOST
from xpnn.optimizers.clipping import Clipping
from xpnn.optimizers.factors import Factors, times
from xpnn.optimizers.hyperparameters import Hyperparameters
from xpnn.optimizers.parameters import Parametrized
from xpnn.optimizers.scaling import (
    FINITE,
    UNSCALE,
    Advance,
    LossScaling,
    Numbers,
    on_device,
)
from xpnn.optimizers.schedules import Hyper, ReduceOnPlateau, Schedule
from xpnn.optimizers.sweeps import CLIP, Kind, Together, at_least_float32, make_sweep
from xpnn.typing import Array, Namespace, Number, OptState, Params, Shape

Update = Callable[..., tuple[Params, OptState]]


def matrices_only(name: str, param: Array) -> bool:
    """Decay matrices and kernels, but not biases or the scales of norms, which have one axis.

    Args:
        name: of a parameter, such as "0.dense.weight".
        param: its array.

    Returns:
        Whether it has two axes or more.

    >>> import numpy as np
    >>> from xpnn import AdamW
    >>> optimizer = AdamW(1e-3, decays=matrices_only)
    >>> matrices_only("0.dense.weight", np.zeros((2, 3)))
    True
    >>> matrices_only("0.dense.bias", np.zeros(3))
    False
    """
    return len(param.shape) > 1


def every_parameter(name: str, param: Array) -> bool:
    """Decay all that is trained.

    Args:
        name: of a parameter, such as "0.dense.weight".
        param: its array.

    Returns:
        True.

    >>> import numpy as np
    >>> every_parameter("0.dense.bias", np.zeros(3))
    True
    """
    return True


class Optimizer(Parametrized, KnownAttributes):
    """What all optimizers share: hyperparameters, weight decay, clipping, the walk over parameters.

    A new optimizer names its ``slots`` and writes ``rule``, which works out a parameter and its
    slots after a step. Numbers that a step works out once for all parameters, such as a bias
    correction, are the business of ``carry``. CONTRIBUTING.md has an example. An update that looks
    at all of a parameter, such as its norm, is a ``rule_of_whole``, for which ``sees_whole`` says
    that it is wanted.

    An optimizer object holds hyperparameters and nothing else. What changes from step to step is
    the optimizer state, made by ``init``: ``{"step": t, slot: {parameter: array}, ...}``. So one
    optimizer object may serve many networks, on many backends.

    Every hyperparameter is a number or a ``Schedule``, and an attribute of its name. Where it is
    changed, the next step of a ``Trainer`` goes by the new value.

    Args:
        rate: the learning rate.
        hyper: the subclass's own hyperparameters, by name.
        weight_decay: pulls parameters towards zero: added to the gradient as ``weight_decay * w``
            (L2), or, where ``decoupled_decay`` is set, taken from the parameter as
            ``rate * weight_decay * w``.
        decays: ``(name, parameter) -> bool``, which parameters decay; ``matrices_only`` leaves out
            biases and norms.
        clip: limits the gradients before anything else: ``ClipByGlobalNorm`` or ``ClipByValue``.
        factors: of rate and decay, by patterns of parameter names, as those of files are written:
            ``{"0.*": 0.1}`` takes a tenth of the rate in the first layer. A factor is a number or
            a schedule; ``{"*.bias": {"rate": 2.0, "weight_decay": 0.0}}`` says both. The first
            pattern that matches a name counts, and one that matches none is an error.

    Attributes:
        slots: the names of the arrays kept for a parameter, zero at first; ``slots_of`` says which
            it has, and of which shapes.
        carried: the numbers that ``carry`` hands on from step to step, and where they start.
        fractions: hyperparameters that have to be below 1.
        positive: hyperparameters that have to be above 0.
        decoupled_decay: which kind of weight decay it is.
        own_decay: whether it is neither, but the business of the rule, which then is given
            ``weight_decay``: 0 for parameters that do not decay.

    >>> from xpnn import Adam, ClipByGlobalNorm, Cosine, matrices_only
    >>> rate, clip = Cosine(1e-3, steps=1000), ClipByGlobalNorm(1.0)
    >>> optimizer = Adam(rate, weight_decay=1e-4, decays=matrices_only, clip=clip)
    >>> optimizer.hyper_at(501)["rate"]
    0.0005
    """

    slots: tuple[str, ...] = ()
    carried: ClassVar[dict[str, float]] = {}
    fractions: ClassVar[frozenset[str]] = frozenset()
    positive: ClassVar[frozenset[str]] = frozenset()
    decoupled_decay: ClassVar[bool] = False
    own_decay: ClassVar[bool] = False

    factors: Mapping[str, Any] | None = None  # an attribute of those alone that were given some
    fixed: ClassVar[tuple[str, ...]] = (
        "slots",
        "carried",
        "fractions",
        "positive",
        "decoupled_decay",
        "own_decay",
    )
    kept_as: ClassVar[dict[str, str]] = {"hyper": "nowhere"}
    _hyper: tuple[str, ...] = ()
    _version: object

    def __init__(
        self,
        rate: Hyper,
        hyper: Mapping[str, Hyper] | None = None,
        *,
        weight_decay: Hyper = 0.0,
        decays: Callable[[str, Array], bool] = every_parameter,
        clip: Clipping | None = None,
        factors: Mapping[str, Any] | None = None,
    ):
        given = {"rate": rate, "weight_decay": weight_decay, **(hyper or {})}
        self._hyper = tuple(given)
        for name, value in given.items():
            setattr(self, name, value)
        self.decays, self.clip = decays, clip
        if factors is not None:
            self.factors = factors

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._hyper:
            value = self._checked(name, value)
        if name == "clip" and not (value is None or isinstance(value, Clipping)):
            raise TypeError(f"clip is an object such as ClipByGlobalNorm(1.0), got {value!r}")
        if name == "decays" and not callable(value):
            raise TypeError(f"decays is a function such as matrices_only, got {value!r}")
        if name == "factors" and value is not None:
            value = Factors(value)
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if name == "factors" and value is None:  # as if none had been given, to a checkpoint, too
            del self.factors
        if not (value is before or (isinstance(value, Real) and value == before)):
            vars(self)["_version"] = object()

    version = property(
        attrgetter("_version"),  # no function of Python's: every step asks
        doc="""An object that is another one after each change of an attribute.

        So a step that was made for an optimizer as it was is known by one comparison.
        """,
    )

    # What a kind of optimizer says about itself -------------------------------------------------

    def rule(
        self, xp: Namespace, w: Array, g: Array, *slots: Any, **numbers: Any
    ) -> tuple[Array, ...]:
        """The parameter and its slots after a step: elementwise and pure.

        Args:
            xp: the namespace to compute with.
            w: the parameter.
            g: its gradient, clipped, and with the L2 decay added.
            *slots: in the order of ``slots``.
            **numbers: the hyperparameters but for ``weight_decay``, and what ``carry`` returns, all
                by name.

        Returns:
            ``(w, *slots)``, new arrays.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def sees_whole(self, name: str, param: Array) -> bool:
        """Whether a parameter is updated by ``rule_of_whole``, in place of ``rule``."""
        return False

    def rule_of_whole(
        self, xp: Namespace, w: Array, g: Array, *slots: Any, **numbers: Any
    ) -> tuple[Array, ...]:
        """The same as ``rule``, of one parameter alone, in its own shape: it may sum and multiply.

        It is pure, and made of the array API standard's functions.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define rule_of_whole")

    def slots_of(self, name: str, param: Array) -> dict[str, Shape]:
        """The slots that are kept for a parameter, with their shapes: all, and of its shape.

        A ``rule`` may rely on the shape; other ones are for a ``rule_of_whole``.
        """
        return dict.fromkeys(self.slots, param.shape)

    def carry(self, xp: Namespace, *_: Any, **numbers: Any) -> dict[str, Number]:
        """Numbers that ``rule`` gets beside the hyperparameters, worked out once a step.

        Args:
            xp: a namespace of Python numbers (``numerics.HOST``), or that of the backend where
                counters are 0-d arrays on the device.
            **numbers: ``step``, counted from 1 and a float; the hyperparameters; and those in
                ``carried``, as the step before has left them.

        Returns:
            Numbers by name. Those in ``carried`` have to be among them.
        """
        return {}

    # What every optimizer can do -----------------------------------------------------------------

    @property
    def hyper(self) -> Hyperparameters:
        """The hyperparameters by name, to be read; to change one, set the attribute."""
        return Hyperparameters({name: getattr(self, name) for name in self._hyper})

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor by name; the next step goes by them.

        A schedule stays as it was made: ``rate__start=0.1`` gives this optimizer another one, with
        another start.

        Raises:
            ValueError: there is no such argument; the message lists those that there are.
            TypeError, ValueError: the constructor refuses a value. Nothing was changed.

        >>> from xpnn import SGD
        >>> SGD(0.1).set_params(momentum=0.9, nesterov=True)
        SGD(rate=0.1, weight_decay=0.0, momentum=0.9)
        """
        made = vars(self.with_params(**params))  # its version, too, is another one
        if "factors" not in made:
            vars(self).pop("factors", None)
        vars(self).update(made)
        return self

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
        shapes = {name: self.slots_of(name, param) for name, param in params.items()}
        for slot in self.slots:
            state[slot] = {
                name: _zeros_beside(params[name], own[slot], backend)
                for name, own in shapes.items()
                if slot in own
            }
        return state

    def make_update(self, backend: Backend, scaling: LossScaling | None = None) -> Update:
        """``update(params, grads, opt_state, every=None) -> (params, opt_state)``, a pure function.

        Parameters without a gradient pass unchanged. Parameters and slots are donated. What looks
        at all gradients, such as a limit to their norm, looks at ``every``, where ``grads`` are
        some of them. The hyperparameters are those of now; what is changed later acts on a new
        update.

        Args:
            scaling: by what the gradients are too large, if they are; ``init`` wants it too.
        """
        parts = self._parts()
        made = parts[0]
        clip, slot_names = made.clip, made.slots
        wanted = (*slot_names, *made._numbers_at_start())
        of_all = [*([CLIP] if clip else []), *([] if scaling is None else [FINITE, UNSCALE])]
        names = [[*of_all, *part._changing()] for part in parts]
        labels = [[made._label(name, k) for name in of] for k, of in enumerate(names)]
        advance = made._make_advance(parts, backend, scaling)
        together = Together(made, backend)

        @functools.cache
        def sweep_of(kind: Kind) -> Callable[..., Any]:
            part = parts[kind.part]
            sweep = make_sweep(part, part._fixed_numbers(), names[kind.part], kind, backend)
            if kind.whole:
                return functools.partial(sweep, backend.xp)
            return backend.elementwise(sweep, (0, *range(2, 2 + len(kind.slots))))

        def update(
            params: Params, grads: Params, opt_state: OptState, every: Params | None = None
        ) -> tuple[Params, OptState]:
            made._check_state(opt_state, wanted)
            groups = together.of(params, grads)
            params, slots = dict(params), {slot: dict(opt_state[slot]) for slot in slot_names}
            limit: Numbers = {}
            if clip:
                share = None if scaling is None else 1.0 / opt_state["loss_scale"]
                limited = grads if every is None else every
                limit = {CLIP: clip.scale_of(backend.xp, limited, share)}
            joint = [  # only so far can memory run out: what follows writes over what is donated
                [
                    backend.join([held[name] for name in alike])
                    for held in (params, grads, *(slots[slot] for slot in kind.slots))
                ]
                for kind, alike in groups
            ]
            looked_at = [grad for _, grad, *_ in joint] if every is None else [*every.values()]
            counted, found = advance(opt_state, looked_at)
            numbers = found | limit
            for (kind, alike), columns in zip(groups, joint, strict=True):
                values = [numbers[label] for label in labels[kind.part]]
                written = [params, *(slots[slot] for slot in kind.slots)]
                shapes = [params[name].shape for name in alike]
                for held, new in zip(written, sweep_of(kind)(*columns, *values), strict=True):
                    held.update(zip(alike, backend.split(new, shapes), strict=True))
            return params, {**opt_state, **counted, **slots}

        return update

    def observe(self, opt_state: OptState, value: float, backend: Backend) -> OptState:
        """Tell the schedules that watch a value (ReduceOnPlateau) what it is after an epoch."""
        xp = backend.xp if backend.counters_on_device else HOST
        for name, plateau in self._plateaus().items():
            keys = [f"plateau.{name}.{key}" for key in plateau.watched]
            best, waited, scale = (opt_state[key] for key in keys)
            new = plateau.observe(xp, value, best, waited, scale)
            opt_state = {**opt_state, **dict(zip(keys, new, strict=True))}
        return opt_state

    def hyper_at(self, step: int, opt_state: OptState | None = None) -> dict[str, float]:
        """The hyperparameters that step number ``step`` (from 1) uses, for display.

        Given the optimizer state, with what ReduceOnPlateau has made of them; this reads a number
        from the device.
        """
        known = {} if opt_state is None else opt_state
        return {k: float(self._value(HOST, k, v, step, known)) for k, v in self.hyper.items()}

    # How it is done -----------------------------------------------------------------------------

    def _checked(self, name: str, value: Any) -> Hyper:
        """A hyperparameter as a Schedule or a Python float; NumPy's would widen what they meet."""
        if not isinstance(value, Real | Schedule) or isinstance(value, bool):
            if isinstance(value, Iterable) and not isinstance(value, str):
                raise TypeError(
                    f"{name} is a number or a Schedule, got a {type(value).__name__}; parameters "
                    f"are not given to an optimizer: write Trainer(network, loss, optimizer)"
                )
            raise TypeError(f"{name} is a number or a Schedule, got {value!r}")
        given = value if isinstance(value, Schedule) else float(value)
        for number in given.ends if isinstance(given, Schedule) else (given,):
            if not 0 <= number < (1.0 if name in self.fractions else math.inf):
                wanted = "in [0, 1)" if name in self.fractions else "of at least 0"
                raise ValueError(f"{type(self).__name__} needs {name} {wanted}, got {value}")
            if number == 0 and name in self.positive:
                raise ValueError(f"{type(self).__name__} needs {name} above 0, got {value}")
        return given

    def _check_state(self, opt_state: OptState, wanted: tuple[str, ...]) -> None:
        """Raise ValueError unless the state has all that is wanted; a change may want more."""
        if missing := [name for name in wanted if name not in opt_state]:
            raise ValueError(
                f"{self!r} wants {', '.join(missing)} in the optimizer's state, which was begun "
                f"without, before a hyperparameter was changed: change it back, or begin with a "
                f"new state (trainer.opt_state = None, or updater.opt_state = None)"
            )

    def check_factors(self, params: Params) -> None:
        """Raise ValueError unless each pattern of ``factors`` matches one of these parameters."""
        if isinstance(self.factors, Factors):
            self.factors.check_names(params)

    def _parts(self) -> "list[Optimizer]":
        """This optimizer as it is now, and with the factors of each part, by ``Kind.part``."""
        parts = [copy.copy(self)]
        for factors in (self.factors or {}).values():
            part = copy.copy(self)
            for name, factor in factors.items():
                setattr(part, name, times(getattr(self, name), factor))
            parts.append(part)
        return parts

    def _label(self, name: str, part: int) -> str:
        """What a number is called among those of all parts, which share what is carried."""
        return (
            name if not part or name in (CLIP, FINITE, UNSCALE, *self.carried) else f"{part}.{name}"
        )

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

    @staticmethod
    def _value(
        xp: Namespace, name: str, value: Hyper, step: Number, known: Mapping[str, Number]
    ) -> Number:
        """A hyperparameter at a step."""
        if not isinstance(value, Schedule):
            return value
        return value(step, xp) * known.get(f"plateau.{name}.scale", 1.0)

    def _fixed_numbers(self) -> dict[str, float]:
        """The hyperparameters that are the same at every step."""
        return {name: v for name, v in self.hyper.items() if not isinstance(v, Schedule)}

    def _changing(self) -> tuple[str, ...]:
        """The names of the numbers that change from step to step, those in ``carried`` first."""
        found = self.carry(HOST, step=1.0, **self.hyper_at(1), **self.carried)
        if missing := [name for name in self.carried if name not in found]:
            raise ValueError(
                f"{type(self).__name__} has {', '.join(missing)} in carried, so carry has to "
                f"return it; it returned {', '.join(found) or 'nothing'}"
            )
        scheduled = [name for name, value in self.hyper.items() if isinstance(value, Schedule)]
        return tuple(dict.fromkeys((*self.carried, *found, *scheduled)))

    def _make_advance(
        self, parts: "Sequence[Optimizer]", backend: Backend, scaling: LossScaling | None
    ) -> Advance:
        """What changes once a step, for the parameters of each part; see ``Advance``."""
        carried = tuple(self.carried)
        before, after = ("step", *self._numbers_at_start()), ("step", *carried)
        wanted = [  # what is carried is that of the first part, which comes last
            (part._make_count(), {name: self._label(name, k) for name in part._changing()})
            for k, part in reversed(list(enumerate(parts)))
        ]
        # those in ``carried`` first
        changing = tuple(dict.fromkeys(one for _, of in reversed(wanted) for one in of.values()))

        def rule(xp: Namespace, *values: Any) -> tuple[Any, ...]:
            """The step after this one, and the numbers in ``changing``."""
            step = values[0] + 1
            if not changing:
                return (step,)
            old = dict(zip(before, values, strict=True))
            found: Numbers = {}
            for count, labels in wanted:
                numbers = count(xp, old)
                for name, label in labels.items():
                    found[label] = numbers[name]
            if xp is HOST:
                return (step, *[float(found[name]) for name in changing])
            # + 0.0: a sweep on the device returns arrays of the old dtype, also of constants
            return (step, *[found[name] + 0.0 * old.get(name, step + 0.0) for name in changing])

        if scaling is not None:
            return scaling.make_advance(rule, before, after, changing, backend)
        counted = backend.counting(rule, donate=range(len(after)))

        def advance(opt_state: OptState, grads: Sequence[Array]) -> tuple[OptState, Numbers]:
            step, *numbers = counted(*(opt_state[name] for name in before))
            found = dict(zip(changing, numbers, strict=True))
            return {"step": step, **{name: found[name] for name in carried}}, found

        return advance

    def _make_count(self) -> Callable[[Namespace, Numbers], Numbers]:
        """What gives the hyperparameters that follow schedules, and what ``carry`` returns."""
        fixed, carried = self._fixed_numbers(), tuple(self.carried)
        scheduled = {name: v for name, v in self.hyper.items() if isinstance(v, Schedule)}

        def count(xp: Namespace, old: Numbers) -> Numbers:
            time = old["step"] + 1.0
            hyper = {k: self._value(xp, k, v, time, old) for k, v in scheduled.items()}
            kept = {name: old[name] for name in carried}
            return hyper | self.carry(xp, step=time, **fixed, **hyper, **kept)

        return count

    def updated_together(
        self, params: Params, grads: Params, backend: Backend
    ) -> list[tuple[Kind, list[str]]]:
        """The names of the parameters of each sweep, and of which kind they are.

        Args:
            grads: of each parameter that is updated; only its dtype counts.
        """
        decay: Any = self.hyper["weight_decay"]
        decaying, numbered = [decay != 0.0], {}
        if isinstance(self.factors, Factors):
            of_decay = (one.get("weight_decay", 1.0) for one in self.factors.values())
            decaying += [decay != 0.0 and factor != 0.0 for factor in of_decay]
            numbered = self.factors.numbers(params)
        kinds: dict[tuple[Any, ...], dict[str, Array]] = {}
        for name in (one for one in params if one in grads):
            param, part = params[name], numbered.get(name, 0)
            kind = Kind(
                decaying[part] and self.decays(name, param),
                self.sees_whole(name, param),
                tuple(self.slots_of(name, param)),
                part,
            )
            kinds.setdefault((kind, param.dtype, grads[name].dtype), {})[name] = param
        return [
            (kind, names)
            for (kind, *_), alike in kinds.items()
            for names in ([[name] for name in alike] if kind.whole else backend.joint_groups(alike))
        ]

    def __repr__(self) -> str:
        factors = {} if self.factors is None else {"factors": self.factors}
        settings = ", ".join(f"{name}={value}" for name, value in {**self.hyper, **factors}.items())
        return f"{type(self).__name__}({settings})"


def _zeros_beside(param: Array, shape: Shape, backend: Backend) -> Array:
    xp = backend.xp
    dtype = at_least_float32(xp, param.dtype)
    return xp.zeros(shape, dtype=dtype, device=backend.device)
