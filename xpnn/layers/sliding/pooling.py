"""Pooling: the largest or the mean of what lies under a sliding window, channel by channel.

A backend pools; how, written out for any library, stands in ``xpnn.backends.portable.pooling``.
"""

import math
from typing import Any, ClassVar

from xpnn.backends.portable.windows import Slide
from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.sliding.windows import (
    Padding,
    check_axes,
    padding_option,
    padding_per_axis,
    per_axis,
    slid_shapes,
    slide,
)
from xpnn.typing import Array, Range, Shape


class Pooling(Layer):
    """Base of the layers that pool under a window.

    Args:
        pool_size: how many entries the window has along each axis.
        stride: steps from position to position; the window's size unless given.
        padding: "valid" for none, "same" for what gives outputs of ``ceil(length / stride)``, or
            as much on both sides of an axis, less than the window's size.
    """

    fixed = ("pool_size", "stride", "padding")

    axes: ClassVar[int]

    def __init__(
        self,
        pool_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] | None = None,
        padding: Padding = "valid",
    ):
        super().__init__()
        self.pool_size = per_axis("pool_size", pool_size, self.axes)
        self.stride = self.pool_size if stride is None else per_axis("stride", stride, self.axes)
        self.padding = padding_per_axis(padding, self.axes)
        for size, more in zip(self.pool_size, self.padding, strict=True):
            if isinstance(more, int) and more >= size:
                raise ValueError(
                    f"{type(self).__name__} needs padding smaller than the window, or some windows "
                    f"would see nothing else, got pool_size={pool_size} and padding={padding}"
                )

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "padding": padding_option(self.padding)}

    def slides(self, lengths: Shape) -> list[Slide]:
        """How the window slides along each axis, for inputs of those lengths."""
        options = (self.pool_size, self.stride, self.padding)
        return [
            slide(length, size, stride, 1, padding)
            for length, size, stride, padding in zip(lengths, *options, strict=True)
        ]

    def output_shape(self, input_shape: Shape) -> Shape:
        check_axes(self, input_shape, self.axes)
        return (*(one.positions for one in self.slides(input_shape[:-1])), input_shape[-1])

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        return slid_shapes(self.slides(input_shape[:-1]), input_shape[-1])

    def __repr__(self) -> str:
        one = len(set(self.pool_size)) == 1
        return f"{type(self).__name__}({self.pool_size[0] if one else self.pool_size})"


class MaxPooling(Pooling):
    """Base of the layers that keep the largest; see ``MaxPool2D``."""

    def forward(self, Z: Array, training: bool = False) -> Array:
        slides = self.slides(Z.shape[1:-1])
        S, won = self.backend.max_pool(Z, slides)
        self.cache["slides"], self.cache["won"] = slides, won
        return S

    def backward(self, delta: Array) -> Array:
        return self.backend.max_pool_gradient(delta, self.cache["won"], self.cache["slides"])


class MaxPool1D(MaxPooling):
    """The largest entry under a window along one axis, channel by channel.

    Forward, with stride s and p entries of padding, which never win::

        S[n, t] = max_i Z[n, t s + i - p]

        Z (batch, length, channels)   S (batch, floor((length + 2 p - size) / s) + 1, channels)

    Backward: all of delta[n, t] goes to the first of the largest entries::

        dL/dZ[n, u] = sum of delta[n, t] over the windows t in which u has won

    Args:
        pool_size, stride, padding: as for ``MaxPool2D``, along one axis.

    >>> MaxPool1D(2).output_shape((9, 4))
    (4, 4)
    """

    axes = 1


class MaxPool2D(MaxPooling):
    """The largest entry under a rectangular window, channel by channel.

    Forward, with stride s and p entries of padding, which never win::

        S[n, r, c] = max_ij Z[n, r s + i - p, c s + j - p]

        Z (batch, height, width, channels)
        S (batch, floor((height + 2 p - size) / s) + 1, ..., channels)

    Backward: all of delta[n, r, c] goes to the largest entry; where several are equal, to the first
    of them, row by row. Entries under several windows get the sum::

        dL/dZ[n, u, v] = sum of delta[n, r, c] over the windows r, c in which u, v has won

    Args:
        pool_size: one integer, or (height, width).
        stride: steps from position to position; the window's size unless given.
        padding: "valid", "same" or integers smaller than the window.

    >>> MaxPool2D(3, stride=2, padding=1).output_shape((28, 28, 8))
    (14, 14, 8)
    """

    axes = 2


class MaxPool3D(MaxPooling):
    """The largest entry under a window over depth, height and width, channel by channel.

    Forward, with stride s and p entries of padding, which never win::

        S[n, q, r, c] = max_hij Z[n, q s + h - p, r s + i - p, c s + j - p]

        Z (batch, depth, height, width, channels)
        S (batch, floor((depth + 2 p - size) / s) + 1, ..., channels)

    Backward: all of delta[n, q, r, c] goes to the first of the largest entries, layer by layer and
    row by row::

        dL/dZ[n, w, u, v] = sum of delta[n, q, r, c] over the windows in which w, u, v has won

    Args:
        pool_size, stride, padding: as for ``MaxPool2D``, along three axes.

    >>> MaxPool3D((1, 2, 2)).output_shape((8, 28, 28, 4))
    (8, 14, 14, 4)
    """

    axes = 3


class AveragePooling(Pooling):
    """Base of the layers that take means; see ``AveragePool2D``."""

    def __init__(
        self,
        pool_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] | None = None,
        padding: Padding = "valid",
        count_padding: bool = False,
    ):
        super().__init__(pool_size, stride=stride, padding=padding)
        self.count_padding = count_padding

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["slides"] = slides = self.slides(Z.shape[1:-1])
        return self.backend.average_pool(Z, slides, self.count_padding)

    def backward(self, delta: Array) -> Array:
        slides = self.cache["slides"]
        return self.backend.average_pool_gradient(delta, slides, self.count_padding)


