"""The loop: what it computes, what it carries on, and what it leaves alone."""

import functools

import numpy as np
import pytest

import xpnn
from xpnn import (
    GELU,
    SGD,
    Accuracy,
    Adam,
    Callback,
    Dense,
    Dropout,
    LeakyReLU,
    Network,
    ReduceOnPlateau,
    ReLU,
    Residual,
    Tanh,
    Trainer,
    WarmUp,
)
from xpnn.backends import get_backend


def digits(count=200):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


def small_trainer(backend="numpy", **settings):
    network = Network(
        [Dense(24), GELU(), Dropout(0.2), Residual([Dense(24), Tanh()]), Dense(10)],
        input_shape=(64,),
        backend=backend,
        seed=3,
    )
    return Trainer(network, xpnn.cross_entropy, Adam(3e-3), **settings)


def fitted(backend="numpy", **settings):
    trainer = small_trainer(backend)
    x, y = digits()
    settings = {"epochs": 2, "batch_size": 32, "progress": False} | settings
    return trainer, trainer.fit(x, y, **settings)


def step_losses(spec, steps=50):
    """The losses of single steps, over shuffled batches."""
    trainer, (x, y) = small_trainer(spec), digits()
    backend, losses = trainer.network.backend, []
    x, y = trainer.network.asarray(x), backend.asarray(y, "int32")
    order = np.random.default_rng(0).integers(0, x.shape[0], (steps, 32))
    with backend.on_device():
        for rows in order:
            rows = backend.from_numpy(rows)
            batch = (backend.xp.take(array, rows, axis=0) for array in (x, y))
            losses.append(trainer.step(*batch))
        return [float(backend.to_numpy(loss)) for loss in losses]


@functools.cache
def numpy_curve():
    return step_losses("numpy")


def test_the_loss_curve_is_that_of_numpy(backend):
    np.testing.assert_allclose(step_losses(backend.spec), numpy_curve(), rtol=1e-4)


def test_the_numpy_curve_falls():
    curve = numpy_curve()
    assert np.mean(curve[-5:]) < 0.5 * np.mean(curve[:5])


def test_fit_learns_the_digits(backend):
    x, y = xpnn.datasets.digits()
    network = Network([Dense(32), ReLU(), Dense(10)], (64,), backend)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(5e-3), metrics=[Accuracy()])
    history = trainer.fit(x, y, epochs=4, batch_size=64, validation=0.2, progress=False)
    assert history["val_accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0]


def test_epoch_loss_is_the_mean_over_samples_not_batches():
    # 5 samples in batches of 4 and 1, and a rate of 0, so that the loss of each sample is known
    x = np.arange(5, dtype=np.float32)[:, None]
    network = Network([Dense(1)], (1,))
    network.load({"0.dense.weight": [[1.0]], "0.dense.bias": [0.0]})
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(0.0))
    history = trainer.fit(x, np.zeros((5, 1)), batch_size=4, progress=False)
    assert history["loss"] == [pytest.approx((0 + 1 + 4 + 9 + 16) / 5)]


def test_epoch_loss_is_weighted_by_sample_weights():
    x = np.arange(5, dtype=np.float32)[:, None]
    network = Network([Dense(1)], (1,))
    network.load({"0.dense.weight": [[1.0]], "0.dense.bias": [0.0]})
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(0.0))
    weight = np.asarray([1.0, 0.0, 2.0, 0.5, 3.0])
    history = trainer.fit(x, np.zeros((5, 1)), sample_weight=weight, batch_size=2, progress=False)
    expected = np.sum(weight * np.arange(5) ** 2) / weight.sum()
    assert history["loss"] == [pytest.approx(expected)]
    evaluated = trainer.evaluate(x, np.zeros((5, 1)), sample_weight=weight, batch_size=3)
    assert evaluated["loss"] == pytest.approx(expected)


