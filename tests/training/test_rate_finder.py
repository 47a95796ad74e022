"""The finder of rates: where steps are stable is known of a parabola; nothing is changed by it."""

import copy

import numpy as np
import pytest

from xpnn import (
    SGD,
    Adam,
    Dense,
    Dropout,
    Network,
    ReLU,
    Trainer,
    find_rate,
    mean_squared_error,
)
from xpnn.errors import BackendUnavailable


def regression():
    """A line through the origin: a parabola in w, where steps are stable below 1 / mean x^2."""
    x = np.random.default_rng(1).normal(size=(64, 1)).astype(np.float32)
    return x, 3 * x


def trainer_of(backend, optimizer, **options):
    network = Network([Dense(1, use_bias=False)], (1,), backend, seed=1)
    return Trainer(network, mean_squared_error, optimizer, **options)


def test_it_suggests_a_rate_below_where_steps_diverge(backend):
    x, y = regression()
    curve = find_rate(trainer_of(backend, SGD(0.1)), x, y, batch_size=64, high=100.0)
    limit = 1 / float(np.mean(x**2))
    assert 0.02 * limit < curve.suggestion < limit
    assert curve.rates[0] == pytest.approx(1e-6)
    assert limit < curve.rates[-1] < 100  # it has ended when the loss rose
    ratios = np.divide(curve.rates[1:], curve.rates[:-1])
    np.testing.assert_allclose(ratios, 1e8 ** (1 / 99), rtol=1e-5)
    w = float(Network([Dense(1, use_bias=False)], (1,), seed=1).params["0.dense.weight"][0, 0])
    for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[:70]:
        slope = float(np.mean(2 * x**2)) * (w - 3)
        assert loss == pytest.approx(np.mean(x**2) * (w - 3) ** 2, rel=1e-3)
        w -= rate * slope


def test_nothing_is_changed_by_it(backend):
    network = Network([Dense(4), ReLU(), Dropout(0.2), Dense(1)], (1,), backend, seed=1)
    trainer = Trainer(network, mean_squared_error, Adam(0.01))
    trainer.fit(*regression(), epochs=2, progress=False)
    arrays, opt_state = network.numpy_arrays(), copy.copy(trainer.opt_state)
    find_rate(trainer, *regression(), steps=20)
    assert (trainer.epoch, trainer.steps, trainer.optimizer.rate) == (2, 4, 0.01)
    for name, array in network.numpy_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
    for name, value in trainer.opt_state.items():
        assert value is opt_state[name]


def test_it_goes_by_steps_that_count_in_mixed_precision(backend):
    try:
        trainer = trainer_of(backend, SGD(0.1), precision="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    x, y = regression()
    curve = find_rate(trainer, x * 40, y * 40, low=1e-8, steps=40)
    assert len(set(curve.rates)) == len(curve.rates)
    assert curve.suggestion < 1 / 1600 / float(np.mean(x**2))


@pytest.mark.host_only
def test_batches_that_differ_do_not_end_it():
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(40, 2)).astype(np.float32)
        network = Network([Dense(1)], (2,), seed=seed)
        curve = find_rate(Trainer(network, "mse", SGD(0.1)), x, 3 * x[:, :1], batch_size=7)
        assert curve.rates[-1] > 0.1
        assert curve.suggestion > curve.rates[2]  # there the means are of fewer losses


@pytest.mark.host_only
def test_it_draws_its_curve(tmp_path):
    pytest.importorskip("matplotlib")
    curve = find_rate(trainer_of("numpy", SGD(0.1)), *regression())
    (axes,) = curve.plot().axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), curve.losses)
    assert curve.plot(tmp_path / "rates")._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert repr(curve).startswith("<losses of ")


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"low": 1.0, "high": 0.1}, r"0 < low < high, got low=1\.0 and high=0\.1"),
        ({"steps": 3}, "steps, a whole number of at least 10, got 3"),
        ({"low": 50.0, "high": 60.0}, "the loss falls at no rate from 50 to .* begin at a lower"),
    ],
)
def test_what_it_cannot_do_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        find_rate(trainer_of("numpy", SGD(0.1)), *regression(), **options)
