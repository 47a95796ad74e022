"""Metrics: worked by hand, weighed, and put together from batches."""

import contextlib
import functools
import math
from functools import partial

import numpy as np
import pytest

from tests.metrics.table import ALL, METRICS, drawn, each_metric, measuring, zero
from xpnn import (
    SGD,
    Identity,
    Network,
    Trainer,
    binary_cross_entropy,
    cross_entropy,
    get_backend,
    hinge,
    mean_squared_error,
)
from xpnn.errors import BackendUnavailable, DataError, ShapeError
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
    Metric,
    Perplexity,
    Precision,
    Recall,
    TopK,
)

pytestmark = pytest.mark.width

SCORES = [[3, 1, 0], [0, 2, 1], [5, 1, 4], [0, 1, 2], [1, 0, 2], [0, 3, 1]]  # 0 1 0 2 2 1
CLASSES = [0, 1, 1, 2, 0, 2]
# class:     both chosen true    precision recall F1
#     0         1      2    2       1/2     1/2   1/2
#     1         1      2    2       1/2     1/2   1/2
#     2         1      2    2       1/2     1/2   1/2
UNEVEN = [0, 1, 0, 2, 2, 2]
#     0         2      2    2        1       1     1
#     1         1      2    1       1/2      1    2/3
#     2         2      2    3        1      2/3   4/5
LOGITS = [[2.0], [-1.0], [0.5], [-0.2], [3.0]]  # yes no yes no yes
ANSWERS = [[1], [0], [0], [1], [1]]  # both 2, chosen 3, true 3

TAGS = [[3, 2, -1], [1, 3, -2], [-1, -2, 3]]
LABELS = [[1, 1, 1], [0, 0, 0], [0, 0, 1]]


@functools.cache
def statistics_of(metric, backend):
    """As a function of arrays; compiled on JAX, which otherwise compiles each call by itself."""

    def statistics(predictions, targets, weight):
        return metric.statistics(predictions, targets, weight, backend.xp)

    return backend.compiled(statistics, wanted=backend.name == "jax")


def measured(metric, backend, predictions, targets, weight=None, parts=1, compiled=False):
    """The metric of arrays on the host, put together from batches."""
    backend = get_backend(backend)
    run = statistics_of(metric, backend)
    if compiled and backend.name != "jax":
        run = backend.compiled(run, known=True)
    predictions = np.asarray(predictions)
    if predictions.dtype == np.float64 or predictions.dtype.kind == "i":
        predictions = predictions.astype(np.float32)
    targets = np.asarray(targets)
    targets = targets.astype(np.int32 if targets.dtype.kind in "iub" else np.float32)
    rows = []
    with backend.on_device():
        for part in np.array_split(np.arange(len(targets)), parts):
            w = None if weight is None else backend.asarray(np.float32(weight)[part])
            row = run(backend.asarray(predictions[part]), backend.asarray(targets[part]), w)
            rows.append(np.atleast_2d(backend.to_numpy(row)).astype(np.float64))
    result = metric.result(np.concatenate(rows))
    assert isinstance(result, float)
    return result


def test_counts_are_whole_numbers(backend):
    """So that none is lost beyond 2^24, where float32 counts by twos."""
    xp, batch = backend.xp, 100_001
    scores = backend.asarray(np.tile(np.float32([[0, 1]]), (batch, 1)))
    labels = xp.ones((batch,), dtype=xp.int32, device=backend.device)
    with backend.on_device():
        row = Precision().statistics(scores, labels, None, xp)
    assert xp.isdtype(row.dtype, "integral")
    np.testing.assert_array_equal(backend.to_numpy(row), [0, batch, 0, batch, 0, batch, batch])


