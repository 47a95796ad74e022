"""What is trained is what a Trainer trains, on each backend; and it goes on exactly."""

import copy
import functools
import gc
import io
import pickle
import weakref

import numpy as np
import pytest

import xpnn
from xpnn import Accuracy, Adam, Cosine, Dense, Dropout, EarlyStopping, Network, ReLU, Trainer
from xpnn.losses import cross_entropy

pytest.importorskip("sklearn", reason="needs scikit-learn")

import joblib
from sklearn.base import clone

from xpnn.sklearn import Classifier, Regressor


def layers():
    return [Dense(8), ReLU(), Dropout(0.3), Dense(10)]


def classifier(**more):
    settings = {"epochs": 2, "batch_size": 64, "random_state": 3}
    return Classifier(layers(), **{"optimizer": Adam(Cosine(3e-3, steps=40)), **settings, **more})


def weights(model):
    return model.network_.numpy_arrays()


def assert_same(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "joblib": through_joblib,
}


@functools.cache
def fitted(spec):
    x, y = xpnn.datasets.digits()
    return classifier(backend=spec, validation=0.2).fit(x[:320], y[:320])


def test_it_trains_what_a_trainer_trains(backend, digits):
    x, y = digits
    network = Network(layers(), (64,), backend, seed=3)
    trainer = Trainer(network, cross_entropy, Adam(Cosine(3e-3, steps=40)))
    history = trainer.fit(x[:320], y[:320], epochs=2, batch_size=64, validation=0.2, progress=False)
    model = fitted(backend.spec)
    assert model.loss_curve_ == history["loss"]
    assert model.history_["val_loss"] == history["val_loss"]
    np.testing.assert_array_equal(
        weights(model)["0.dense.weight"], network.numpy_arrays()["0.dense.weight"]
    )
    np.testing.assert_array_equal(
        model.predict(x), np.argmax(backend.to_numpy(network.predict(x)), axis=1)
    )
    assert model.n_iter_ == 2
    assert model.n_features_in_ == 64
    assert model.classes_.tolist() == list(range(10))


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_goes_on_exactly(backend, digits, way):
    """Rates follow the steps done, masks their draws, shuffles the epochs: all comes along."""
    x, y = digits
    first = copy.deepcopy(fitted(backend.spec))
    second = COPIES[way](first)
    assert second.network_ is second.trainer_.network
    assert second.history_ is second.trainer_.callbacks[0]
    for model in (first, second):
        model.partial_fit(x[320:], y[320:])
    assert_same(first, second)
    assert first.loss_curve_ == second.loss_curve_
    assert len(second.loss_curve_) == 3


def test_nothing_is_shared_with_a_copy(digits):
    x, y = digits
    model = classifier().fit(x, y)
    before = weights(model)
    copy.deepcopy(model).partial_fit(x, y)
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_warm_start_goes_on(digits):
    x, y = digits
    once = classifier(epochs=4).fit(x, y)
    model = classifier(warm_start=True).fit(x, y)
    assert_same(once, model.fit(x, y))
    assert model.n_iter_ == 4
    anew = classifier().fit(x, y).fit(x, y)
    assert anew.n_iter_ == 2


def test_training_goes_by_the_optimizer_as_it_is_now(digits):
    x, y = digits
    model = classifier(optimizer=Adam(1e-3), warm_start=True).fit(x, y)
    before = weights(model)
    model.set_params(optimizer__rate=0.0).fit(x, y)
    np.testing.assert_array_equal(weights(model)["0.dense.weight"], before["0.dense.weight"])
    assert model.trainer_.opt_state["step"] == 28  # it went on counting
    model.set_params(optimizer="sgd").fit(x, y)
    assert model.trainer_.opt_state["step"] == 14  # another kind began anew
    pickled = pickle.loads(pickle.dumps(model.set_params(optimizer__rate=0.0)))
    before = weights(model)
    np.testing.assert_array_equal(
        weights(pickled.fit(x, y))["0.dense.weight"], before["0.dense.weight"]
    )


def test_there_and_back_to_an_optimizer_by_its_name(digits):
    model = classifier(optimizer="adam", warm_start=True, epochs=1)
    for name in ("adam", "sgd", "adam"):
        model.set_params(optimizer=name).fit(*digits)
        assert type(model.trainer_.optimizer).__name__.lower() == name


