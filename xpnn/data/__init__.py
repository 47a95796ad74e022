"""Data: the sets that come along, splits, and batches."""

from xpnn.data import datasets
from xpnn.data.batches import Batches
from xpnn.data.splits import split

__all__ = ["Batches", "datasets", "split"]
