"""Losses, optimizers and metrics by name, with their defaults."""

from collections.abc import Callable, Mapping
from typing import Any

from xpnn import losses, metrics, optimizers
from xpnn.arguments import by_name
from xpnn.metrics import Metric
from xpnn.optimizers import Optimizer
from xpnn.trees import tree_map
from xpnn.typing import Loss


def _classes(module: Any, base: type) -> list[Any]:
    """The classes made from ``base`` that a package shows."""
    shown = (getattr(module, name) for name in module.__all__)
    return [one for one in shown if isinstance(one, type) and issubclass(one, base)]


LOSSES: dict[str, Loss] = {
    name: getattr(losses, name)
    for name in losses.__all__
    if hasattr(getattr(losses, name), "outputs")
}
LOSSES |= {"mae": losses.mean_absolute_error, "mse": losses.mean_squared_error}

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    kind.__name__.lower(): kind for kind in _classes(optimizers, Optimizer) if kind is not Optimizer
}

METRICS: dict[str, Callable[[], Metric]] = {
    kind().name: kind for kind in _classes(metrics, Metric) if kind is not Metric
}
"""By the names that they have in a history."""


def losses_of_names(given: Any) -> Any:
    """The loss of that name, or of each name in a list or dict; all else stays as it is.

    Raises:
        ValueError: there is none; the message lists the names.

    >>> losses_of_names({"price": "mse"})["price"].__name__
    'mean_squared_error'
    """
    return _of_names(given, lambda name: by_name(name, LOSSES, "loss"))


def optimizer_of_name(given: Any) -> Any:
    """The optimizer of that name, at the rate that it has unless told; all else stays as it is."""
    return _of_names(given, lambda name: by_name(name, OPTIMIZERS, "optimizer")())


def metrics_of_names(given: Any) -> Any:
    """The metrics of names in a list, or in lists by output; all else stays as it is."""
    if isinstance(given, str):  # which is no list
        return given
    return _of_names(given, lambda name: by_name(name, METRICS, "metric")())


def _of_names(given: Any, make: Callable[[str], Any]) -> Any:
    given = dict(given) if isinstance(given, Mapping) else given
    return tree_map(lambda one: make(one) if isinstance(one, str) else one, given)
