"""One line for each metric: what it is, and its value worked out in plain numbers."""

import math

import numpy as np
import pytest

from xpnn.metrics import F1, MAE, R2, Accuracy, Precision, Recall, TopK


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
]
ALL = [row.values[0] for row in METRICS]
each_metric = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)


def drawn(metric, rows=40):
    """Predictions and targets that a metric can work with."""
    rng = np.random.default_rng(3)
    if isinstance(metric, MAE | R2):
        targets = rng.normal(size=(rows, 2))
        return targets + 0.3 * rng.normal(size=(rows, 2)), targets
    if getattr(metric, "threshold", None):
        return rng.normal(size=(rows, 1)), rng.integers(2, size=(rows, 1))
    if getattr(metric, "multilabel", False):
        return rng.normal(size=(rows, 4)), rng.integers(2, size=(rows, 4))
    return rng.normal(size=(rows, 4)), rng.integers(4, size=rows)