BY_HAND = [
    (Accuracy(), SCORES, CLASSES, 3 / 6),
    (Accuracy(), SCORES, np.eye(3, dtype=int)[CLASSES], 3 / 6),
    (Accuracy(), LOGITS, ANSWERS, 3 / 5),
    (Accuracy(), LOGITS, np.ravel(ANSWERS), 3 / 5),
    (Accuracy(), np.ravel(LOGITS), np.ravel(ANSWERS), 3 / 5),
    (Accuracy(), LOGITS, 2 * np.array(ANSWERS) - 1, 3 / 5),  # classes -1 and 1, as hinge has them
    (Accuracy(threshold=1.0), LOGITS, ANSWERS, 4 / 5),
    (Accuracy(threshold=0.5), [[0.9], [0.4], [0.6]], [[1], [1], [0]], 1 / 3),
    (Accuracy(), [SCORES, SCORES], [CLASSES, UNEVEN], (3 + 5) / 12),  # sequences
    (TopK(1), SCORES, CLASSES, 3 / 6),
    (TopK(2), SCORES, CLASSES, 5 / 6),  # all but the third, where class 1 is last
    (TopK(3), SCORES, CLASSES, 1.0),
    (TopK(2), SCORES, np.eye(3, dtype=int)[CLASSES], 5 / 6),
    (TopK(2), [[1, 1, 1, 0]], [0], 0.0),  # three share the first place
    (TopK(3), [[1, 1, 1, 0]], [0], 1.0),
    (TopK(2), [[math.nan] * 3], [0], 0.0),
    (TopK(2), [[-math.inf, 1, math.inf]], [1], 1.0),
    (Precision(), SCORES, UNEVEN, (1 + 1 / 2 + 1) / 3),
    (Recall(), SCORES, UNEVEN, (1 + 1 + 2 / 3) / 3),
    (F1(), SCORES, UNEVEN, (1 + 2 / 3 + 4 / 5) / 3),
    (F1(), SCORES, np.eye(3, dtype=int)[UNEVEN], (1 + 2 / 3 + 4 / 5) / 3),
    (Precision(), LOGITS, ANSWERS, 2 / 3),
    (Recall(), LOGITS, ANSWERS, 2 / 3),
    (Precision(threshold=1.0), LOGITS, ANSWERS, 1.0),
    (Recall(threshold=1.0), LOGITS, ANSWERS, 2 / 3),
    (F1(threshold=1.0), LOGITS, ANSWERS, 0.8),
    (F1(average="macro"), LOGITS, ANSWERS, (2 / 3 + 1 / 2) / 2),
    (Precision("binary"), SCORES, UNEVEN, 1 / 2),  # that of class 1
    # class 2 neither occurs nor is predicted: it does not count
    (F1(), [[1, 0, -9], [0, 1, -9], [0, 1, -9]], [0, 1, 0], (2 / 3 + 2 / 3) / 2),
    (Precision(), [[1, 0, 0]], [1], 0.0),
    (Recall(), [[-1], [-2]], [[0], [0]], 0.0),  # nothing to find, which is not nothing measured
    (F1(multilabel=True), [[-1, -2], [-3, -1]], [[0, 0], [0, 0]], 0.0),
    # labels: right 1 1 0, 0 0 1, 1 1 1; both 1 1 1, chosen 2 2 1, true 1 1 2
    (Accuracy(multilabel=True), TAGS, LABELS, 6 / 9),
    (Accuracy(multilabel=True, threshold=1.5), TAGS, LABELS, 7 / 9),
    (Precision(multilabel=True), TAGS, LABELS, (1 / 2 + 1 / 2 + 1) / 3),
    (Recall(multilabel=True), TAGS, LABELS, (1 + 1 + 1 / 2) / 3),
    (F1(multilabel=True), TAGS, LABELS, 2 / 3),
    (F1(multilabel=True), [TAGS, TAGS], [LABELS, LABELS], 2 / 3),  # sequences
    (F1(multilabel=True), [row[:2] for row in TAGS], [row[:2] for row in LABELS], 2 / 3),
    (F1(multilabel=True), LOGITS, ANSWERS, 2 / 3),  # one label
    (F1(multilabel=True), np.ravel(LOGITS), np.ravel(ANSWERS), 2 / 3),
    (MAE(), [[1, 2], [3, 4]], [[0, 0], [3, 2]], (1 + 2 + 0 + 2) / 4),
    (MAE(), [[1], [2]], [3, 0], 2.0),
    (R2(), [[1], [2], [3]], [[1], [2], [3]], 1.0),
    (R2(), [[2], [2], [2]], [[1], [2], [3]], 0.0),
    (R2(), [3, 2, 1], [1, 2, 3], 1 - 8 / 2),
    (R2(), [[1, 2], [2, 2], [3, 2]], [[1, 1], [2, 2], [3, 3]], 0.5),  # the mean of 1 and 0
    (R2(), [[5], [5]], [[5], [5]], 1.0),  # nothing to explain, and that is what it says
    (R2(), [[5], [6]], [[5], [5]], 0.0),
    (ExplainedVariance(), [[4], [5], [6]], [[1], [2], [3]], 1.0),  # 3 too much throughout
    (ExplainedVariance(), [[2], [2], [2]], [[1], [2], [3]], 0.0),
    (ExplainedVariance(), [[6], [6]], [[5], [5]], 1.0),
    (ExplainedVariance(), [[5], [6]], [[5], [5]], 0.0),
    (IoU(), SCORES, UNEVEN, (1 + 1 / 2 + 2 / 3) / 3),
    (IoU(), LOGITS, ANSWERS, 2 / 4),
    (IoU(multilabel=True), TAGS, LABELS, (1 / 2 + 1 / 2 + 1 / 2) / 3),
    (BalancedAccuracy(), SCORES, UNEVEN, (1 + 1 + 2 / 3) / 3),
    (BalancedAccuracy(), LOGITS, ANSWERS, (2 / 3 + 1 / 2) / 2),
    # class 2 is predicted and does not occur
    (BalancedAccuracy(), [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [0, 0, 1], (1 / 2 + 1) / 2),
    (LogLoss(), [[0.25], [0.5]], [[1], [0]], math.log(8) / 2),
    (LogLoss(), [0.25, 0.5], [1, 0], math.log(8) / 2),
    (LogLoss(), [[0.5, 0.5, 0], [0.125, 0.75, 0.125]], [0, 2], math.log(16) / 2),
    (LogLoss(multilabel=True), [[0.25, 0.5]], [[1, 0]], math.log(8) / 2),
    (LogLoss(), [[0.0], [1.0]], [[1], [1]], -math.log(2**-23) / 2),  # epsilon of float32
    (Perplexity(), [[0.25, 0.75], [0.25, 0.75]], [0, 0], 4.0),
    (BrierScore(), [[0.5], [1.0], [0.0]], [[1], [1], [1]], (0.25 + 0 + 1) / 3),
    (BrierScore(), [[0.5, 0.5, 0], [0, 0, 1]], [0, 0], (0.5 + 2) / 2),
    # in (0.4, 0.6]: 0.5 said, 1 came true; in (0.8, 1]: 1 said, 1/2 came true
    (CalibrationError(5), [[0.5], [1.0], [1.0]], [[1], [1], [0]], (0.5 + 1) / 3),
    (CalibrationError(1), [[0.5], [1.0], [0.0]], [[1], [0], [1]], 1 / 6),
    (CalibrationError(), [[0.75, 0.25], [0.25, 0.75]], [0, 0], 0.5 / 2),
    (ROCAUC(), LOGITS, ANSWERS, 5 / 6),  # yes at 2, -0.2, 3; no at -1, 0.5: one pair is wrong
    (ROCAUC(), [[1], [1], [0]], [[1], [0], [0]], 1.5 / 2),
    (ROCAUC(), [[1, 0], [1, 1], [0, 1]], [[1, 0], [0, 1], [0, 0]], (0.75 + 0.75) / 2),
    (AveragePrecision(), [[4], [3], [2], [1]], [[1], [0], [1], [0]], (1 + 2 / 3) / 2),
    (AveragePrecision(), [[1], [1], [0]], [[1], [0], [1]], (1 / 2 + 2 / 3) / 2),
]


@pytest.mark.any_width  # test_it_is_what_plain_numbers_say has both
@pytest.mark.parametrize("compiled", [True, pytest.param(False, marks=pytest.mark.slow_to_compile)])
@pytest.mark.parametrize(("metric", "predictions", "targets", "value"), BY_HAND)
def test_values_by_hand(backend, metric, predictions, targets, value, compiled):
    found = measured(metric, backend, predictions, targets, compiled=compiled)
    assert found == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow_to_compile), True])
