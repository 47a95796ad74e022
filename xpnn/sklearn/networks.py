"""The network of an estimator: from widths, unbuilt layers or a function, for the shape of X."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.layers import Dense, Flatten, Graph, Input, Layer, ReLU, Sequential
from xpnn.layers.nodes import Node
from xpnn.moving import unbuilt_copy
from xpnn.network import Network
from xpnn.typing import Shape

WANTED = (
    "wanted layers to be a tuple of widths such as (64, 32), a list of layers, or a function "
    "(input_shape, outputs) that returns a list of layers or a Graph"
)


def network_for(
    layers: Any,
    input_shape: Shape,
    outputs: dict[str, int],
    *,
    backend: str | Backend,
    seed: int,
    dtype: str,
) -> Network:
    """A network of layers of its own: those that were given stay unbuilt.

    Args:
        layers: widths of hidden layers, each with a ReLU behind it; or all layers; or a function
            that is called with ``input_shape`` and the number of outputs, or a list of these where
            there are several.
        outputs: how many numbers each output has, by name.

    Raises:
        TypeError: ``layers`` is none of these.
        ShapeError: the layers do not fit each other, or give other shapes than are wanted.
    """
    counts = list(outputs.values())
    if callable(layers) and not isinstance(layers, Layer):
        layers = layers(input_shape, counts[0] if len(counts) == 1 else counts)
    if _are_widths(layers):
        root: Any = _of_widths(layers, input_shape, outputs)
    else:
        root = _copied(layers)
    place = None if isinstance(root, Graph) else input_shape
    network = Network(root, place, backend, seed=seed, dtype=dtype)
    _check_outputs(network, input_shape, counts)
    return network


def _are_widths(layers: Any) -> bool:
    return isinstance(layers, Sequence) and all(
        isinstance(one, Integral) and not isinstance(one, bool) for one in layers
    )


def _of_widths(widths: Sequence[int], input_shape: Shape, outputs: dict[str, int]) -> Any:
    hidden: list[Layer] = [Flatten()] if len(input_shape) > 1 else []
    for width in widths:
        hidden += [Dense(int(width)), ReLU()]
    if len(outputs) == 1:
        return [*hidden, *(Dense(count) for count in outputs.values())]
    node: Node = Input(input_shape, name="x")
    body: Node = node
    for layer in hidden:
        body = layer(body)
    return Graph.of(node, {name: Dense(count)(body) for name, count in outputs.items()})


def _copied(layers: Any) -> list[Layer] | Graph:
    """Copies of the layers as they were before they were built, with what ties them together."""
    if isinstance(layers, Graph):
        return unbuilt_copy(layers)
    if isinstance(layers, Sequential):
        layers = layers.layers
    if not isinstance(layers, Sequence) or not all(isinstance(one, Layer) for one in layers):
        raise TypeError(f"{WANTED}; got {layers!r}")
    return list(unbuilt_copy(Sequential(layers)).layers)


def _check_outputs(network: Network, input_shape: Shape, counts: list[int]) -> None:
    wanted = [(count,) for count in counts]
    found = [shape for shape, _ in network.outputs]
    if found != wanted:
        one = "the last layer" if len(wanted) == 1 else "the outputs"
        ends = f"end in Dense({counts[0]})" if len(counts) == 1 else "let a function make a Graph"
        raise ShapeError(
            f"wanted {one} to give {', '.join(map(str, wanted))} for this y, got "
            f"{', '.join(map(str, found))}; {ends}, or give widths, such as layers=(64,)"
        )
    shapes = [shape for shape, _, _ in network.inputs]
    if shapes != [input_shape]:
        raise ShapeError(
            f"wanted a network for one X of shape (samples, {', '.join(map(str, input_shape))}), "
            f"got one for {', '.join(map(str, shapes))}; make its Input by the shape that the "
            f"function is given"
        )
