"""Batches of tables that come a stretch at a time, encoded when they come."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.data.columns.table import Table, is_table
from xpnn.data.windows import Block, recut, shuffled
from xpnn.errors import DataError

if TYPE_CHECKING:
    from xpnn.data.columns.preparation import Columns


class EncodedBatches:
    """Batches ``(x, y)``, once for each epoch; what ``Columns.batches`` makes.

    Rows are shuffled in windows as those of ``Shards`` are: the order is drawn from (seed, epoch),
    the same on every backend. In memory are at most the window, a table and a batch.

    Args:
        columns: which have learned.
        tables, batch_size, window, seed: see ``Columns.batches``.

    >>> from xpnn.data import Columns
    >>> table = {"size": [1.0, 3.0], "sold": ["no", "yes"]}
    >>> columns = Columns(target="sold").fit(table)
    >>> [(x.tolist(), y.tolist()) for x, y in columns.batches(table, batch_size=1)]
    [([[-1.0]], [0]), ([[1.0]], [1])]
    """

    def __init__(
        self,
        columns: "Columns",
        tables: Any,
        *,
        batch_size: int = 32,
        window: int | None = None,
        seed: int = 0,
    ):
        if batch_size < 1 or (window is not None and window < 1) or seed < 0:
            raise ValueError(
                f"wanted a batch_size and a window of at least 1 and a seed of at least 0, got "
                f"batch_size={batch_size}, window={window}, seed={seed}; window=None keeps the "
                f"order of the rows"
            )
        if isinstance(tables, Iterator):
            raise TypeError(
                f"wanted tables that can be gone through once for each epoch, got a "
                f"{type(tables).__name__}; pass a list of tables, or an object whose __iter__ "
                f"starts anew"
            )
        self.columns, self.tables = columns, [tables] if is_table(tables) else tables
        self.batch_size, self.window, self.seed = batch_size, window, seed
        self._names: list[str] = []  # of the inputs, where they come by name

    def __repr__(self) -> str:
        return f"<EncodedBatches of {type(self.tables).__name__}, {self.batch_size} at a time>"

    def known_by(self) -> dict[str, Any]:
        """What tells this set from another one."""
        tables = getattr(self.tables, "known_by", None)
        return {
            "tables": tables() if callable(tables) else None,
            "columns": self.columns.as_plain(),
            "options": [self.batch_size, self.window, self.seed],
        }

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from batch ``start`` on; both are counted from 0.

        Raises:
            DataError: a value cannot be encoded, or there are no rows; column and row are named.
        """
        skip = start * self.batch_size
        blocks = self._blocks()
        if self.window is None:
            blocks = _without(blocks, skip)
        else:
            seeds = self.seed, epoch + 1
            blocks = _without(blocks, skip - skip % self.window)
            blocks = shuffled(blocks, self.window, self.batch_size, seeds, skip)
        for *parts, y in recut(blocks, self.batch_size):
            yield (dict(zip(self._names, parts, strict=True)) if self._names else parts[0]), y

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def _blocks(self) -> Iterator[Block]:
        first = 0
        for one in self.tables:
            table = Table(one, first)
            first += table.rows
            if table.rows:
                x, y = self.columns.encoded(table)
                self._names = list(x) if isinstance(x, dict) else []
                yield (*x.values(), y) if self._names else (x, y)
        if not first:
            raise DataError("wanted at least one row in each epoch, got none")


def _without(blocks: Iterator[Block], skip: int) -> Iterator[Block]:
    """The blocks without their first ``skip`` rows."""
    for block in blocks:
        dropped = min(skip, len(block[0]))
        skip -= dropped
        if dropped < len(block[0]):
            yield tuple(np.asarray(one[dropped:]) for one in block)
    if skip:
        raise DataError(
            f"wanted to leave out the batches that were trained on, but there are {skip} rows too "
            f"few; pass the same tables as before"
        )
