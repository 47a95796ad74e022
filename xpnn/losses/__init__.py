"""Losses: functions ``(predictions, targets) -> (value, delta)`` that keep nothing.

``value`` is a 0-d array in at least float32: the weighted mean of the losses l of the single
items, ::

    value = sum_i w_i l_i / sum_i w_i           (w_i = 1 unless weights are given)

and ``delta`` is its derivative dvalue/dpredictions, what ``network.backward`` takes. An *item* is
what one l is computed for: a number of the prediction for the elementwise losses, a row of class
scores for the others. Every loss takes these keywords:

    sample_weight: weights of at least 0, of shape (batch,), or of more axes, up to one for each
        item. Where all of them are 0, the value is NaN, as the mean of nothing, and delta is 0.
    backend: where the arrays live; found from ``predictions`` when left out.

A loss takes outputs for something, such as logits, and says so in ``outputs``, one of ``MEANINGS``.
A ``Trainer`` looks at the last layer by that, metrics follow it, and ``predict`` makes
probabilities.

Options are bound with ``functools.partial``: ``partial(cross_entropy, label_smoothing=0.1)``. A
loss of your own is a function with the same signature. Half precision is worked out in float32, and
delta is rounded to it in the end.

Losses of classes take ``class_weight``, one number for each class. With "balanced" ``Trainer.fit``
works them out from its targets, by ``balanced_weights``.

Means over several batches weigh each of them by ``total_weight``, weights of classes included, so
that they are those of the whole set, however it is cut.

Those of embeddings, ``triplet`` and ``contrastive``, take several of them a sample, and ``ctc``
takes labels in order; see there for the forms of predictions and targets.

All of them are finite, value and delta, for predictions of +-1e4 in float32.
"""

from xpnn.losses.balancing import balanced_weights
from xpnn.losses.by_output import ByOutput
from xpnn.losses.classification import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    kl_divergence,
)
from xpnn.losses.ctc import ctc
from xpnn.losses.embeddings import contrastive, triplet
from xpnn.losses.imbalance import binary_focal, dice, focal
from xpnn.losses.likelihoods import gaussian, poisson
from xpnn.losses.outputs import MEANINGS
from xpnn.losses.regression import (
    cosine_distance,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    pinball,
    quadratic_cost,
)
from xpnn.losses.targets import check_targets
from xpnn.losses.weights import total_weight

__all__ = [
    "MEANINGS",
    "ByOutput",
    "balanced_weights",
    "binary_cross_entropy",
    "binary_focal",
    "check_targets",
    "contrastive",
    "cosine_distance",
    "cross_entropy",
    "ctc",
    "dice",
    "focal",
    "gaussian",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_squared_error",
    "pinball",
    "poisson",
    "quadratic_cost",
    "total_weight",
    "triplet",
]
