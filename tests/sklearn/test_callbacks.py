"""Callbacks of scikit-learn: told of each epoch, and able to end training."""

import numpy as np
import pytest

from xpnn import Adam

pytest.importorskip("sklearn.callback", reason="needs scikit-learn")

from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnn.sklearn import Classifier


def classifier(**more):
    return Classifier((8,), optimizer=Adam(0.01), random_state=0, **{"epochs": 3, **more})


class Told:
    """Writes down what it is told, and keeps the estimators that it is given."""

    def __init__(self, stop_after=None):
        self.stop_after, self.events, self.fitted = stop_after, [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        self.fitted.append((fitted_estimator, X, y))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def test_it_is_told_of_each_epoch(digits):
    told = Told()
    classifier().set_callbacks(told).fit(*digits)
    epochs = ["begin epoch", "end epoch"] * 3
    assert told.events == ["setup", "begin fit", *epochs, "end fit", "teardown"]


def test_it_is_given_estimators_as_they_were_at_that_moment(digits):
    x, y = digits
    told = Told()
    model = classifier().set_callbacks(told).fit(x, y)
    for number, (fitted, given, labels) in enumerate(told.fitted[:-1], start=1):
        assert given is x
        assert labels is y
        expected = classifier(epochs=number).fit(x, y).predict_proba(x)
        np.testing.assert_array_equal(fitted.predict_proba(x), expected)
    np.testing.assert_array_equal(told.fitted[-1][0].predict(x), model.predict(x))


def test_it_may_end_training(digits):
    told = Told(stop_after=2)
    model = classifier(epochs=50).set_callbacks(told).fit(*digits)
    assert model.n_iter_ == 2
    assert told.events[-2:] == ["end fit", "teardown"]


def test_it_is_torn_down_where_fit_fails(digits):
    told = Told()
    with pytest.raises(ValueError, match="there is no loss"):
        classifier(loss="none").set_callbacks(told).fit(*digits)
    assert told.events == ["setup", "teardown"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_scores_are_monitored(digits, wrapped):
    x, y = digits
    monitor = ScoringMonitor(scoring="accuracy")
    model = classifier().set_callbacks(monitor)
    (make_pipeline(StandardScaler(), model) if wrapped else model).fit(x, y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row]
    assert len(scores) >= 3
    if not wrapped:
        assert scores[-1] == model.score(x, y)


def test_partial_fit_has_no_callbacks(digits):
    told = Told()
    classifier().set_callbacks(told).partial_fit(*digits, classes=range(10))
    assert told.events == []


def test_in_a_search(digits):
    told = Told()
    search = GridSearchCV(classifier().set_callbacks(told), {"epochs": [1, 2]}, cv=2)
    assert search.fit(*digits).best_params_ == {"epochs": 2}