@pytest.mark.parametrize(("metric", "in_numbers"), METRICS)
def test_it_is_what_plain_numbers_say(backend, metric, in_numbers, weighted):
    """Over uneven batches of ``evaluate``: 40 samples are five of 7 and one of 5."""
    predictions, targets = drawn(metric)
    predictions = predictions.astype(np.float32)
    weight = np.arange(40) % 4 if weighted else None
    trainer, x = measuring(metric, predictions, backend)
    found = trainer.evaluate(x, targets, sample_weight=weight, batch_size=7)
    weights = [1.0] * 40 if weight is None else weight.tolist()
    expected = in_numbers(predictions.tolist(), targets.tolist(), weights)
    assert found[metric.name] == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < 4
    assert expected not in (0.5, 1)


@pytest.mark.slow_to_compile  # test_cuts compares the same there, in fewer parts
@pytest.mark.any_width
@each_metric
@pytest.mark.parametrize("parts", [2, 7])
def test_batches_do_not_matter(backend, metric, parts):
    predictions, targets = drawn(metric)
    weight = np.arange(40) % 4
    for w in (None, weight):
        whole = measured(metric, backend, predictions, targets, w)
        split = measured(metric, backend, predictions, targets, w, parts)
        assert split == pytest.approx(whole, rel=1e-5)
        assert 0 < whole < 4


