"""NaN and infinity at every stage: refused before the first step, or found and named after it."""

import functools

import numpy as np
import pytest

import xpnn
from tests.reliability.conduct import everything
from xpnn import SGD, Adam, Dense, Network, ReLU, StopOnNaN, Trainer
from xpnn.errors import DataError, TrainingStopped
from xpnn.layers import BatchNorm, Layer
from xpnn.losses import cross_entropy, mean_squared_error

BAD = [np.nan, np.inf, -np.inf]
X = np.random.default_rng(0).random((12, 4), dtype=np.float32)
Y = np.arange(12) % 3

pytestmark = [pytest.mark.fault("NaN and infinity, stage by stage")]
each_bad = pytest.mark.parametrize("bad", BAD, ids=str)


def make_trainer(backend, extra=None, loss=cross_entropy, optimizer=None, **options):
    between = [] if extra is None else [extra]
    layers = [Dense(5), ReLU(), *between, Dense(3)]
    return Trainer(
        Network(layers, (4,), backend), loss, optimizer or Adam(1e-2), log_every=1, **options
    )


def planted(array, bad, place=5):
    array = np.array(array, dtype=np.float32)
    array.flat[place] = bad
    return array


# Before the first step ------------------------------------------------------------------------


@each_bad
@pytest.mark.parametrize(
    "stage", ["inputs", "targets", "weights", "validation inputs", "validation targets", "batches"]
)
def test_in_the_data(backend, bad, stage):
    targets = np.eye(3)[Y]
    trainer = make_trainer(backend, loss=mean_squared_error)
    x, y, weight, held = X, targets, None, None
    if stage == "inputs":
        x = planted(X, bad)
    elif stage == "targets":
        y = planted(targets, bad)
    elif stage == "weights":
        weight = planted(np.ones(12), bad)
    elif stage == "validation inputs":
        held = (planted(X, bad), targets)
    elif stage == "validation targets":
        held = (X, planted(targets, bad))
    elif stage == "batches":
        x, y = [(planted(X, bad), targets)], None
    before = everything(trainer)
    with pytest.raises(DataError, match=r"finite|negative"):
        trainer.fit(x, y, sample_weight=weight, validation=held, progress=False)
    assert everything(trainer) == before
    trainer.fit(X, targets, progress=False)


def test_what_the_dtype_of_the_network_cannot_hold(backend):
    """Finite in float64, infinite in float32."""
    trainer = make_trainer(backend)
    before = everything(trainer)
    with pytest.raises(DataError, match="wanted finite numbers"):
        trainer.fit(np.full((12, 4), 1e300), Y, progress=False)
    assert everything(trainer) == before


@each_bad
@pytest.mark.parametrize(
    "make", [SGD, Adam, lambda rate: SGD(0.1, momentum=rate), lambda rate: Adam(weight_decay=rate)]
)
def test_in_hyperparameters(make, bad):
    with pytest.raises(ValueError, match="got"):
        make(bad)


# In a step --------------------------------------------------------------------------------------


HOT = np.where(np.arange(12)[:, None] == 7, 1000 * X, X)
"""Inputs of which one sample makes the layer below go wrong."""


class Planted(Layer):
    """Passes on what it gets, times ``bad`` on one of the ways where an input is above 30."""

    def __init__(self, way, bad):
        super().__init__()
        self.way, self.bad = way, bad

    def forward(self, inputs, training=False):
        self.cache["hot"] = self.backend.to_numpy(inputs).max() > 30
        return inputs * self.bad if self.way == "forward" and self.cache["hot"] else inputs

    def backward(self, delta):
        return delta * self.bad if self.way == "backward" and self.cache["hot"] else delta


def fit_and_stop(trainer, x=X, y=Y):
    """What StopOnNaN says."""
    with np.errstate(all="ignore"), pytest.raises(TrainingStopped) as caught:
        trainer.fit(x, y, batch_size=3, epochs=2, progress=False, callbacks=[StopOnNaN()])
    return str(caught.value)


