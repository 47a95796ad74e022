"""Layers that give images more positions or fewer, by no weights that are learned.

They take images along any number of axes, (batch, *positions, channels): what is said of an axis is
one number for all of them, or a tuple with one for each.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar, Literal, TypeAlias

from xpnn.backends.portable.windows import batch_order, slid_order
from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.sliding.windows import per_axis
from xpnn.numerics import widened
from xpnn.typing import Array, Range, Shape

Sides: TypeAlias = int | tuple[int | tuple[int, int], ...]
"""How much at both ends of an axis: one number, or for each axis one or (before, behind)."""


class Resizing(Layer):
    """Base of the layers that change the number of positions, whatever the number of axes."""

    def along(self, option: Any, input_shape: Shape) -> tuple[Any, ...]:
        """An option as one value for each axis of positions.

        Raises:
            ShapeError: inputs of that shape have no such axis, or another number of them.
        """
        axes = len(input_shape) - 1
        if axes < 1:
            raise ShapeError(
                f"{self!r} wants inputs of shape (*positions, channels), got {input_shape}; put a "
                f"Reshape in front of it, with channels=1 where there is a single one"
            )
        if not isinstance(option, tuple):
            return (option,) * axes
        if len(option) != axes:
            raise ShapeError(
                f"{self!r} is made for {len(option)} axes beside the channels, got inputs of shape "
                f"{input_shape}; give it one number for all axes, or one for each"
            )
        return option

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range


def one_or_each(name: str, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """An option of at least 1: one integer for all axes, or a tuple with one for each."""
    if isinstance(value, tuple | list):
        return per_axis(name, tuple(value), len(value))
    return per_axis(name, value, 1)[0]


# Edges --------------------------------------------------------------------------------------------


class Framing(Resizing):
    """Base of the layers that put something around images, or cut it away: one undoes the other.

    Args:
        sides: how many positions at both ends of each axis: one integer for all axes, or a tuple
            with an integer or a pair (before, behind) for each.
    """

    fixed = ("sides",)

    sign: ClassVar[int]  # 1 to add positions, -1 to take them away

    def __init__(self, sides: Sides):
        super().__init__()
        if isinstance(sides, tuple | list):
            self.sides: Sides = tuple(_pair(one) for one in sides)
        else:
            self.sides = per_axis("sides", sides, 1, least=0)[0]

    def frames(self, input_shape: Shape) -> list[tuple[int, int]]:
        """Where each axis begins within the new one, and how long that is."""
        pairs = [_pair(one) for one in self.along(self.sides, input_shape)]
        return [
            (self.sign * before, length + self.sign * (before + behind))
            for length, (before, behind) in zip(input_shape[:-1], pairs, strict=True)
        ]

    def output_shape(self, input_shape: Shape) -> Shape:
        lengths = tuple(length for _, length in self.frames(input_shape))
        if min(lengths) < 1:
            raise ShapeError(
                f"{self!r} cuts all of the inputs away, which are of shape {input_shape}; let it "
                f"cut less"
            )
        return (*lengths, input_shape[-1])

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["shape"] = shape = Z.shape[1:]
        return self._placed(Z, self.frames(shape))

    def backward(self, delta: Array) -> Array:
        shape = self.cache["shape"]
        starts = (-start for start, _ in self.frames(shape))
        return self._placed(delta, list(zip(starts, shape[:-1], strict=True)))

    def _placed(self, Z: Array, frames: Sequence[tuple[int, int]]) -> Array:
        """Each axis at its start within one of that length."""
        x, first = slid_order(Z, self.backend)
        for axis, (start, length) in enumerate(frames, start=first):
            x = self.backend.pad(x, axis, start, length)
        return batch_order(x, self.backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sides})"


def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
    before, behind = per_axis("sides", side, 2, least=0)
    return before, behind


class ZeroPadding(Framing):
    """Zeros around images.

    Forward, for inputs Z of shape (batch, *positions, channels), with p positions before an axis,
    which is of the length N::

        S[n, u] = Z[n, u - p] where 0 <= u - p < N, else 0

    Backward, given delta = dL/dS::

        dL/dZ[n, t] = delta[n, t + p]

    Args:
        sides: how many positions at both ends of each axis: one integer for all axes, or a tuple
            with an integer or a pair (before, behind) for each.

    >>> ZeroPadding(1).output_shape((28, 28, 3))
    (30, 30, 3)
    >>> ZeroPadding((2, (0, 1))).output_shape((28, 28, 3))
    (32, 29, 3)
    """

    sign = 1

    def output_range(self, input_range: Range | None) -> Range | None:
        return None if input_range is None else (min(input_range[0], 0.0), max(input_range[1], 0.0))


class Cropping(Framing):
    """The inside of images, without what lies at their edges.

    Forward, for inputs Z of shape (batch, *positions, channels), with p positions cut off before an
    axis, which is of the length M afterwards::

        S[n, t] = Z[n, t + p]

    Backward, given delta = dL/dS::

        dL/dZ[n, u] = delta[n, u - p] where 0 <= u - p < M, else 0

    Args:
        sides: how many positions at both ends of each axis: one integer for all axes, or a tuple
            with an integer or a pair (before, behind) for each.

    >>> Cropping(2).output_shape((28, 28, 3))
    (24, 24, 3)
    >>> Cropping(((0, 1),)).output_shape((100, 8))
    (99, 8)
    """

    sign = -1


# Other resolutions --------------------------------------------------------------------------------


class Resampling(Resizing):
    """Base of the layers that mix the positions of an axis, in fixed proportions.

    A matrix M, of which each row adds up to 1, is applied along each axis, channel by channel::

        S = M Z            dL/dZ = M^T delta

    In half precision it is worked out in float32. An axis takes as many products for each of its
    new positions as it had positions before.
    """

    def lengths(self, input_shape: Shape) -> Shape:
        """How long each axis is afterwards."""
        raise NotImplementedError(f"{type(self).__name__} has to define lengths")

    def proportions(self, before: int, after: int) -> Array:
        """``M`` but for a factor of each row, (after, before)."""
        raise NotImplementedError(f"{type(self).__name__} has to define proportions")

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self.lengths(input_shape), input_shape[-1])

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        lengths = self.lengths(input_shape)
        matrices = zip(lengths, input_shape[:-1], strict=True)
        return [*matrices, *((*lengths[:k], *input_shape[k:]) for k in range(len(lengths)))]

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["shape"] = shape = Z.shape[1:]
        return self._mixed(Z, self._matrices(shape, Z))

    def backward(self, delta: Array) -> Array:
        matrices = self._matrices(self.cache["shape"], delta)
        return self._mixed(delta, [self.xp.matrix_transpose(M) for M in matrices])

    def _matrices(self, shape: Shape, like: Array) -> list[Array]:
        """``M`` along each axis, for images of that shape, in the dtype that is worked out in."""
        xp, dtype = self.xp, widened(like, self.xp).dtype
        lengths = zip(shape[:-1], self.lengths(shape), strict=True)
        found = [xp.astype(self.proportions(*pair), dtype) for pair in lengths]
        return [M / xp.sum(M, axis=1, keepdims=True) for M in found]

    def _mixed(self, Z: Array, matrices: Sequence[Array]) -> Array:
        xp = self.xp
        x, first = slid_order(widened(Z, xp), self.backend)
        for axis, M in enumerate(matrices, start=first):
            before, length, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
            x = M @ xp.reshape(x, (*before, length, math.prod(behind)))
            x = xp.reshape(x, (*before, M.shape[0], *behind))
        return batch_order(xp.astype(x, Z.dtype, copy=False), self.backend)

    def _counted(self, count: int) -> Array:
        return self.xp.arange(count, device=self.backend.device)


class UpSampling(Resampling):
    """Images with ``factor`` times as many positions, which copy their neighbours or lie between.

    Forward, for inputs Z of shape (batch, *positions, channels), along each axis of N positions,
    with factor f, and with t + a = (u + 1/2) / f - 1/2, 0 <= a < 1, kept between 0 and N - 1::

        S[n, u] = Z[n, floor(u / f)]                                  "nearest"
        S[n, u] = (1 - a) Z[n, t] + a Z[n, t + 1]                     "linear"

    Backward, given delta = dL/dS, each delta goes back to where its value came from::

        dL/dZ[n, t] = sum of delta[n, u] over t f <= u < (t + 1) f    "nearest"
        dL/dZ[n, t] = sum over u of delta[n, u] times the share of Z[n, t] in S[n, u]     "linear"

    Both are those of ``torch.nn.Upsample``, which calls the second "linear", "bilinear" or
    "trilinear" after the number of axes. It is meant for images: an axis of N positions takes
    N^2 f products, for each channel.

    Args:
        factor: one integer for all axes, or a tuple with one for each.
        mode: "nearest" or "linear".

    >>> UpSampling(2).output_shape((7, 7, 16))
    (14, 14, 16)
    >>> UpSampling((1, 2, 2), mode="linear").output_shape((5, 7, 7, 16))
    (5, 14, 14, 16)
    """

    fixed = ("factor", "mode")

    def __init__(
        self, factor: int | tuple[int, ...] = 2, *, mode: Literal["nearest", "linear"] = "nearest"
    ):
        super().__init__()
        if mode not in ("nearest", "linear"):
            raise ValueError(f"UpSampling knows mode='nearest' and 'linear', got {mode!r}")
        self.factor, self.mode = one_or_each("factor", factor), mode

    def lengths(self, input_shape: Shape) -> Shape:
        factors = self.along(self.factor, input_shape)
        return tuple(n * f for n, f in zip(input_shape[:-1], factors, strict=True))

    def proportions(self, before: int, after: int) -> Array:
        """Of two neighbours, as near as they are: triangles of the height 2 f over each input."""
        xp, factor = self.xp, after // before
        outputs, inputs = self._counted(after)[:, None], self._counted(before)[None, :]
        last = 2 * factor * (before - 1)
        places = xp.minimum(xp.maximum(2 * outputs + 1 - factor, 0), last)  # in steps of 1 / 2 f
        return xp.maximum(2 * factor - xp.abs(places - 2 * factor * inputs), 0)

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        return super().inner_shapes(input_shape) if self.mode == "linear" else []

    def forward(self, Z: Array, training: bool = False) -> Array:
        if self.mode == "linear":
            return super().forward(Z, training)
        xp = self.xp
        self.cache["shape"] = shape = Z.shape[1:]
        x, first = slid_order(Z, self.backend)
        before, behind = x.shape[:first], x.shape[first + len(shape) - 1 :]
        factors = self.along(self.factor, shape)
        apart = chain(*((length, 1) for length in shape[:-1]))
        repeated = chain(*zip(shape[:-1], factors, strict=True))
        x = xp.reshape(x, (*before, *apart, *behind))
        x = xp.broadcast_to(x, (*before, *repeated, *behind))
        return batch_order(xp.reshape(x, (*before, *self.lengths(shape), *behind)), self.backend)

    def backward(self, delta: Array) -> Array:
        if self.mode == "linear":
            return super().backward(delta)
        xp, shape = self.xp, self.cache["shape"]
        x, first = slid_order(delta, self.backend)
        before, behind = x.shape[:first], x.shape[first + len(shape) - 1 :]
        factors = self.along(self.factor, shape)
        apart = chain(*zip(shape[:-1], factors, strict=True))
        x = widened(xp.reshape(x, (*before, *apart, *behind)), xp)
        for axis in reversed(range(len(factors))):  # PyTorch is slow over several that lie apart
            x = xp.sum(x, axis=first + 2 * axis + 1)
        return batch_order(xp.astype(x, delta.dtype, copy=False), self.backend)

    def __repr__(self) -> str:
        mode = "" if self.mode == "nearest" else f", mode={self.mode!r}"
        return f"UpSampling({self.factor}{mode})"


class AdaptiveAveragePool(Resampling):
    """Means over as many equal parts of an image as are asked for, however large it is.

    Forward, for inputs Z of shape (batch, *positions, channels), along each axis of N positions, in
    K parts that overlap where K does not divide N::

        S[n, k] = 1/m[k] sum of Z[n, t] over floor(k N / K) <= t < ceil((k + 1) N / K)

    Backward, given delta = dL/dS::

        dL/dZ[n, t] = sum of delta[n, k] / m[k] over the parts k that hold t

    with m[k] the number of positions in part k: ``torch.nn.AdaptiveAvgPool2d``.

    Args:
        size: K, one integer for all axes, or a tuple with one for each.

    >>> AdaptiveAveragePool(7).output_shape((30, 40, 64))
    (7, 7, 64)
    """

    fixed = ("size",)

    def __init__(self, size: int | tuple[int, ...]):
        super().__init__()
        self.size = one_or_each("size", size)

    def lengths(self, input_shape: Shape) -> Shape:
        return self.along(self.size, input_shape)

    def proportions(self, before: int, after: int) -> Array:
        """1 for the positions of a part, 0 for all others."""
        parts, positions = self._counted(after)[:, None], self._counted(before)[None, :]
        starts, ends = parts * before // after, ((parts + 1) * before + after - 1) // after
        return (positions >= starts) & (positions < ends)

    def __repr__(self) -> str:
        return f"AdaptiveAveragePool({self.size})"


class PixelShuffle(Resizing):
    """Channels laid out as positions, ``factor`` times as many along each axis (Shi et al., 2016).

    Forward, on images, with factor f::

        S[n, r f + i, c f + j, k] = Z[n, r, c, k f^2 + i f + j]

        Z (batch, height, width, f^2 channels)   S (batch, height f, width f, channels)

    Backward, given delta = dL/dS::

        dL/dZ[n, r, c, k f^2 + i f + j] = delta[n, r f + i, c f + j, k]

    A ``Conv2D`` with f^2 times as many filters in front of it enlarges images with weights of its
    own, at the cost of the small image.

    Args:
        factor: one integer for all axes, or a tuple with one for each.

    Raises:
        ShapeError: the channels cannot be laid out so; from where a network is made.

    >>> PixelShuffle(2).output_shape((7, 7, 16))
    (14, 14, 4)
    """

    fixed = ("factor",)

    def __init__(self, factor: int | tuple[int, ...] = 2):
        super().__init__()
        self.factor = one_or_each("factor", factor)

    def output_shape(self, input_shape: Shape) -> Shape:
        factors = self.along(self.factor, input_shape)
        *lengths, channels = input_shape
        if channels % math.prod(factors):
            raise ShapeError(
                f"{self!r} lays {math.prod(factors)} channels out as positions, got inputs of "
                f"shape {input_shape}; give the layer in front of it a multiple of that many"
            )
        larger = (n * f for n, f in zip(lengths, factors, strict=True))
        return (*larger, channels // math.prod(factors))

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp = self.xp
        self.cache["shape"] = shape = Z.shape[1:]
        x, first = slid_order(Z, self.backend)
        factors = self.along(self.factor, shape)
        *larger, channels = self.output_shape(shape)
        before, batch = x.shape[:first], x.shape[first + len(factors) : -1]
        x = xp.reshape(x, (*x.shape[:-1], channels, *factors))
        x = xp.permute_dims(x, _order(first, len(factors)))
        return batch_order(xp.reshape(x, (*before, *larger, *batch, channels)), self.backend)

    def backward(self, delta: Array) -> Array:
        xp, shape = self.xp, self.cache["shape"]
        x, first = slid_order(delta, self.backend)
        factors = self.along(self.factor, shape)
        before, behind = x.shape[:first], x.shape[first + len(factors) :]
        apart = chain(*zip(shape[:-1], factors, strict=True))
        x = xp.reshape(x, (*before, *apart, *behind))
        order = _order(first, len(factors))
        x = xp.permute_dims(x, tuple(map(order.index, range(len(order)))))
        x = xp.reshape(x, (*x.shape[: -len(factors) - 1], shape[-1]))
        return batch_order(x, self.backend)

    def __repr__(self) -> str:
        return f"PixelShuffle({self.factor})"


def _order(first: int, axes: int) -> tuple[int, ...]:
    """The axes of a batch (positions, channels, factors), each factor behind its positions.

    >>> _order(1, 2)  # batch, height, width, channels, and the factors of height and width
    (0, 1, 4, 2, 5, 3)
    """
    pairs = ((first + k, axes + 2 + k) for k in range(axes))
    return (*range(first), *chain(*pairs), *range(first + axes, axes + 2))
