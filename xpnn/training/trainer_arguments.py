"""What a trainer is made of, in the forms in which it may be given."""

from collections.abc import Mapping
from typing import Any

from xpnn.losses.by_output import ByOutput, losses_of
from xpnn.losses.weights import unbound
from xpnn.metrics import Metric
from xpnn.metrics.by_output import OfOutput
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.training.callbacks.hooks import Callback


def as_loss(loss: Any, weights: Any) -> Any:
    """A loss, or one for each output."""
    if isinstance(loss, Mapping | list | tuple):
        return ByOutput(loss, weights)
    if weights is not None:
        raise TypeError(
            f"loss_weights go with a loss for each of several outputs, got them beside {loss!r}; "
            f"leave them out"
        )
    if not callable(loss):
        raise TypeError(f"Trainer wants loss to be a function, or a name, got {loss!r}")
    return loss


def as_metrics(metrics: Any, network: Any) -> Any:
    """Metrics of several outputs, which are given by the names of these, each knowing its own."""
    if not (isinstance(metrics, Mapping) and isinstance(network, Network)):
        return metrics
    names = network.output_names
    if unknown := [name for name in metrics if name not in names]:
        raise ValueError(
            f"metrics: wanted lists by the names of outputs, {', '.join(names)}, got "
            f"{', '.join(map(repr, unknown))}"
        )
    return [
        OfOutput(metric, name, names.index(name))
        for name, own in metrics.items()
        for metric in (own if isinstance(own, list | tuple) else [own])
    ]


def as_parts(accumulate: int) -> int:
    """In how many parts a batch is gone through; raises ValueError for less than one."""
    if accumulate < 1:
        raise ValueError(f"accumulate counts the parts of a batch, at least 1, got {accumulate}")
    return int(accumulate)


def check_parts(network: Any, optimizer: Any, metrics: Any, callbacks: Any) -> None:
    """Say at once which argument is of the wrong kind, and what it should be."""
    if not isinstance(metrics, tuple | list):
        hint = f"; write [{metrics!r}]" if isinstance(metrics, str | Metric) else ""
        raise TypeError(f"metrics: wanted a list of objects, got {metrics!r}{hint}")
    wanted = [
        ("network", network, Network, "Network([...], input_shape=...)"),
        ("optimizer", optimizer, Optimizer, "an object such as Adam(1e-3)"),
        *(("metrics", metric, Metric, "objects such as [Accuracy()]") for metric in metrics),
    ]
    for name, value, kind, example in wanted:
        if not isinstance(value, kind):
            raise TypeError(f"{name}: wanted {example}, got {value!r}")
    outputs = network.output_names
    for metric in metrics if len(outputs) > 1 else ():
        if not isinstance(metric, OfOutput) and type(metric).__module__.startswith("xpnn."):
            raise ValueError(
                f"metrics: wanted lists by the names of outputs, {', '.join(outputs)}, got "
                f"{metric!r} for none of them"
            )
    check_callbacks(callbacks)


def check_samples_alone(network: Network, loss: Any) -> None:
    """Refuse what looks across the samples of a batch, of which other processes have some."""
    for name, layer in network.walk():
        if layer.across_samples:
            raise ValueError(
                f"distributed: wanted layers that see each sample by itself, as every process has "
                f"some samples of a batch, got layer {name!r}, {layer!r}, which goes from one "
                f"sample to others; leave it out, sum by self.replica, or train in one process"
            )
    for output, one, _ in losses_of(loss, network.output_names):
        function = unbound(one)[0]
        if getattr(function, "across_samples", False):
            called = getattr(function, "__name__", repr(function))
            raise ValueError(
                f"distributed: wanted losses of each sample by itself, as every process has some "
                f"samples of a batch, got {called} for {output!r}, which compares samples; take "
                f"another loss, or train in one process"
            )


def check_callbacks(callbacks: Any) -> None:
    """Refuse what is no list of callbacks."""
    if not isinstance(callbacks, tuple | list):
        hint = f"; write [{callbacks!r}]" if isinstance(callbacks, Callback) else ""
        raise TypeError(f"callbacks: wanted a list of objects, got {callbacks!r}{hint}")
    for one in callbacks:
        if not isinstance(one, Callback):
            raise TypeError(f"callbacks: wanted objects such as [EarlyStopping()], got {one!r}")
