"""One line for each metric: what it is, and its value worked out in plain numbers."""

import math

import numpy as np
import pytest

from xpnn import Identity, Network, Sigmoid, Softmax, Trainer, mean_squared_error
from xpnn.metrics import (
    F1,
    MAE,
    R2,
    ROCAUC,
    Accuracy,
    AveragePrecision,
    BalancedAccuracy,
    BrierScore,
    CalibrationError,
    ExplainedVariance,
    IoU,
    LogLoss,
    Perplexity,
    Precision,
    Recall,
    TopK,
)
from xpnn.metrics.probabilities import OfProbabilities
from xpnn.optimizers import SGD


def by_accuracy(predictions, targets, weights):
    right = [w for p, y, w in zip(predictions, targets, weights, strict=True) if best(p) == y]
    return math.fsum(right) / math.fsum(weights)


def by_top_2(predictions, targets, weights):
    right = [
        w
        for p, y, w in zip(predictions, targets, weights, strict=True)
        if y in sorted(range(len(p)), key=lambda k: -p[k])[:2]
    ]
    return math.fsum(right) / math.fsum(weights)


def best(scores):
    return max(range(len(scores)), key=lambda k: scores[k])


def confusion(chosen, targets, weights):
    """For each class that occurs or was chosen: hits, false alarms, misses."""
    counts = {k: [0.0, 0.0, 0.0] for k in {*chosen, *targets}}
    for c, y, w in zip(chosen, targets, weights, strict=True):
        if c == y:
            counts[y][0] += w
        else:
            counts[c][1] += w
            counts[y][2] += w
    return [one for one in counts.values() if sum(one)]


def by_precision(predictions, targets, weights):
    each = confusion([best(p) for p in predictions], targets, weights)
    return sum(hits / (hits + alarms) if hits else 0.0 for hits, alarms, _ in each) / len(each)


def by_recall(predictions, targets, weights):
    each = confusion([best(p) for p in predictions], targets, weights)
    return sum(hits / (hits + misses) if hits else 0.0 for hits, _, misses in each) / len(each)


def by_f1(predictions, targets, weights, chosen=None):
    each = confusion(chosen or [best(p) for p in predictions], targets, weights)
    return sum(hits / (hits + (alarms + misses) / 2) for hits, alarms, misses in each) / len(each)


def by_f1_of_yes_and_no(predictions, targets, weights):
    chosen = [int(p > 0.3) for (p,) in predictions]
    return by_f1(predictions, [y for (y,) in targets], weights, chosen)


def by_accuracy_of_labels(predictions, targets, weights):
    rows = zip(predictions, targets, weights, strict=True)
    right = [w * ((p > 0) == (y == 1)) for ps, ys, w in rows for p, y in zip(ps, ys, strict=True)]
    return math.fsum(right) / (len(targets[0]) * math.fsum(weights))


def by_f1_of_labels(predictions, targets, weights):
    each = []
    for ps, ys in zip(zip(*predictions, strict=True), zip(*targets, strict=True), strict=True):
        answers = list(zip(ps, ys, weights, strict=True))
        hits = math.fsum(w for p, y, w in answers if p > 0 and y == 1)
        wrong = math.fsum(w for p, y, w in answers if (p > 0) != (y == 1))
        each.append(hits / (hits + wrong / 2))
    return sum(each) / len(each)


def by_mae(predictions, targets, weights):
    off = [
        w * abs(p - y)
        for ps, ys, w in zip(predictions, targets, weights, strict=True)
        for p, y in zip(ps, ys, strict=True)
    ]
    return math.fsum(off) / (len(targets[0]) * math.fsum(weights))


def by_r2(predictions, targets, weights):
    a, y = np.array(predictions), np.array(targets)
    unexplained = np.average((y - a) ** 2, axis=0, weights=weights)
    mean = np.average(y, axis=0, weights=weights)
    return float(np.mean(1 - unexplained / np.average((y - mean) ** 2, axis=0, weights=weights)))


def by_iou(predictions, targets, weights):
    each = confusion([best(p) for p in predictions], targets, weights)
    return sum(hits / (hits + alarms + misses) for hits, alarms, misses in each) / len(each)


def by_balanced_accuracy(predictions, targets, weights):
    each = confusion([best(p) for p in predictions], targets, weights)
    found = [hits / (hits + misses) for hits, _, misses in each if hits + misses]
    return sum(found) / len(found)


