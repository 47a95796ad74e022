"""A few figures by which numbers are told from others, however they were rounded."""

import math
import zlib
from typing import Any

import numpy as np

MOST = 1 << 18  # numbers that are looked at for a checksum
ROUNDING = 1e-5
"""What figures may be off by, of the size of the numbers: another machine rounds otherwise where
these were worked out."""

Figures = dict[str, Any]


def figures(numbers: np.ndarray) -> Figures:
    """Of whole numbers a checksum; of others two means, and the size that these are measured by."""
    if numbers.dtype.kind in "bui":
        return {"checksum": checksum(numbers.astype("<i8"))}
    numbers = np.nan_to_num(numbers.astype(np.float64), posinf=0.0, neginf=0.0)
    waves = np.cos(np.arange(len(numbers)))  # another order gives another mean
    size = math.sqrt(float(np.mean(numbers**2)))
    return {"numbers": [float(np.mean(numbers)), float(np.mean(numbers * waves))], "size": size}


def are_alike(here: Figures, there: Any) -> bool:
    """Whether figures are those of the same numbers but for rounding; ``there`` may be anything."""
    if "numbers" not in here or not isinstance(there, dict) or "numbers" not in there:
        return bool(here == there)
    mine, theirs = here["numbers"], there["numbers"]
    if not isinstance(theirs, list) or not all(isinstance(one, int | float) for one in theirs):
        return False
    pairs = zip(mine, theirs, strict=False)
    most = ROUNDING * here["size"]
    return len(mine) == len(theirs) and all(abs(a - b) <= most for a, b in pairs)


def checksum(numbers: np.ndarray) -> str:
    """Of the bits of numbers in a row; of very many, of some at equal distances."""
    numbers = numbers[:: -(-numbers.size // MOST) or 1]
    return f"{zlib.crc32(np.ascontiguousarray(numbers).tobytes()):08x}"


def spread(count: int, most: int) -> np.ndarray:
    """Up to ``most`` of the numbers below ``count``, at equal distances, to the last one."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
