"""Targets that a loss cannot use are refused, in words that say what to do."""

from functools import partial

import numpy as np
import pytest

from xpnn.errors import DataError, ShapeError
from xpnn.losses import (
    binary_cross_entropy,
    check_targets,
    contrastive,
    cross_entropy,
    ctc,
    dice,
    focal,
    gaussian,
    hinge,
    huber,
    kl_divergence,
    mean_squared_error,
    poisson,
    quadratic_cost,
    triplet,
)

FIT = [
    (quadratic_cost, np.zeros((4, 3), np.float32), (3,)),
    (mean_squared_error, np.full(4, 1e9, np.float32), ()),
    (huber, np.arange(8).reshape(4, 2), (2,)),
    (hinge, np.array([[-1], [1]]), (1,)),
    (hinge, np.array([[0], [1]], dtype=np.uint8), (1,)),
    (binary_cross_entropy, np.array([[True], [False]]), (1,)),
    (binary_cross_entropy, np.array([[0.25, 1.0]], np.float32), (2,)),
    (cross_entropy, np.array([0, 2]), (3,)),
    (cross_entropy, np.array([0, 2], dtype=np.uint8), (3,)),
    (cross_entropy, np.array([[0, 2]]), (2, 3)),
    (cross_entropy, np.eye(3)[[0, 2]].astype(np.float32), (3,)),
    (cross_entropy, np.eye(3, dtype=bool)[[0, 2]], (3,)),
    (cross_entropy, np.array([[0.33, 0.33, 0.33]], np.float32), (3,)),
    (kl_divergence, np.array([[0.5, 0.5]], np.float32), (2,)),
    (partial(cross_entropy, ignore_index=-100), np.array([0, -100, 2]), (3,)),
    (partial(cross_entropy, ignore_index=255), np.array([[255, 2]], np.uint8), (2, 3)),
    (poisson, np.array([[0], [7]]), (1,)),
    (gaussian, np.array([[-7.0]], np.float32), (2,)),
    (dice, np.array([[[0.0], [1.0]]], np.float32), (2, 1)),
    (triplet, np.zeros(2, np.float32), (3, 4)),
    (ctc, np.array([[1, 1, -1], [2, -1, -1]]), (3, 3)),
    (partial(ctc, blank=2), np.array([[1, 0]], np.int32), (2, 3)),
    (partial(ctc, lengths=True), np.array([[3, 1, 1], [1, 2, -1]]), (3, 3)),
]


@pytest.mark.parametrize(("loss", "targets", "output_shape"), FIT)
def test_fit_targets_pass(backend, loss, targets, output_shape):
    check_targets(loss, backend.asarray(targets), output_shape, backend)


