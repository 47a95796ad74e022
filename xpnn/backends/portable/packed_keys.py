"""Keys that are seen put in front of the others: what is left of a mask is how many they are.

For kernels that take a length for each sequence and no mask. They serve wherever each query sees
all keys but those of the mask, as attention does not depend on the order of keys then. Where key j
of a sequence goes, with n_j for how many of the keys 0, 1, ... j are seen and n for all of them::

    place_j = n_j - 1, where it is seen             place_j = n + j - n_j, where it is not

That is an order in which each group stays in its own. It is found by running sums, and neither
sorts nor waits, so it can be part of a captured graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xpnn.typing import Array, Namespace

if TYPE_CHECKING:
    from xpnn.backends.portable.base import Backend


class Packer:
    """What packs keys by a mask, as a backend works it out."""

    def __init__(self, backend: "Backend"):
        self._backend = backend
        self._places = backend.elementwise(_places)
        self._counted = backend.elementwise(_counted)
        self._kept = backend.elementwise(_kept)

    def packing(self, mask: Array | None, time: int) -> "Packing | None":
        """That of a mask; None where there is none.

        Args:
            mask: (batch, length) booleans, False at keys that nobody sees.
            time: how many queries there are.
        """
        if mask is None:
            return None
        backend, xp, (batch, length) = self._backend, self._backend.xp, mask.shape
        rows = backend.indices(batch * length)
        seen = xp.cumulative_sum(xp.astype(mask, xp.int32), axis=1, dtype=xp.int32)
        across = xp.reshape(rows, (batch, length)), backend.indices(length)
        places = xp.reshape(self._places(mask, seen, seen[:, -1:], *across), (-1,))
        order = backend.scatter_add(xp.zeros_like(places), places, rows)
        queries = backend.constant((time,) * batch, "int32")
        keys, answering = self._counted(seen[:, -1])
        return Packing(xp, mask, queries, keys, answering, order, places, self._kept)


@dataclass(frozen=True)
class Packing:
    """Where the keys of a batch go, for arrays of shape (batch, heads, length, d).

    Attributes:
        xp: the namespace.
        mask: (batch, length) booleans, True at keys that are seen.
        queries: (batch,) int32, how many queries each sequence has, which is all of them.
        keys: (batch,) int32, how many of its keys are seen; 1 where none is, as not every kernel
            takes an empty sequence.
        answering: (batch,) booleans, whether any is seen.
        order: (batch * length,) int32, which row of the batch goes to each place.
        places: (batch * length,) int32, where each row of the batch goes.
        kept: the sweep by which numbers are kept or become 0.
    """

    xp: Namespace
    mask: Array
    queries: Array
    keys: Array
    answering: Array
    order: Array
    places: Array
    kept: Callable[..., Any]

    def packed(self, x: Array) -> Array:
        """K or V, with the keys that are seen in front."""
        return self._turned(self._taken(x, self.order))

    def unpacked(self, x: Array) -> Array:
        """dL/dK or dL/dV of what was packed: each row where its key was, 0 where nobody sees it."""
        return self._turned(self.kept(self._taken(x, self.places), self.mask[:, :, None, None]))

    def answered(self, x: Array) -> Array:
        """``x``, an array like Q, with zeros in sequences of which no key is seen."""
        return self._turned(self.kept(self._turned(x), self.answering[:, None, None, None]))

    def _taken(self, x: Array, rows: Array) -> Array:
        """Rows of the batch, (batch, length, heads, d): as layers have them, heads side by side."""
        batch, heads, length, d = x.shape
        x = self.xp.reshape(self._turned(x), (batch * length, heads * d))
        return self.xp.reshape(self.xp.take(x, rows, axis=0), (batch, length, heads, d))

    def _turned(self, x: Array) -> Array:
        return self.xp.permute_dims(x, (0, 2, 1, 3))


def _places(
    xp: Namespace, mask: Array, seen: Array, all_seen: Array, row: Array, j: Array
) -> Array:
    """Of each row of the batch; ``row`` and ``j`` number them in the batch and in its sequence."""
    return xp.where(mask, row - j + seen - 1, row + all_seen - seen)


def _counted(xp: Namespace, seen: Array) -> tuple[Array, Array]:
    return xp.where(seen > 0, seen, 1), seen > 0


def _kept(xp: Namespace, x: Array, where: Array) -> Array:
    return xp.where(where, x, 0.0)