class Spread(Metric):
    """One that has no ``merged``: the largest mean of a batch less the smallest."""

    name = "spread"

    def statistics(self, predictions, targets, weight, xp):
        return xp.reshape(xp.mean(predictions), (1,))

    def result(self, rows):
        return float(rows.max() - rows.min())


class Worst(Accuracy):
    """One made from another, which looks at single batches."""

    name = "worst"

    def result(self, rows):
        return float((rows[:, 0] / np.maximum(rows[:, 1], 1)).min())


@pytest.mark.any_width
@pytest.mark.parametrize("metric", [*ALL, Spread(), Worst()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow_to_compile), True])
def test_reading_now_and_then_gives_the_same_of_fewer_numbers(
    backend, metric, weighted, monkeypatch
):
    """In few rows, unless the metric needs all of them."""
    seen, read = [], []

    def result(rows, whole=metric.result):
        seen.append(len(rows))
        return whole(rows)

    def merged(rows, fewer=metric.merged):
        read.append(len(rows))
        return fewer(rows)

    predictions, targets = drawn(metric)
    weight = np.arange(40) % 4 if weighted else None
    monkeypatch.setitem(vars(metric), "result", result)
    monkeypatch.setitem(vars(metric), "merged", merged)
    trainer, x = measuring(metric, predictions, backend)
    found = []
    for every in (1000, 3, 1):
        monkeypatch.setattr("xpnn.training.measuring.READ_EVERY", every)
        found.append(trainer.evaluate(x, targets, sample_weight=weight, batch_size=4))
    for one in found[1:]:
        assert one == pytest.approx(found[0], rel=1e-12)
    if isinstance(metric, ROCAUC | AveragePrecision):
        assert max(seen) <= len(np.unique(predictions))  # a row for each score
    elif isinstance(metric, Spread | Worst):
        assert seen == [10, 10, 10]
    else:
        assert seen == [1, 1, 1]
        read = [rows for rows in read if rows > 1]  # R2 merges once more for its result
        assert read == [10, *(3, 4, 4, 2), *[2] * 9]


@pytest.mark.any_width
@each_metric
def test_weights_count_like_repetitions(backend, metric):
    predictions, targets = drawn(metric)
    times = np.arange(40) % 4
    weighted = measured(metric, backend, predictions, targets, times)
    repeated, once = (
        measured(metric, "numpy", predictions.repeat(n, axis=0), targets.repeat(n, axis=0))
        for n in (times, 1)
    )
    assert weighted == pytest.approx(repeated, rel=1e-5)
    assert weighted != pytest.approx(once, rel=1e-3)


