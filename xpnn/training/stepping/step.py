"""One training step as a function of arrays alone, so that a backend may compile it."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from operator import attrgetter
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from xpnn.layers.regularization import make_regularization
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.optimizers import Optimizer
from xpnn.training.state import TrainingState
from xpnn.training.stepping.accumulation import Gradients, accumulated
from xpnn.training.stepping.conversion import BatchConversion
from xpnn.training.stepping.flat_step import FlatStep
from xpnn.training.stepping.precision import MixedPrecision, state_after
from xpnn.typing import Array, Loss, OptState, Params, State

PLAIN = (bool, int, float, str, tuple, np.generic)

Step = Callable[..., tuple[Params, State, OptState, Array]]


def make_train_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    *,
    precision: MixedPrecision | None = None,
    accumulate: int = 1,
    compile: bool | None = None,
) -> Step:
    """Return ``step(params, state, opt_state, x, y, weight=None)``.

    It gives back ``(params, state, opt_state, value)`` after one step: forward, loss, backward,
    penalties, update, constraints. Inside, the network lends its layers the arrays it was given.
    Parameters, state and optimizer state are donated: keep what is returned and do not read what
    was passed.

    Args:
        precision: computes in half precision; the optimizer state then comes from
            ``optimizer.init(params, backend, precision.scaling)``.
        accumulate: in how many parts the batch is gone through (see ``Trainer``).
        compile: whether the step is made one unit (see ``Trainer``).
    """
    step = _make_step(network, loss, optimizer, precision, accumulate)
    finish = partial(_finished, network, loss, optimizer, precision, compile)
    return finish(step, donate=(0, 1, 2))


def make_flat_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    accumulate: int,
    compile: bool | None,
) -> FlatStep:
    """The same step on the arrays of the network where they lie, ``(opt_state, x, y, weight)``."""
    step = _make_step(network, loss, optimizer, precision, accumulate)
    return FlatStep(network, step, partial(_finished, network, loss, optimizer, precision, compile))


def _make_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    accumulate: int,
) -> Step:
    """The step by name, not yet compiled."""
    backend = network.backend
    scaling = None if precision is None else precision.scaling
    convert = BatchConversion(network, loss)
    update = optimizer.make_update(backend, scaling)
    trainable = network.trainable()
    penalize, constrain = make_regularization(network.regularizers(), backend)
    gradients = _make_gradients(network, loss, precision)
    if accumulate > 1:
        gradients = accumulated(gradients, network, loss, accumulate)

    def step(
        params: Params,
        state: State,
        opt_state: OptState,
        x: Array,
        y: Array,
        weight: Array | None = None,
    ) -> tuple[Params, State, OptState, Array]:
        x, y, weight = convert(x, y, weight)
        scale = None if scaling is None else opt_state["loss_scale"]
        lent = params if precision is None else precision.lent(params, backend)
        value, grads, after = gradients(lent, state, x, y, weight, scale)
        learned = {name: grad for name, grad in grads.items() if name in trainable}
        value, learned = penalize(value, params, learned, scale)
        params, new_opt_state = update(params, learned, opt_state)
        if scaling is not None:
            taken = scaling.taken(opt_state, new_opt_state)
            after = state_after(after, state, taken, backend)
        return constrain(params), after, new_opt_state, value

    return step


def _finished(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    compile: bool | None,
    step: Callable[..., Any],
    donate: tuple[int, ...],
) -> Callable[..., Any]:
    """The step compiled, on the network's device; half precision may overflow there."""
    backend = network.backend
    known = own_part(*_parts(network, loss, optimizer)) is None
    compiled = backend.compiled(step, donate, wanted=compile, known=known)
    if precision is None and isinstance(backend.on_device(), nullcontext):
        return compiled

    def in_its_place(*arguments: Any) -> Any:
        with backend.on_device(), nullcontext() if precision is None else backend.overflowing():
            return compiled(*arguments)

    in_its_place.__wrapped__ = compiled  # type: ignore[attr-defined]
    return in_its_place


def _make_gradients(network: Network, loss: Loss, precision: MixedPrecision | None) -> Gradients:
    """Forward, loss and backward."""
    backend, xp = network.backend, network.backend.xp

    def gradients(
        params: Params, state: State, x: Array, y: Array, weight: Array | None, factor: Any
    ) -> tuple[Array, Params, State]:
        with network.holding(params, state):
            x = x if precision is None else precision.narrowed(x, backend)
            predictions = network.root.forward(x, training=True)
            if precision is not None:
                predictions = widened(predictions, xp)
            value, delta = loss(predictions, y, sample_weight=weight, backend=backend)
            delta = delta if factor is None else delta * factor
            delta = delta if precision is None else precision.narrowed(delta, backend)
            network.backward(delta, to_input=False)
            return value, network.grads, network.state

    return gradients


