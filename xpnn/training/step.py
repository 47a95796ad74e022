"""One training step as a function of arrays alone, so that a backend may compile it."""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from xpnn.layers import Layer
from xpnn.layers.regularization import make_regularization
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.typing import Array, Loss, OptState, Params, State

Step = Callable[..., tuple[Params, State, OptState, Array]]


def make_train_step(
    network: Network, loss: Loss, optimizer: Optimizer, *, compile: bool | None = None
) -> Step:
    """Return ``step(params, state, opt_state, x, y, weight=None)``.

    It gives back ``(params, state, opt_state, value)`` after one step: forward, loss, backward,
    penalties, update, constraints. Inside, the network lends its layers the arrays it was given.
    Parameters, state and optimizer state are donated: keep what is returned and do not read what
    was passed.

    Args:
        compile: whether the step is made one unit (see ``Trainer``).
    """
    backend = network.backend
    update = optimizer.make_update(backend)
    trainable = network.trainable()
    penalize, constrain = make_regularization(network.regularizers(), backend)

    def step(
        params: Params,
        state: State,
        opt_state: OptState,
        x: Array,
        y: Array,
        weight: Array | None = None,
    ) -> tuple[Params, State, OptState, Array]:
        with network.holding(params, state):
            predictions = network.root.forward(x, training=True)
            value, delta = loss(predictions, y, sample_weight=weight, backend=backend)
            network.backward(delta, to_input=False)
            grads, state = network.grads, network.state
        learned = {name: grad for name, grad in grads.items() if name in trainable}
        value, learned = penalize(value, params, learned)
        params, opt_state = update(params, learned, opt_state)
        return constrain(params), state, opt_state, value

    known = _are_known(*_layers(network), loss, optimizer)
    return backend.compiled(step, donate=(0, 1, 2), wanted=compile, known=known)


def make_eval_step(
    network: Network, loss: Loss, metrics: tuple[Any, ...], *, compile: bool | None = None
) -> Callable[..., Any]:
    """Return ``step(params, state, x, y, weight=None) -> (value, [statistics of each metric])``."""
    backend = network.backend

    def step(
        params: Params, state: State, x: Array, y: Array, weight: Array | None = None
    ) -> tuple[Array, list[Array]]:
        with network.holding(params, state):
            predictions = network.root.forward(x)
            value, _ = loss(predictions, y, sample_weight=weight, backend=backend)
        return value, [metric.statistics(predictions, y, weight, backend.xp) for metric in metrics]

    known = _are_known(*_layers(network), loss, *metrics)
    return backend.compiled(step, wanted=compile, known=known)


def _layers(network: Network) -> list[Layer]:
    return [layer for _, layer in network.walk()]


def _are_known(*parts: Any) -> bool:
    """Whether all parts come with xpnn: these are functions of their arrays alone.

    A layer or loss of the user's may count its calls, draw numbers or print, and has to be called
    at every step, unless the user says otherwise.
    """
    kinds = [part if isinstance(part, FunctionType) else type(part) for part in map(_bare, parts)]
    return all(kind.__module__.partition(".")[0] == "xpnn" for kind in kinds)


def _bare(part: Any) -> Any:
    return part.func if isinstance(part, partial) else part