def average(values, weights):
    return math.fsum(w * v for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


def by_log_loss(predictions, targets, weights):
    lost = [-math.log(p[y]) for p, y in zip(predictions, targets, strict=True)]
    return average(lost, weights)


def by_perplexity(predictions, targets, weights):
    return math.exp(by_log_loss(predictions, targets, weights))


def by_brier(predictions, targets, weights):
    off = [
        math.fsum((one - (k == y)) ** 2 for k, one in enumerate(p))
        for p, y in zip(predictions, targets, strict=True)
    ]
    return average(off, weights)


def by_brier_of_labels(predictions, targets, weights):
    off = [
        math.fsum((p - y) ** 2 for p, y in zip(ps, ys, strict=True)) / len(ps)
        for ps, ys in zip(predictions, targets, strict=True)
    ]
    return average(off, weights)


def by_calibration(predictions, targets, weights):
    sums = {}
    for p, y, w in zip(predictions, targets, weights, strict=True):
        off = sums.setdefault(min(int(max(p) * 5), 4), [])
        off.append(w * (max(p) - (best(p) == y)))
    return math.fsum(abs(math.fsum(off)) for off in sums.values()) / math.fsum(weights)


def by_roc_auc(predictions, targets, weights):
    found = []
    for k in range(len(predictions[0])):
        rows = [(p[k], y == k, w) for p, y, w in zip(predictions, targets, weights, strict=True)]
        pairs = [(a, b, v * w) for a, yes, v in rows if yes for b, other, w in rows if not other]
        above = math.fsum(w * ((a > b) + (a == b) / 2) for a, b, w in pairs)
        found.append(above / math.fsum(w for _, _, w in pairs))
    return sum(found) / len(found)


def by_average_precision(predictions, targets, weights):
    rows = [(p, y, w) for (p,), (y,), w in zip(predictions, targets, weights, strict=True)]
    found = []
    for score, yes, w in rows:
        above = [(y, v) for p, y, v in rows if p >= score]
        precision = math.fsum(y * v for y, v in above) / (math.fsum(v for _, v in above) or 1)
        found.append(yes * w * precision)
    return math.fsum(found) / math.fsum(y * w for _, y, w in rows)


def by_explained_variance(predictions, targets, weights):
    a, y = np.array(predictions), np.array(targets)

    def variance(x):
        return np.average((x - np.average(x, 0, weights)) ** 2, 0, weights)

    return float(np.mean(1 - variance(y - a) / variance(y)))


METRICS = [  # a new metric joins by adding one line: the metric, and its value in plain numbers
    pytest.param(Accuracy(), by_accuracy, id="accuracy"),
    pytest.param(TopK(2), by_top_2, id="top-2"),
    pytest.param(Precision(), by_precision, id="precision"),
    pytest.param(Recall(), by_recall, id="recall"),
    pytest.param(F1(), by_f1, id="f1"),
    pytest.param(F1("macro", threshold=0.3), by_f1_of_yes_and_no, id="f1-yes-or-no"),
    pytest.param(Accuracy(multilabel=True), by_accuracy_of_labels, id="accuracy-of-labels"),
    pytest.param(F1(multilabel=True), by_f1_of_labels, id="f1-of-labels"),
    pytest.param(MAE(), by_mae, id="mae"),
    pytest.param(R2(), by_r2, id="r2"),
    pytest.param(ExplainedVariance(), by_explained_variance, id="explained-variance"),
    pytest.param(IoU(), by_iou, id="iou"),
    pytest.param(BalancedAccuracy(), by_balanced_accuracy, id="balanced-accuracy"),
    pytest.param(LogLoss(), by_log_loss, id="log-loss"),
    pytest.param(Perplexity(), by_perplexity, id="perplexity"),
    pytest.param(BrierScore(), by_brier, id="brier"),
    pytest.param(BrierScore(multilabel=True), by_brier_of_labels, id="brier-of-labels"),
    pytest.param(CalibrationError(bins=5), by_calibration, id="calibration"),
    pytest.param(ROCAUC(), by_roc_auc, id="roc-auc"),
    pytest.param(AveragePrecision(), by_average_precision, id="average-precision"),
]
ALL = [row.values[0] for row in METRICS]
each_metric = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)


NUMBERS = MAE, R2, ExplainedVariance


def drawn(metric, rows=40):
    """Predictions and targets that a metric can work with."""
    rng = np.random.default_rng(3)
    if isinstance(metric, NUMBERS):
        targets = rng.normal(size=(rows, 2))
        return targets + 0.3 * rng.normal(size=(rows, 2)), targets
    labelled = getattr(metric, "multilabel", False)
    if isinstance(metric, OfProbabilities):
        logits, targets = rng.normal(size=(rows, 4)), rng.integers(4, size=rows)
        logits[np.arange(rows), targets] += 1
        if labelled:
            return 1 / (1 + np.exp(-logits)), rng.integers(2, size=(rows, 4))
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), targets
    if isinstance(metric, AveragePrecision):  # with ties
        return np.round(rng.normal(size=(rows, 1)), 1), rng.integers(2, size=(rows, 1))
    if getattr(metric, "threshold", None):
        return rng.normal(size=(rows, 1)), rng.integers(2, size=(rows, 1))
    if labelled:
        return rng.normal(size=(rows, 4)), rng.integers(2, size=(rows, 4))
    return rng.normal(size=(rows, 4)), rng.integers(4, size=rows)


def zero(predictions, targets, *, sample_weight=None, backend):
    """A loss that takes any targets."""
    return backend.xp.sum(predictions) * 0.0, predictions * 0.0


def measuring(metric, predictions, backend, dtype="float32"):
    """A trainer, and inputs of which its network gives the predictions."""
    last, x, loss = Identity(), predictions, zero
    if isinstance(metric, NUMBERS):
        loss = mean_squared_error
    if isinstance(metric, OfProbabilities):
        x = np.log(predictions)
        last = Softmax()
        if metric.multilabel:
            last, x = Sigmoid(), x - np.log1p(-predictions)
    network = Network([last], predictions.shape[1:], backend, dtype=dtype)
    return Trainer(network, loss, SGD(0.1), metrics=[metric]), x
