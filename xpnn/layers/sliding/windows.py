"""Windows that slide along the axes of an array: cut out, put back, and filled up at the edges.

Convolution and pooling are made of two moves that are each other's transpose. ``cut`` takes, for
each entry of the window, what lies under it at all positions: a strided slice. ``fold`` puts such
slices back and adds where they overlap. Both work on one axis at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xpnn.backends import Backend
from xpnn.backends.portable.sliding import part
from xpnn.errors import ShapeError
from xpnn.typing import Array, Namespace, Shape

Padding: TypeAlias = Literal["valid", "same"] | int | tuple[int, ...]


@dataclass(frozen=True)
class Slide:
    """How a window slides along one axis.

    Its entry k at position o lies over entry ``o stride + k dilation - low`` of the axis.

    Attributes:
        length: of the axis.
        positions: how many positions the window takes: the length of the output.
        size: how many entries the window has.
        stride: steps from position to position.
        dilation: steps from entry to entry.
        low: padding before the first entry of the axis.
    """

    length: int
    positions: int
    size: int
    stride: int = 1
    dilation: int = 1
    low: int = 0

    @property
    def extent(self) -> int:
        """From the first entry of the first place to the last entry of the last, both included."""
        return (self.positions - 1) * self.stride + span(self.size, self.dilation)


def span(size: int, dilation: int) -> int:
    """From the first to the last entry of a window, both included."""
    return (size - 1) * dilation + 1


def slide(length: int, size: int, stride: int, dilation: int, padding: str | int) -> Slide:
    """The slide of a window over an axis of that length.

    With ``padding`` p, an integer, there are ``floor((length + 2 p - span) / stride) + 1``
    positions; "valid" is 0. With "same" there are ``ceil(length / stride)``, and the padding that
    they need is split evenly, an odd one behind.

    Raises:
        ShapeError: the window does not fit into the padded axis.
    """
    wide = span(size, dilation)
    if padding == "same":
        positions = math.ceil(length / stride)
        low = max((positions - 1) * stride + wide - length, 0) // 2
        return Slide(length, positions, size, stride, dilation, low)
    low = 0 if isinstance(padding, str) else padding
    if wide > length + 2 * low:
        raise ShapeError(
            f"a window that spans {wide} does not fit into an axis of length {length} with padding "
            f"{low}; make it smaller, give the layer more padding, or write padding='same'"
        )
    return Slide(length, (length + 2 * low - wide) // stride + 1, size, stride, dilation, low)


def slid_shapes(slides: Sequence[Slide], channels: int) -> list[Shape]:
    """Shapes of what windows are cut out of, or put back into: axes with all that is reached.

    The last one stands for the window: its entries are arrays of their own, of 256 bytes and more.
    """
    reached = [max(one.low + one.length, one.extent) for one in slides]
    return [(*reached, channels), (math.prod(one.size for one in slides), 32)]


# Options ------------------------------------------------------------------------------------------


def per_axis(name: str, value: int | tuple[int, ...], axes: int, least: int = 1) -> tuple[int, ...]:
    """An option such as a stride as one integer for each axis."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
    if len(values) != axes or not all(_is_integer(n) and n >= least for n in values):
        wanted = "an integer" if axes == 1 else f"an integer, or {axes} of them,"
        raise ValueError(f"{name} is {wanted} of at least {least}, got {value!r}")
    return values


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def padding_per_axis(padding: Padding, axes: int) -> tuple[str | int, ...]:
    """The option ``padding`` as one value for each axis."""
    if not isinstance(padding, str):
        return per_axis("padding", padding, axes, least=0)
    if padding not in ("valid", "same"):
        raise ValueError(f"padding is 'valid', 'same' or integers, got {padding!r}")
    return (padding,) * axes


def padding_option(values: tuple[str | int, ...]) -> Padding:
    """The way back of ``padding_per_axis``: what the option was."""
    named = [value for value in values if isinstance(value, str)]
    return named[0] if named else values  # type: ignore[return-value]


def check_axes(layer: object, input_shape: Shape, axes: int) -> None:
    """Refuse inputs that are not (*positions, channels) with that many axes of positions."""
    if len(input_shape) != axes + 1:
        names = "length" if axes == 1 else "height, width"
        raise ShapeError(
            f"{layer!r} wants inputs of shape ({names}, channels), got {input_shape}; put a "
            f"Reshape in front of it, with channels=1 where there is a single one"
        )


# Layout -------------------------------------------------------------------------------------------


def positions_first(xp: Namespace, Z: Array) -> Array:
    """(batch, *positions, channels) as (*positions, batch, channels), in one piece.

    Slices along the positions are then made of long rows, one for each position and the whole
    batch, and products with them are large. Nothing is copied where ``batch_first`` made ``Z``.
    """
    Z = xp.permute_dims(Z, (*range(1, Z.ndim - 1), 0, Z.ndim - 1))
    return in_one_piece(xp, Z)


def batch_first(xp: Namespace, S: Array) -> Array:
    """The way back of ``positions_first``, as a view."""
    return xp.permute_dims(S, (S.ndim - 2, *range(S.ndim - 2), S.ndim - 1))


def in_one_piece(xp: Namespace, x: Array) -> Array:
    """The same values, in memory in the order of the axes; copied only where they are not yet."""
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)


# Moves along one axis -----------------------------------------------------------------------------


def padded(x: Array, axis: int, slide: Slide, backend: Backend, fill: float = 0.0) -> Array:
    """``x`` with as much before and after it as the window reaches beyond it."""
    if slide.low or slide.extent > slide.length:
        return backend.pad(x, axis, slide.low, slide.extent, fill)
    return x


def entries(x: Array, axis: int, slide: Slide) -> list[Array]:
    """For each entry of the window, what lies under it in ``x``, which is padded."""
    reach = (slide.positions - 1) * slide.stride + 1
    starts = (k * slide.dilation for k in range(slide.size))
    return [part(x, axis, start, start + reach, slide.stride) for start in starts]


def cut(x: Array, axis: int, slide: Slide, backend: Backend, fill: float = 0.0) -> list[Array]:
    """For each entry of the window, what lies under it at all positions, padding included."""
    return entries(padded(x, axis, slide, backend, fill), axis, slide)


def fold(parts: Sequence[Array], axis: int, slide: Slide, backend: Backend) -> Array:
    """The transpose of ``cut``: parts put back to where they were cut out, and added up."""
    return backend.fold(parts, axis, slide.length, slide.stride, slide.dilation, slide.low)
