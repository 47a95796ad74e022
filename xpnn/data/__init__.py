"""Data: the sets that come along, splits, batches, and sets that are larger than the memory."""

from xpnn.data import datasets
from xpnn.data.batches import Batches
from xpnn.data.columns import (
    Bucketed,
    Columns,
    Dates,
    Embedded,
    EncodedBatches,
    Encoding,
    Numbers,
    OneHot,
    Standardized,
    TableFiles,
    Target,
)
from xpnn.data.csv import CsvShards
from xpnn.data.npz import NpzShards
from xpnn.data.parquet import ParquetShards
from xpnn.data.prefetch import Prefetch
from xpnn.data.shards import Shards
from xpnn.data.splits import split
from xpnn.data.tables import TableShards
from xpnn.data.text import TextIds, Tokenizer, Vocabulary, next_ids

__all__ = [
    "Batches",
    "Bucketed",
    "Columns",
    "CsvShards",
    "Dates",
    "Embedded",
    "EncodedBatches",
    "Encoding",
    "NpzShards",
    "Numbers",
    "OneHot",
    "ParquetShards",
    "Prefetch",
    "Shards",
    "Standardized",
    "TableFiles",
    "TableShards",
    "Target",
    "TextIds",
    "Tokenizer",
    "Vocabulary",
    "datasets",
    "next_ids",
    "split",
]
