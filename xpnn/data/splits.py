"""Orders of samples: shuffled, and cut into what is trained on and what is held out."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.arguments import same_length
from xpnn.backends import backend_of
from xpnn.backends.registry import class_recognizing
from xpnn.errors import DataError, ShapeError
from xpnn.typing import Array


def shuffled_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of ``count`` samples in an epoch: the same on every backend and machine."""
    return Generator(Philox(SeedSequence([seed, epoch]))).permutation(count)


def split(*arrays: Any, share: float = 0.2, seed: int = 0, stratify: Any = None) -> tuple[Any, ...]:
    """Each array in two parts, rows drawn at random: ``x1, x2, y1, y2 = split(x, y)``.

    Args:
        arrays: of equal length, of any library, which they keep; lists become NumPy arrays.
        share: of the rows that goes into the second parts, in (0, 1).
        seed: of the draw.
        stratify: labels of shape (rows,) whose classes keep their proportions in both parts.

    Returns:
        The two parts of each array, one array after another.

    >>> import numpy as np
    >>> x1, x2 = split(np.arange(10), share=0.3)
    >>> len(x1), len(x2)
    (7, 3)
    """
    known = [_with_rows(array) for array in arrays]
    count = same_length(**{f"array {i}": array for i, array in enumerate(known)})
    rows = held_out_rows(count, share, seed, stratify)
    return tuple(_taken(array, part) for array in known for part in rows)


def _with_rows(array: Any) -> Any:
    """An array or a table as it is, lists as NumPy's; DataError for all else."""
    if isinstance(array, list | tuple):
        return np.asarray(array)
    known = class_recognizing(array) is not None
    if not known and not (hasattr(array, "shape") and hasattr(array, "__getitem__")):
        raise DataError(
            f"wanted arrays, tables or lists, whose rows can be taken, got a "
            f"{type(array).__name__}; make an array of it first"
        )
    return array


def _taken(array: Array, rows: np.ndarray) -> Array:
    if class_recognizing(array) is None:  # a table, which stays one
        return array.take(rows) if hasattr(array, "take") else array[rows]
    backend = backend_of(array)
    with backend.on_device():
        return backend.xp.take(array, backend.from_numpy(rows), axis=0)


def held_out_rows(
    count: int, share: float, seed: int, stratify: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The row numbers that are kept and those that are held out, each in rising order."""
    if not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"wanted the share of samples to hold out, in (0, 1), got {share!r}")
    held = round(count * float(share))
    if not 0 < held < count:
        raise DataError(
            f"a share of {share} of {count} samples leaves one part empty; choose another share"
        )
    order = shuffled_order(count, seed, 0)
    if stratify is not None:
        order = order[_spread_classes(_labels(stratify, count)[order])]
    return np.sort(order[held:]), np.sort(order[:held])


def _labels(stratify: Any, count: int) -> np.ndarray:
    labels = backend_of(stratify).to_numpy(stratify)
    if labels.shape != (count,):
        raise ShapeError(
            f"wanted stratify to be one label for each sample, shape ({count},), got "
            f"{labels.shape}; of one-hot rows take the argmax"
        )
    return labels


def _spread_classes(labels: np.ndarray) -> np.ndarray:
    """An order in which every stretch holds the classes in nearly their overall proportions."""
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        (rows,) = np.nonzero(labels == label)
        rank[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(rank, kind="stable")
