"""What CONTRIBUTING.md says how to add is added, by its own code, and used as a user would.

That the blocks run is held by test_docs.py; here is what they make, and whether it is right.
"""

import math
import re

import numpy as np
import pytest

from docs.hooks.running import BLOCK
from tests.test_docs import ROOT
from xpnn import SGD, Callback, Dense, Layer, Metric, Network, Trainer, mean_squared_error
from xpnn.losses import check_targets

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def made(what):
    """What the code of the section "Add a ..." defines, by name, and what it prints."""
    section = re.search(rf"^## Add an? {what}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"CONTRIBUTING.md has no section on how to add a {what}"
    namespace = {"__name__": "contributed"}
    for block in BLOCK.finditer(section[1]):
        exec(block["code"], namespace)
    return namespace


def the_one(kind, namespace):
    (found,) = (
        one
        for one in namespace.values()
        if isinstance(one, type) and issubclass(one, kind) and one.__module__ == "contributed"
    )
    return found


def differences(function, at, step=1e-5):
    """The derivatives of a number by every element of a float64 array, by central differences."""
    slopes = np.empty_like(at)
    for place in np.ndindex(at.shape):
        values = []
        for side in (step, -step):
            moved = at.copy()
            moved[place] += side
            values.append(function(moved))
        slopes[place] = (values[0] - values[1]) / (2 * step)
    return slopes


def straight_line(rng):
    """Inputs and targets that a scale for each feature, and a layer behind it, can learn."""
    x = rng.normal(size=(60, 3)).astype(np.float32)
    return x, x @ np.array([[1.0], [-2.0], [0.5]], np.float32)


# A layer ------------------------------------------------------------------------------------------


def test_the_layer_has_right_gradients(backend, rng, capsys):
    layer = the_one(Layer, made("layer"))
    assert "Scale" in capsys.readouterr().out
    with backend.allow_float64():
        network = Network([layer()], (3,), backend, dtype="float64", seed=1)
        x, direction = rng.normal(size=(2, 4, 3))
        name, factor = "0.scale.factor", rng.uniform(0.5, 1.5, size=3)

        def loss(x, factor):
            network.load({name: factor})
            out = network.forward(backend.asarray(x), training=True)
            return float(np.sum(backend.to_numpy(out) * direction))

        by_x = differences(lambda moved: loss(moved, factor), x)
        by_factor = differences(lambda moved: loss(x, moved), factor)
        loss(x, factor)
        with backend.on_device():
            back = network.backward(backend.asarray(direction))
        np.testing.assert_allclose(backend.to_numpy(back), by_x, rtol=1e-7, atol=1e-8)
        found = backend.to_numpy(network.grads[name])
        np.testing.assert_allclose(found, by_factor, rtol=1e-7, atol=1e-8)


def test_a_network_with_the_layer_learns(backend, rng):
    layer = the_one(Layer, made("layer"))
    network = Network([layer(), Dense(1)], (3,), backend, seed=0)
    before = network.numpy_arrays()["0.scale.factor"]
    trainer = Trainer(network, mean_squared_error, SGD(0.05))
    x, y = straight_line(rng)
    history = trainer.fit(x, y, epochs=30, batch_size=16, progress=False)
    assert history["loss"][-1] < 1e-2 * history["loss"][0]
    assert np.all(network.numpy_arrays()["0.scale.factor"] != before)


# A loss -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_has_a_right_value_and_delta(backend, rng, weighted):
    loss = made("loss")["charbonnier"]
    predictions, targets = rng.normal(size=(2, 4, 3))
    weight = np.array([1.0, 0.0, 2.0, 0.5]) if weighted else None

    def called(predictions):
        w = None if weight is None else backend.asarray(weight)
        arrays = backend.asarray(predictions), backend.asarray(targets)
        value, delta = loss(*arrays, sample_weight=w, backend=backend)
        return float(backend.to_numpy(value)), backend.to_numpy(delta)

    with backend.allow_float64(), backend.on_device():
        value, delta = called(predictions)
        by_hand = [
            (1.0 if weight is None else weight[row])
            * (math.hypot(1.0, predictions[row, k] - y) - 1.0)
            for (row, k), y in np.ndenumerate(targets)
        ]
        total = 12 if weight is None else 3 * sum(weight)
        assert value == pytest.approx(math.fsum(by_hand) / total, rel=1e-9)
        slopes = differences(lambda moved: called(moved)[0], predictions)
        np.testing.assert_allclose(delta, slopes, rtol=1e-6, atol=1e-9)


def test_a_network_learns_by_the_loss(backend, rng):
    loss = made("loss")["charbonnier"]
    trainer = Trainer(Network([Dense(1)], (3,), backend, seed=0), loss, SGD(0.2))
    x, y = straight_line(rng)
    history = trainer.fit(x, y, epochs=30, batch_size=16, progress=False)
    assert history["loss"][-1] < 1e-2 * history["loss"][0]
    weights = trainer.network.numpy_arrays()["0.dense.weight"]
    np.testing.assert_allclose(weights, [[1.0], [-2.0], [0.5]], atol=0.02)
    with pytest.raises(ValueError, match="wanted targets of the shape of the outputs"):
        check_targets(loss, y[:, 0], (1,), trainer.network.backend)


# A metric -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_metric_is_that_of_all_samples(backend, rng, weighted):
    rmse = the_one(Metric, made("metric"))
    x, y = straight_line(rng)
    y = y + rng.exponential(size=y.shape).astype(np.float32)
    weight = np.arange(60, dtype=np.float32) % 5 if weighted else None
    network = Network([Dense(1)], (3,), backend, seed=0)
    trainer = Trainer(network, mean_squared_error, SGD(0.1), metrics=[rmse()])
    found = trainer.evaluate(x, y, sample_weight=weight, batch_size=8)  # seven of 8, one of 4
    off = (np.asarray(backend.to_numpy(network.predict(x))) - y)[:, 0].astype(np.float64)
    expected = math.sqrt(np.average(off**2, weights=weight))
    assert found["rmse"] == pytest.approx(expected, rel=1e-5)
    parts = [np.sqrt(np.mean(off[start : start + 8] ** 2)) for start in range(0, 60, 8)]
    assert found["rmse"] != pytest.approx(np.mean(parts), rel=1e-3)


def test_the_metric_is_watched_in_fit(rng):
    rmse = the_one(Metric, made("metric"))
    trainer = Trainer(Network([Dense(1)], (3,)), mean_squared_error, SGD(0.1), metrics=[rmse()])
    history = trainer.fit(*straight_line(rng), epochs=3, validation=0.2, progress=False)
    assert [value**2 for value in history["val_rmse"]] == pytest.approx(history["val_loss"])


# A callback ---------------------------------------------------------------------------------------


def test_the_callback_does_its_work_in_fit(rng):
    good_enough = the_one(Callback, made("callback"))
    x, y = straight_line(rng)

    def run(*callbacks):
        trainer = Trainer(Network([Dense(1)], (3,), seed=0), mean_squared_error, SGD(0.1))
        history = trainer.fit(x, y, epochs=9, batch_size=16, progress=False, callbacks=callbacks)
        return history["loss"], trainer.stop_reason

    losses, reason = run()
    assert len(losses) == 9
    assert reason is None
    assert run(good_enough(losses[4])) == (losses[:5], f"loss has come down to {losses[4]:g}")
