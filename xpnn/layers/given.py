"""Layers as a network is given them: a list and a shape, nodes, or a graph."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from xpnn.layers.containers import Sequential
from xpnn.layers.graphs.graph import Graph
from xpnn.typing import Shape, Shapes


def root_of(
    layers: Any, input_shape: Any, inputs: Any, outputs: Any
) -> tuple[Sequential | Graph, Shapes]:
    """What holds all layers, and the shape of one sample, or of each of its parts."""
    of_graph = isinstance(layers, Graph)
    if of_graph or layers is None:
        if of_graph != (inputs is None) or (outputs is None) != of_graph:
            raise TypeError(
                "a Network is made of a list of layers and an input_shape, or of inputs and "
                "outputs, which are nodes; got "
                + (f"a {type(layers).__name__} and" if of_graph else "no layers,")
                + f" inputs={inputs!r}, outputs={outputs!r}"
            )
        graph = layers if of_graph else Graph.of(inputs, outputs)
        return graph, graph.input_shapes
    if inputs is not None or outputs is not None:
        raise TypeError("a Network has either layers, or inputs and outputs; leave one of them out")
    if input_shape is None:
        raise TypeError("a Network of layers wants input_shape, the shape of one sample, got none")
    return Sequential(layers), _as_shape(input_shape)


def _as_shape(shape: Any) -> Shape:
    given = (shape,) if isinstance(shape, Integral) else shape
    iterable = isinstance(given, Iterable) and getattr(given, "shape", None) != ()
    sizes = tuple(given) if iterable else None
    if sizes is None or not all(isinstance(n, Integral) and int(n) > 0 for n in sizes):
        raise ValueError(
            f"input_shape is the shape of one sample, positive integers without the batch axis, "
            f"got {shape!r}"
        )
    shape = sizes
    return tuple(map(int, shape))
