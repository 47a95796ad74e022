"""Metrics of numbers: how far predictions are from the targets."""

import math

import numpy as np

from xpnn.metrics.base import Mean, Metric
from xpnn.metrics.targets import as_predictions, one_for_each_item
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace


class MAE(Mean):
    """Mean absolute error, in the units of the targets."""

    name = "mae"
    higher_is_better = False
    reads = "values"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        predictions = widened(predictions, xp)
        return xp.abs(predictions - as_predictions(predictions, targets, xp))


class R2(Metric):
    """Coefficient of determination: ``1 - sum (y - a)^2 / sum (y - mean y)^2``.

    1 is perfect, 0 is as good as the mean. For several outputs, the mean of theirs. An output whose
    targets are all equal counts as 1 if all its predictions are right, else as 0.

    The spread of the targets is put together from the batches' means and spreads (Chan et al.,
    1979), and each batch is measured from about its mean: large offsets cost no digits.
    """

    name = "r2"
    reads = "values"

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
        predictions = widened(predictions, xp)
        w = one_for_each_item(predictions, weight, predictions.dtype, xp)
        w, a, y = (
            xp.reshape(array, (-1, outputs))
            for array in (w, predictions, as_predictions(predictions, targets, xp))
        )
        total = xp.sum(w, axis=0)
        center = xp.sum(w * y, axis=0) / xp.where(total > 0, total, 1.0)
        sums = (w * (y - center), w * (y - center) ** 2, w * (y - a) ** 2)
        return xp.concat([total, center, *(xp.sum(each, axis=0) for each in sums)])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        total, center, off, squares, missed = rows.reshape(len(rows), 5, -1).transpose(1, 0, 2)
        off = off / np.maximum(total, 1e-300)  # from each batch's center to its mean
        mean = np.sum(total * (center + off), axis=0) / np.maximum(total.sum(axis=0), 1e-300)
        spread = np.sum(squares - total * off**2 + total * (center + off - mean) ** 2, axis=0)
        sums = (total.sum(axis=0), mean, np.zeros_like(mean), spread, missed.sum(axis=0))
        return np.concatenate(sums)[None, :]

    def result(self, rows: np.ndarray) -> float:
        total, _, _, spread, missed = self.merged(rows).reshape(5, -1)
        if not total.any():
            return math.nan
        share = missed / np.where(spread > 0, spread, 1.0)
        return float(np.mean(1.0 - np.where(spread > 0, share, missed != 0)))