def has_good_weights(trainer):
    return all(np.isfinite(a).all() for a in trainer.network.numpy_arrays().values())


@pytest.mark.slow_to_compile  # call by call; NaN in the data and in a loss are found there, too
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("log_every", [1, 2, 100])
def test_in_a_layer(backend, way, bad, log_every):
    """The layer is named, and the network has the weights from before the bad step."""
    trainer = make_trainer(backend, Planted(way, bad), compile=False)
    trainer.log_every = log_every
    said = fit_and_stop(trainer, HOT)
    assert "is NaN or infinite. The network has the weights from before that step" in said
    what = {"forward": "the output of layer 2.planted", "backward": "the input gradient of layer 2"}
    assert what[way] in said
    assert has_good_weights(trainer)
    trainer.fit(X, Y, progress=False)


def test_in_a_loss(backend):
    calls = []

    def loss(predictions, targets, *, sample_weight=None, backend):
        calls.append(None)
        value, delta = cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )
        bad = float("nan") if len(calls) > 3 else 1.0
        return value * bad, delta * bad

    trainer = make_trainer(backend, loss=loss, compile=False)
    assert "the loss, loss, is NaN" in fit_and_stop(trainer)
    assert has_good_weights(trainer)


def test_of_a_rate_that_is_too_large(backend):
    """Training that diverges ends with the last good weights."""
    trainer = make_trainer(backend, optimizer=SGD(1e38), loss=mean_squared_error)
    assert "try a smaller rate" in fit_and_stop(trainer, y=np.eye(3)[Y])
    assert has_good_weights(trainer)


def test_without_the_callback_nothing_stops(backend):
    """Promised by nobody: the history shows it, and the network is spoilt."""
    trainer = make_trainer(backend, Planted("forward", np.nan), compile=False)
    with np.errstate(all="ignore"):
        history = trainer.fit(HOT, Y, batch_size=3, progress=False)
    assert np.isnan(history["loss"][-1])


def test_in_weights_that_are_loaded(backend):
    """They are taken as they are; what comes of it is named at the first log point."""
    trainer = make_trainer(backend)
    values = trainer.network.numpy_arrays()
    name = next(name for name in values if name.endswith("0.dense.weight"))
    trainer.network.load({**values, name: planted(values[name], np.nan)})
    assert "the output of layer 0.dense is NaN or infinite" in fit_and_stop(trainer)


def test_mixed_precision_skips_what_overflows(backend):
    """A gradient that is not finite changes nothing but the scale."""
    if not hasattr(backend.xp, "float16"):
        pytest.skip(f"{backend.name} has no float16")
    trainer = make_trainer(backend, Planted("backward", np.inf), precision="float16", compile=False)
    before = trainer.network.numpy_arrays()
    with np.errstate(all="ignore"):
        trainer.step(HOT, Y)
    for name, value in trainer.network.numpy_arrays().items():
        if "planted" not in name and "2." not in name and "3." not in name:
            np.testing.assert_array_equal(value, before[name])
    assert float(backend.to_numpy(trainer.opt_state["skipped_steps"])) == 1


@each_bad
def test_in_what_is_predicted_from(backend, bad):
    """``predict`` passes it through: the outputs of that sample alone are no numbers."""
    network = Network([Dense(5), BatchNorm(), Dense(3)], (4,), backend)
    with np.errstate(all="ignore"):
        found = backend.to_numpy(network.predict(planted(X, bad)))
        wanted = backend.to_numpy(network.predict(X))
    assert not np.isfinite(found[1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, 0), np.delete(wanted, 1, 0))


def test_class_weights_that_are_no_numbers():
    loss = functools.partial(xpnn.cross_entropy, class_weight=[1.0, np.nan, 1.0])
    trainer = make_trainer("numpy", loss=loss)
    with pytest.raises(ValueError, match="class_weight"):
        trainer.fit(X, Y, progress=False)
