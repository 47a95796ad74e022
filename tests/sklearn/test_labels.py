"""Labels of all kinds: strings, several columns, any number of them; weights of classes."""

import numpy as np
import pytest

from xpnn import SGD, Adam

pytest.importorskip("sklearn", reason="needs scikit-learn")

from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from xpnn.sklearn import Classifier

WORDS = np.array(["nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
EXACT = {"dtype": "float64", "batch_size": None, "optimizer": SGD(0.1), "epochs": 5}


def classifier(**more):
    settings = {"epochs": 30, "batch_size": 64, "random_state": 0, "optimizer": Adam(3e-3)}
    return Classifier((16,), **{**settings, **more})


def first_weight(model):
    return next(iter(model.network_.numpy_arrays().values()))


@pytest.mark.parametrize("dtype", [None, object])
def test_labels_are_strings(digits, dtype):
    x, y = digits
    model = classifier().fit(x, WORDS[y].astype(dtype) if dtype else WORDS[y])
    assert model.classes_.tolist() == sorted(WORDS)
    assert np.mean(model.predict(x) == WORDS[y]) == model.score(x, WORDS[y]) > 0.9
    of_class = model.predict_proba(x)[np.arange(len(x)), np.searchsorted(model.classes_, WORDS[y])]
    assert -np.mean(np.log(of_class)) == pytest.approx(log_loss(WORDS[y], model.predict_proba(x)))


@pytest.mark.parametrize(
    "loss", [None, "binary_cross_entropy", "hinge", "focal", "binary_focal", "kl_divergence"]
)
def test_losses_for_classes(digits, loss):
    """Two classes and ten, under losses that take outputs for one of several, or for yes and no."""
    x, y = digits
    for labels in (y, np.where(y < 5, "low", "up")):
        model = classifier(loss=loss, optimizer=Adam(0.02)).fit(x, labels)
        assert model.score(x, labels) > 0.8  # of ten classes told apart one by one, by 16 units
        decision = model.decision_function(x)
        chosen = (decision > 0).astype(int) if decision.ndim == 1 else np.argmax(decision, axis=1)
        np.testing.assert_array_equal(model.classes_[chosen], model.predict(x))
        assert hasattr(model, "predict_proba") == (loss != "hinge")
        if loss != "hinge":
            found = model.predict_proba(x)
            np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
            np.testing.assert_array_equal(
                model.classes_[np.argmax(found, axis=1)], model.predict(x)
            )
            np.testing.assert_allclose(model.predict_log_proba(x), np.log(found), rtol=1e-6)


def test_any_number_of_labels(digits):
    x, y = digits
    several = np.stack([y % 2, y > 4, y % 3 == 0], axis=1).astype(int)
    model = classifier().fit(x, several)
    assert model.predict(x).dtype == several.dtype
    assert np.mean(model.predict(x) == several) > 0.9
    assert model.score(x, several) == np.mean(np.all(model.predict(x) == several, axis=1))
    assert model.predict_proba(x).shape == (400, 3)
    np.testing.assert_array_equal(model.predict_proba(x) > 0.5, model.predict(x) == 1)
    sparse = clone(model).fit(x, csr_array(several))
    np.testing.assert_array_equal(first_weight(sparse), first_weight(model))
    with pytest.raises(ValueError, match="got cross_entropy, of which each sample has one class"):
        classifier(loss="cross_entropy").fit(x, several)


def test_a_class_in_each_column(digits):
    x, y = digits
    columns = np.stack([WORDS[y], np.where(y % 2, "odd", "even")], axis=1)
    model = classifier().fit(x, columns)
    assert [one.tolist() for one in model.classes_] == [sorted(WORDS), ["even", "odd"]]
    right = model.predict(x) == columns
    assert right.mean() > 0.9
    assert model.score(x, columns) == np.mean(np.all(right, axis=1))
    weight = np.arange(400.0)
    expected = np.average(np.all(right, axis=1), weights=weight)
    assert model.score(x, columns, weight) == pytest.approx(expected)
    found = model.predict_proba(x)
    assert [one.shape for one in found] == [(400, 10), (400, 2)]
    for number, one in enumerate(found):
        labels = model.classes_[number][np.argmax(one, axis=1)]
        np.testing.assert_array_equal(labels, model.predict(x)[:, number])
    assert {"y0_loss", "y1_loss"} <= set(model.history_)


def test_classes_that_come_later(digits):
    x, y = digits
    low = y < 5
    model = classifier().partial_fit(x[low], WORDS[y[low]], classes=WORDS)
    assert model.classes_.tolist() == sorted(WORDS)
    for _ in range(40):
        model.partial_fit(x, WORDS[y])
    assert model.score(x, WORDS[y]) > 0.9
    two = classifier().partial_fit(
        x, np.stack([WORDS[y], WORDS[y // 2]], axis=1), classes=[WORDS, WORDS[:5]]
    )
    assert [len(one) for one in two.classes_] == [10, 5]
    few = classifier().partial_fit(
        x[:50], np.stack([y, y], axis=1)[:50] % 2, classes=[range(3)] * 2
    )
    few.partial_fit(x, np.stack([y, y // 2], axis=1) % 3)  # not labels for having begun with 0, 1
    assert [one.tolist() for one in few.classes_] == [[0, 1, 2]] * 2


def test_columns_of_two_numbers_that_are_not_0_and_1(digits):
    x, y = digits
    columns = np.stack([y % 2, y < 5], axis=1) + 1
    model = classifier().fit(x, columns)
    assert [one.tolist() for one in model.classes_] == [[1, 2], [1, 2]]
    assert model.score(x, columns) > 0.9


def test_outputs_of_nan_say_no_class(digits):
    x, y = digits
    model = classifier(epochs=1).fit(x, y)
    far = np.array(x)
    far[7] = 1e300
    for read in (model.predict, model.predict_proba, model.decision_function):
        with (
            np.errstate(all="ignore"),
            pytest.raises(ValueError, match="got NaN for 1 of 400 samples, the first is 7"),
        ):
            read(far)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: m.partial_fit(x, y), "wanted classes, all labels that are to come"),
        (
            lambda m, x, y: m.partial_fit(x, y[:, None]),
            "wanted classes, all labels that are to come",
        ),
        (
            lambda m, x, y: m.partial_fit(x, np.stack([y, y], axis=1)),
            "wanted classes, all labels that are to come",
        ),
        (
            lambda m, x, y: m.partial_fit(x, np.stack([y, y], axis=1), [range(10)] * 3),
            "wanted classes for each of the 2 columns of y, got 3 lists",
        ),
        (
            lambda m, x, y: m.set_params(class_weight=dict.fromkeys(range(10), 0)).fit(x, y),
            "wanted a sample of a weight above zero",
        ),
        (
            lambda m, x, y: m.fit(x, y * 0),
            r"wanted at least two classes in y, got one class, \[0\]",
        ),
        (lambda m, x, y: m.fit(x, y + 0.5), "Unknown label type: continuous"),
        (
            lambda m, x, y: m.partial_fit(x, y, classes=[0, 1, 2]),
            r"wanted labels among the classes \[0, 1, 2\], got \[3, 4, 5, 6, 7\]; name all",
        ),
        (
            lambda m, x, y: m.fit(x, y).partial_fit(x, np.stack([y, y], axis=1)),
            r"wanted y with one column, as in fit, got shape \(400, 2\)",
        ),
        (
            lambda m, x, y: m.set_params(validation=(x, y + 5)).fit(x, y),
            r"wanted labels among the classes .* got \[10, 11, 12, 13, 14\]",
        ),
        (
            lambda m, x, y: m.set_params(class_weight="balanced").partial_fit(x, y, range(10)),
            "wanted numbers for class_weight in partial_fit",
        ),
        (
            lambda m, x, y: m.set_params(class_weight={17: 2.0}).fit(x, y),
            r"wanted class_weight for the classes .* got one for \[17\]",
        ),
        (
            lambda m, x, y: m.set_params(class_weight={0: 2.0}).fit(x, np.stack([y, y], axis=1)),
            "a list of dicts, one for each of 2 columns",
        ),
        (
            lambda m, x, y: m.set_params(class_weight="even").fit(x, y),
            "wanted class_weight to be 'balanced' or a dict by label, got 'even'",
        ),
        (lambda m, x, y: m.set_params(loss="mse").fit(x, y), "wanted a loss for classes"),
    ],
)
def test_labels_that_cannot_be(digits, call, message):
    with pytest.raises(ValueError, match=message):
        call(classifier(epochs=1), *digits)


@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_weights_of_samples(digits, weighted):
    """By scikit-learn's own weights of samples."""
    x, y = digits
    y = np.minimum(y, 3)
    own = np.random.default_rng(0).uniform(0.5, 2, 400) if weighted else np.ones(400)
    for class_weight in ({0: 3.0, 2: 0.5}, "balanced"):
        factors = compute_sample_weight(class_weight, y)
        if weighted and class_weight == "balanced":
            sums = np.bincount(y, weights=own)
            factors = (own.sum() / (4 * sums))[y]  # its formula, of weights in place of counts
        model = classifier(class_weight=class_weight, **EXACT).fit(x, y, own)
        by_hand = classifier(**EXACT).fit(x, y, own * factors)
        np.testing.assert_allclose(first_weight(model), first_weight(by_hand), rtol=1e-12)


def test_class_weights_of_columns_multiply(digits):
    x, y = digits
    several = np.stack([y % 2, y > 4], axis=1).astype(int)
    for class_weight in ("balanced", [{0: 2.0}, {1: 3.0}]):
        factors = compute_sample_weight(class_weight, several)
        model = classifier(class_weight=class_weight, **EXACT).fit(x, several)
        by_hand = classifier(**EXACT).fit(x, several, factors)
        np.testing.assert_allclose(first_weight(model), first_weight(by_hand), rtol=1e-12)
