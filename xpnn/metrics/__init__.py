"""Metrics: what predictions are worth, in words a person uses.

In a ``Trainer`` a metric follows the loss: yes is what is above 0 where that takes outputs for
logits, above 0.5 where it takes them for probabilities, and what a metric cannot measure of such
outputs is refused before the first step. Called by itself, a metric goes by the predictions alone.

A metric is computed in two halves. ``statistics`` turns one batch into a short 1-d array, or, where
all samples are compared with each other, into a few numbers for each, on the device; ``result``
turns the rows of all batches into a number, on the host, in float64, once. So measuring waits for
the device hardly ever, and F1 or R2 are those of the whole data set, not means over batches. In
between, ``merged`` makes few rows of many. Where all weights are 0, it is NaN.

>>> import numpy as np
>>> Accuracy()(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
0.5
"""

from xpnn.metrics.base import Metric
from xpnn.metrics.classification import (
    F1,
    Accuracy,
    BalancedAccuracy,
    IoU,
    Precision,
    Recall,
    TopK,
)
from xpnn.metrics.confusion import ClassReport, ConfusionMatrix
from xpnn.metrics.probabilities import BrierScore, CalibrationError, LogLoss, Perplexity
from xpnn.metrics.ranking import ROCAUC, AveragePrecision
from xpnn.metrics.regression import MAE, R2, ExplainedVariance

__all__ = [
    "F1",
    "MAE",
    "R2",
    "ROCAUC",
    "Accuracy",
    "AveragePrecision",
    "BalancedAccuracy",
    "BrierScore",
    "CalibrationError",
    "ClassReport",
    "ConfusionMatrix",
    "ExplainedVariance",
    "IoU",
    "LogLoss",
    "Metric",
    "Perplexity",
    "Precision",
    "Recall",
    "TopK",
]
