"""Other methods in place of those of layers for a while: how layers are watched."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from xpnn.layers.base import Layer


@contextmanager
def shadowed(methods: Iterable[tuple[Layer, str, Callable[..., Any]]]) -> Iterator[None]:
    """Inside, what a layer has by a name, such as "forward", is another function.

    Whoever calls the layer calls that function: a container, a graph, or a layer of a user's own.
    Behind it each layer has what it had, its own method or one that shadowed that before.

    Args:
        methods: (layer, name of the method, what takes its place) of each.
    """
    placed = list(methods)
    before = [(layer, name, vars(layer).get(name)) for layer, name, _ in placed]
    try:
        for layer, name, function in placed:
            vars(layer)[name] = function
        yield
    finally:
        for layer, name, own in before:
            vars(layer).pop(name, None)  # an alarm may come in between
            if own is not None:
                vars(layer)[name] = own
