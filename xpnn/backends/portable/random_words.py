"""Random words that are a hash of where they stand, so that nothing has to be remembered."""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from xpnn.local_rows import Stretch
from xpnn.numerics import low_word, mix_bits, stream_key
from xpnn.typing import Array, Namespace, Shape

WORD = 0xFFFFFFFF


class RandomWords:
    """The part of a backend that draws: for dropout and noise, the same words everywhere."""

    xp: Namespace
    device: Any
    counters_on_device: ClassVar[bool]
    elementwise: Callable[..., Any]
    on_device: Callable[[], AbstractContextManager[Any]]

    def random_bits(
        self, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        """Random 32-bit words, the same on every backend for the same (seed, draw, shape).

        Word number i is a hash of (i, seed, draw), so that there is no hidden state, nothing to
        copy from the host, and any draw can be made again: ``mix(mix(i) ^ key)`` with
        ``numerics.mix_bits`` and ``numerics.stream_key``.

        Args:
            seed: 64 bits that name the stream (a network's seed and a layer's name).
            draw: how many draws the stream has seen, from ``counter``.
            shape: of the words, unsigned 32-bit integers (int64 where a library has none).
            stretch: where they lie in a larger array, of which these words are to be a part.
        """
        xp = self.xp
        low, high = seed & WORD, (seed >> 32) & WORD
        if self.counters_on_device:
            key = self._key(draw, self._word(low), self._word(high))
        else:
            key = self._word(stream_key(draw & WORD, low, high, xp))
        return xp.reshape(self._hash(self._numbers(math.prod(shape), stretch), key), shape)

    def random_mask(
        self, keep: float, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        """Booleans that are true with probability ``keep``, from ``random_bits``."""
        with self.on_device():
            bits = self.random_bits(seed, draw, shape, *within(stretch))
            return bits < self.xp.asarray(mask_limit(keep), dtype=bits.dtype, device=self.device)

    def _numbers(self, size: int, stretch: Stretch | None) -> Array:
        """Which words of the whole are wanted, modulo 2^32."""
        if stretch is None:
            return self._counted(size)
        found = self._counted(min(size, stretch.length)) + self._word(stretch.start & WORD)
        if size > stretch.length:
            pieces = self._counted(size // stretch.length) * self._word(stretch.step & WORD)
            found = self.xp.reshape(pieces[:, None] + found, (size,))
        return low_word(found, self.xp)

    def _counted(self, size: int) -> Array:
        return self.xp.arange(size, dtype=self._words, device=self.device)

    @property
    def _words(self) -> Any:
        return self.xp.uint32

    def _word(self, value: int) -> Array:
        return self.xp.asarray(value, dtype=self._words, device=self.device)

    @functools.cached_property
    def _hash(self) -> Callable[..., Array]:
        return self.elementwise(_hash_words)

    @functools.cached_property
    def _key(self) -> Callable[..., Array]:
        return self.elementwise(_key_of)


def within(stretch: Stretch | None) -> tuple[Stretch, ...]:
    """The argument for a stretch, if there is one: a backend of a user's may not know of it."""
    return () if stretch is None else (stretch,)


def mask_limit(keep: float) -> int:
    """What a share ``keep`` of all 32-bit words is below."""
    return min(round(keep * 2**32), 2**32 - 1)


def _hash_words(xp: Namespace, index: Array, key: Array) -> Array:
    return mix_bits(mix_bits(index, xp) ^ key, xp)


def _key_of(xp: Namespace, draw: Array, low: Array, high: Array) -> Array:
    return stream_key(xp.astype(draw, low.dtype), low, high, xp)