@pytest.mark.any_width
@each_metric
def test_weights_of_zero_for_all_measure_nothing(backend, metric):
    predictions, targets = drawn(metric)
    for parts in (1, 3):
        assert math.isnan(measured(metric, backend, predictions, targets, np.zeros(40), parts))


@pytest.mark.any_width
@each_metric
def test_a_whole_batch_of_weight_zero_does_not_matter(backend, metric):
    predictions, targets = drawn(metric)
    weight = np.repeat([1.0, 0.0, 2.0, 1.0], 10)
    kept = weight > 0
    expected = measured(metric, "numpy", predictions[kept], targets[kept], weight[kept])
    found = measured(metric, backend, predictions, targets, weight, parts=4)
    assert found == pytest.approx(expected, rel=1e-5)


@each_metric
@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.any_width), "float64"])
def test_other_float_dtypes(backend, metric, dtype):
    """Counts beyond 2048 and sums beyond 65504 do not fit into float16."""
    predictions, targets = drawn(metric, rows=4000)
    wide = backend.allow_float64() if dtype == "float64" else contextlib.nullcontext()
    with wide, backend.on_device():
        try:
            given = backend.asarray(predictions, dtype)
        except BackendUnavailable:
            pytest.skip(f"{backend.name} has no {dtype}")
        row = statistics_of(metric, backend)(given, backend.asarray(targets), None)
        found = metric.result(np.atleast_2d(backend.to_numpy(row)).astype(np.float64))
    expected = measured(metric, "numpy", predictions.astype(dtype).astype(np.float32), targets)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_mask_over_time_leaves_steps_out(backend):
    mask = np.array([[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1]])
    # right: 0, 1 and not 4; 3, 4 and not 5
    found = measured(Accuracy(), backend, [SCORES, SCORES], [CLASSES, UNEVEN], mask)
    assert found == pytest.approx(4 / 6)
    f1 = measured(F1(), backend, [SCORES, SCORES], [CLASSES, UNEVEN], mask)
    kept = mask.astype(bool)
    flat = measured(F1(), backend, np.array([SCORES] * 2)[kept], np.array([CLASSES, UNEVEN])[kept])
    assert f1 == pytest.approx(flat)


@pytest.mark.parametrize("parts", [1, 9])
@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_r2_loses_nothing_to_an_offset(backend, offset, parts):
    rng = np.random.default_rng(4)
    targets = (offset + rng.normal(size=(900, 1))).astype(np.float32)
    predictions = (targets + 0.5 * rng.normal(size=(900, 1))).astype(np.float32)
    y, a = targets.astype(np.float64), predictions.astype(np.float64)
    exact = 1 - np.sum((y - a) ** 2) / np.sum((y - y.mean()) ** 2)
    assert measured(R2(), backend, predictions, targets, parts=parts) == pytest.approx(
        exact, rel=1e-5
    )


def test_a_metric_can_be_called(backend):
    predictions = backend.asarray(np.array(SCORES, dtype=np.float32))
    assert Accuracy()(predictions, CLASSES) == 0.5
    weight = np.array([1, 1, 0, 1, 0, 0], dtype=np.float32)
    assert Accuracy()(predictions, np.array(CLASSES), sample_weight=weight) == 1.0


def test_names_and_directions():
    assert [metric.name for metric in (Accuracy(), TopK(3), F1())] == ["accuracy", "top_3", "f1"]
    falling = {MAE, LogLoss, Perplexity, BrierScore, CalibrationError}
    assert {type(metric) for metric in ALL if not metric.higher_is_better} == falling


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="TopK needs k of at least 1, got 0"):
        TopK(0)
    with pytest.raises(ValueError, match="F1 averages 'macro' or 'binary', got 'micro'"):
        F1("micro")
    with pytest.raises(ValueError, match="leave average='binary' out, or write average='macro'"):
        F1("binary", multilabel=True)
    with pytest.raises(TypeError, match="Accuracy wants threshold to be a finite number or None"):
        Accuracy("0.5")
    with pytest.raises(TypeError, match="Recall wants threshold to be a finite number or None"):
        Recall(threshold=math.nan)


