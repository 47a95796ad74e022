"""Layers that move images about in training, or cover a part, so that networks see more of them.

Each image of a batch has draws of its own, which are a function of (seed, layer, draw) and so the
same on every backend and device. In prediction all images pass as they are; ``RandomCrop`` takes
the middle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnn.errors import ShapeError
from xpnn.layers.dropout import Disturbance
from xpnn.layers.sliding.windows import per_axis
from xpnn.typing import Array, Namespace, Range, Shape

BITS = 16
"""Of each random word, by which a place or a decision is drawn, so that products fit into words."""


@dataclass(frozen=True)
class Way:
    """How one axis of images goes: pixel k of the output is pixel ``start + step k`` of the input.

    ``start`` and ``step`` are integers, or (batch, 1) arrays of them; a step is 1 or -1.
    """

    start: Any = 0
    step: Any = 1

    def sources(self, pixels: Array) -> Array:
        """The pixels of the input that the pixels of the output come from."""
        return self.start + self.step * pixels

    def targets(self, pixels: Array) -> Array:
        """The way back: as step is 1 or -1, ``k = (pixel - start) step``."""
        return (pixels - self.start) * self.step


class Augmentation(Disturbance):
    """Base of the layers that draw something for each image (height, width, channels)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(
                f"{self!r} wants images, inputs of shape (height, width, channels), got "
                f"{input_shape}; put a Reshape in front of it, with channels=1 where there is a "
                f"single one"
            )
        if max(self.places(*input_shape[:2])) > 2**BITS:
            raise ShapeError(
                f"{self!r} draws from {2**BITS:,} places along an axis at most, which is too few "
                f"for images of shape {input_shape}"
            )
        return input_shape

    def places(self, *lengths: int) -> list[int]:
        """From how many places it draws, along axes of these lengths."""
        return list(lengths)

    def output_range(self, input_range: Range | None) -> Range | None:
        if input_range is None:
            return None
        low, high = input_range
        return min(low, 0.0), max(high, 0.0)

    def words(self, batch: int, count: int) -> list[Array]:
        """``count`` random integers of 16 bits for each image, as (batch, 1) arrays."""
        words = self.random_bits((count, batch, 1), axis=1)
        return [words[k, ...] >> BITS for k in range(count)]

    def below(self, count: int, words: Array) -> Array:
        """Integers from 0 up to ``count``, all as likely, to 1 part in 2^16 / count."""
        return self.xp.astype((words * count) >> BITS, self.xp.int32)


def check_probability(layer: Augmentation, name: str, value: float) -> float:
    """A probability as a float; ValueError if it is none."""
    if not 0 <= value <= 1:
        raise ValueError(f"{type(layer).__name__} needs {name} in [0, 1], got {name}={value}")
    return float(value)


def happens(probability: float, words: Array) -> Array:
    """Booleans that are true with that probability, for random integers of 16 bits."""
    return words < round(probability * 2**BITS)


class Displacement(Augmentation):
    """Base of those whose output is made of the input's pixels, each in another place, and of 0.

    Forward, with a way for rows and one for columns that are drawn for each image n::

        S[n, r, c] = Z[n, start_n + step_n r, start'_n + step'_n c], or 0 outside of the image

    Backward, each pixel's delta goes to where it came from, which is the same with the way back::

        dL/dZ[n, u, v] = delta[n, (u - start_n) step_n, (v - start'_n) step'_n], or 0 outside

    A new one writes ``draw``, and ``still`` where images do not pass as they are in prediction.
    """

    def draws(self, height: int, width: int) -> bool:
        """Whether there is more than one way that images may go in training."""
        return max(self.places(height, width)) > 1

    def draw(self, batch: int, height: int, width: int) -> tuple[Way, Way]:
        """The ways of rows and of columns in training."""
        raise NotImplementedError(f"{type(self).__name__} has to define draw")

    def still(self, height: int, width: int) -> tuple[Way, Way] | None:
        """Those in prediction; None for images as they are."""
        return None

    def forward(self, Z: Array, training: bool = False) -> Array:
        batch, height, width, _ = Z.shape
        draws = training and self.draws(height, width)
        ways = self.draw(batch, height, width) if draws else self.still(height, width)
        self.cache.update(ways=ways, lengths=(height, width))
        if ways is None:
            return Z
        rows, columns = map(self._pixels, self.output_shape(Z.shape[1:])[:2])
        return self._taken(Z, ways[0].sources(rows), ways[1].sources(columns))

    def backward(self, delta: Array) -> Array:
        ways = self.cache["ways"]
        if ways is None:
            return delta
        rows, columns = map(self._pixels, self.cache["lengths"])
        return self._taken(delta, ways[0].targets(rows), ways[1].targets(columns))

    def _pixels(self, count: int) -> Array:
        return self.backend.indices(count)[None, :]

    def _taken(self, images: Array, rows: Array, columns: Array) -> Array:
        """The pixels at these rows (batch or 1, r) and columns (batch or 1, c); 0 outside."""
        xp = self.xp
        batch, height, width, channels = images.shape
        r, c = rows[:, :, None], columns[:, None, :]
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        r, c = (xp.minimum(xp.maximum(k, 0), n - 1) for k, n in ((r, height), (c, width)))
        first = self.backend.indices(batch)[:, None, None] * (height * width)
        places = first + r * width + c  # in the batch as one row of pixels
        pixels = xp.reshape(images, (batch * height * width, channels))
        found = xp.take(pixels, xp.reshape(places, (-1,)), axis=0)
        found = xp.reshape(found, (*places.shape, channels))
        return xp.where(inside[..., None], found, xp.zeros_like(found))