def test_training_with_weights_is_training_on_repeated_samples(backend):
    x, y = digits(40)
    weight = np.where(np.arange(40) < 10, 2.0, 1.0)
    repeated = np.concatenate([np.arange(10), np.arange(40)])
    results = []
    for rows, w in ((np.arange(40), weight), (repeated, None)):
        network = Network([Dense(10)], (64,), backend)
        trainer = Trainer(network, xpnn.cross_entropy, SGD(0.1))
        trainer.fit(x[rows], y[rows], sample_weight=w, epochs=3, batch_size=50, progress=False)
        results.append(backend.to_numpy(network.params["0.dense.weight"]))
    np.testing.assert_allclose(*results, atol=1e-6)


def test_two_fits_are_one_longer_fit():
    x, y = digits()
    whole, parts = small_trainer(), small_trainer()
    whole.fit(x, y, epochs=4, progress=False)
    parts.fit(x, y, epochs=1, progress=False)
    parts.fit(x, y, epochs=3, progress=False)
    for name, value in whole.network.params.items():
        np.testing.assert_array_equal(value, parts.network.params[name])


def test_the_seed_decides_the_shuffle_and_nothing_else_does():
    _, first = fitted()
    _, again = fitted()
    assert first.epochs == again.epochs
    trainer = small_trainer(seed=99)
    other = trainer.fit(*digits(), epochs=2, progress=False)
    assert other["loss"] != first["loss"]


def test_without_shuffle_the_batches_come_in_order():
    seen = []

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        seen.append(targets[:, 0].tolist())
        return xpnn.mean_squared_error(predictions, targets, backend=backend)

    x = np.arange(5, dtype=np.float32)[:, None]
    trainer = Trainer(Network([Dense(1)], (1,)), loss, SGD(0.0))
    trainer.fit(x, x, batch_size=2, shuffle=False, progress=False)
    assert seen == [[0, 1], [2, 3], [4]]


def test_every_sample_is_seen_once_an_epoch_in_a_new_order():
    seen = []

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        seen.append(targets[:, 0].tolist())
        return xpnn.mean_squared_error(predictions, targets, backend=backend)

    x = np.arange(10, dtype=np.float32)[:, None]
    Trainer(Network([Dense(1)], (1,)), loss, SGD(0.0)).fit(
        x, x, epochs=2, batch_size=5, progress=False
    )
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_frozen_layers_stay_as_they_are(backend):
    trainer = small_trainer(backend)
    trainer.network.layers[0].trainable = False
    before = trainer.network.numpy_arrays()
    trainer.fit(*digits(), progress=False)
    after = trainer.network.numpy_arrays()
    np.testing.assert_array_equal(before["0.dense.weight"], after["0.dense.weight"])
    assert not np.array_equal(before["4.dense.weight"], after["4.dense.weight"])
    trainer.network.layers[0].trainable = True
    trainer.fit(*digits(), progress=False)
    thawed = trainer.network.numpy_arrays()
    assert not np.array_equal(before["0.dense.weight"], thawed["0.dense.weight"])


@pytest.mark.parametrize("first", ["evaluate", "step"])
@pytest.mark.parametrize(("slope", "rate"), [(0.5, 0.1), (0.01, 0.3)])
def test_hyperparameters_that_are_changed_between_steps_are_used(backend, slope, rate, first):
    """A compiled step holds their values; another one is made for others."""
    data = tuple(map(backend.asarray, digits(32)))

    def trainer(slope, rate):
        network = Network([Dense(8), LeakyReLU(slope), Dense(10)], (64,), backend)
        return Trainer(network, xpnn.cross_entropy, SGD(rate))

    changed, fresh = trainer(0.01, 0.1), trainer(slope, rate)
    for _ in range(3):
        changed.step(*data)
    changed.evaluate(*data)
    changed.network.layers[1].negative_slope = slope
    changed.optimizer.rate = rate
    fresh.network.load(changed.network.params)
    if first == "evaluate":
        assert changed.evaluate(*data) == fresh.evaluate(*data)
    for _ in range(3):
        changed.step(*data)
        fresh.step(*data)
    there = fresh.network.numpy_arrays()
    for name, array in changed.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, there[name], err_msg=name)