def make_eval_step(
    network: Network, loss: Loss, metrics: tuple[Any, ...], *, compile: bool | None = None
) -> Callable[..., Any]:
    """Return ``step(params, state, x, y, weight=None) -> (value, [statistics of each metric])``."""
    backend, convert = network.backend, BatchConversion(network, loss)

    def step(
        params: Params, state: State, x: Array, y: Array, weight: Array | None = None
    ) -> tuple[Array, list[Array]]:
        x, y, weight = convert(x, y, weight)
        with network.holding(params, state):
            predictions = network.root.forward(x)
            value, _ = loss(predictions, y, sample_weight=weight, backend=backend)
        return value, [metric.statistics(predictions, y, weight, backend.xp) for metric in metrics]

    known = own_part(*network.all_layers, loss, *metrics) is None
    return backend.compiled(step, held=(0, 1), wanted=compile, known=known)


def described(network: Network) -> list[dict[str, Any]]:
    """The numbers and names by which each layer is described, such as ``{"rate": 0.5, ...}``.

    What is frozen and what is regularised is among them.
    """
    return [
        {
            key: value
            for key, value in vars(layer).items()
            if isinstance(value, PLAIN) and not key.startswith("_")
        }
        for layer in network.all_layers
    ]


class Settings:
    """What steps were made for: the values of attributes that may be changed between two of them.

    Of each layer these are its hyperparameters, its regularizers and whether it is frozen; beside
    them the loss, the optimizer with its hyperparameters, and what else the trainer was told. An
    array among the hyperparameters is only looked at where two settings are compared.
    """

    def __init__(self, state: TrainingState):
        layers = {f"layer{number}": layer for number, layer in enumerate(state.network.all_layers)}
        names, self._arrays = [], []
        for key, layer in layers.items():
            for name in layer.hyperparameters:
                value = getattr(layer, name)
                if hasattr(value, "shape"):
                    self._arrays.append(value)
                else:
                    names.append(f"{key}.{name}")
            if layer.params or layer.ties or layer.children():
                names.append(f"{key}.trainable")
            if layer.params:
                names.append(f"{key}.regularizers")
        self._state, self._layers = state, SimpleNamespace(**layers)
        self._of_state = attrgetter("loss", "optimizer", "metrics", "accumulate", "compile")
        self._of_layers = attrgetter(*names)
        self._own, self._inner = self._of_state(state), self._of_layers(self._layers)
        self._version = state.optimizer.version

    def hold(self) -> bool:
        """Whether nothing has changed since: looked at before every step, so in few calls."""
        state = self._state
        return bool(
            self._of_state(state) == self._own
            and self._of_layers(self._layers) == self._inner
            and state.optimizer.version is self._version
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Settings)
            and (self._own, self._inner) == (other._own, other._inner)
            and self._version is other._version
            and [*map(id, self._arrays)] == [*map(id, other._arrays)]
        )


def why_not_compiled(
    network: Network, loss: Loss, optimizer: Optimizer, compile: bool | None
) -> str | None:
    """Why training steps are not compiled, and what to write to have them compiled; None if so."""
    if compile is not None:
        return None if compile else "compile=False was given"
    name, compiles = network.backend.name, network.backend.compiles
    if compiles == "none":
        return f"backend {name!r} compiles no steps unless Trainer(..., compile=True) asks for it"
    own = None if compiles == "all" else own_part(*_parts(network, loss, optimizer))
    return own and (
        f"{own} is not xpnn's, and may count, print or draw; if what it returns depends on its "
        f"arguments alone, write Trainer(..., compile=True)"
    )


def _parts(network: Network, loss: Loss, optimizer: Optimizer) -> list[Any]:
    """All objects and functions that a training step calls."""
    rules = [rule for of_name in network.regularizers().values() for rule in of_name]
    clips = [optimizer.clip] if optimizer.clip else []
    return [*network.all_layers, *rules, loss, optimizer, *clips]


def own_part(*parts: Any) -> str | None:
    """The name of the first function among these parts that is the user's own, if there is one.

    All code in the package xpnn is known to depend on its arguments alone. A layer or loss of the
    user's, or a method put in place of one of xpnn's, on an object or on its class, may count its
    calls, draw numbers or print, and has to be called at every step, unless the user says
    otherwise.
    """
    for part in parts:
        bare = part.func if isinstance(part, partial) else part
        if isinstance(bare, FunctionType):
            if not _is_ours(bare):
                return bare.__qualname__
            continue
        kind = type(bare)
        if not _is_ours(kind):
            return kind.__qualname__
        replaced = [
            *(
                name
                for name in getattr(bare, "__dict__", ())
                if callable(getattr(kind, name, None))
            ),
            *(name for base in kind.__mro__ if _is_ours(base) for name in _foreign_methods(base)),
        ]
        if replaced:
            return f"{kind.__qualname__}.{replaced[0]}"
    return None


def _foreign_methods(kind: type) -> list[str]:
    """The methods of a class of xpnn's that were not written there."""
    return [
        name
        for name, value in vars(kind).items()
        if callable(value) and not isinstance(value, type) and not _is_ours(value)
    ]


def _is_ours(one: Any) -> bool:
    """Whether a class or function was written in xpnn, whatever ``functools.wraps`` says."""
    one = one.func if isinstance(one, partial) else getattr(one, "__func__", one)
    if isinstance(one, FunctionType):
        module = one.__globals__["__name__"]
    else:
        module = (one if isinstance(one, type) else type(one)).__module__
    return module.partition(".")[0] == "xpnn"