class RandomFlip(Displacement):
    """Mirrors images in training.

    Each by itself, along the width, so that left is right, along the height, or along both.
    Forward, for images Z (batch, height, width, channels), where one is mirrored along its width::

        S[n, r, c] = Z[n, r, width - 1 - c]

    Backward, given delta = dL/dS, what is mirrored is mirrored back::

        dL/dZ[n, r, c] = delta[n, r, width - 1 - c]

    In prediction S = Z.

    Args:
        horizontal: probability that left and right change places.
        vertical: probability that top and bottom do.

    >>> from xpnn import Network
    >>> net = Network([RandomFlip(horizontal=1.0)], input_shape=(1, 3, 1))
    >>> net.forward([[[[1.0], [2.0], [3.0]]]], training=True).tolist()
    [[[[3.0], [2.0], [1.0]]]]
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0):
        super().__init__()
        self.horizontal = check_probability(self, "horizontal", horizontal)
        self.vertical = check_probability(self, "vertical", vertical)

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def draws(self, height: int, width: int) -> bool:
        return self.horizontal > 0 or self.vertical > 0

    def draw(self, batch: int, height: int, width: int) -> tuple[Way, Way]:
        down, across = self.words(batch, 2)
        return self._way(self.vertical, down, height), self._way(self.horizontal, across, width)

    def _way(self, probability: float, words: Array, length: int) -> Way:
        turned = self.xp.astype(happens(probability, words), self.xp.int32)
        return Way(turned * (length - 1), 1 - 2 * turned)

    def __repr__(self) -> str:
        return f"RandomFlip({self.horizontal}, vertical={self.vertical})"


class RandomShift(Displacement):
    """Shifts each image in training, by up to so many pixels up or down and left or right.

    Forward, for images Z (batch, height, width, channels), by i rows and j columns, which are drawn
    for each, all whole numbers of pixels equally likely::

        S[n, r, c] = Z[n, r - i, c - j], 0 where that is outside

    Backward, given delta = dL/dS::

        dL/dZ[n, r, c] = delta[n, r + i, c + j], 0 where that is outside

    In prediction S = Z.

    Args:
        pixels: one integer, or (vertical, horizontal).

    >>> from xpnn import Network
    >>> net = Network([RandomShift((0, 1))], input_shape=(1, 3, 1))
    >>> net.forward([[[[1.0], [2.0], [3.0]]]], training=True).tolist()
    [[[[0.0], [1.0], [2.0]]]]
    """

    fixed = ("pixels",)

    def __init__(self, pixels: int | tuple[int, int]):
        super().__init__()
        self.pixels = per_axis("pixels", pixels, 2, least=0)

    def places(self, *lengths: int) -> list[int]:
        return [2 * most + 1 for most in self.pixels]

    def draw(self, batch: int, height: int, width: int) -> tuple[Way, Way]:
        (rows, columns), (down, across) = self.places(height, width), self.pixels
        vertical, horizontal = self.words(batch, 2)
        return (
            Way(self.below(rows, vertical) - down),
            Way(self.below(columns, horizontal) - across),
        )

    def __repr__(self) -> str:
        return f"RandomShift({self.pixels})"


class RandomCrop(Displacement):
    """Cuts a window out of each image, in training at a place that is drawn (He et al., 2016, 4.2).

    Forward, for images Z (batch, height, width, channels), with i and j the row and the column of
    the window's first pixel, all equally likely::

        S[n, r, c] = Z[n, r + i, c + j], 0 where that is padding

    Backward, given delta = dL/dS::

        dL/dZ[n, r, c] = delta[n, r - i, c - j], 0 where that is outside of the window

    With padding, rows and columns of 0 are put around the image first: ``RandomCrop(32,
    padding=4)`` is what networks on CIFAR-10 are trained with. In prediction it is the window in
    the middle.

    Args:
        size: of the window: one integer, or (height, width).
        padding: pixels around the image; one integer, or (vertical, horizontal).

    Raises:
        ShapeError: inputs are no images, or smaller than the window; from where a network is made.

    >>> RandomCrop(24).output_shape((32, 32, 3))
    (24, 24, 3)
    """

    fixed = ("size", "padding")

    def __init__(self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0):
        super().__init__()
        self.size = per_axis("size", size, 2)
        self.padding = per_axis("padding", padding, 2, least=0)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = super().output_shape(input_shape)[-1]
        if min(self.places(*input_shape[:2])) < 1:
            raise ShapeError(
                f"{self!r} cuts windows of {self.size} pixels, got images of shape {input_shape}, "
                f"which with their padding are smaller; take a smaller size, or more padding"
            )
        return (*self.size, channels)

    def places(self, *lengths: int) -> list[int]:
        return [
            length + 2 * padding - size + 1
            for length, padding, size in zip(lengths, self.padding, self.size, strict=True)
        ]

    def draw(self, batch: int, height: int, width: int) -> tuple[Way, Way]:
        (rows, columns), (above, before) = self.places(height, width), self.padding
        vertical, horizontal = self.words(batch, 2)
        return (
            Way(self.below(rows, vertical) - above),
            Way(self.below(columns, horizontal) - before),
        )

    def still(self, height: int, width: int) -> tuple[Way, Way] | None:
        if self.size == (height, width):
            return None
        rows, columns = ((n - k) // 2 for n, k in zip((height, width), self.size, strict=True))
        return Way(rows), Way(columns)

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


class Cutout(Augmentation):
    """Covers a rectangle of images with 0 in training (DeVries and Taylor, 2017, section 3.2).

    Its middle is a pixel that is drawn, all of them equally likely, so that at the edges less is
    covered.

    Forward, for images Z (batch, height, width, channels), with a mask m of ones, and of zeros
    under the rectangle::

        S = Z m                     m (batch, height, width, 1)

    Backward, given delta = dL/dS::

        dL/dZ = delta m

    In prediction S = Z.

    Args:
        size: of the rectangle: one integer, or (height, width).
        rate: share of images of which a part is covered.

    >>> from xpnn import Network
    >>> net = Network([Cutout((1, 2))], input_shape=(1, 4, 1), seed=1)
    >>> net.forward([[[[1.0], [2.0], [3.0], [4.0]]]], training=True).tolist()
    [[[[1.0], [0.0], [0.0], [4.0]]]]
    """

    fixed = ("size",)

    def __init__(self, size: int | tuple[int, int], *, rate: float = 1.0):
        super().__init__()
        self.size = per_axis("size", size, 2)
        self.rate = check_probability(self, "rate", rate)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"cover": elementwise(cover_rule)}

    def forward(self, Z: Array, training: bool = False) -> Array:
        if not training or self.rate == 0:
            self.cache["kept"] = None
            return Z
        batch, height, width, _ = Z.shape
        down, across, chosen = self.words(batch, 3)
        rows = self._under(down, height, self.size[0]) & happens(self.rate, chosen)
        columns = self._under(across, width, self.size[1])
        self.cache["kept"] = kept = ~(rows[:, :, None, None] & columns[:, None, :, None])
        return self.fused["cover"](Z, kept)

    def _under(self, words: Array, length: int, size: int) -> Array:
        """Which pixels of an axis are under the rectangle, (batch, length)."""
        first = self.below(length, words) - size // 2
        distance = self.backend.indices(length)[None, :] - first
        return (distance >= 0) & (distance < size)

    def backward(self, delta: Array) -> Array:
        kept = self.cache["kept"]
        return delta if kept is None else self.fused["cover"](delta, kept)

    def __repr__(self) -> str:
        return f"Cutout({self.size}, rate={self.rate})"


def cover_rule(xp: Namespace, Z: Array, kept: Array) -> Array:
    """``Z`` where it is kept, else 0."""
    return Z * xp.astype(kept, Z.dtype)
