"""What layers that slide a window take as options, and how it slides for inputs of a shape."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from xpnn.backends.portable.windows import Slide, span
from xpnn.errors import ShapeError
from xpnn.typing import Shape

Padding: TypeAlias = Literal["valid", "same"] | int | tuple[int, ...]


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
        positions = -(-length // stride)
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
        names = {1: "length", 2: "height, width", 3: "depth, height, width"}[axes]
        raise ShapeError(
            f"{layer!r} wants inputs of shape ({names}, channels), got {input_shape}; put a "
            f"Reshape in front of it, with channels=1 where there is a single one"
        )
