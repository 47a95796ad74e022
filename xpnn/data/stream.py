"""Stream: batches that somebody else makes, one pass over them for each epoch."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from numbers import Integral
from typing import Any, Self

from xpnn.backends import Backend
from xpnn.data.first_batch import FirstBatch
from xpnn.data.seen_batches import SeenBatches
from xpnn.errors import DataError
from xpnn.local_rows import LocalRows, Portion

WANTED = (
    "an iterable of batches, (x, y) or (x, y, sample_weight) each, or a function that returns one"
)

END = object()


def check_source(source: Any) -> None:
    """Raise TypeError if ``source`` is nothing to iterate over."""
    if isinstance(source, Mapping | str | bytes) or not (
        isinstance(source, Iterable) or hasattr(source, "__getitem__") or callable(source)
    ):
        raise TypeError(f"wanted {WANTED}, got {type(source).__name__}")


def one_pass(source: Any, epoch: int = 0, start: int = 0) -> Iterator[Any]:
    """The batches of an epoch, from batch ``start`` on; both are counted from 0.

    A source with a method ``batches(epoch, start)``, such as ``Shards``, is asked for them. Of
    another one the first ``start`` batches are drawn and dropped.

    Raises:
        DataError: there are fewer than ``start`` batches.
    """
    if callable(batches := getattr(source, "batches", None)):
        return iter(batches(epoch, start))
    if callable(source) and not isinstance(source, Iterable):
        source = source()
        if not (isinstance(source, Iterable) or hasattr(source, "__getitem__")):
            raise TypeError(f"wanted {WANTED}, got one that returns {source!r}")
    found = iter(source)
    for number in range(start):
        if next(found, END) is END:
            raise DataError(
                f"wanted at least {start} batches, after which training was interrupted, got "
                f"{number}; pass the same batches as before"
            )
    return found


class Wrapper:
    """Base of iterables that hand on the batches of their ``source``, such as ``Prefetch``."""

    source: Any


class Stream:
    """Batches of an iterable, each looked at when it comes, on the device one step ahead.

    Args:
        source: a list, a loader, an object with ``__iter__``, or a function that returns an
            iterator, gone through once an epoch; an object with ``batches(epoch, start)`` is told
            which epoch it is. An iterator serves one epoch.
        backend: where the batches are wanted.
        look: takes a batch and its number, from 1; returns its arrays, inputs, targets and weights
            one after another, as NumPy arrays or of the backend. It raises if they cannot be
            trained on.

    Attributes:
        portion: which rows of each batch are taken, where other processes take the others.
        is_shared: whether other processes are to have the same batches.
        seen: what the pass that is running, or ran last, has brought, where processes share it.
        checksum: of what was seen up to the batch that ``local_rows`` was asked for last.

    Raises:
        TypeError: ``source`` is nothing to iterate over.
    """

    portion: Portion | None = None
    is_shared: bool = False
    seen: SeenBatches | None = None
    checksum: int = 0

    def __init__(
        self,
        source: Any,
        backend: Backend,
        look: Callable[[Any, int], tuple[Any, ...]],
    ):
        check_source(source)
        self.source, self.look = source, look
        self.staging = backend.staging()
        self.epoch = 0
        self.first = FirstBatch(backend)
        # of batches that are shared: how many rows they have, and what was seen by then
        self._totals: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Stream of a {type(self.source).__name__}>"

    def at(self, epoch: int) -> Self:
        """The same stream in an epoch, counted from 0."""
        other = copy.copy(self)
        other.epoch = epoch
        return other

    @property
    def origin(self) -> Any:
        """Where the batches come from at first, behind wrappers."""
        source = self.source
        while isinstance(source, Wrapper):
            source = source.source
        return source

    @property
    def one_shot(self) -> bool:
        """Whether a second pass would find nothing."""
        return isinstance(self.origin, Iterator)

    @property
    def steps(self) -> int | None:
        """How many batches a pass has; None where the source does not say."""
        try:
            return len(self.source) if isinstance(self.source, Sized) else None
        except TypeError:  # as PyTorch's DataLoader over a data set without a length
            return None

    @property
    def order(self) -> dict[str, Any]:
        """What the order of the batches depends on, as far as the source says so."""
        origin = self.origin
        known = {name: getattr(origin, name, None) for name in ("batch_size", "window", "seed")}
        return {name: int(value) for name, value in known.items() if isinstance(value, Integral)}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.starting_at(0)

    def taking(self, portion: Portion | None, is_shared: bool) -> Self:
        """The same stream, of whose batches that portion is taken, if one is given.

        Args:
            is_shared: whether other processes are to have the same batches.
        """
        other = copy.copy(self)
        other.portion, other.is_shared, other._totals = portion, is_shared, {}
        return other

    def local_rows(self, number: int) -> tuple[LocalRows, ...] | None:
        """Which rows of batch ``number``, counted from 0, were taken; None where all are."""
        if not self.is_shared:
            return None
        total, self.checksum = self._totals.pop(number)
        return None if self.portion is None else self.portion.of(total)

    def starting_at(self, number: int, turn: tuple[int, int] = (0, 1)) -> Iterator[tuple[Any, ...]]:
        """The batches from ``number`` on, counted from 0; see ``one_pass``.

        Closing this iterator closes what was started for it, such as a generator or a thread.

        Args:
            turn: see ``Batches.starting_at``; those of the others are looked at and dropped.
        """

        is_seen = self.is_shared or turn[1] > 1
        self.seen, self.checksum = SeenBatches(self.first) if is_seen else None, 0

        def hand_on(batches: Iterator[Any]) -> Iterator[Any]:
            chosen = itertools.islice(enumerate(batches, start=number), turn[0], None, turn[1])
            return self.staging.one_ahead(self._taken(*one) for one in chosen)

        return self._pass(number, hand_on)

    def _taken(self, number: int, parts: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """The parts of a batch, and the numbers of the rows that are taken of them, if not all."""
        total = int(parts[0].shape[0])
        if self.is_shared:
            assert self.seen is not None
            self._totals[number] = total, self.seen.checksum
        if self.portion is None:
            return parts, None
        rows = self.portion.chosen(total)
        if isinstance(rows, slice):
            return tuple([None if one is None else one[rows, ...] for one in parts]), None
        return parts, rows

    def where_they_lie(self) -> Iterator[tuple[Any, ...]]:
        """All batches, which stay where they lie."""
        self.seen = None
        return self._pass(0, iter)

    def _pass(
        self, number: int, hand_on: Callable[[Iterator[Any]], Iterator[Any]]
    ) -> Iterator[tuple[Any, ...]]:
        batches = one_pass(self.source, self.epoch, number)
        try:
            yield from hand_on(self._looked_at(batches, number))
        finally:  # but an iterator that was passed in may be gone on with
            if batches is not self.source and hasattr(batches, "close"):
                batches.close()

    def _looked_at(self, batches: Iterator[Any], dropped: int) -> Iterator[tuple[Any, ...]]:
        weighted, number = False, dropped
        for number, batch in enumerate(batches, start=dropped + 1):
            parts = self.look(batch, number)
            if number == 1:
                self.first.note(parts)
            if self.seen is not None:
                self.seen.note(parts)
            if number > dropped + 1 and (parts[-1] is not None) != weighted:
                raise DataError(
                    f"batch {number}: wanted a sample_weight with all batches or with none, got "
                    f"{'one' if not weighted else 'none'} here and {'one' if weighted else 'none'} "
                    f"before; give all samples a weight"
                )
            weighted = parts[-1] is not None
            yield parts
        if not number:
            raise DataError(
                "wanted at least one batch in each epoch, got none; an iterator that was gone "
                "through before is empty: pass a list, an object whose __iter__ starts anew, or a "
                "function that returns a new iterator"
            )
