"""Numbers do not depend on how data are cut, and a mean of nothing is NaN, which nobody goes by."""

import contextlib
import math
import warnings
from functools import partial

import numpy as np
import pytest

import xpnn
from tests.losses.table import APART
from tests.metrics.table import METRICS, drawn, measuring
from xpnn import (
    SGD,
    Accuracy,
    Adam,
    BestWeights,
    Checkpoint,
    Dense,
    EarlyStopping,
    EmptyMeanWarning,
    Identity,
    Network,
    ReduceOnPlateau,
    StopOnNaN,
    Trainer,
)
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable
from xpnn.metrics import MAE
from xpnn.training.callbacks.shipped import Watching

pytestmark = pytest.mark.fault("data cut into other batches")

WEIGHTS = np.array([0.0, 2.0, 0.3, 0.1, 1e-6])
BATCHED = {name: case for name, case in APART.items() if len(case.shape) > 1}
RARE = partial(xpnn.cross_entropy, class_weight=[0.1, 1.0, 20.0])


@pytest.mark.width
@pytest.mark.parametrize(
    ("dtype", "close"),
    [pytest.param("float32", 1e-6, marks=pytest.mark.slow_to_compile), ("float64", 1e-14)],
)  # on JAX that is weighted, too
@pytest.mark.parametrize("case", BATCHED.values(), ids=BATCHED)
def test_a_loss_is_that_of_the_set(backend, case, dtype, close):
    """Weighted in float64, one sample a batch; by NumPy, of the whole at once."""
    x, y = case.arrays(dtype)
    weight = WEIGHTS if dtype == "float64" else None
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (x, y)]
    value, _ = case.loss(*exact, sample_weight=weight, backend=get_backend("numpy"))
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        network = Network([Identity()], case.shape[1:], backend, dtype=dtype)
        trainer = Trainer(network, case.loss, SGD(0.0))
        found = trainer.evaluate(x, y, sample_weight=weight, batch_size=1)
    assert found["loss"] == pytest.approx(float(value), rel=close)


@pytest.mark.width
@pytest.mark.parametrize(
    ("dtype", "close"),
    [pytest.param("float32", 1e-5, marks=pytest.mark.slow_to_compile), ("float64", 1e-13)],
)  # on JAX test_it_is_what_plain_numbers_say has float32
@pytest.mark.parametrize(("metric", "in_numbers"), METRICS)
def test_a_metric_is_that_of_the_set(backend, metric, in_numbers, dtype, close):
    """Of weights that float32 does not hold, and of a first batch that has none."""
    x, y = drawn(metric)
    weight = 0.1 * (np.arange(40) % 4)
    weight[:8] = 0.0
    x = x.astype(dtype)
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        trainer, inputs = measuring(metric, x.astype(np.float64), backend, dtype)
        found = trainer.evaluate(inputs, y, sample_weight=weight, batch_size=8)
    expected = in_numbers(x.tolist(), y.tolist(), weight.tolist())
    assert found[metric.name] == pytest.approx(expected, rel=close)


