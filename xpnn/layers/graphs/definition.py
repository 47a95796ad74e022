"""A graph in nodes, as users write it, put into the numbers that a ``Graph`` is made of."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xpnn.layers.base import Layer
from xpnn.layers.graphs.steps import Place, refuse_twice
from xpnn.layers.nodes import Call, Input, Node
from xpnn.trees import one_or_tuple


class Definition(NamedTuple):
    """What a graph is made of; see ``Graph``, which has these arguments."""

    layers: list[Layer]
    inputs: list[Place]
    calls: list[tuple[int, tuple[int, ...]]]
    outputs: int | tuple[int, ...] | dict[str, int]


def definition_of(inputs: Any, outputs: Any) -> Definition:
    """What the graph between nodes is made of.

    Args:
        inputs, outputs: see ``Graph.of``.

    Raises:
        TypeError, ValueError: see there.
    """
    starts, names = _input_nodes(inputs)
    ends = _nodes("outputs", outputs)
    calls = calls_behind(ends)
    read = {node for call in calls for node in call.sources} | set(ends)
    for node in sorted(read, key=lambda one: one.number):
        if node.call is None and node not in starts:
            raise ValueError(
                f"the outputs need {node!r}, which is not among the inputs; add it to inputs"
            )
    for node in starts:
        if node not in read:
            raise ValueError(f"{node!r} is not connected to any output; leave it out of inputs")
    layers = {id(call.layer): call.layer for call in calls}
    place = {layer: number for number, layer in enumerate(layers)}
    made = [*starts, *(node for call in calls for node in call.results)]
    number = {node: k for k, node in enumerate(made)}
    found = [number[node] for node in ends]
    by_name = dict(zip(outputs, found, strict=True)) if isinstance(outputs, Mapping) else None
    return Definition(
        list(layers.values()),
        [(n.shape, n.takes, name) for n, name in zip(starts, names, strict=True)],
        [(place[id(c.layer)], tuple(number[node] for node in c.sources)) for c in calls],
        by_name or one_or_tuple(found),
    )


def _input_nodes(inputs: Any) -> tuple[list[Input], list[str]]:
    """The inputs in their order, and their names."""
    nodes = _nodes("inputs", inputs)
    for node in nodes:
        if not isinstance(node, Input):
            raise TypeError(f"inputs are nodes of Input, got {node!r}; cut the graph at an Input")
    if isinstance(inputs, Mapping):
        names = list(inputs)
    else:
        single = "x" if len(nodes) == 1 else None
        names = [node.name or single or f"input_{k}" for k, node in enumerate(nodes)]
    refuse_twice("inputs", names)
    return nodes, names


def _nodes(what: str, given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        for name in given:
            if not (isinstance(name, str) and name.isidentifier()):
                raise TypeError(f"{what} have names such as 'price', got {name!r}")
        nodes = list(given.values())
    else:
        nodes = list(given) if isinstance(given, list | tuple) else [given]
    if not nodes:
        raise ValueError(f"a graph has {what}, got none; name a node")
    for node in nodes:
        if not isinstance(node, Node):
            raise TypeError(
                f"{what} are nodes, such as Input((3,)) or Dense(2)(Input((3,))), got {node!r}"
            )
    refuse_twice(what, nodes)
    return nodes


def calls_behind(ends: Sequence[Node]) -> list[Call]:
    """All calls that have to run for these nodes, in the order in which they were written."""
    found: dict[Call, int] = {}
    left = list(ends)
    while left:
        node = left.pop()
        if node.call is not None and node.call not in found:
            found[node.call] = node.call.results[0].number
            left += node.call.sources
    return sorted(found, key=lambda call: found[call])
