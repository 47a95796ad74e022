"""Replica: what a layer sees of the other processes that train the same network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xpnn.backends import Backend, Communicator
from xpnn.backends.portable.sums_begun import forget_begun
from xpnn.local_rows import LocalRows
from xpnn.numerics import widened
from xpnn.typing import Array, Params, Shape

BUCKET = 1 << 18  # numbers of gradients that are added up together, while backward goes on


class Replica:
    """One of several networks that are alike, each of which sees some rows of a batch.

    A training step lends it to the layers, as ``layer.replica``. What goes over all samples of a
    batch is summed by it; what is drawn for each sample goes by ``rows``.

    Args:
        communicator: of the processes that have the others.
        backend: of the network.
        alone: the names of gradients that are what they will be once backward has passed their
            layer, by layer and key.

    Attributes:
        parts: which rows of each part of the batch this process has.
        rows: those of the part that the layers see.
    """

    parts: tuple[LocalRows, ...]
    rows: LocalRows

    def __init__(
        self,
        communicator: Communicator,
        backend: Backend,
        alone: Mapping[tuple[Any, str], str],
    ):
        self.communicator, self.backend, self.alone = communicator, backend, alone
        self.end()

    def begin(self, parts: tuple[LocalRows, ...]) -> None:
        """A step begins, on these rows."""
        self.parts, self.rows = parts, parts[0]

    def end(self) -> None:
        """It ends: no array of it, which a compiler may have traced, outlives it here."""
        forget_begun(self.communicator)
        self._last: Array | None = None
        self._taken: set[str] = set()
        self._waiting: dict[str, Array] = {}
        self._begun: list[tuple[dict[str, Shape], Array, Shape, Any]] = []

    def passed(self, layer: Any) -> None:
        """Backward has passed a layer: begin to add up gradients, when there are enough of them."""
        if not self.communicator.overlaps or len(self.parts) > 1:
            return
        for _, one in layer.walk():
            for key, grad in one.grads.items():
                name = self.alone.get((one, key))
                if name is not None and name not in self._taken:
                    self._taken.add(name)
                    self._waiting[name] = widened(grad, self.backend.xp)
        if sum(math.prod(one.shape) for one in self._waiting.values()) >= BUCKET:
            self._start()

    def _start(self) -> None:
        arrays, self._waiting = self._waiting, {}
        flat = self.backend.join([*arrays.values()])
        token = self.backend.start_all_sum(flat, self.communicator, len(self._begun), self._last)
        self._last = token
        shapes = {name: one.shape for name, one in arrays.items()}
        self._begun.append((shapes, token, flat.shape, flat.dtype))

    def early_sums(self) -> Params:
        """The sums of gradients that were begun with, by name; waits for them."""
        found: Params = {}
        for number, (shapes, token, shape, dtype) in enumerate(self._begun):
            flat = self.backend.finish_all_sum(token, self.communicator, number, shape, dtype)
            parts = self.backend.split(flat, [*shapes.values()])
            found |= dict(zip(shapes, parts, strict=True))
        self._begun = []
        return found

    @property
    def total(self) -> int:
        """How many rows the batch has, in all processes."""
        return sum(part.total for part in self.parts)

    def all_sum(self, array: Array) -> Array:
        """The sum of the arrays of all processes.

        A recorded step may run its calls in another order, and in each process in one of its own.
        So each sum is given the one before it, and comes behind it in all of them.
        """
        self._last = self.backend.all_sum(array, self.communicator, self._last)
        return self._last

    def flat_sums(self, arrays: Sequence[Array]) -> list[Array]:
        """The sums of several arrays, put behind each other: one sum for each dtype."""
        sums: dict[int, Array] = {}
        for dtype in dict.fromkeys(one.dtype for one in arrays):
            places = [k for k, one in enumerate(arrays) if one.dtype == dtype]
            flat = self.all_sum(self.backend.join([arrays[k] for k in places]))
            parts = self.backend.split(flat, [arrays[k].shape for k in places])
            sums |= dict(zip(places, parts, strict=True))
        return [sums[k] for k in range(len(arrays))]
