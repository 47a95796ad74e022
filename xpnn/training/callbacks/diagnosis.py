"""StopOnNaN: which layer went bad first, and in which step."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np

from xpnn.agreeing import texts_of_all
from xpnn.arguments import KnownAttributes
from xpnn.backends import Backend
from xpnn.data.batches import Batches
from xpnn.errors import TrainingStopped
from xpnn.layers import Layer
from xpnn.layers.activated import Activated
from xpnn.layers.shadowing import shadowed
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.callbacks.hooks import Callback, Logs
from xpnn.training.running_mean import RunningMean
from xpnn.training.state import TrainingState
from xpnn.training.stepping.conversion import BatchForm, as_batch
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.precision import MixedPrecision
from xpnn.trees import leaves, tree_map
from xpnn.typing import Array, Arrays, Loss


class StopOnNaN(KnownAttributes, Callback):
    """Stops when the loss is NaN or infinite, and says which layer went bad first.

    The loss is looked at where it is read anyway, at log points, so watching costs no waiting. When
    it has gone bad, the network is put back to the last log point, the steps since are repeated one
    by one, and the first bad one is looked into layer by layer. A step may spoil the weights though
    its loss was fine: so these are looked at, too.

    Raises:
        TrainingStopped: from ``fit``. The network has the weights from before the bad step.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[float("nan")]], "0.dense.bias": [0.0]})
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[StopOnNaN()])
    >>> trainer.fit([[1.0], [2.0]], [[1.0], [0.0]], epochs=5, progress=False)
    Traceback (most recent call last):
    xpnn.errors.TrainingStopped: training went bad in epoch 1, step 1: the output of layer ...
    """

    steers: ClassVar[bool] = False

    def __init__(self) -> None:
        self._good: Snapshot | None = None
        self._step = 0

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        self._remember(state, state.epoch_steps)

    def on_log(self, state: TrainingState, step: int, logs: Logs) -> None:
        is_fine = math.isfinite(logs["loss"]) or state.losses.is_empty
        if not (is_fine and _parameters_are_finite(state.network)):
            self._explain(state, step)
        self._remember(state, step)

    def _remember(self, state: TrainingState, step: int) -> None:
        self._step = step
        self._good = Snapshot(state)

    def _explain(self, state: TrainingState, step: int) -> None:
        """Repeat the steps since the last log point until one goes bad."""
        assert self._good is not None
        network = state.network
        self._good.put_back(state)
        if not isinstance(state.batches, Batches):
            raise TrainingStopped(
                f"training went bad in epoch {state.epoch + 1}, between the steps "
                f"{self._step + 1} and {step}; batches of an iterable cannot be repeated to find "
                f"out where. The network has the weights from before these steps; try a smaller "
                f"rate, clip the gradients (clip=ClipByGlobalNorm(1.0)), or train on arrays"
            )
        for number in range(self._step, step):
            before = Snapshot(state)
            parts = BatchForm(network).whole(state.batches[number])
            x, y, weight = as_batch(network, *parts)
            rows = state.batches.local_rows(number)
            culprit = None
            if rows is None or any(part.count for part in rows):
                culprit = first_bad_layer(network, state.loss, x, y, weight, state.precision)
            culprit = _found_by_one(culprit, state)
            if culprit is None:
                state.advance(x, y, weight, rows)
                culprit = _first_bad_parameter(network)
            if culprit is not None:
                before.put_back(state)
                raise TrainingStopped(
                    f"training went bad in epoch {state.epoch + 1}, step {number + 1}: {culprit} "
                    f"is NaN or infinite. The network has the weights from before that step; try "
                    f"a smaller rate, clip the gradients (clip=ClipByGlobalNorm(1.0)), or look at "
                    f"the data of that batch"
                )
        raise TrainingStopped("the loss is no longer finite, though no layer is to blame for it")


def _found_by_one(culprit: str | None, state: TrainingState) -> str | None:
    """What this process has found in its rows, or, where several train, the first that has."""
    if state.communicator is None:
        return culprit
    found = texts_of_all(state.communicator, culprit or "")
    return next((f"{one}, in process {k}," for k, one in enumerate(found) if one), None)


class Snapshot:
    """Copies of what a training state holds, which no later step can touch."""

    def __init__(self, state: TrainingState):
        network = state.network
        self.steps, self.epoch_steps = state.steps, state.epoch_steps
        self.logged = state.logged
        state.losses.read()  # at a log point there is nothing left to wait for
        self.losses = state.losses.total, state.losses.weight
        self.arrays = _copied({**network.params, **network.state}, network.backend)
        self.opt_state = _copied(state.opt_state, network.backend)

    def put_back(self, state: TrainingState) -> None:
        """Make the state what it was."""
        state.network.load(self.arrays)
        state.opt_state = _copied(self.opt_state, state.network.backend)
        state.steps, state.epoch_steps = self.steps, self.epoch_steps
        state.logged = self.logged
        state.losses = RunningMean(state.network.backend, *self.losses)


def _copied(tree: Any, backend: Backend) -> Any:
    def copy(leaf: Any) -> Any:
        plain = leaf is None or isinstance(leaf, int | float)
        return leaf if plain else backend.xp.asarray(leaf, copy=True)

    return tree_map(copy, tree)


def first_bad_layer(
    network: Network,
    loss: Loss,
    x: Arrays,
    y: Arrays,
    weight: Array | None = None,
    precision: MixedPrecision | None = None,
) -> str | None:
    """What first turns NaN or infinite in a forward and backward pass, in words, or None.

    Looks at every layer that is not a container, in the order in which data flow. In mixed
    precision gradients are not scaled here: those that only the scale made infinite are no fault.
    """
    backend, params, state = network.backend, network.params, dict(network.state)
    spoilt: list[str] = []
    x, objective = network.asarray(x), Objective(network, loss)
    try:
        if precision is not None:
            network.params = precision.lent(params, backend)
            x = tree_map(partial(precision.narrowed, backend=backend), x)
        watched = shadowed(_watching(network, spoilt))
        with watched, backend.on_device(), backend.overflowing():
            predictions = network.root.forward(x, training=True)
            if precision is not None:
                predictions = tree_map(partial(widened, xp=backend.xp), predictions)
            value, delta = objective.measured(predictions, y, weight)
            if precision is not None:
                delta = tree_map(partial(precision.narrowed, backend=backend), delta)
            wholes = leaves(objective.weights(y, weight))
            empty = [float(backend.to_numpy(n) if backend.owns(n) else n) == 0 for n in wholes]
            means = zip(leaves(value), empty, strict=True)
            is_fine = all(nothing or _finite(one, backend) for one, nothing in means)
            if not spoilt and not (is_fine and _finite(delta, backend)):
                spoilt.append(f"the loss, {getattr(loss, '__name__', loss)},")
            if not spoilt:
                network.run_back(delta)
                grads = network.grads.items()
                found = (name for name, grad in grads if not _finite(grad, backend))
                spoilt += [f"the gradient of {name}" for name in found]
    finally:
        network.root.clear()
        network.params, network.state = params, state
    return spoilt[0] if spoilt else None


def _watching(
    network: Network, spoilt: list[str]
) -> Iterator[tuple[Layer, str, Callable[..., Any]]]:
    """In place of the methods of the innermost layers, ones that look at what these return.

    An activation is looked at with the layer around it, whose sums may be bad already.
    """

    def watched(run: Callable[..., Any], what: str) -> Callable[..., Any]:
        def look(*arguments: Any) -> Any:
            result = run(*arguments)
            if result is not None and not _finite(result, network.backend):
                spoilt.append(what)
            return result

        return look

    layers = dict(network.walk())
    for name, layer in layers.items():
        outer = layers.get(name.rpartition(".")[0])
        innermost = isinstance(layer, Activated) or not layer.children()
        if innermost and not isinstance(outer, Activated):
            for method, what in ("forward", "output"), ("backward", "input gradient"):
                own = getattr(layer, method)
                yield layer, method, watched(own, f"the {what} of layer {name}")


def _first_bad_parameter(network: Network) -> str | None:
    for name, param in network.params.items():
        if not _finite(param, network.backend):
            return f"the update of {name}"
    return None


def _parameters_are_finite(network: Network) -> bool:
    """Whether all parameters are finite, which takes one transfer from the device."""
    xp = network.backend.xp
    found = [xp.all(xp.isfinite(param)) for param in network.params.values()]
    return not found or bool(network.backend.to_numpy(xp.stack(found)).all())


def _finite(arrays: Arrays, backend: Backend) -> bool:
    found = [one for one in leaves(arrays) if one is not None]
    return all(bool(np.isfinite(backend.to_numpy(one)).all()) for one in found)