def test_a_metric_of_ones_own_has_to_say_what_it_is():
    class Nothing(Metric):
        name = "nothing"

    with pytest.raises(NotImplementedError, match="Nothing has to define statistics"):
        Nothing()(np.zeros((1, 2)), np.zeros(1))


def test_a_weight_for_each_label(backend):
    weight = [[1, 0, 0], [0, 0, 3], [0, 0, 4]]  # what is right among TAGS
    for metric in (Accuracy(multilabel=True), F1(multilabel=True)):
        assert measured(metric, backend, TAGS, LABELS, weight) == 1
    column = [[2.0], [1], [1], [0], [0]]
    assert measured(Accuracy(), backend, LOGITS, ANSWERS, column) == pytest.approx(3 / 4)
    with pytest.raises(ShapeError, match=r"sample_weight of shape \(3,\).*give each sample one"):
        measured(Accuracy(), backend, TAGS, np.eye(3), weight)


def test_answers_and_targets_may_be_true_and_false(backend):
    yes = np.array([True, False, True])
    for answers in (yes, yes.astype(np.int32)):
        assert Accuracy()(backend.asarray(answers), yes) == 1
    scores = backend.asarray(np.array([[1, 2], [2, 1], [1, 2]], dtype=np.float32))
    for targets in (yes, np.eye(2, dtype=bool)[yes.astype(int)]):
        assert F1()(scores, targets) == 1
    assert F1(multilabel=True)(scores - 1.5, np.eye(2, dtype=bool)[yes.astype(int)]) == 1


@pytest.mark.any_width
def test_what_the_loss_ignores_is_not_measured(backend):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(28, 5, 3)).astype(np.float32), rng.integers(0, 3, (28, 5))
    ignored = rng.random((28, 5)) < 0.3
    ignored[:7] = True  # a whole batch
    weight = rng.integers(1, 4, 28).astype(np.float32)
    loss = partial(cross_entropy, ignore_index=255)
    network = Network([Identity()], (5, 3), backend)
    trainer = Trainer(network, loss, SGD(0.1), metrics=[Accuracy(), F1(), TopK(2)])
    targets = np.where(ignored, 255, y).astype(np.uint8)
    found = trainer.evaluate(x, targets, sample_weight=weight, batch_size=7)
    trainer.loss = cross_entropy
    expected = trainer.evaluate(x, y, sample_weight=weight[:, None] * ~ignored, batch_size=7)
    assert found == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate(x, y, batch_size=7)["accuracy"] != pytest.approx(
        found["accuracy"], rel=1e-3
    )


@pytest.mark.any_width
def test_probabilities_are_those_that_the_loss_makes_of_outputs(backend):
    rng = np.random.default_rng(2)
    logits, classes = rng.normal(size=(30, 3)).astype(np.float32), rng.integers(0, 3, 30)
    tags = rng.integers(0, 2, (30, 3)).astype(np.float32)
    of_classes = [LogLoss(), Perplexity(), BrierScore(), CalibrationError()]
    of_tags = [LogLoss(multilabel=True), BrierScore(multilabel=True)]
    of_tags.append(CalibrationError(multilabel=True))
    for units, loss, y, metrics in (
        (3, cross_entropy, classes, of_classes),
        (3, binary_cross_entropy, tags, of_tags),
        (1, binary_cross_entropy, tags[:, :1], of_classes),
    ):
        x = logits[:, :units]
        trainer = Trainer(Network([Identity()], (units,), backend), loss, SGD(0.1), metrics=metrics)
        found = trainer.evaluate(x, y)
        p = trainer.predict(x, probabilities=True)
        for metric in metrics:
            alone = measured(metric, backend, backend.to_numpy(p), y)
            assert found[metric.name] == pytest.approx(alone, rel=1e-5)
        assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_log_loss_of_logits_keeps_its_digits(backend):
    x = np.array([[30.0], [-200.0]], np.float32)
    network = Network([Identity()], (1,), backend)
    trainer = Trainer(network, binary_cross_entropy, SGD(0.1), metrics=[LogLoss()])
    assert trainer.evaluate(x[:1], [[1]])["log_loss"] == pytest.approx(math.exp(-30), rel=1e-5)
    assert trainer.evaluate(x[1:], [[1]])["log_loss"] == 200