UNFIT = {
    "a column is missing": (
        (mean_squared_error, np.zeros(4), (1,), ShapeError),
        r"shape of the outputs, \(batch, 1\), got \(4,\); write y\[\.\.\., None\]",
    ),
    "other outputs": (
        (quadratic_cost, np.zeros((4, 2)), (3,), ShapeError),
        r"\(batch, 3\), got \(4, 2\); reshape the targets, or change the last layer",
    ),
    "above 1": (
        (binary_cross_entropy, np.array([[1.0], [2.0]]), (1,), DataError),
        r"targets from 0 to 1, got numbers from 1 to 2; rescale the targets, or choose",
    ),
    "below 0": (
        (binary_cross_entropy, np.array([[-1], [1]]), (1,), DataError),
        r"targets from 0 to 1, got numbers from -1 to 1; rescale",
    ),
    "not signs": (
        (hinge, np.array([[3.0]]), (1,), DataError),
        r"targets from -1 to 1, got numbers from 3 to 3; rescale",
    ),
    "float labels": (
        (cross_entropy, np.array([0.0, 1.0], np.float32), (3,), DataError),
        r"class numbers of an integer dtype, got .*float32; write y\.astype\('int64'\)",
    ),
    "counted from 1": (
        (cross_entropy, np.array([1, 2, 3]), (3,), DataError),
        r"class numbers from 0 to 2, as the network has 3 outputs, got numbers from 1 to 3; count "
        r"classes from 0, or give the last layer 4 units",
    ),
    "negative labels": (
        (cross_entropy, np.array([0, -1]), (3,), DataError),
        r"class numbers from 0 to 2.* got numbers from -1 to 0; count classes from 0$",
    ),
    "too many labels in a sequence": (
        (cross_entropy, np.array([[0, 7]]), (2, 3), DataError),
        r"class numbers from 0 to 2.* got numbers from 0 to 7",
    ),
    "labels in a column": (
        (cross_entropy, np.array([[0], [1]]), (3,), ShapeError),
        r"class numbers of shape \(batch,\) or one-hot rows of shape \(batch, 3\), got \(2, 1\); "
        r"write y\[\.\.\., 0\]",
    ),
    "other classes": (
        (cross_entropy, np.zeros((2, 4)), (3,), ShapeError),
        r"or one-hot rows of shape \(batch, 3\), got \(2, 4\); reshape the targets, or change",
    ),
    "labels without time": (
        (cross_entropy, np.array([0, 1]), (2, 3), ShapeError),
        r"class numbers of shape \(batch, 2\) or one-hot rows of shape \(batch, 2, 3\), got \(2,\)",
    ),
    "several classes at once": (
        (cross_entropy, np.array([[1, 1, 0], [0, 0, 1]]), (3,), DataError),
        r"rows of probabilities, which sum to 1, got rows that sum to 1 up to 2; divide each row",
    ),
    "percent": (
        (cross_entropy, np.array([[50.0, 50.0]]), (2,), DataError),
        r"targets from 0 to 1, got numbers from 50 to 50; rescale",
    ),
    "not distributions": (
        (kl_divergence, np.array([[0.2, 0.2]]), (2,), DataError),
        r"sum to 1, got rows that sum to 0\.4 up to 0\.4; .* choose binary_cross_entropy",
    ),
    "labels for a divergence": (
        (kl_divergence, np.array([0, 1]), (2,), ShapeError),
        r"shape of the outputs, \(batch, 2\), got \(2,\); reshape",
    ),
    "not ignored": (
        (partial(cross_entropy, ignore_index=-1), np.array([-1, -2]), (3,), DataError),
        r"class numbers from 0 to 2.* got numbers from -2 to 0",
    ),
    "rows beside what is ignored": (
        (partial(cross_entropy, ignore_index=0), np.eye(3), (3,), DataError),
        r"class numbers beside ignore_index=0, .*; leave ignore_index out",
    ),
    "fewer than none": (
        (poisson, np.array([[-1.0], [2.0]]), (1,), DataError),
        r"counts, which are at least 0, got numbers from -1; choose a loss",
    ),
    "an odd number of outputs": (
        (gaussian, np.zeros((4, 1)), (3,), ShapeError),
        r"for each target, got 3; give the last layer two units",
    ),
    "a column for two outputs is missing": (
        (gaussian, np.zeros(4), (2,), ShapeError),
        r"shape \(batch, 1\), half as many as outputs, got \(4,\); write y\[\.\.\., None\]",
    ),
    "as many as outputs": (
        (gaussian, np.zeros((4, 2)), (2,), ShapeError),
        r"shape \(batch, 1\), .* got \(4, 2\); give the last layer two units",
    ),
    "masks without positions": (
        (dice, np.zeros((4, 2)), (2,), ShapeError),
        r"outputs of shape \(batch, \.\.\., channels\).* got \(batch, 2\); choose binary_focal",
    ),
    "pairs for triplets": (
        (triplet, np.zeros(4), (2, 5), ShapeError),
        r"\(batch, 3, d\), 3 embeddings a sample, got \(batch, 2, 5\); end the network",
    ),
    "triplets for pairs": (
        (contrastive, np.zeros(4), (3, 5), ShapeError),
        r"\(batch, 2, d\), 2 embeddings a sample, got \(batch, 3, 5\)",
    ),
    "outputs without time": (
        (ctc, np.array([[1]]), (3,), ShapeError),
        r"outputs of shape \(batch, steps, classes\), got \(batch, 3\); end the network",
    ),
    "one label a sample": (
        (ctc, np.array([1, 2]), (4, 3), ShapeError),
        r"rows of at least one label, got targets of shape \(2,\); fill up short rows with -1",
    ),
    "steps without labels": (
        (partial(ctc, lengths=True), np.array([[1], [2]]), (4, 3), ShapeError),
        r"rows of the number of steps and then at least one label, got targets of shape \(2, 1\)",
    ),
    "float labels in order": (
        (ctc, np.array([[1.0, 2.0]]), (4, 3), DataError),
        r"integer dtype, got .*float32; write y\.astype\('int64'\)",
    ),
    "a blank among labels": (
        (ctc, np.array([[1, 0]]), (4, 3), DataError),
        r"other than the blank, 0, and -1 behind them, got numbers from 0 to 1; leave a class",
    ),
    "more classes than outputs": (
        (ctc, np.array([[1, 3]]), (4, 3), DataError),
        r"from 0 to 2 other than the blank, 0, .* got numbers from 1 to 3",
    ),
    "labels behind the end": (
        (ctc, np.array([[1, -1, 2]]), (4, 3), DataError),
        "all labels of a row before its -1, got labels behind; move",
    ),
    "no steps for repeated labels": (
        (ctc, np.array([[1, 1]]), (2, 3), DataError),
        "one more between two of the same, got more labels; take more steps",
    ),
    "too few of the steps": (
        (partial(ctc, lengths=True), np.array([[4, 1], [0, -1]]), (4, 3), DataError),
        "a first column of steps from 1 to 4, got others; give such steps",
    ),
    "with options bound": (
        (partial(cross_entropy, label_smoothing=0.1), np.array([5]), (3,), DataError),
        r"class numbers from 0 to 2",
    ),
}