class AveragePool1D(AveragePooling):
    """The mean of the entries under a window along one axis, channel by channel.

    Forward, with stride s and p zeros before and behind::

        S[n, t] = 1/m[t] sum_i Z[n, t s + i - p]

        Z (batch, length, channels)   S (batch, floor((length + 2 p - size) / s) + 1, channels)

    Backward, given delta = dL/dS::

        dL/dZ[n, u] = sum of delta[n, t] / m[t] over all windows t that cover u

    ``m[t]`` is the number of entries of Z under the window, or the window's size with
    ``count_padding``.

    Args:
        pool_size, stride, padding, count_padding: as for ``AveragePool2D``, along one axis.

    >>> AveragePool1D(2).output_shape((9, 4))
    (4, 4)
    """

    axes = 1


class AveragePool2D(AveragePooling):
    """The mean of the entries under a rectangular window, channel by channel.

    Forward, with stride s and p zeros on all sides::

        S[n, r, c] = 1/m[r, c] sum_ij Z[n, r s + i - p, c s + j - p]

        Z (batch, height, width, channels)
        S (batch, floor((height + 2 p - size) / s) + 1, ..., channels)

    Backward::

        dL/dZ[n, u, v] = sum of delta[n, r, c] / m[r, c] over all windows r, c that cover u, v

    ``m[r, c]`` is the number of entries of Z under the window, or, with ``count_padding``, the
    window's size: then the zeros pull the means at the edges down.

    Args:
        pool_size: one integer, or (height, width).
        stride: steps from position to position; the window's size unless given.
        padding: "valid", "same" or integers smaller than the window.
        count_padding: whether padding counts as entries that are zero.

    >>> AveragePool2D(2).output_shape((5, 5, 8))
    (2, 2, 8)
    """

    axes = 2


class AveragePool3D(AveragePooling):
    """The mean of the entries under a window over depth, height and width, channel by channel.

    Forward, with stride s and p zeros on all sides::

        S[n, q, r, c] = 1/m[q, r, c] sum_hij Z[n, q s + h - p, r s + i - p, c s + j - p]

        Z (batch, depth, height, width, channels)
        S (batch, floor((depth + 2 p - size) / s) + 1, ..., channels)

    Backward::

        dL/dZ[n, w, u, v] = sum of delta[n, q, r, c] / m[q, r, c]
                            over all windows q, r, c that cover w, u, v

    What ``m`` counts is as in ``AveragePool2D``.

    Args:
        pool_size, stride, padding, count_padding: as for ``AveragePool2D``, along three axes.

    >>> AveragePool3D(2).output_shape((4, 9, 9, 8))
    (2, 4, 4, 8)
    """

    axes = 3


class GlobalPooling(Layer):
    """Base of the layers that turn (batch, *positions, channels) into (batch, channels)."""

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise ShapeError(
                f"{self!r} wants inputs of shape (*positions, channels), got {input_shape}; there "
                f"is nothing to pool over, so leave it out"
            )
        return input_shape[-1:]


class GlobalAveragePool(GlobalPooling):
    """The mean of each channel over all positions (Lin et al., Network in network, 2014, 3.2).

    Forward, for inputs Z of shape (batch, *positions, channels), p counting all P positions::

        S[n] = 1/P sum_p Z[n, p]

    Backward, given delta = dL/dS::

        dL/dZ[n, p] = delta[n] / P

    >>> from xpnn import Network
    >>> net = Network([GlobalAveragePool()], input_shape=(3, 2))
    >>> net.predict([[[1, 5], [3, 4], [2, 6]]]).tolist()
    [[2.0, 5.0]]
    """

    def forward(self, Z: Array, training: bool = False) -> Array:
        self.cache["shape"] = Z.shape
        return self.xp.mean(Z, axis=tuple(range(1, Z.ndim - 1)))

    def backward(self, delta: Array) -> Array:
        xp, shape = self.xp, self.cache["shape"]
        positions = shape[1:-1]
        delta = xp.reshape(delta, (shape[0], *(1,) * len(positions), shape[-1]))
        return xp.broadcast_to(delta * (1 / math.prod(positions)), shape)


class GlobalMaxPool(GlobalPooling):
    """The largest entry of each channel over all positions.

    Forward, for inputs Z of shape (batch, *positions, channels), p counting all positions::

        S[n] = max_p Z[n, p]

    Backward, given delta = dL/dS, all of delta[n] goes to the largest entry, to the first of them
    in row-major order where several are equal::

        dL/dZ[n, p] = delta[n] where p has won, else 0

    >>> from xpnn import Network
    >>> Network([GlobalMaxPool()], input_shape=(3, 2)).predict([[[1, 5], [3, 4], [2, 6]]]).tolist()
    [[3.0, 6.0]]
    """

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp = self.xp
        rows = xp.reshape(Z, (Z.shape[0], math.prod(Z.shape[1:-1]), Z.shape[-1]))
        self.cache["shape"], self.cache["winner"] = Z.shape, xp.argmax(rows, axis=1, keepdims=True)
        return xp.max(rows, axis=1)

    def backward(self, delta: Array) -> Array:
        xp, shape, winner = self.xp, self.cache["shape"], self.cache["winner"]
        positions = xp.arange(
            math.prod(shape[1:-1]), dtype=winner.dtype, device=self.backend.device
        )
        won = xp.astype(positions[None, :, None] == winner, delta.dtype)
        return xp.reshape(delta[:, None, :] * won, shape)
