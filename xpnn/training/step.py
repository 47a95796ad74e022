"""One training step as a function of arrays alone, so that a backend may compile it."""

from collections.abc import Callable
from typing import Any

from xpnn.layers.regularization import make_regularization
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.typing import Array, Loss, OptState, Params, State

Step = Callable[..., tuple[Params, State, OptState, Array]]


def make_train_step(network: Network, loss: Loss, optimizer: Optimizer) -> Step:
    """Return ``step(params, state, opt_state, x, y, weight=None)``.

    It gives back ``(params, state, opt_state, value)`` after one step: forward, loss, backward,
    penalties, update, constraints. Inside, the network lends its layers the arrays it was given.
    Parameters, state and optimizer state are donated: keep what is returned and do not read what
    was passed.
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

    return backend.compile(step, donate=(0, 1, 2))


def make_eval_step(network: Network, loss: Loss, metrics: tuple[Any, ...]) -> Callable[..., Any]:
    """Return ``step(params, state, x, y, weight=None) -> (value, [statistics of each metric])``."""
    backend = network.backend

    def step(
        params: Params, state: State, x: Array, y: Array, weight: Array | None = None
    ) -> tuple[Array, list[Array]]:
        with network.holding(params, state):
            predictions = network.root.forward(x)
            value, _ = loss(predictions, y, sample_weight=weight, backend=backend)
        return value, [metric.statistics(predictions, y, weight, backend.xp) for metric in metrics]

    return backend.compile(step)
