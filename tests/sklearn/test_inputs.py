"""X of all kinds: sparse, of more axes, ids, tables, arrays of any library; weights of samples."""

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import Adam, Conv2D, Dense, Embedding, Flatten, Input, Network, ReLU
from xpnn.backends import backend_of
from xpnn.layers import Graph

pytest.importorskip("sklearn", reason="needs scikit-learn")

from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.utils.estimator_checks import check_array_api_same_namespace

from xpnn.sklearn import Classifier, Regressor
from xpnn.sklearn.inputs import SparseBatches


def classifier(*layers, **more):
    settings = {"epochs": 3, "batch_size": 64, "random_state": 0, "optimizer": Adam(0.01)}
    return Classifier(*(layers or [(16,)]), **{**settings, **more})


def weights(model):
    return model.network_.numpy_arrays()


@pytest.fixture
def dispatching(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with config_context(array_api_dispatch=True):
        yield


# Sparse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows_train_as_dense_ones_do(digits, kind):
    """The same batches in the same order, held out rows and weights included: the same bits."""
    x, y = digits
    weight = np.random.default_rng(0).uniform(0.5, 2, len(x))
    for validation in (None, 0.2, "given"):
        dense_set, sparse_set = validation, validation
        if validation == "given":
            dense_set, sparse_set = (x[300:], y[300:]), (kind(x[300:]), y[300:])
        dense = classifier(validation=dense_set).fit(x, y, weight)
        found = classifier(validation=sparse_set).fit(kind(x), y, weight)
        for name, array in weights(dense).items():
            np.testing.assert_array_equal(weights(found)[name], array)
        assert dict(found.history_) == dict(dense.history_)
        np.testing.assert_allclose(found.predict_proba(kind(x)), dense.predict_proba(x), rtol=1e-5)


def test_a_sparse_batch_is_dense_only_while_it_is_there():
    """400,000 by 20,000 would be 32 GB: no batch of it takes more than its own rows."""
    rows = sparse.random_array(
        (400_000, 20_000),
        density=1e-6,
        format="csr",
        dtype=np.float32,
        rng=np.random.default_rng(0),
    )
    batches = SparseBatches(rows, np.zeros(400_000, np.int64), None, 10, seed=0)
    assert len(batches) == 40_000
    x, _ = next(batches.batches(3, start=39_999))
    assert x.shape == (10, 20_000)
    assert isinstance(x, np.ndarray)
    with pytest.raises(StopIteration):
        next(batches.batches(0, start=40_000))


def test_sparse_targets_of_a_graph(digits):
    x, y = digits
    columns = np.stack([y, y % 2 + 5], axis=1)
    dense = classifier().fit(x, columns)
    found = classifier().fit(sparse.csr_array(x), columns)
    for name, array in weights(dense).items():
        np.testing.assert_array_equal(weights(found)[name], array)
    np.testing.assert_array_equal(found.predict(sparse.csr_array(x)), dense.predict(x))


# Axes, ids and tables -----------------------------------------------------------------------------


def test_images(digits):
    x, y = digits
    x = x.reshape(-1, 8, 8, 1)
    layers = [Conv2D(4, 3), ReLU(), Flatten(), Dense(10)]
    model = classifier(layers, epochs=12).fit(x, y)
    assert model.score(x, y) > 0.9
    assert model.n_features_in_ == 8
    with pytest.raises(ValueError, match=r"wanted inputs of shape \(batch, 8, 8, 1\), got"):
        model.predict(x.transpose(0, 3, 1, 2).reshape(-1, 8, 4, 2))
    assert classifier((16,), epochs=12).fit(x, y).score(x, y) > 0.9  # widths flatten it


def test_ids_stay_integers():
    ids = np.random.default_rng(0).integers(0, 9, (300, 4))
    y = np.isin(4, ids) + (ids == 4).sum(axis=1)
    model = classifier([Embedding(9, 8), Flatten(), Dense(len(np.unique(y)))], epochs=40)
    assert model.fit(ids, y).score(ids, y) > 0.95


def test_names_of_features():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    table = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    model = classifier().fit(table, ["no", "no", "yes", "yes"])
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[["b", "a"]])


# Layers -------------------------------------------------------------------------------------------


def through_a_graph(input_shape, outputs):
    x = Input(input_shape)
    body = Dense(8, activation="relu")(x)
    return Graph.of(x, {"digit": Dense(outputs[0])(body), "parity": Dense(outputs[1])(body)})