@pytest.mark.parametrize(
    ("name", "value"), [("layers", (3,)), ("loss", "focal"), ("backend", "array-api-strict")]
)
def test_what_cannot_change_in_a_training_that_goes_on(digits, name, value):
    x, y = digits
    model = classifier(warm_start=True).fit(x, y)
    before = weights(model)
    with pytest.raises(ValueError, match=rf"wanted {name} as it was .* warm_start=False"):
        model.set_params(**{name: value}).fit(x, y)
    np.testing.assert_array_equal(weights(model)["0.dense.weight"], before["0.dense.weight"])
    assert model.set_params(warm_start=False).fit(x, y).n_iter_ == 2


def test_what_was_given_is_not_used_up(digits):
    x, y = digits
    stopping, optimizer = EarlyStopping(patience=1), Adam(1e-3)
    given = layers()
    model = Classifier(
        given,
        optimizer=optimizer,
        epochs=9,
        validation=0.2,
        callbacks=[stopping],
        metrics=["accuracy"],
        random_state=0,
    )
    model.fit(x, y)
    clone(model).fit(x, y)
    assert not any(layer.built for layer in given)
    assert np.isnan(stopping.best)
    assert not np.isnan(model.trainer_.callbacks[1].best)
    assert model.trainer_.optimizer is not optimizer
    assert "val_accuracy" in model.history_


def test_callbacks_stop_it(digits):
    x, y = digits
    stopping = EarlyStopping("val_accuracy", patience=1)
    model = classifier(epochs=50, validation=(x[300:], y[300:]), metrics=[Accuracy()])
    model.set_params(callbacks=[stopping], optimizer=Adam(0.05)).fit(x[:300], y[:300])
    assert model.n_iter_ < 50
    measured = np.mean(model.predict(x[300:]) == y[300:])
    assert model.history_["val_accuracy"][-1] == pytest.approx(measured)


@pytest.mark.parametrize("validation", [None, 0.2])
def test_what_was_trained_on_is_let_go(digits, validation):
    """A fitted estimator is no reason to keep the data."""
    x, y = digits[0].astype(np.float32), digits[1].copy()
    model = classifier(validation=validation).fit(x, y)
    seen = [weakref.ref(x), weakref.ref(y)]
    del x, y
    gc.collect()
    assert [one() for one in seen] == [None, None]
    assert model.predict(digits[0]).shape == (400,)


def test_a_fitted_trainer_can_be_saved(digits, tmp_path):
    x, y = digits
    model = classifier().fit(x, y)
    model.trainer_.save(tmp_path / "training.safetensors")
    other = classifier(random_state=7).fit(x, y)
    other.trainer_.load(tmp_path / "training.safetensors")
    assert_same(model, other)


def test_random_states(digits):
    x, y = digits
    states = [np.random.RandomState(5) for _ in range(2)]
    one, other = (classifier(random_state=state).fit(x, y) for state in states)
    assert_same(one, other)
    unlike = classifier(random_state=None)
    first = weights(unlike.fit(x, y))["0.dense.weight"]
    assert np.any(weights(unlike.fit(x, y))["0.dense.weight"] != first)


def test_what_fails_before_the_first_step_loses_nothing(digits):
    x, y = digits
    model = classifier().fit(x, y)
    before = weights(model)
    for wrong in ({"layers": [Dense(3)]}, {"epochs": 0}, {"optimizer": "adm"}, {"loss": "mse"}):
        with pytest.raises(ValueError):  # noqa: PT011  # which one others ask
            clone(model).set_params(**wrong).fit(x, y)
        changed = copy.copy(model).set_params(**wrong)
        with pytest.raises(ValueError):  # noqa: PT011
            changed.fit(x, y)
        assert weights(changed)["0.dense.weight"].tolist() == before["0.dense.weight"].tolist()


def test_partial_fit_of_a_regressor(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 3))
    y = x @ [1.0, -2.0, 0.5]
    model = Regressor((8,), optimizer=Adam(0.01), backend=backend.spec, random_state=0)
    for _ in range(40):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.5
    assert model.n_iter_ == 40
    assert model.predict(x).dtype == np.float64
    assert model.predict(x.astype(np.float32)).dtype == np.float32
