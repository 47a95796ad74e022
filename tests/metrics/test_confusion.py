"""Confusion matrices and reports: by hand, by scikit-learn, over batches, as pictures."""

from functools import partial

import numpy as np
import pytest

from xpnn import SGD, Identity, Network, Trainer, binary_cross_entropy, cross_entropy
from xpnn.errors import DataError, ShapeError
from xpnn.metrics import ConfusionMatrix

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 50)


def trainer(loss, units=3, backend="numpy"):
    return Trainer(Network([Identity()], (units,), backend), loss, SGD(0.1))


def counted(chosen, true, weight):
    """Cell by cell."""
    return [
        [np.sum(weight[(true == row) & (chosen == column)]) for column in range(3)]
        for row in range(3)
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_cells_are_counted_over_all_batches(backend, weighted):
    weight = RNG.uniform(0.5, 2.0, 50).astype(np.float32) if weighted else None
    made = trainer(cross_entropy, backend=backend)
    found = made.confusion_matrix(X, Y, sample_weight=weight, batch_size=7)
    expected = counted(X.argmax(axis=1), Y, np.ones(50) if weight is None else weight)
    np.testing.assert_allclose(found.counts, expected, rtol=1e-6)
    again = made.confusion_matrix([(X[:9], Y[:9]), (X[9:], Y[9:])])
    np.testing.assert_array_equal(again.counts, counted(X.argmax(axis=1), Y, np.ones(50)))


def test_yes_and_no_follow_the_loss(backend):
    yes = (Y == 0)[:, None]
    made = trainer(binary_cross_entropy, 1, backend)
    for threshold in (None, 1.5):
        found = made.confusion_matrix(X[:, :1], yes, names=["no", "yes"], threshold=threshold)
        said = X[:, :1] > (threshold or 0)
        assert found.counts.tolist() == [
            [np.sum(~said & ~yes), np.sum(said & ~yes)],
            [np.sum(~said & yes), np.sum(said & yes)],
        ]
        assert found.names == ("no", "yes")


def test_what_is_ignored_is_not_counted(backend):
    y = np.where(np.arange(50) % 5 == 0, -1, Y)
    found = trainer(partial(cross_entropy, ignore_index=-1), backend=backend).confusion_matrix(X, y)
    kept = y >= 0
    expected = counted(X[kept].argmax(axis=1), Y[kept], np.ones(kept.sum()))
    np.testing.assert_array_equal(found.counts, expected)


@pytest.mark.host_only
def test_the_report_is_that_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    found = trainer(cross_entropy).confusion_matrix(X, Y, names=["a", "b", "c"]).report()
    expected = theirs.classification_report(
        Y, X.argmax(axis=1), target_names=["a", "b", "c"], output_dict=True
    )
    assert found.accuracy == pytest.approx(expected["accuracy"])
    for scores, key in (
        *zip(found.classes, "abc", strict=True),
        (found.macro, "macro avg"),
        (found.weighted, "weighted avg"),
    ):
        assert list(scores[1:]) == pytest.approx(list(expected[key].values()), rel=1e-12)


@pytest.mark.host_only
def test_a_class_that_does_not_occur_is_worth_0():
    report = ConfusionMatrix.of_counts(np.array([3, 0, 1, 0])).report()
    assert report.classes[1] == ("1", 0, 0, 0, 1)
    assert report.classes[0] == ("0", 3 / 4, 1, 6 / 7, 3)
    empty = ConfusionMatrix.of_counts(np.zeros(4)).report()
    assert np.isnan(empty.accuracy)
    assert empty.weighted[1:] == (0, 0, 0, 0)
    assert "nan" in str(empty)


@pytest.mark.host_only
def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"name for each class, got 2 of them .* \(3, 3\); give"):
        trainer(cross_entropy).confusion_matrix(X, Y, names=["a", "b"])
    with pytest.raises(DataError, match="class numbers from 0 to 2"):
        trainer(cross_entropy).confusion_matrix(X, Y + 1)


@pytest.mark.host_only
def test_it_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    matrix = trainer(cross_entropy).confusion_matrix(X, Y, names=["one", "two", "three"])
    (axes,) = matrix.plot().axes
    assert [int(one.get_text()) for one in axes.texts] == matrix.counts.ravel().tolist()
    assert matrix.plot(tmp_path / "matrix")._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    matrix.plot(tmp_path / "matrix.svg")
    drawn = (tmp_path / "matrix.svg").read_text()
    assert "<svg" in drawn