def samples(count=24):
    """Inputs, class numbers, weights; the classes stand together, so that batches differ."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, 4)), np.sort(rng.integers(0, 3, count))
    return x, y, rng.choice([0.0, 0.3, 1.0, 7.0], count)


class Interrupted(xpnn.Callback):
    def on_step_end(self, state, step):
        if step == 2:
            raise KeyboardInterrupt


def test_a_run_that_is_resumed_has_the_mean_of_all_its_batches(backend, tmp_path):
    """Of which the first, before the interruption, has no weight."""
    x, y, weight = samples()
    weight[:8] = 0.0
    trainer = resting(backend)
    options = {"batch_size": 8, "sample_weight": weight, "shuffle": False, "progress": False}
    expected = trainer.fit(x, y, **options)["loss"]
    watching = [Checkpoint(tmp_path), Interrupted()]
    with pytest.raises(KeyboardInterrupt):
        resting(backend).fit(x, y, callbacks=watching, **options)
    found = resting(backend).fit(x, y, resume=tmp_path, **options)
    assert found["loss"] == expected


def exact_loss(network, weighted):
    """By hand in float64: weights of classes times those of samples."""
    x, y, weight = samples()
    scores = x @ network.numpy_arrays()["0.dense.weight"].astype(np.float64)  # the bias is 0
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    each = np.array([0.1, 1.0, 20.0])[y] * (weight if weighted else 1.0)
    return np.average(-log_p[np.arange(len(y)), y], weights=each)


def resting(backend, **settings):
    """A trainer that never moves."""
    network = Network([Dense(3)], (4,), backend, seed=1)
    return Trainer(network, RARE, SGD(0.0), **settings)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_an_epoch_are_those_of_the_set(backend, weighted, accumulate):
    trainer = resting(backend, accumulate=accumulate)
    expected = exact_loss(trainer.network, weighted)
    x, y, weight = samples()
    parts = (x, y, weight) if weighted else (x, y)
    uneven = [tuple(part[a:b] for part in parts) for a, b in ((0, 1), (1, 8), (8, 24))]
    more = {"sample_weight": weight} if weighted else {}
    for data, options in (((x, y), {"batch_size": 7, **more}), ((uneven,), {})):
        history = trainer.fit(*data, validation=parts, progress=False, **options)
        assert history["loss"] == pytest.approx([expected], rel=1e-6)
        assert history["val_loss"] == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("class_weight", [None, [1, 2, 3, 9]])
def test_one_sample_of_many_weights_counts_as_one_of_a_single_weight(backend, class_weight):
    """Batches with a weight for each sample, beside batches with one for each of three steps."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3, 4)), rng.integers(0, 4, (8, 3))
    weight = rng.uniform(0.1, 1.0, 8)
    spread = np.repeat(weight[4:, None], 3, axis=1)
    network = Network([Identity()], (3, 4), backend)
    trainer = Trainer(network, partial(xpnn.cross_entropy, class_weight=class_weight), SGD(0.0))
    whole = trainer.evaluate([(x, y, weight)])["loss"]
    mixed = trainer.evaluate([(x[:4], y[:4], weight[:4]), (x[4:], y[4:], spread)])["loss"]
    assert mixed == pytest.approx(whole, rel=1e-6)


