"""StopOnNaN: which layer went bad first, and in which step."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.errors import TrainingStopped
from xpnn.network import Network
from xpnn.training.callbacks import Callback, Logs
from xpnn.typing import Array, Loss

if TYPE_CHECKING:
    from xpnn.training.trainer import Trainer


class StopOnNaN(Callback):
    """Stops when the loss is NaN or infinite, and says which layer went bad first.

    The loss is looked at where it is read anyway, at log points, so watching costs no waiting. When
    it has gone bad, the network is put back to the last log point, the steps since are repeated one
    by one, and the first bad one is looked into layer by layer.

    Raises:
        TrainingStopped: from ``fit``. The network has the weights from before the bad step.
    """

    def __init__(self) -> None:
        self._good: tuple[dict[str, Any], Any, int] | None = None
        self._step = 0

    def on_epoch_begin(self, trainer: "Trainer", steps: int) -> None:
        self._remember(trainer, 0)

    def on_log(self, trainer: "Trainer", step: int, logs: Logs) -> None:
        if not math.isfinite(logs["loss"]):
            self._explain(trainer, step)
        self._remember(trainer, step)

    def _remember(self, trainer: "Trainer", step: int) -> None:
        self._step = step
        self._good = (*_copy_of(trainer), trainer.steps)  # type: ignore[assignment]

    def _explain(self, trainer: "Trainer", step: int) -> None:
        """Repeat the steps since the last log point until one goes bad."""
        assert trainer.batches is not None
        assert self._good is not None
        network = trainer.network
        arrays, trainer.opt_state, trainer.steps = self._good
        network.load(arrays)
        for number in range(self._step, step):
            before = _copy_of(trainer)
            x, y, weight = trainer.batches[number]
            culprit = first_bad_layer(network, trainer.loss, x, y, weight)
            if culprit is None:
                trainer.step(x, y, weight)
                culprit = _first_bad_parameter(network)
            if culprit is not None:
                network.load(before[0])
                trainer.opt_state = before[1]
                raise TrainingStopped(
                    f"training went bad in epoch {trainer.epoch + 1}, step {number + 1}: {culprit}. "
                    f"The network has the weights from before that step; try a smaller rate, clip "
                    f"the gradients (clip=ClipByGlobalNorm(1.0)), or look at the data of that batch"
                )
        raise TrainingStopped("the loss is no longer finite, though no layer is to blame for it")


def first_bad_layer(network: Any, loss: Any, x: Any, y: Any, weight: Any = None) -> str | None:
    """Where NaN or infinity first shows up in a forward and backward pass, in words, or None.

    Looks at every layer that is not a container, in the order in which data flow.
    """
    backend = network.backend
    state = dict(network.state)
    spoilt: list[str] = []
    leaves = [(name, layer) for name, layer in network.walk() if not layer.children()]

    def watch(name: str, run: Any, what: str) -> Any:
        def watched(*arguments: Any) -> Any:
            result = run(*arguments)
            if result is not None and not _finite(result, backend):
                spoilt.append(f"the {what} of layer {name}")
            return result

        return watched

    try:
        for name, layer in leaves:
            layer.forward = watch(name, layer.forward, "output")
            layer.backward = watch(name, layer.backward, "input gradient")
        predictions = network.forward(x, training=True)
        value, delta = loss(predictions, y, sample_weight=weight, backend=backend)
        if not spoilt and not (_finite(value, backend) and _finite(delta, backend)):
            spoilt.append(f"the loss, {getattr(loss, '__name__', loss)}")
        if not spoilt:
            network.backward(delta)
            spoilt += [
                f"the gradient of {name}" for name, g in network.grads.items() if not _finite(g, backend)
            ]
    finally:
        for _, layer in leaves:
            for method in ("forward", "backward"):
                layer.__dict__.pop(method, None)
        network.root.clear()
        network.state = state
    return f"{spoilt[0]} is NaN or infinite" if spoilt else None


def _first_bad_parameter(network: Any) -> str | None:
    for name, param in network.params.items():
        if not _finite(param, network.backend):
            return f"the update of {name} is NaN or infinite"
    return None


def _finite(array: Any, backend: Any) -> bool:
    return bool(np.isfinite(backend.to_numpy(array)).all())


def _copy_of(trainer: "Trainer") -> tuple[dict[str, Any], Any]:
    """Copies of a trainer's arrays that no later step can touch."""
    xp = trainer.network.backend.xp

    def copied(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: copied(one) for name, one in value.items()}
        return value if isinstance(value, int | float) else xp.asarray(value, copy=True)

    network = trainer.network
    arrays = copied({**network.params, **network.state})
    return arrays, None if trainer.opt_state is None else copied(trainer.opt_state)
