"""Layers that change the shape and nothing else, or say things again: backward is the way back."""

import math
from numbers import Integral

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.numerics import sum_over
from xpnn.typing import Array, Range, Shape


class Reshape(Layer):
    """Each sample in another shape: (batch, *input_shape) to (batch, *shape).

    Forward, number by number in row-major order::

        S = Z                       Z (batch, *input_shape)   S (batch, *shape)

    Backward, given delta = dL/dS, in the shape of Z::

        dL/dZ = delta

    Args:
        shape: of one output sample; one entry may be -1, which is worked out.

    Raises:
        ShapeError: it holds another count of numbers; from where a network is made.

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
        self.cache["shape"] = Z.shape
        return self.xp.reshape(Z, (Z.shape[0], *self.output_shape(Z.shape[1:])))

    def backward(self, delta: Array) -> Array:
        return self.xp.reshape(delta, self.cache["shape"])

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"


class Flatten(Reshape):
    """Each sample as one row: (batch, *input_shape) to (batch, features), last axis fastest.

    Forward, number by number::

        S = Z                       Z (batch, *input_shape)   S (batch, features)

    Backward, given delta = dL/dS, in the shape of Z::

        dL/dZ = delta

    >>> Flatten().output_shape((28, 28, 1))
    (784,)
    """

    def __init__(self) -> None:
        super().__init__((-1,))

    def __repr__(self) -> str:
        return "Flatten()"


class Permute(Layer):
    """The axes of each sample in another order.

    Forward, for inputs Z of shape (batch, ...)::

        S = Z with its axes turned

    Backward, given delta = dL/dS::

        dL/dZ = delta with its axes turned back

    Axes are counted as in the batch, whose own axis is 0 and stays, so those of a sample are 1, 2,
    ..., as in Keras.

    Args:
        axes: for each axis of the output, which one of the input it is.

    Raises:
        ShapeError: inputs have another number of axes; from where a network is made.

    >>> Permute((2, 1)).output_shape((20, 8))
    (8, 20)
    """

    fixed = ("axes",)

    def __init__(self, axes: tuple[int, ...]):
        super().__init__()
        if not isinstance(axes, tuple | list) or not all(isinstance(n, Integral) for n in axes):
            raise TypeError(f"Permute wants axes to be a tuple of integers, got {axes!r}")
        axes = tuple(map(int, axes))
        if sorted(axes) != list(range(1, len(axes) + 1)):
            raise ValueError(
                f"Permute wants each axis of a sample once, as in (2, 1), counted from 1, as 0 is "
                f"that of the batch, got axes={axes}"
            )
        self.axes = axes

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.axes):
            raise ShapeError(
                f"{self!r} puts {len(self.axes)} axes in order, got inputs of shape {input_shape}; "
                f"name each of their axes once"
            )
        return tuple(input_shape[axis - 1] for axis in self.axes)

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, Z: Array, training: bool = False) -> Array:
        return self.xp.permute_dims(Z, (0, *self.axes))

    def backward(self, delta: Array) -> Array:
        back = (self.axes.index(axis) + 1 for axis in range(1, len(self.axes) + 1))
        return self.xp.permute_dims(delta, (0, *back))

    def __repr__(self) -> str:
        return f"Permute({self.axes})"


class Repeat(Layer):
    """Each sample several times, along a new axis in front of its own (Keras's RepeatVector).

    Forward, for inputs Z of shape (batch, ...)::

        S[n, t] = Z[n]              S (batch, times, ...)

    Backward, given delta = dL/dS::

        dL/dZ[n] = sum_t delta[n, t]

    So the code of an encoder becomes the input of each
    step of a decoder.

    Args:
        times: how many.

    >>> Repeat(5).output_shape((8,))
    (5, 8)
    """

    fixed = ("times",)

    def __init__(self, times: int):
        super().__init__()
        if times < 1:
            raise ValueError(f"Repeat needs times of at least 1, got times={times}")
        self.times = times

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.times, *input_shape)

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, Z: Array, training: bool = False) -> Array:
        return self.xp.broadcast_to(Z[:, None, ...], (Z.shape[0], self.times, *Z.shape[1:]))

    def backward(self, delta: Array) -> Array:
        return sum_over(delta, self.xp, axis=1)

    def __repr__(self) -> str:
        return f"Repeat({self.times})"
