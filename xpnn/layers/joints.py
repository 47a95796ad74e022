"""Joints: layers of several inputs, where the ways of a network that is a graph come together."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import ClassVar

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.containers import joined_range
from xpnn.numerics import widened
from xpnn.typing import Array, Range, Ranges, Shape, Shapes

LEAST_LENGTH = 1e-7


class Joint(Layer):
    """Base of layers of several inputs.

    What other layers are given of one input, these are given as a tuple, one for each: ``forward``
    the arrays, ``output_shape``, ``init_params`` and ``init_state`` the shapes. ``backward``
    returns a tuple of as many deltas.

    >>> class Difference(Joint):
    ...     def output_shape(self, input_shape):
    ...         return input_shape[0]
    ...
    ...     def forward(self, Z, training=False):
    ...         return Z[0] - Z[1]
    ...
    ...     def backward(self, delta):
    ...         return delta, -delta
    >>> from xpnn.testing import check_gradients
    >>> check_gradients(Difference(), input_shape=((3,), (3,))).wrong
    False
    """

    arity: ClassVar[int | None] = None

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has to define forward")

    def backward(self, delta: Array) -> tuple[Array | None, ...]:
        raise NotImplementedError(f"{type(self).__name__} has to define backward")

    def output_shape(self, input_shape: Shapes) -> Shape:
        raise NotImplementedError(f"{type(self).__name__} has to define output_shape")


class Elementwise(Joint):
    """Base of joints that go number by number.

    Inputs have as many axes as each other; one that has a single entry along an axis, where others
    have more, is repeated there, and its delta is the sum over the repetitions.
    """

    def output_shape(self, input_shape: Shapes) -> Shape:
        sizes = [{n for n in axis if n != 1} or {1} for axis in zip(*input_shape, strict=False)]
        if len({len(shape) for shape in input_shape}) > 1 or any(len(one) > 1 for one in sizes):
            raise ShapeError(
                f"{type(self).__name__} wants inputs of one shape, or of single entries along axes "
                f"where others have more, got {', '.join(map(str, input_shape))}"
            )
        return tuple(size for (size,) in sizes)

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        self.cache["shapes"] = [one.shape for one in Z]
        return self.joined(Z)

    def joined(self, Z: tuple[Array, ...]) -> Array:
        """The output for the inputs."""
        raise NotImplementedError(f"{type(self).__name__} has to define joined")

    def gathered(self, deltas: Sequence[Array]) -> tuple[Array, ...]:
        """Deltas of the shape of the output, as those of the inputs."""
        shapes = self.cache["shapes"]
        return tuple(
            self._summed(delta, shape) for delta, shape in zip(deltas, shapes, strict=True)
        )

    def _summed(self, delta: Array, shape: Shape) -> Array:
        pairs = zip(delta.shape, shape, strict=True)
        axes = tuple(axis for axis, (has, wanted) in enumerate(pairs) if has != wanted)
        return self.xp.sum(delta, axis=axes, keepdims=True) if axes else delta


class Add(Elementwise):
    """The sum of its inputs, number by number.

    Forward, for n inputs Z_1, Z_2, ... of shape (batch, ...), as many axes each; one that has a
    single entry along an axis is repeated there::

        S = Z_1 + Z_2 + ... + Z_n

    Backward, given delta = dL/dS; where Z_k was repeated, summed over the repetitions::

        dL/dZ_k = delta

    >>> from xpnn import Input
    >>> Add()(Input((8, 8, 3)), Input((1, 1, 3))).shape
    (8, 8, 3)
    """

    def output_range(self, input_range: Ranges) -> Range | None:
        return joined_range(input_range, sum, sum)

    def joined(self, Z: tuple[Array, ...]) -> Array:
        return functools.reduce(operator.add, Z)

    def backward(self, delta: Array) -> tuple[Array, ...]:
        return self.gathered([delta] * len(self.cache["shapes"]))


class Average(Elementwise):
    """The mean of its inputs, number by number.

    Forward, for n inputs Z_1, Z_2, ... of shape (batch, ...), repeated as in ``Add``::

        S = (Z_1 + Z_2 + ... + Z_n) / n

    Backward, given delta = dL/dS, summed over repetitions::

        dL/dZ_k = delta / n

    >>> from xpnn import Input, Network
    >>> one, other = Input((2,)), Input((2,))
    >>> net = Network(inputs=[one, other], outputs=Average()(one, other))
    >>> net.predict([[[1.0, 2.0]], [[3.0, 6.0]]]).tolist()
    [[2.0, 4.0]]
    """

    def output_range(self, input_range: Ranges) -> Range | None:
        return joined_range(input_range, min, max)

    def joined(self, Z: tuple[Array, ...]) -> Array:
        total = functools.reduce(operator.add, [widened(one, self.xp) for one in Z])
        return self.xp.astype(total / len(Z), Z[0].dtype, copy=False)  # the sum may be too large

    def backward(self, delta: Array) -> tuple[Array, ...]:
        count = len(self.cache["shapes"])
        return self.gathered([delta / count] * count)


class Subtract(Elementwise):
    """One input less another, number by number.

    Forward, for two inputs Z_1 and Z_2 of shape (batch, ...), repeated as in ``Add``::

        S = Z_1 - Z_2

    Backward, given delta = dL/dS, summed over repetitions::

        dL/dZ_1 = delta             dL/dZ_2 = -delta

    >>> from xpnn import Input, Network
    >>> one, other = Input((2,)), Input((2,))
    >>> net = Network(inputs=[one, other], outputs=Subtract()(one, other))
    >>> net.predict([[[1.0, 2.0]], [[3.0, 6.0]]]).tolist()
    [[-2.0, -4.0]]
    """

    arity = 2

    def output_range(self, input_range: Ranges) -> Range | None:
        first, second = input_range
        if first is None or second is None:
            return None
        return first[0] - second[1], first[1] - second[0]

    def joined(self, Z: tuple[Array, ...]) -> Array:
        return Z[0] - Z[1]

    def backward(self, delta: Array) -> tuple[Array, ...]:
        return self.gathered([delta, -delta])


class Multiply(Elementwise):
    """The product of its inputs, number by number.

    Forward, for n inputs Z_1, Z_2, ... of shape (batch, ...), repeated as in ``Add``::

        S = Z_1 Z_2 ... Z_n

    Backward, given delta = dL/dS, summed over repetitions::

        dL/dZ_k = delta times all Z_j but Z_k

    >>> from xpnn import Input, Network
    >>> one, other = Input((2,)), Input((2,))
    >>> net = Network(inputs=[one, other], outputs=Multiply()(one, other))
    >>> net.predict([[[1.0, 2.0]], [[3.0, 6.0]]]).tolist()
    [[3.0, 12.0]]
    """

    def output_range(self, input_range: Ranges) -> Range | None:
        return functools.reduce(multiplied_range, input_range)

    def joined(self, Z: tuple[Array, ...]) -> Array:
        self.cache["Z"] = Z
        return functools.reduce(operator.mul, Z)

    def backward(self, delta: Array) -> tuple[Array, ...]:
        Z = self.cache["Z"]
        others = (Z[:k] + Z[k + 1 :] for k in range(len(Z)))
        return self.gathered([functools.reduce(operator.mul, own, delta) for own in others])


class Concatenate(Joint):
    """Its inputs behind each other along an axis; delta is cut at the same places.

    Forward, for inputs Z_1, Z_2, ... of shape (batch, ...), equal but for that axis::

        S = [Z_1, Z_2, ...]

    Backward, given delta = dL/dS::

        [dL/dZ_1, dL/dZ_2, ...] = delta

    Args:
        axis: of one sample, without the batch: 0 is the first, -1 the last.

    Raises:
        ShapeError: an input has no such axis, or they differ along another one; from where the
            layer is called on nodes.

    >>> from xpnn import Input
    >>> Concatenate()(Input((5, 3)), Input((5, 4))).shape, Concatenate(0)([Input((2,))] * 3).shape
    ((5, 7), (6,))
    """

    fixed = ("axis",)

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def output_shape(self, input_shape: Shapes) -> Shape:
        axes = len(input_shape[0])
        if not -axes <= self.axis < axes:
            raise ShapeError(
                f"{self!r} wants inputs that have such an axis, got one of shape {input_shape[0]}, "
                f"which has {axes}"
            )
        place = self.axis % axes
        if len({(*shape[:place], *shape[place + 1 :]) for shape in input_shape}) > 1 or any(
            len(shape) != axes for shape in input_shape
        ):
            raise ShapeError(
                f"{self!r} wants inputs that are equal but for axis {self.axis}, got "
                f"{', '.join(map(str, input_shape))}"
            )
        joined = list(input_shape[0])
        joined[place] = sum(shape[place] for shape in input_shape)
        return tuple(joined)

    def output_range(self, input_range: Ranges) -> Range | None:
        return joined_range(input_range, min, max)

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        axis = self._axis_of(Z[0])
        self.cache["widths"] = [one.shape[axis] for one in Z]
        return self.xp.concat(list(Z), axis=axis)

    def backward(self, delta: Array) -> tuple[Array, ...]:
        before, start = (slice(None),) * self._axis_of(delta), 0
        deltas = []
        for width in self.cache["widths"]:
            deltas.append(delta[(*before, slice(start, start + width), ...)])
            start += width
        return tuple(deltas)

    def _axis_of(self, array: Array) -> int:
        return self.axis % (array.ndim - 1) + 1

    def __repr__(self) -> str:
        return f"Concatenate({'' if self.axis == -1 else self.axis})"


class Dot(Joint):
    """Inner products of the vectors of two inputs.

    Forward, for inputs X (batch, d) and Y (batch, d), one number a sample; for (batch, n, d) and
    (batch, m, d) that of each vector x_i with each vector y_j, (batch, n, m)::

        S_ij = x_i . y_j

    Backward, given delta = dL/dS::

        dL/dx_i = sum_j delta_ij y_j            dL/dy_j = sum_i delta_ij x_i

    With ``cosine``, of the vectors of length 1, u = x / |x|, whose deltas d go back by::

        dL/dx = (d - (d . u) u) / |x|

    A vector shorter than 1e-7 is divided by that number: u = x / 1e-7, dL/dx = d / 1e-7.

    Args:
        cosine: whether it is the cosine of the angle between the vectors.

    Raises:
        ShapeError: the inputs are not two of vectors of one length; from where the layer is called
            on nodes.

    >>> from xpnn import Input, Network
    >>> Dot()(Input((8,)), Input((8,))).shape, Dot()(Input((5, 8)), Input((4, 8))).shape
    ((1,), (5, 4))
    >>> one, other = Input((2,)), Input((2,))
    >>> net = Network(inputs=[one, other], outputs=Dot(cosine=True)(one, other))
    >>> net.predict([[[1.0, 0.0]], [[3.0, 4.0]]]).tolist()
    [[0.6]]
    """

    fixed = ("cosine",)
    arity = 2

    def __init__(self, cosine: bool = False):
        super().__init__()
        self.cosine = cosine

    def output_shape(self, input_shape: Shapes) -> Shape:
        first, second = input_shape
        if len(first) != len(second) or len(first) not in (1, 2) or first[-1] != second[-1]:
            raise ShapeError(
                f"{self!r} wants two inputs of shape (d,), or (n, d) and (m, d), got {first} and "
                f"{second}"
            )
        return (1,) if len(first) == 1 else (first[0], second[0])

    def output_range(self, input_range: Ranges) -> Range | None:
        if self.cosine:
            return (-1.0, 1.0)
        one = multiplied_range(*input_range)
        return None if one is None else (min(_endless(one[0]), 0.0), max(_endless(one[1]), 0.0))

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        vectors = [one[:, None, :] if one.ndim == 2 else one for one in Z]
        if self.cosine:
            lengths = self.cache["lengths"] = [self._lengths(one) for one in vectors]
            pairs = zip(vectors, lengths, strict=True)
            vectors = [self.xp.astype(x / n, x.dtype, copy=False) for x, n in pairs]
        X, Y = self.cache["vectors"] = tuple(vectors)
        S = X @ self.xp.matrix_transpose(Y)
        return S[:, :, 0] if Z[0].ndim == 2 else S

    def backward(self, delta: Array) -> tuple[Array, ...]:
        X, Y = self.cache["vectors"]
        single = delta.ndim == 2
        delta = delta[:, :, None] if single else delta
        deltas = [delta @ Y, self.xp.matrix_transpose(delta) @ X]
        if self.cosine:
            lengths = self.cache["lengths"]
            deltas = [self._turned(*one) for one in zip(deltas, (X, Y), lengths, strict=True)]
        return tuple(one[:, 0, :] if single else one for one in deltas)

    def _lengths(self, vectors: Array) -> Array:
        """In float32 where the vectors are in half precision, which squares outgrow."""
        wide = widened(vectors, self.xp)
        squares = self.xp.sum(wide * wide, axis=-1, keepdims=True)
        return self.xp.maximum(self.xp.sqrt(squares), LEAST_LENGTH)

    def _turned(self, delta: Array, units: Array, lengths: Array) -> Array:
        """dL/dx of the delta of x / |x|."""
        along = self.xp.sum(widened(delta * units, self.xp), axis=-1, keepdims=True)
        along = self.xp.where(lengths > LEAST_LENGTH, along, 0.0)
        return self.xp.astype((delta - along * units) / lengths, delta.dtype, copy=False)

    def multiply_adds(self, input_shape: Shapes) -> int:
        return math.prod(self.output_shape(input_shape)) * input_shape[0][-1]

    def __repr__(self) -> str:
        return f"Dot({'cosine=True' if self.cosine else ''})"


def _endless(end: float) -> float:
    """The end of a range of sums of any number of such numbers."""
    return math.copysign(math.inf, end) if end else 0.0


def multiplied_range(one: Range | None, other: Range | None) -> Range | None:
    """Between which numbers products lie, of two numbers in such ranges."""
    if one is None or other is None:
        return None
    ends = [a * b if a and b else 0.0 for a in one for b in other]  # 0 times infinity is 0 here
    return min(ends), max(ends)
