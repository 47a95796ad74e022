"""Batches of the rows of a data set of Hugging Face, drawn as those of arrays are."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from xpnn.data.splits import held_out_rows, shuffled_order
from xpnn.incoming_batches import batches_of, has_length


class RowBatches:
    """Batches by name, once for each epoch, of which only the rows of one are in memory.

    Args:
        dataset: of the package ``datasets``, streamed or not.
        batch_size: rows in a batch; the last may be smaller.
        shuffle: draw a new order for each epoch, the same as of arrays. Of a data set that is
            streamed the rows come as they are.
        seed: of the orders.
        rows: numbers of the rows to take; all, unless given.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rows: np.ndarray | None = None,
    ):
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.rows = rows

    def __repr__(self) -> str:
        return f"<RowBatches of a {type(self.dataset).__name__}, {self.batch_size} at a time>"

    @property
    def count(self) -> int:
        """How many rows there are; raises TypeError if that is not known."""
        return len(self.dataset) if self.rows is None else len(self.rows)

    def __len__(self) -> int:
        """How many batches an epoch has; raises TypeError if that is not known."""
        return -(-self.count // self.batch_size)

    def split(self, share: float, seed: int) -> tuple[Self, Self]:
        """What is left, and a share of the rows that is held out, drawn as that of arrays is."""
        kept, out = held_out_rows(self.count, share, seed)
        make = type(self)
        return (
            make(self.dataset, self.batch_size, shuffle=self.shuffle, seed=self.seed, rows=kept),
            make(self.dataset, self.batch_size, rows=out),
        )

    def known_by(self) -> dict[str, Any]:
        """What tells this set from another one."""
        return {
            "rows": self.count if has_length(self.dataset) else None,
            "columns": list(self.dataset.column_names or ()),
            "options": [self.batch_size, self.shuffle, self.seed],
        }

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of an epoch, from batch ``start`` on; both are counted from 0."""
        if not has_length(self.dataset):
            if hasattr(self.dataset, "set_epoch"):
                self.dataset.set_epoch(epoch)
            left = self.dataset.skip(start * self.batch_size) if start else self.dataset
            return batches_of(left, self.batch_size)
        rows = np.arange(len(self.dataset)) if self.rows is None else self.rows
        if self.shuffle:
            rows = rows[shuffled_order(len(rows), self.seed, epoch + 1)]
        return batches_of(self.dataset, self.batch_size, rows[start * self.batch_size :])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.batches()
