"""Nodes: the values of a network that is a graph, before there are any arrays.

``Input((8,))`` is one, and a layer called on nodes gives the node of what it makes of them. Shapes
are known at once, so what does not fit is an error in the line that wrote it.
"""

import itertools
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from xpnn.errors import ShapeError
from xpnn.typing import Shape, Shapes

if TYPE_CHECKING:
    from xpnn.layers.base import Layer

Kind: TypeAlias = Literal["floats", "integers"]

_numbers = itertools.count()  # nodes that were made later may read those made before


class Node:
    """A value of a network that is a graph: an input, or what a layer makes of other nodes.

    Attributes:
        shape: of one sample.
        takes: whether it holds floats or, as only inputs may, integers such as ids.
        call: what makes it; None for an input.
        part: which of the outputs of the call it is, from 0.

    >>> from xpnn import Dense, Input
    >>> node = Dense(4)(Input((3,)))
    >>> node.shape, node.call.layer
    ((4,), Dense(4))
    """

    def __init__(
        self, shape: Shape, takes: Kind = "floats", call: "Call | None" = None, part: int = 0
    ):
        self.shape, self.takes, self.call, self.part = shape, takes, call, part
        self.number = next(_numbers)

    def __repr__(self) -> str:
        assert self.call is not None
        which = f"output {self.part} of " if len(self.call.results) > 1 else ""
        return f"<{which}{self.call.layer!r} at node {self.number}, {self.shape}>"

    def __iter__(self) -> Any:
        raise TypeError(f"{self!r} is one node, and no list of nodes; its layer has one output")


class Input(Node):
    """Where data come into a network that is a graph.

    Args:
        shape: of one sample, without the batch axis: (64,) or (28, 28, 1).
        takes: "floats", cast to the network's dtype, or "integers", such as an embedding's ids.
        name: by which data may be given, as in ``fit({"price": x1, "words": x2}, y)``, and which
            errors use.

    >>> from xpnn import Concatenate, Dense, Embedding, Flatten, Input, Network
    >>> price, word = Input((3,), name="price"), Input((1,), takes="integers", name="word")
    >>> both = Concatenate()(price, Flatten()(Embedding(100, 4)(word)))
    >>> Network(inputs=[price, word], outputs=Dense(1)(both)).output_shape
    (1,)
    """

    def __init__(self, shape: Shape, *, takes: Kind = "floats", name: str | None = None):
        if takes not in ("floats", "integers"):
            raise ValueError(f"an Input takes 'floats' or 'integers', got takes={takes!r}")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"wanted a text that names the Input, got name={name!r}")
        super().__init__(as_shape(shape), takes)
        self.name = name

    def __repr__(self) -> str:
        takes = "" if self.takes == "floats" else ", takes='integers'"
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Input({self.shape}{takes}{name})"


class Call:
    """A layer at one of the places where it is used.

    Attributes:
        layer: which may be called at other places, too, with the same weights.
        sources: what it is called on.
        results: what it makes.
    """

    def __init__(self, layer: "Layer", sources: Sequence[Node], shapes: Sequence[Shape]):
        self.layer, self.sources = layer, tuple(sources)
        self.results = tuple(Node(shape, "floats", self, k) for k, shape in enumerate(shapes))


def called(layer: "Layer", given: Sequence[Any]) -> Any:
    """The node, or a tuple of the nodes, that a layer makes of others.

    Raises:
        TypeError: it was called on what is no node.
        ShapeError: they do not fit the layer.
    """
    is_list = len(given) == 1 and isinstance(given[0], tuple | list)
    sources = given[0] if is_list else given
    for node in sources:
        if not isinstance(node, Node):
            raise TypeError(
                f"{layer!r} was called on {type(node).__name__}, but a layer is called on nodes, "
                f"such as Input((3,)); to run one on arrays write network.forward(x), or "
                f"layer.forward(Z) where it is built"
            )
    check_count(layer, len(sources))
    for node, takes in zip(sources, kinds_of(layer, len(sources)), strict=True):
        if node.takes != takes:
            raise ShapeError(
                f"{layer!r} takes {takes}, but was called on {node!r}, which holds {node.takes}; "
                + ("write takes='integers'" if takes == "integers" else "put an Embedding between")
            )
    shapes: Shapes = tuple(node.shape for node in sources)
    try:
        made: Shapes = layer.output_shape(shapes[0] if layer.arity == 1 else shapes)
    except ShapeError as error:
        on = ", ".join(map(repr, sources))
        raise ShapeError(f"{layer!r}, called on {on}: {error}") from None
    results = Call(layer, sources, made if is_several(made) else (made,)).results
    return results if is_several(made) else results[0]


def shapes_made(layer: "Layer", given: Shapes) -> Shapes:
    """What a layer makes of an input of this shape, or of several of these.

    Raises:
        ShapeError: they are too many or too few, or do not fit.
    """
    check_count(layer, len(given) if is_several(given) else 1)
    made: Shapes = layer.output_shape(given)
    return made


def shape_made(layer: "Layer", given: Shapes) -> Shape:
    """``shapes_made``, of a layer that has one output; raises ShapeError if it has several."""
    made = shapes_made(layer, given)
    if is_several(made):
        raise ShapeError(
            f"{layer!r} has {len(made)} outputs where one is wanted; call it on a node, and give "
            f"what it makes to other layers or to outputs of a Network"
        )
    return made


def check_count(layer: "Layer", count: int) -> None:
    """Whether a layer takes so many inputs; raises ShapeError if not."""
    if (layer.arity is None and count > 1) or count == layer.arity:
        return
    wanted = {None: "two inputs or more", 1: "one input"}.get(layer.arity, f"{layer.arity} inputs")
    join = "; join them first, as by Concatenate()(a, b)" if layer.arity == 1 < count else ""
    raise ShapeError(f"{layer!r} takes {wanted}, but was called on {count}{join}")


def kinds_of(layer: "Layer", count: int) -> tuple[Kind, ...]:
    """What a layer takes at each of so many inputs."""
    return layer.takes if isinstance(layer.takes, tuple) else (layer.takes,) * count


def is_several(shape: Shapes) -> bool:
    """Whether these are the shapes of several arrays, rather than the shape of one.

    >>> is_several((3,)), is_several(()), is_several(((3,), ()))
    (False, False, True)
    """
    return len(shape) > 0 and not isinstance(shape[0], Integral)


def as_shape(given: Any) -> Shape:
    """The shape of one sample; a number stands for one axis.

    Raises:
        ValueError: it is none.
    """
    sizes = (given,) if isinstance(given, Integral) else given
    if not isinstance(sizes, tuple | list) or not all(
        isinstance(n, Integral) and int(n) > 0 for n in sizes
    ):
        raise ValueError(
            f"the shape of one sample is positive integers, without the batch axis, got {given!r}"
        )
    return tuple(map(int, sizes))
