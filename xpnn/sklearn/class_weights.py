"""Weights of classes as factors of the weights of samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.losses.balancing import balanced_weights


def with_class_weights(
    class_weight: Any,
    codes: np.ndarray,
    classes: Sequence[np.ndarray],
    weight: np.ndarray | None,
) -> np.ndarray:
    """The weights of the samples times those of their classes in each column of y.

    Args:
        class_weight: see ``Classifier``.
        codes: class numbers, (samples, columns).
        classes: the labels of each column, by these numbers.
        weight: (samples,), or None.

    Raises:
        ValueError: it is none of what ``Classifier`` takes, or names a label that there is not.
    """
    several = len(classes) > 1
    if several and not isinstance(class_weight, str):
        fits = isinstance(class_weight, list | tuple) and len(class_weight) == len(classes)
        of_columns: Any = class_weight
    else:
        fits, of_columns = True, [class_weight] * len(classes)
    if not fits:
        raise ValueError(
            f"wanted class_weight to be 'balanced', or a list of dicts, one for each of "
            f"{len(classes)} columns of y, got {class_weight!r}"
        )
    total = np.ones(len(codes)) if weight is None else weight
    found = total
    for own, column, labels in zip(of_columns, codes.T, classes, strict=True):
        found = found * _table(own, column, labels, total)[column]
    if not found.any():
        raise ValueError(
            f"wanted a sample of a weight above zero, got class_weight={class_weight!r}, by which "
            f"all samples have zero; leave it out, or give other weights"
        )
    return found


def _table(own: Any, codes: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weight of each class of a column."""
    if isinstance(own, str) and own == "balanced":
        counts = np.bincount(codes, weights=weight, minlength=len(labels))
        return np.asarray(balanced_weights(counts))
    if not isinstance(own, Mapping):
        raise ValueError(f"wanted class_weight to be 'balanced' or a dict by label, got {own!r}")
    if unknown := [key for key in own if key not in labels.tolist()]:
        raise ValueError(
            f"wanted class_weight for the classes {labels.tolist()}, got one for {unknown}"
        )
    return np.asarray([float(own.get(label, 1.0)) for label in labels.tolist()])
