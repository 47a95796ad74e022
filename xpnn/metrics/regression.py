"""Metrics of numbers: how far predictions are from the targets."""

import math

import numpy as np

from xpnn.metrics.base import Mean, Metric
from xpnn.metrics.targets import as_predictions, one_for_each_item
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace


class MAE(Mean):
    """Mean absolute error, in the units of the targets.

    For outputs a and targets y of one shape, over all numbers, by the weights w of their items::

        sum w |a - y| / sum w

    >>> import numpy as np
    >>> MAE()(np.array([[1.0], [2.0]]), np.array([[0.0], [4.0]]))
    1.5
    """

    name = "mae"
    higher_is_better = False
    reads = "values"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        predictions = widened(predictions, xp)
        return xp.abs(predictions - as_predictions(predictions, targets, xp))


class R2(Metric):
    """Coefficient of determination: how much of the spread of the targets is told.

    For outputs a and targets y of one shape::

        1 - sum (y - a)^2 / sum (y - mean y)^2

    1 is perfect, 0 is as good as the mean. For several outputs, the mean of theirs. An output whose
    targets are all equal counts as 1 if all its predictions are right, else as 0.

    The spread of the targets is put together from the batches' means and spreads (Chan et al.,
    1979), and each batch is measured from about its mean: large offsets cost no digits.

    >>> import numpy as np
    >>> R2()(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]]))
    0.7857
    """

    name = "r2"
    reads = "values"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        w, a, y = _columns(predictions, targets, weight, xp)
        return xp.concat([*_moments(w, y, xp), xp.sum(w * (y - a) ** 2, axis=0)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        *moments, missed = rows.reshape(len(rows), 5, -1).transpose(1, 0, 2)
        return np.concatenate([*_merged_moments(*moments), missed.sum(axis=0)])[None, :]

    def result(self, rows: np.ndarray) -> float:
        total, _, _, spread, missed = self.merged(rows).reshape(5, -1)
        return _share_explained(missed, spread) if total.any() else math.nan


class ExplainedVariance(Metric):
    """``R2``, but that a constant error costs nothing.

    For outputs a and targets y of one shape::

        1 - Var(y - a) / Var(y)

    For several outputs, the mean of theirs. An output whose targets are all equal counts as 1 if
    all its errors are equal, else as 0.

    >>> import numpy as np
    >>> ExplainedVariance()(np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [3.0], [4.0]]))
    1.0
    """

    name = "explained_variance"
    reads = "values"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        w, a, y = _columns(predictions, targets, weight, xp)
        return xp.concat([*_moments(w, y, xp), *_moments(w, y - a, xp)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        moments = rows.reshape(len(rows), 8, -1).transpose(1, 0, 2)
        found = [*_merged_moments(*moments[:4]), *_merged_moments(*moments[4:])]
        return np.concatenate(found)[None, :]

    def result(self, rows: np.ndarray) -> float:
        total, _, _, spread, _, _, _, missed = self.merged(rows).reshape(8, -1)
        return _share_explained(missed, spread) if total.any() else math.nan


def _columns(
    predictions: Array, targets: Array, weight: Array | None, xp: Namespace
) -> tuple[Array, Array, Array]:
    """Weights, predictions and targets, (items, outputs) each, in at least float32."""
    outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
    predictions = widened(predictions, xp)
    w = one_for_each_item(predictions, weight, predictions.dtype, xp)
    y = as_predictions(predictions, targets, xp)
    w, a, y = (xp.reshape(array, (-1, outputs)) for array in (w, predictions, y))
    return w, a, y


def _moments(w: Array, x: Array, xp: Namespace) -> tuple[Array, Array, Array, Array]:
    """Of each column the weight, about the mean, the sum of distances from it and of squares."""
    total = xp.sum(w, axis=0)
    center = xp.sum(w * x, axis=0) / xp.where(total > 0, total, 1.0)
    off = x - center
    return total, center, xp.sum(w * off, axis=0), xp.sum(w * off**2, axis=0)


def _merged_moments(
    total: np.ndarray, center: np.ndarray, off: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Those of all batches, (batches, columns) each, as those of one."""
    off = off / np.maximum(total, 1e-300)  # from each batch's center to its mean
    mean = np.sum(total * (center + off), axis=0) / np.maximum(total.sum(axis=0), 1e-300)
    spread = np.sum(squares - total * off**2 + total * (center + off - mean) ** 2, axis=0)
    return total.sum(axis=0), mean, np.zeros_like(mean), spread


def _share_explained(missed: np.ndarray, spread: np.ndarray) -> float:
    share = missed / np.where(spread > 0, spread, 1.0)
    return float(np.mean(1.0 - np.where(spread > 0, share, missed != 0)))