def test_classes_are_ranked_by_their_probabilities(backend):
    """Logits of two samples cannot be compared."""
    x = np.array([[5.0, 4], [1, -9], [0, 2]], np.float32)
    y = [1, 0, 1]
    trainer = Trainer(
        Network([Identity()], (2,), backend), cross_entropy, SGD(0.1), metrics=[ROCAUC()]
    )
    assert trainer.evaluate(x, y)["roc_auc"] == 1
    assert ROCAUC()(backend.asarray(x), y) < 1


@pytest.mark.parametrize("metric", [ROCAUC(bins=200), AveragePrecision(bins=200)])
def test_areas_by_bins_are_close_to_exact_ones(metric):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 20_000)
    scores = (rng.normal(size=20_000) + y).astype(np.float32)
    exact = type(metric)()(scores, y)
    rows = [
        metric.statistics(scores[k : k + 500], y[k : k + 500], None, np)
        for k in range(0, 20_000, 500)
    ]
    kept = rows[0]
    for row in rows[1:]:
        kept = metric.merged(np.concatenate([kept, row]).astype(np.float64))
        assert len(kept) <= 201
    assert metric.result(kept) == pytest.approx(exact, abs=2e-3)
    assert metric.result(kept) != exact


def test_areas_without_a_yes_or_a_no_are_nan():
    for y in (0, 1):
        assert math.isnan(ROCAUC()(np.array([0.1, 0.7]), np.array([y, y])))
    assert math.isnan(AveragePrecision()(np.array([0.1, 0.7]), np.array([0, 0])))
    # of the outputs the first has but a yes
    scores, tags = np.array([[0.1, 0.2], [0.9, 0.8]]), np.array([[1, 0], [1, 1]])
    assert ROCAUC()(scores, tags) == 1


@pytest.mark.parametrize("metric", [ROCAUC(), AveragePrecision()])
def test_areas_of_scores_that_are_not_finite(metric):
    """Infinite ones are ties of the largest number; there is no order of NaN."""
    y = np.array([1, 0, 1, 0, 1, 0])
    for tags in (y, 1 - y):
        endless = np.array([math.inf, math.inf, 1, 0, -math.inf, -math.inf])
        assert metric(endless, tags) == metric(np.clip(endless, -9, 9), tags)
    assert math.isnan(metric(np.array([0.1, math.nan, 0.7]), np.array([0, 1, 1])))


NO_PROBABILITIES = {  # network, loss, metric, what is said
    "margins": (1, hinge, LogLoss(), "which stand for none; leave it out"),
    "numbers": (1, mean_squared_error, BrierScore(), "which stand for none; leave it out"),
    "unsaid": (1, zero, Perplexity(), "give it an attribute outputs, or leave the metric out"),
    "labels of classes": (3, cross_entropy, LogLoss(True), "leave multilabel=True out"),
    "classes of labels": (
        3,
        binary_cross_entropy,
        CalibrationError(bins=3),
        r"write CalibrationError\(bins=3, multilabel=True\)",
    ),
}


@pytest.mark.parametrize("name", NO_PROBABILITIES)
def test_outputs_that_are_no_probabilities_are_refused(name):
    units, loss, metric, text = NO_PROBABILITIES[name]
    with pytest.raises(ValueError, match=text):
        Trainer(Network([Identity()], (units,)), loss, SGD(0.1), metrics=[metric])


@pytest.mark.parametrize("predictions", [[[0.5, 0.6]], [[1.5, -0.5]], [[math.nan, 1.0]], [[1, 0]]])
def test_called_by_itself_it_wants_probabilities(predictions):
    with pytest.raises(DataError, match="give what predict returns with probabilities"):
        LogLoss()(np.array(predictions), np.array([0]))
