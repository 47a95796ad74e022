"""Tables for networks: columns of any kind as numbers and ids, learned on the training rows."""

from xpnn.data.columns.batches import EncodedBatches
from xpnn.data.columns.encodings import (
    Bucketed,
    Dates,
    Embedded,
    Encoding,
    Numbers,
    OneHot,
    Standardized,
)
from xpnn.data.columns.files import TableFiles
from xpnn.data.columns.preparation import Columns
from xpnn.data.columns.target import Target

__all__ = [
    "Bucketed",
    "Columns",
    "Dates",
    "Embedded",
    "EncodedBatches",
    "Encoding",
    "Numbers",
    "OneHot",
    "Standardized",
    "TableFiles",
    "Target",
]