def test_validation_sees_what_a_callback_has_changed_behind_the_last_step(backend):
    class Bends(Callback):
        def on_step_end(self, trainer, step):
            if step == 2:
                trainer.network.layers[1].negative_slope = [0.3, 0.9][trainer.epoch]

    x, y = digits(64)
    network = Network([Dense(8), LeakyReLU(0.01), Dense(10)], (64,), backend)
    trainer = Trainer(network, xpnn.cross_entropy, SGD(0.1), callbacks=[Bends()])
    options = {"batch_size": 32, "validation": (x, y), "progress": False}
    for _ in range(2):
        history = trainer.fit(x, y, **options)
        assert history["val_loss"] == [trainer.evaluate(x, y)["loss"]]


def test_a_step_function_is_not_traced_again_for_new_numbers():
    jax_backend = pytest.importorskip("jax", reason="counts the traces of jax.jit")
    del jax_backend
    traces = []

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        traces.append(1)
        return xpnn.cross_entropy(predictions, targets, backend=backend)

    class Counting(Dropout):
        calls = 0

        def forward(self, *arguments, **options):
            self.calls += 1  # which is no hyperparameter
            return super().forward(*arguments, **options)

    network = Network([Dense(10), Counting(0.5)], (64,), "jax")
    trainer = Trainer(network, loss, Adam(WarmUp(10, 1e-3)))
    x, y = digits(70)
    trainer.fit(x, y, epochs=3, batch_size=32, validation=(x, y), progress=False)
    assert len(traces) == 3  # for full batches, for the short last batch, for validation
    for _ in range(2):
        trainer.evaluate(x, y)
    assert len(traces) == 3


def test_reduce_on_plateau_lowers_the_rate_when_nothing_improves(backend):
    x = np.ones((8, 1), dtype=np.float32)
    network = Network([Dense(1)], (1,), backend)
    rate = ReduceOnPlateau(0.0625, factor=0.5, patience=0, threshold=10.0)
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(rate))
    weights = [network.numpy_arrays()["0.dense.bias"][0]]
    for _ in range(3):
        trainer.fit(x, x * 1e6, batch_size=8, progress=False)
        weights.append(network.numpy_arrays()["0.dense.bias"][0])
    # the gradient hardly changes, so the steps show the rate: epoch 1 sets the best, then halving
    steps = np.diff(weights)
    assert steps[1] / steps[0] == pytest.approx(0.75, abs=0.01)
    assert steps[2] / steps[1] == pytest.approx(0.5 * (1 - 0.25 * 0.5) / 1, abs=0.07)


def test_predict_gives_the_networks_own_arrays(backend):
    trainer = small_trainer(backend)
    x, _ = digits(7)
    outputs = trainer.predict(x, batch_size=3)
    assert backend.owns(outputs)
    assert tuple(outputs.shape) == (7, 10)
    np.testing.assert_allclose(
        backend.to_numpy(outputs), backend.to_numpy(trainer.network.forward(x)), atol=1e-6
    )


def test_read_only_data_are_never_written_to():
    x, y = digits()
    x, y, weight = x.copy(), y.copy(), np.ones(len(x), dtype=np.float32)
    for array in (x, y, weight):
        array.flags.writeable = False
    trainer = small_trainer()
    trainer.fit(x, y, sample_weight=weight, epochs=2, validation=(x, y, weight), progress=False)
    trainer.evaluate(x, y)
    assert trainer.predict(x).shape == (200, 10)


def test_arrays_of_any_library_train_any_network(backend):
    x, y = digits(64)
    arrays = get_backend("array-api-strict:device1")
    trainer = small_trainer(backend)
    history = trainer.fit(arrays.asarray(x), arrays.asarray(y), progress=False)
    other = small_trainer(backend).fit(x.tolist(), y.tolist(), progress=False)
    assert history["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_a_network_of_nothing_trains_nothing(backend):
    trainer = Trainer(Network([], (2,), backend), xpnn.mean_squared_error, SGD(0.1))
    value = trainer.step(*(backend.asarray(np.full((3, 2), one, "float32")) for one in (1, 3)))
    assert float(backend.to_numpy(value)) == 4.0
