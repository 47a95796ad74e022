"""Windows that slide along the axes of an array: cut out, put back, and filled up at the edges.

Convolution and pooling are made of two moves that are each other's transpose. ``cut`` takes, for
each entry of the window, what lies under it at all positions: a strided slice. ``fold`` puts such
slices back and adds where they overlap. Both work on one axis at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xpnn.backends.portable.sliding import Sliding, part
from xpnn.typing import Array, Namespace


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


def slid_order(Z: Array, backend: Sliding) -> tuple[Array, int]:
    """(batch, *positions, channels) as windows slide over it on this backend.

    And the number of its first axis of positions: they come first, or behind the batch.
    """
    return (positions_first(backend.xp, Z), 0) if backend.positions_first else (Z, 1)


def batch_order(S: Array, backend: Sliding) -> Array:
    """The way back of ``slid_order``."""
    return batch_first(backend.xp, S) if backend.positions_first else S


def lying(Z: Array, backend: Sliding) -> Array:
    """``Z`` in memory as windows slide over it; for who reads it several times."""
    return batch_order(slid_order(Z, backend)[0], backend)


def in_one_piece(xp: Namespace, x: Array) -> Array:
    """The same values, in memory in the order of the axes; copied only where they are not yet."""
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)


# For libraries that cannot say all that a slide does ----------------------------------------------


def over_padded(one: Slide) -> Slide:
    """The same slide over its axis when that has been filled up."""
    return replace(one, length=one.extent, low=0)


def filled_up(
    Z: Array, slides: Sequence[Slide], taken: Sequence[Slide], backend: Sliding, fill: float = 0.0
) -> Array:
    """``Z``, filled up or cut along the axes for which ``over_padded`` is taken instead."""
    for axis, (one, other) in enumerate(zip(slides, taken, strict=True), start=1):
        if other is not one:
            Z = backend.pad(Z, axis, one.low, one.extent, fill)
    return Z


def cut_back(dZ: Array, slides: Sequence[Slide], taken: Sequence[Slide], backend: Sliding) -> Array:
    """The transpose of ``filled_up``."""
    for axis, (one, other) in enumerate(zip(slides, taken, strict=True), start=1):
        if other is not one:
            dZ = backend.pad(dZ, axis, -one.low, one.length)
    return dZ


# Moves along one axis -----------------------------------------------------------------------------


def padded(x: Array, axis: int, slide: Slide, backend: Sliding, fill: float = 0.0) -> Array:
    """``x`` with as much before and after it as the window reaches beyond it."""
    if slide.low or slide.extent > slide.length:
        return backend.pad(x, axis, slide.low, slide.extent, fill)
    return x


def entries(x: Array, axis: int, slide: Slide) -> list[Array]:
    """For each entry of the window, what lies under it in ``x``, which is padded."""
    reach = (slide.positions - 1) * slide.stride + 1
    starts = (k * slide.dilation for k in range(slide.size))
    return [part(x, axis, start, start + reach, slide.stride) for start in starts]


def cut(x: Array, axis: int, slide: Slide, backend: Sliding, fill: float = 0.0) -> list[Array]:
    """For each entry of the window, what lies under it at all positions, padding included."""
    return entries(padded(x, axis, slide, backend, fill), axis, slide)


def fold(parts: Sequence[Array], axis: int, slide: Slide, backend: Sliding) -> Array:
    """The transpose of ``cut``: parts put back to where they were cut out, and added up."""
    return backend.fold(parts, axis, slide.length, slide.stride, slide.dilation, slide.low)
