"""Layers made of layers: one after another, around a shortcut, or side by side.

A container is a layer like any other, so containers nest without limit, and its backward is the
chain rule for the way its layers are joined.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal

from xpnn.backends import Backend
from xpnn.errors import ShapeError, XpnnError
from xpnn.layers.base import Layer
from xpnn.layers.nodes import shape_made, shapes_made
from xpnn.typing import Array, Range, Shape

Join = Callable[[Sequence[float]], float]


def named(layers: Iterable[Layer]) -> dict[str, Layer]:
    """Layers under names such as "0.dense", in order.

    >>> from xpnn import Dense, ReLU
    >>> list(named([Dense(2), ReLU()]))
    ['0.dense', '1.relu']
    """
    return {f"{i}.{type(layer).__name__.lower()}": layer for i, layer in enumerate(layers)}


def check_places(root: Layer) -> None:
    """Refuse a layer that stands in two places below ``root``.

    It stops at the first one: layers that share layers that share layers could be gone through
    without an end.

    Raises:
        XpnnError: there is one.
    """
    places: dict[int, str] = {}
    for name, layer in root.walk():
        if id(layer) in places:
            raise XpnnError(
                f"the {type(layer).__name__} at {name!r} is already part of this network, at "
                f"{places[id(layer)]!r}; a layer has one place, so make another one"
            )
        places[id(layer)] = name


class Container(Layer):
    """Base of layers made of layers.

    Args:
        layers: what is inside; each layer has one place in one network.

    >>> from xpnn import Dense, ReLU, Residual
    >>> [name for name, layer in Residual([Dense(3), ReLU()]).walk()]
    ['', 'body', 'body.0.dense', 'body.1.relu']
    """

    fixed: ClassVar[tuple[str, ...]] = ("layers",)

    def __init__(self, layers: Sequence[Layer]):
        super().__init__()
        if not isinstance(layers, Iterable) or hasattr(layers, "shape"):
            hint = f"; write [{layers!r}, ...]" if isinstance(layers, Layer) else ""
            raise TypeError(f"{type(self).__name__} wants a list of layers, got {layers!r}{hint}")
        layers = tuple(layers)  # a network would not notice that a list has changed
        for layer in layers:
            if not isinstance(layer, Layer):
                hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
                if isinstance(getattr(layer, "root", None), Layer):
                    hint = "; put more layers behind a network by network.with_head([Dense(5)])"
                raise TypeError(f"{type(self).__name__} is made of layers, got {layer!r}{hint}")
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError(
                f"{type(self).__name__} was given the same layer twice; a layer has one place, "
                f"so make two"
            )
        self.layers = layers
        if layers:
            self.takes = layers[0].takes

    def check_inputs(self, Z: Array) -> None:
        for layer in self.layers:
            layer.check_inputs(Z)

    def children(self) -> dict[str, Layer]:
        return named(self.layers)

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        shape = super().build(input_shape, backend, seed=seed, name=name, dtype=dtype)
        for (key, layer), inputs in zip(
            self.children().items(), self.child_shapes(input_shape), strict=True
        ):
            full = f"{name}.{key}" if name else key
            layer.build(inputs, backend, seed=seed, name=full, dtype=dtype)
        return shape

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        """The input shape of each layer inside."""
        raise NotImplementedError

    def inner_calls(self, input_shape: Shape) -> list[tuple[Layer, Shape]]:
        """Each call of a layer inside, with the shape that it is called on."""
        return list(zip(self.layers, self.child_shapes(input_shape), strict=True))

    def entries(self) -> list[Layer]:
        return []  # where ways part, all of them have to be gone back

    def multiply_adds(self, input_shape: Shape) -> int:
        return sum(layer.multiply_adds(shape) for layer, shape in self.inner_calls(input_shape))

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.layers))}])"


class Sequential(Container):
    """Layers one after another: the output of each is the input of the next.

    Forward, for layers f_1 to f_n and inputs Z (batch, ...) of the shape that the first one takes::

        S = f_n(...f_2(f_1(Z)))

    Backward, given delta = dL/dS, hands it through them from last to first, which is the chain rule
    read from the right, with f' what a layer makes of it::

        dL/dZ = f_1'(... f_n'(delta))

    In a step each layer forgets what it kept once its backward has run, so that memory falls along
    the way.

    Args:
        layers: in the order in which data flows.

    >>> from xpnn import Dense, ReLU
    >>> Sequential([Dense(64), ReLU(), Dense(3)]).output_shape((2,))
    (3,)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.all_shapes(input_shape)[-1]

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        return self.all_shapes(input_shape)[:-1]

    def all_shapes(self, input_shape: Shape) -> list[Shape]:
        """The input shape of each layer inside, and the output shape of the last."""
        shapes = [input_shape]
        for key, layer in self.children().items():
            try:
                shapes.append(shapes_made(layer, shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"layer {key}: {error}") from None
        return shapes

    def output_range(self, input_range: Range | None) -> Range | None:
        for layer in self.layers:
            input_range = layer.output_range(input_range)
        return input_range

    def entries(self) -> list[Layer]:
        learns = (layer for layer in self.layers if any(one.params for _, one in layer.walk()))
        first = next(learns, self.layers[0] if self.layers else None)
        return [] if first is None else first.entries()

    def check_inputs(self, Z: Array) -> None:
        if self.layers:
            self.layers[0].check_inputs(Z)

    def forward(self, Z: Array, training: bool = False) -> Array:
        for layer in self.layers:
            Z = layer.forward(Z, training)
        return Z

    def backward(self, delta: Array) -> Array | None:
        for layer in reversed(self.layers):
            delta = layer.backward(delta)
            if self.in_step:
                layer.forget()
            if self.replica is not None:
                self.replica.passed(layer)
            if delta is None:  # what lies further up learns nothing
                break
        return delta


class Residual(Container):
    """Layers around which the input takes a shortcut (He et al., 2016).

    Forward, for inputs Z (batch, ...), with f the ``layers`` one after another, and g the
    ``shortcut``, the identity unless given::

        S = f(Z) + g(Z)

    Backward, given delta = dL/dS, adds what comes back on the two ways, by the sum rule::

        dL/dZ = f'(delta) + g'(delta)

    Args:
        layers: the long way.
        shortcut: one layer for the short way, needed where the long way changes the shape.

    Raises:
        ShapeError: the two ways end in different shapes; from where a network is made.

    >>> from xpnn import Dense, ReLU
    >>> Residual([Dense(64), ReLU(), Dense(32)], shortcut=Dense(32)).output_shape((16,))
    (32,)
    """

    fixed: ClassVar[tuple[str, ...]] = ("layers", "body", "shortcut")
    kept_as: ClassVar[dict[str, str]] = {"layers": "body.layers"}

    def __init__(self, layers: Sequence[Layer], shortcut: Layer | None = None):
        self.body, self.shortcut = Sequential(layers), shortcut
        super().__init__([self.body] if shortcut is None else [self.body, shortcut])

    def children(self) -> dict[str, Layer]:
        return dict(zip(("body", "shortcut"), self.layers, strict=False))

    def output_shape(self, input_shape: Shape) -> Shape:
        long = shape_made(self.body, input_shape)
        short = shape_made(self.shortcut, input_shape) if self.shortcut else input_shape
        if long != short:
            raise ShapeError(
                f"Residual adds two ways of one shape, but its layers turn {input_shape} into "
                f"{long} and its shortcut into {short}; give it a shortcut such as "
                f"Dense({long[-1]}) that ends in {long}"
            )
        return long

    def output_range(self, input_range: Range | None) -> Range | None:
        short = self.shortcut.output_range(input_range) if self.shortcut else input_range
        return joined_range([self.body.output_range(input_range), short], sum, sum)

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        return [input_shape] * len(self.layers)

    def forward(self, Z: Array, training: bool = False) -> Array:
        short = self.shortcut.forward(Z, training) if self.shortcut else Z
        return self.body.forward(Z, training) + short

    def backward(self, delta: Array) -> Array | None:
        short = self.shortcut.backward(delta) if self.shortcut else delta
        return added([self.body.backward(delta), short])


class Parallel(Container):
    """Layers side by side on the same input, their outputs joined.

    Forward, for inputs Z (batch, ...) and branches f_1, f_2, ..., joined along the last axis with
    ``merge="concatenate"``, or added up with ``merge="sum"``::

        S = [f_1(Z), f_2(Z), ...]           S = f_1(Z) + f_2(Z) + ...

    Backward, given delta = dL/dS, which is cut at the same places, [d_1, d_2, ...] = delta, or goes
    to every branch as a whole, with f' what a branch makes of it::

        dL/dZ = f_1'(d_1) + f_2'(d_2) + ...

    Args:
        branches: the layers side by side; a ``Sequential`` for a branch of several.
        merge: "concatenate" or "sum".

    Raises:
        ShapeError: the branches end in shapes that do not fit; from where a network is made.

    >>> from xpnn import Conv2D
    >>> Parallel([Conv2D(8, 1), Conv2D(4, 3, padding="same")]).output_shape((28, 28, 3))
    (28, 28, 12)
    """

    fixed: ClassVar[tuple[str, ...]] = ("layers", "branches", "merge")
    kept_as: ClassVar[dict[str, str]] = {"branches": "layers"}

    def __init__(
        self, branches: Sequence[Layer], merge: Literal["concatenate", "sum"] = "concatenate"
    ):
        super().__init__(branches)
        if merge not in ("concatenate", "sum"):
            raise ValueError(f"Parallel knows merge='concatenate' and 'sum', got {merge!r}")
        if not self.layers:
            raise ValueError("Parallel needs at least one branch, got none")
        if len({layer.takes for layer in self.layers}) > 1:
            raise ValueError(
                "Parallel gives all branches the same input, but some of these take floats and "
                "some integers"
            )
        self.merge = merge

    def output_shape(self, input_shape: Shape) -> Shape:
        shapes = [shape_made(branch, input_shape) for branch in self.layers]
        joins = {shape[:-1] if self.merge == "concatenate" else shape for shape in shapes}
        if len(joins) > 1 or () in shapes:
            raise ShapeError(
                f"Parallel cannot {self.merge} branches that end in {', '.join(map(str, shapes))}; "
                f"make them equal" + (" but for the last axis" * (self.merge == "concatenate"))
            )
        if self.merge == "sum":
            return shapes[0]
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def output_range(self, input_range: Range | None) -> Range | None:
        ranges = [branch.output_range(input_range) for branch in self.layers]
        low, high = (sum, sum) if self.merge == "sum" else (min, max)
        return joined_range(ranges, low, high)

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        return [input_shape] * len(self.layers)

    def forward(self, Z: Array, training: bool = False) -> Array:
        outputs = [branch.forward(Z, training) for branch in self.layers]
        if self.merge == "concatenate":
            self.cache["widths"] = [output.shape[-1] for output in outputs]
            return self.xp.concat(outputs, axis=-1)
        return functools.reduce(operator.add, outputs)

    def backward(self, delta: Array) -> Array | None:
        if self.merge == "concatenate":
            deltas, start = [], 0
            for width in self.cache["widths"]:
                deltas.append(delta[..., start : start + width])
                start += width
        else:
            deltas = [delta] * len(self.layers)
        back = [branch.backward(d) for branch, d in zip(self.layers, deltas, strict=True)]
        return added(back)


def added(deltas: Sequence[Array | None]) -> Array | None:
    """What comes back on several ways, added up; None where a way ends, as at embedded ids."""
    if any(delta is None for delta in deltas):
        return None
    return functools.reduce(operator.add, deltas)


def joined_range(ranges: Sequence[Range | None], low: Join, high: Join) -> Range | None:
    """The range of several joined, from their lowest numbers and their highest ones."""
    known = [one for one in ranges if one is not None]
    if len(known) < len(ranges):
        return None
    lows, highs = zip(*known, strict=True)
    return low(lows), high(highs)
