"""Whether what a trainer is made of is of the right kind."""

from typing import Any

from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.training.hooks import Callback


def check_parts(network: Any, optimizer: Any, metrics: Any, callbacks: Any) -> None:
    """Say at once which argument is of the wrong kind, and what it should be."""
    if not isinstance(metrics, tuple | list):
        raise TypeError(f"metrics: wanted a list of objects, got {metrics!r}")
    wanted = [
        ("network", network, Network, "Network([...], input_shape=...)"),
        ("optimizer", optimizer, Optimizer, "an object such as Adam(1e-3)"),
        *(("metrics", metric, Metric, "objects such as [Accuracy()]") for metric in metrics),
    ]
    for name, value, kind, example in wanted:
        if not isinstance(value, kind):
            raise TypeError(f"{name}: wanted {example}, got {value!r}")
    check_callbacks(callbacks)


def check_callbacks(callbacks: Any) -> None:
    """Refuse what is no list of callbacks."""
    if not isinstance(callbacks, tuple | list):
        raise TypeError(f"callbacks: wanted a list of objects, got {callbacks!r}")
    for one in callbacks:
        if not isinstance(one, Callback):
            raise TypeError(f"callbacks: wanted objects such as [EarlyStopping()], got {one!r}")
