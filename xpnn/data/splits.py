"""Cutting data sets: shuffled batches, and parts held out for validation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.typing import Array


def shuffled_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of ``count`` samples in an epoch: the same on every backend and machine."""
    return Generator(Philox(SeedSequence([seed, epoch]))).permutation(count)


def split(
    *arrays: Any, share: float = 0.2, seed: int = 0, stratify: Any = None
) -> tuple[Any, ...]:
    """Each array in two parts, rows drawn at random: ``x1, x2, y1, y2 = split(x, y)``.

    Args:
        arrays: NumPy arrays (or others that take an index array) of equal length.
        share: of the rows that goes into the second parts, in (0, 1).
        seed: of the draw.
        stratify: labels of shape (rows,) whose classes keep their proportions in both parts.

    >>> x1, x2 = split(np.arange(10), share=0.3)
    >>> len(x1), len(x2)
    (7, 3)
    """
    count = same_length(**{f"array {i}": array for i, array in enumerate(arrays)})
    if not 0 < share < 1:
        raise ValueError(f"split needs a share in (0, 1), got {share}")
    held = round(count * share)
    if not 0 < held < count:
        raise DataError(
            f"a share of {share} of {count} rows leaves one part empty; choose another share"
        )
    order = shuffled_order(count, seed, 0)
    if stratify is not None:
        order = order[_spread_classes(np.asarray(stratify)[order])]
    kept, held_out = np.sort(order[held:]), np.sort(order[:held])
    return tuple(part for array in arrays for part in (array[kept], array[held_out]))


def _spread_classes(labels: np.ndarray) -> np.ndarray:
    """An order in which every stretch holds the classes in nearly their overall proportions."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        (rows,) = np.nonzero(labels == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(place, kind="stable")


def same_length(**arrays: Any) -> int:
    """The common number of rows; None values are passed over.

    Raises:
        ShapeError: the numbers differ.
        DataError: there are no rows.
    """
    rows = {name: int(a.shape[0]) for name, a in arrays.items() if a is not None}
    if len(set(rows.values())) != 1:
        listed = ", ".join(f"{name} has {n}" for name, n in rows.items())
        raise ShapeError(f"wanted one row for each sample everywhere, but {listed}; align the data")
    (count,) = set(rows.values())
    if count == 0:
        raise DataError("wanted at least one sample, got none")
    return count


def batches(
    arrays: tuple[Array | None, ...],
    batch_size: int,
    backend: Backend,
    order: np.ndarray | None = None,
) -> Iterator[tuple[Array | None, ...]]:
    """Rows of all arrays, ``batch_size`` at a time; the last batch may be shorter.

    Args:
        arrays: on ``backend``, of equal length; None stays None.
        order: in which rows are taken; None cuts slices and copies nothing.
    """
    xp, count = backend.xp, next(a.shape[0] for a in arrays if a is not None)
    index = None if order is None else backend.from_numpy(order)
    for start in range(0, count, batch_size):
        if index is None:
            yield tuple(a if a is None else a[start : start + batch_size, ...] for a in arrays)
        else:
            rows = index[start : start + batch_size]
            yield tuple(a if a is None else xp.take(a, rows, axis=0) for a in arrays)
