"""Layers that change the shape and nothing else: their backward is the way back."""

import math
from numbers import Integral

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.typing import Array, Range, Shape


class Reshape(Layer):
    """Each sample in another shape: (batch, *input_shape) to (batch, *shape).

    Args:
        shape: of one output sample; one entry may be -1, which is worked out.

    >>> Reshape((4, -1)).output_shape((8, 3))
    (4, 6)
    """

    fixed = ("shape",)

    def __init__(self, shape: Shape):
        super().__init__()
        if not isinstance(shape, tuple | list) or not all(isinstance(n, Integral) for n in shape):
            raise TypeError(f"Reshape wants shape to be a tuple of integers, got {shape!r}")
        shape = tuple(shape)
        if any(n < 1 and n != -1 for n in shape) or shape.count(-1) > 1:
            raise ValueError(f"Reshape needs positive sizes and at most one -1, got shape={shape}")
        self.shape = shape

    def output_shape(self, input_shape: Shape) -> Shape:
        size, known = math.prod(input_shape), math.prod(n for n in self.shape if n != -1)
        if (size % known if -1 in self.shape else size != known) or not size:
            raise ShapeError(
                f"Reshape({self.shape}) cannot hold the {size} numbers of an input of shape "
                f"{input_shape}; choose sizes whose product is {size}"
            )
        return tuple(size // known if n == -1 else n for n in self.shape)

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp = self.xp
        assert self.input_shape is not None  # once it is built
        return xp.reshape(Z, (Z.shape[0], *self.output_shape(self.input_shape)))

    def backward(self, delta: Array) -> Array:
        xp = self.xp
        assert self.input_shape is not None
        return xp.reshape(delta, (delta.shape[0], *self.input_shape))

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"


class Flatten(Reshape):
    """Each sample as one row: (batch, *input_shape) to (batch, features), last axis fastest.

    >>> Flatten().output_shape((28, 28, 1))
    (784,)
    """

    def __init__(self) -> None:
        super().__init__((-1,))

    def __repr__(self) -> str:
        return "Flatten()"
