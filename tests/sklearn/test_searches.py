"""In pipelines, searches in two processes, and other estimators around them."""

import numpy as np
import pytest

from xpnn import SGD, Adam, Dense, Linear

pytest.importorskip("sklearn", reason="needs scikit-learn")
pd = pytest.importorskip("pandas", reason="needs pandas")

from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.compose import TransformedTargetRegressor, make_column_transformer  # noqa: E402
from sklearn.ensemble import BaggingClassifier  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from xpnn.sklearn import Classifier, Regressor  # noqa: E402


@pytest.fixture
def offers():
    """A table with words and gaps, and labels that follow from both of its columns."""
    rng = np.random.default_rng(0)
    kind, age = rng.choice(["city", "race", "cargo"], 300), rng.uniform(0, 10, 300)
    sold = np.where((kind == "race") ^ (age < 5), "sold", "left")
    kind, age = kind.astype(object), age.copy()
    kind[::17], age[::19] = None, np.nan
    return pd.DataFrame({"kind": kind, "age": age}), pd.Series(sold)


def prepared():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["kind"]),
    )


def test_a_search_in_two_processes(offers):
    table, sold = offers
    model = Classifier(epochs=20, batch_size=32, random_state=0)
    rate, layers = "classifier__optimizer__rate", "classifier__layers"
    grid = {rate: [1e-4, 1e-2], layers: [(2,), (32,)]}
    alone, together = (
        GridSearchCV(make_pipeline(prepared(), model), grid, cv=2, n_jobs=jobs).fit(table, sold)
        for jobs in (1, 2)
    )
    assert together.best_params_ == {rate: 1e-2, layers: (32,)}
    assert together.best_score_ > 0.85
    for key in ("split0_test_score", "split1_test_score"):
        assert together.cv_results_[key].tolist() == alone.cv_results_[key].tolist()
    assert model.optimizer == "adam"


def test_what_is_inside_of_the_optimizer_is_searched(digits):
    x, y = digits
    optimizer = SGD(Linear(1e-4, end=0.0, steps=60))
    search = GridSearchCV(
        Classifier([Dense(10)], optimizer=optimizer, epochs=10, batch_size=64, random_state=0),
        {"optimizer__rate__start": [1e-4, 0.5], "optimizer__momentum": [0.9]},
        cv=2,
    )
    search.fit(x, y)
    assert search.best_params_ == {"optimizer__rate__start": 0.5, "optimizer__momentum": 0.9}
    assert optimizer.rate.start == 1e-4
    best = search.best_estimator_
    assert best.trainer_.optimizer.rate.start == 0.5
    assert best.get_params()["optimizer__rate__start"] == 0.5
    assert clone(best).get_params()["optimizer__momentum"] == 0.9


def test_an_optimizer_and_what_is_inside_of_it_at_once():
    model = Classifier().set_params(optimizer__rate=0.1, optimizer="sgd")
    assert repr(model.optimizer) == repr(SGD(0.1))
    given = Adam(1e-3)
    assert model.set_params(optimizer=given, optimizer__beta1=0.5).optimizer is given
    assert given.beta1 == 0.5
    with pytest.raises(ValueError, match="Adam has no parameter 'momentum'"):
        model.set_params(optimizer__momentum=0.5)
    with pytest.raises(ValueError, match="Invalid parameter 'rate'"):
        model.set_params(rate=0.5)


def test_other_estimators_around_it(digits):
    x, y = digits
    model = Classifier((16,), optimizer=Adam(0.02), epochs=20, batch_size=64, random_state=0)
    assert np.mean(cross_val_score(model, x, y, cv=2)) > 0.85
    assert CalibratedClassifierCV(model, cv=2).fit(x, y).score(x, y) > 0.9
    assert BaggingClassifier(model, n_estimators=2, random_state=0).fit(x, y).score(x, y) > 0.9
    numbers = Regressor((16,), optimizer=Adam(0.01), epochs=30, batch_size=64, random_state=0)
    scaled = TransformedTargetRegressor(numbers, transformer=StandardScaler())
    score = scaled.fit(x, 1000.0 + 100.0 * y).score(x, 1000.0 + 100.0 * y)
    assert score > 0.9
    found = permutation_importance(scaled, x, 1000.0 + 100.0 * y, n_repeats=1, random_state=0)
    assert np.all(found.importances_mean[np.ptp(x, axis=0) == 0] == 0)