def test_half_precision_keeps_losses_and_weights(backend):
    """Squares of 50,176 errors of about 0.01; weights and sums of weights beyond 65,504."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((64, 784)).astype("f2")
    x = (y + np.float16(0.01)).astype("f2")
    weight = np.linspace(3e4, 9e4, 64)
    try:
        network = Network([Identity()], (784,), backend, dtype="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(0.0), metrics=[MAE()])
    found = trainer.evaluate(x, y, sample_weight=weight, batch_size=24)
    errors = x.astype(float) - y.astype(float)
    assert found["loss"] == pytest.approx(np.average((errors**2).mean(1), weights=weight), rel=1e-5)
    assert found["mae"] == pytest.approx(np.average(abs(errors).mean(1), weights=weight), rel=1e-3)
    value, _ = xpnn.mean_squared_error(*map(network.asarray, (x, y)), backend=network.backend)
    exact = (errors**2).mean()
    assert float(network.backend.to_numpy(value)) == pytest.approx(exact, rel=1e-5)


# Means of nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "in_numbers"), METRICS)
def test_nothing_measured_is_nan_and_is_told_once(backend, metric, in_numbers):
    x, y = drawn(metric, rows=6)
    trainer, inputs = measuring(metric, x, backend)
    with pytest.warns(EmptyMeanWarning, match=f"loss, {metric.name}: NaN") as told:
        found = trainer.evaluate(inputs, y, sample_weight=np.zeros(6), batch_size=4)
    assert len(told) == 1
    assert all(math.isnan(one) for one in found.values())
    if backend.name == "jax":  # where each call is compiled by itself, of the same statistics
        return
    predictions = trainer.network.forward(inputs)
    with pytest.warns(EmptyMeanWarning, match=metric.name):
        assert math.isnan(metric(predictions, y, sample_weight=np.zeros(6)))
    with pytest.warns(EmptyMeanWarning, match=metric.name):
        assert math.isnan(metric(predictions[:0, ...], y[:0]))


def test_classes_without_weight_are_nothing_to_the_loss_alone():
    x, y, _ = samples()
    trainer = Trainer(
        Network([Dense(3)], (4,)),
        partial(xpnn.cross_entropy, class_weight=[0.0, 0.0, 0.0]),
        SGD(0.0),
        metrics=[Accuracy()],
    )
    with pytest.warns(EmptyMeanWarning, match="^loss: NaN"):
        found = trainer.evaluate(x, y)
    assert math.isnan(found["loss"])
    assert 0 < found["accuracy"] < 1


def public_callbacks_that_watch():
    public = (one for one in vars(xpnn).values() if isinstance(one, type))
    return [one for one in public if issubclass(one, Watching)]


def test_nobody_goes_by_a_validation_of_nothing(backend, tmp_path):
    x, y, _ = samples()
    rate = ReduceOnPlateau(0.1, patience=0)
    trainer = Trainer(
        Network([Dense(3)], (4,), backend), xpnn.cross_entropy, SGD(rate), metrics=[Accuracy()]
    )
    watching = [
        EarlyStopping(patience=1),
        EarlyStopping("val_accuracy", patience=1),
        BestWeights(),
        Checkpoint(tmp_path, best="val_accuracy"),
        StopOnNaN(),
    ]
    assert {*public_callbacks_that_watch()} <= {*map(type, watching)}
    with pytest.warns(EmptyMeanWarning, match="^val_loss, val_accuracy: NaN") as told:
        history = trainer.fit(
            *(x, y),
            epochs=4,
            validation=(x, y, np.zeros(24)),
            callbacks=watching,
            progress=False,
        )
    assert len(told) == 1
    assert len(history) == 4
    assert all(math.isnan(one) for one in history["val_loss"] + history["val_accuracy"])
    assert history["rate"] == pytest.approx([0.1] * 4)
    assert trainer.stop_reason is None
    assert watching[2].epoch is None
    assert not watching[3].best_path.exists()
    assert np.diff(history["loss"]).max() < 0  # and the weights are those of the last epoch
    assert trainer.evaluate(x, y)["loss"] < history["loss"][-1]


class Diverging(xpnn.Callback):
    def on_epoch_end(self, state, logs):
        logs["val_loss"] = math.nan


def test_a_loss_that_is_nan_for_another_reason_still_ends_training():
    x, y, _ = samples()
    trainer = Trainer(Network([Dense(3)], (4,)), xpnn.cross_entropy, SGD(0.1))
    watching = [Diverging(), EarlyStopping(patience=2)]
    trainer.fit(x, y, epochs=9, validation=0.5, callbacks=watching, progress=False)
    assert trainer.epoch == 2


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 3}, {"compile": False}, {"precision": "float16"}], ids=str
)
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_step_of_nothing_moves_nothing(backend, optimizer, settings):
    x, y, _ = samples(8)
    network = Network([Dense(3)], (4,), backend, seed=1)
    before = network.numpy_arrays()
    try:
        trainer = Trainer(network, RARE, optimizer(0.1), **settings)
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    value = trainer.step(x.astype("f4"), y, np.zeros(8, "f4"))
    assert math.isnan(float(network.backend.to_numpy(value)))
    for name, array in network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_an_epoch_of_nothing_is_told_once_and_saved(backend, tmp_path):
    """The first batches of an epoch, too, may weigh nothing: the loss is NaN at log points then."""
    x, y, _ = samples()
    trainer = resting(backend, callbacks=[StopOnNaN(), Checkpoint(tmp_path)], log_every=1)
    with pytest.warns(EmptyMeanWarning, match="^loss: NaN") as told:
        history = trainer.fit(
            x, y, epochs=2, batch_size=8, sample_weight=np.zeros(24), progress=False
        )
    assert len(told) == 1
    assert all(math.isnan(one) for one in history["loss"])
    assert len([*tmp_path.glob("checkpoint-*")]) == 2
    late = np.zeros(24)
    late[-1] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = trainer.fit(x, y, batch_size=8, sample_weight=late, shuffle=False, progress=False)
    assert history["loss"] == pytest.approx([trainer.evaluate(x[-1:], y[-1:])["loss"]], rel=1e-6)
