"""Weights of classes by how often they occur: ``class_weight="balanced"``."""

import functools
from collections.abc import Sequence

import numpy as np

from xpnn.losses.weights import of_rows, of_signs, unbound
from xpnn.typing import Array, Loss, Shape

BALANCED = "balanced"


def balanced_weights(counts: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Weights by which all classes together count alike, from how often each occurs.

    ``n / (k n_j)`` for n items, of which n_j are of class j, and k classes that occur: the formula
    of scikit-learn (King and Zeng, 2001). A class that does not occur weighs 1.

    Args:
        counts: n_j, a number for each class.

    Returns:
        The weights of the classes, for ``class_weight`` of a loss.

    >>> balanced_weights([30, 10])
    (0.6666666666666666, 2.0)
    """
    found = np.asarray(counts, dtype=np.float64)
    if found.ndim != 1 or not np.all(np.isfinite(found)) or np.any(found < 0):
        raise ValueError(
            f"wanted how often each class occurs, numbers of at least 0, got {counts!r}; count the "
            f"targets of each class"
        )
    occurring = np.count_nonzero(found)
    weights = found.sum() / (max(occurring, 1) * np.where(found > 0, found, 1.0))
    return tuple(np.where(found > 0, weights, 1.0).tolist())


def is_balanced(loss: Loss) -> bool:
    """Whether the weights of its classes are still to be worked out."""
    given = unbound(loss)[1].get("class_weight")
    return isinstance(given, str) and given == BALANCED


def balanced(loss: Loss, counts: np.ndarray) -> Loss:
    """The loss with numbers in place of "balanced", by how often each class occurs."""
    return functools.partial(loss, class_weight=balanced_weights(counts))


def class_counts(loss: Loss, targets: np.ndarray, output_shape: Shape) -> np.ndarray:
    """How often each class occurs; a row or a number between two classes is of both."""
    function, options = unbound(loss)
    item_weights = getattr(function, "item_weights", None)
    if item_weights is not of_rows:
        yes: Array = targets > 0 if item_weights is of_signs else targets
        of_yes = np.sum(yes, dtype=np.float64)
        return np.array([targets.size - of_yes, of_yes])
    classes = output_shape[-1]
    if tuple(targets.shape[1:]) == output_shape:
        return np.asarray(np.sum(targets.reshape(-1, classes), axis=0, dtype=np.float64))
    ignored = options.get("ignore_index")
    labels = targets.ravel() if ignored is None else targets[targets != ignored]
    return np.bincount(labels, minlength=classes)