@pytest.mark.parametrize(("given", "text"), UNFIT.values(), ids=UNFIT)
def test_unfit_targets_are_refused(backend, given, text):
    loss, targets, output_shape, error = given
    targets = targets.astype(np.float32) if targets.dtype == np.float64 else targets
    with pytest.raises(error, match=text):
        check_targets(loss, backend.asarray(targets), output_shape, backend)


def test_a_loss_of_ones_own_is_not_looked_at(backend):
    def loss(predictions, targets, *, sample_weight=None, backend=None):
        raise AssertionError("checking targets does not call the loss")

    assert check_targets(loss, backend.asarray(np.zeros(3)), (7,), backend) is None


UNKNOWN = {
    "cross-entropy": (
        cross_entropy,
        np.array([0, 3]),
        r"class numbers from 0 to 2, .* from 0 to 3",
    ),
    "below 0": (cross_entropy, np.array([-1, 2]), r"class numbers from 0 to 2, .* from -1 to 2"),
    "beside what is ignored": (partial(cross_entropy, ignore_index=-1), np.array([-1, 3]), "to 2"),
    "focal": (focal, np.array([0, 3]), "class numbers from 0 to 2"),
    "bytes": (focal, np.array([0, 255], np.uint8), "numbers from 0 to 255"),
    "ctc": (ctc, np.array([[3], [1]]), "class numbers from 0 to 2 other than the blank, 0"),
    "ctc with lengths": (partial(ctc, lengths=True), np.array([[9, 1], [1, 4]]), "from 1 to 4"),
}


@pytest.mark.parametrize(("loss", "targets", "text"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_loss_by_itself_refuses_class_numbers_of_the_host_that_have_no_output(
    backend, loss, targets, text
):
    shape = (2, 3, 3) if targets.ndim == 2 else (2, 3)
    predictions = backend.asarray(np.zeros(shape, np.float32))
    for given in (targets, targets.tolist()):
        with pytest.raises(DataError, match=text), backend.on_device():
            loss(predictions, given)


def test_a_loss_by_itself_takes_no_samples_and_what_is_ignored(backend):
    predictions = backend.asarray(np.zeros((2, 3), np.float32))
    with backend.on_device():
        value, _ = cross_entropy(predictions, np.array([-9, 2]), ignore_index=-9)
        cross_entropy(predictions[:0, ...], np.zeros(0, int))
    assert float(backend.to_numpy(value)) == pytest.approx(np.log(3))