def test_a_function_makes_layers_or_a_graph(digits):
    x, y = digits
    seen = []

    def layers(input_shape, outputs):
        seen.append((input_shape, outputs))
        return [Dense(8, activation="tanh"), Dense(outputs)]

    classifier(layers).fit(x, y)
    Regressor(layers, epochs=1).fit(x, y)
    assert seen == [((64,), 10), ((64,), 1)]
    columns = np.stack([y, y % 2], axis=1)
    columns[0, 1] = 2  # else two columns of 0 and 1 would be labels
    model = classifier(through_a_graph).fit(x, columns)
    assert [one.shape[1] for one in model.predict_proba(x)] == [10, 3]


def test_layers_in_use_elsewhere_are_copied(digits):
    x, y = digits
    layers = [Dense(8), ReLU(), Dense(10)]
    network = Network(layers, (64,), seed=0)
    before = network.numpy_arrays()
    twin = classifier([Dense(8), ReLU(), Dense(10)]).fit(x, y)
    model = classifier(layers).fit(x, y)
    for name, array in weights(twin).items():
        np.testing.assert_array_equal(weights(model)[name], array)
        np.testing.assert_array_equal(network.numpy_arrays()[name], before[name])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Dense(8)], r"wanted the last layer to give \(10,\) for this y, got \(8,\); end in Dense"),
        ("wide", "wanted layers to be a tuple of widths such as"),
        ((16, Dense(10)), "wanted layers to be a tuple of widths such as"),
        (lambda shape, outputs: None, "wanted layers to be a tuple of widths such as"),
        ((0,), "at least one unit"),
    ],
)
def test_layers_that_cannot_be(digits, layers, message):
    model = classifier(layers)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(*digits)
    assert model.set_params(layers=(64,)).fit(*digits).n_iter_ == 3


# Weights ------------------------------------------------------------------------------------------


def test_weights_that_cannot_be(digits):
    x, y = digits
    for weight, message in (
        (np.ones(3), r"of shape \(400,\), one for each sample, got \(3,\)"),
        (np.zeros(400), "wanted a weight above zero"),
        (np.full(400, -1.0), "at least 0, got -1 in sample_weight"),
        (np.full(400, np.nan), "sample_weight contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier().fit(x, y, weight)


def test_weights_are_routed(digits):
    x, y = digits
    weight = (y < 5).astype(float)
    with config_context(enable_metadata_routing=True):
        model = (
            classifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        )
        found = cross_validate(
            model, x, y, cv=2, params={"sample_weight": weight}, return_estimator=True
        )
    for one in found["estimator"]:
        assert set(one.predict(x)) <= set(range(5))  # others weighed nothing


def test_validation_takes_weights(digits):
    x, y = digits
    weight = (y < 5).astype(float)
    model = classifier(validation=(x, y, weight)).fit(x, y)
    held = classifier(validation=(x[y < 5], y[y < 5])).fit(x, y)
    assert model.history_["val_loss"] == pytest.approx(held.history_["val_loss"], rel=1e-5)
    with pytest.raises(ValueError, match="got a tuple of 4"):
        classifier(validation=(x, y, weight, 1)).fit(x, y)


# Arrays of other libraries ------------------------------------------------------------------------


def test_results_are_of_the_library_of_x(backend, digits, dispatching):
    x, y = digits
    plain = classifier(backend=backend.spec).fit(x, y)
    given, labels = backend.asarray(x.astype(np.float32)), backend.asarray(y)
    model = classifier().fit(given, labels)
    assert model.network_.backend is backend_of(given)  # follows X
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        found = getattr(model, method)(given)
        assert backend.owns(found)
        expected = getattr(plain, method)(x)
        np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-3, atol=1e-4)
    words = classifier().fit(given, np.array(["even", "odd"])[y % 2])
    assert set(words.predict(given)) == {"even", "odd"}
    numbers = Regressor((4,), epochs=1, random_state=0).fit(given, labels)
    predicted = numbers.predict(given)
    assert backend.owns(predicted)
    assert predicted.dtype == given.dtype


def test_without_dispatch_results_are_numpys(backend, digits):
    x, y = digits
    model = classifier(backend=backend.spec).fit(x, y)
    for method in ("predict", "predict_proba", "decision_function"):
        found = getattr(model, method)(x)
        assert type(found) is np.ndarray
        assert found.flags.writeable
    assert model.predict_proba(x).dtype == np.float64
    assert model.predict_proba(x.astype(np.float32)).dtype == np.float32


@needs("torch")
def test_x_and_y_of_different_libraries(digits, dispatching):
    import torch

    x, y = digits
    model = classifier().fit(torch.asarray(x), y, torch.ones(len(x)))
    assert model.score(torch.asarray(x), torch.asarray(y)) > 0.5
    with pytest.raises(ValueError, match="wanted X on torch:cpu, got it on numpy"):
        model.predict(x)
    with config_context(array_api_dispatch=False):
        assert type(model.predict(x)) is np.ndarray
    fresh = clone(model)
    check_array_api_same_namespace("Classifier", fresh, "array_api_strict")
