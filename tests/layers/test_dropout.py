"""The dropout family: what is dropped, what stays of the statistics, the same on all backends."""

import math

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, jax_passes, passes
from xpnn import AlphaDropout, Dense, Dropout, GaussianNoise, Network, SpatialDropout, Tanh
from xpnn.errors import GradientError
from xpnn.testing import check_gradients, training_curve

KINDS = [
    pytest.param(lambda: Dropout(0.3), id="dropout"),
    pytest.param(lambda: SpatialDropout(0.3), id="spatial"),
    pytest.param(lambda: AlphaDropout(0.3), id="alpha"),
    pytest.param(lambda: GaussianNoise(0.5), id="noise"),
]
each_kind = pytest.mark.parametrize("make", KINDS)
SHAPE = (6, 5)


def disturbed(make, backend, x, draws=1, seed=0, dtype="float32"):
    """The outputs in training mode, one after another."""
    network = Network([Dense(x.shape[-1]), make()], x.shape[1:], backend, seed=seed, dtype=dtype)
    layer = network.layers[1]
    with network.backend.on_device():
        x = network.asarray(x)
        return [network.backend.to_numpy(layer.forward(x, training=True)) for _ in range(draws)]


@each_kind
def test_one_seed_draws_the_same_on_every_backend(backend, make):
    x = np.ones((4, *SHAPE), dtype=np.float32)
    here, there = (disturbed(make, place, x, draws=3, seed=7) for place in (backend, "numpy"))
    for found, expected in zip(here, there, strict=True):
        if make().__class__ is GaussianNoise:  # log and cos differ in their last bits
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(here[0], here[1])
    other = disturbed(make, backend, x, seed=8)[0]
    assert not np.array_equal(here[0], other)


@each_kind
@pytest.mark.parametrize("training", [True, False])
@by_differences
def test_backward_matches_finite_differences(backend, make, training):
    assert check_gradients(make(), SHAPE, backend, training=training).error < 1e-6


@needs("jax")
@each_kind
def test_equals_jax_grad(make, rng):
    x, delta = rng.standard_normal((2, 4, *SHAPE)).astype(np.float32)
    found, oracle = jax_passes(lambda: [Dense(5), make(), Dense(5)], SHAPE, x, delta)
    assert found.keys() == oracle.keys()
    assert_close(found, oracle)


@each_kind
def test_prediction_lets_everything_pass(backend, make, rng):
    x = rng.standard_normal((4, *SHAPE)).astype(np.float32)
    found = passes(Network([make()], SHAPE, backend), x, x, training=False)
    np.testing.assert_array_equal(found["output"], x)
    np.testing.assert_array_equal(found["input"], x)


@each_kind
def test_training_follows_numpy(backend, make):
    def layers():
        return [Dense(8), Tanh(), make(), Dense(2)]

    curve, reference = training_curve(layers, (4,), backend), training_curve(layers, (4,))
    assert len(set(reference)) == len(reference)
    np.testing.assert_allclose(curve, reference, rtol=1e-4)


# What is dropped ---------------------------------------------------------------------------------


def test_spatial_dropout_drops_a_feature_at_all_positions(backend):
    x = np.ones((50, 3, 2, 8), dtype=np.float32)
    (found,) = disturbed(lambda: SpatialDropout(0.25), backend, x)
    features = found.reshape(50, 6, 8)
    np.testing.assert_array_equal(features, features[:, :1, :] * np.ones((1, 6, 1)))
    assert set(np.unique(found)) == {0, np.float32(4 / 3)}
    dropped = np.mean(found == 0)
    assert abs(dropped - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 400)  # 4 standard deviations


def test_spatial_dropout_of_rows_is_dropout(backend):
    x = np.ones((4, 6), dtype=np.float32)
    spatial, plain = (disturbed(kind, backend, x)[0] for kind in (SpatialDropout, Dropout))
    assert spatial.shape == plain.shape
    assert np.mean(spatial == 0) > 0


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(backend, rate):
    # as SELU gives them for normal weighted sums, where mean 0 and variance 1 is a fixed point
    s = np.random.default_rng(0).standard_normal((500, 200))
    x = np.where(s > 0, 1.0507009873554805 * s, 1.7580993408473766 * np.expm1(np.minimum(s, 0)))
    (found,) = disturbed(lambda: AlphaDropout(rate), backend, x.astype(np.float32))
    assert abs(x.mean()) < 0.01
    assert abs(x.var() - 1) < 0.01
    assert abs(found.mean() - x.mean()) < 0.02  # 100,000 numbers of variance 1: 6 deviations
    assert abs(found.var() - x.var()) < 0.03
    (plain,) = disturbed(lambda: Dropout(rate), backend, x.astype(np.float32))
    assert abs(plain.var() - x.var()) > 0.05  # which ordinary dropout does not keep


@needs("torch")
def test_alpha_dropout_takes_the_values_of_torch(backend):
    import torch

    x = np.ones((1000, 4), dtype=np.float32)
    theirs = np.unique(torch.nn.AlphaDropout(0.3)(torch.tensor(x)).numpy())
    ours = np.unique(disturbed(lambda: AlphaDropout(0.3), backend, x)[0])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_noise_is_normal(backend):
    (found,) = disturbed(lambda: GaussianNoise(2.0), backend, np.zeros((400, 500), np.float32))
    noise = np.sort(found.ravel().astype(np.float64)) / 2
    deviation = 1 / math.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * deviation
    assert abs(noise.std() - 1) < 4 * deviation
    assert abs(np.mean(noise**3)) < 4 * math.sqrt(15) * deviation
    # Kolmogorov and Smirnov: the largest distance from the distribution function, 0.1 % level
    exact = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in noise])
    steps = np.arange(1, noise.size + 1) / noise.size
    assert np.max(np.abs(exact - steps)) < 1.95 * deviation
    assert np.isfinite(noise).all()
    rows = found - found.mean()
    neighbours = np.mean(rows[:, :-1] * rows[:, 1:]) / found.var()
    assert abs(neighbours) < 4 * deviation


@each_kind
def test_half_precision_is_kept(backend, make):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    (found,) = disturbed(make, backend, np.ones((4, *SHAPE)), dtype="float16")
    assert found.dtype == np.float16
    (wide,) = disturbed(make, backend, np.ones((4, *SHAPE)))
    np.testing.assert_allclose(found, wide, rtol=2e-3, atol=2e-3)  # float16 has 3 digits


# Mistakes that a hand-written backward of this kind is prone to ----------------------------------


class ForgetsTheMask(AlphaDropout):
    def slope(self, xp, delta, kept):
        return delta * self.scale


class ForgetsTheScale(SpatialDropout):
    def slope(self, xp, delta, kept):
        return delta * xp.astype(kept, delta.dtype)


class DrawsAgain(Dropout):
    def backward(self, delta):
        kept = self.backend.random_mask(1 - self.rate, self.seed, self.next_draw(), delta.shape)
        return self.fused["pass_back"](delta, kept)


@pytest.mark.parametrize("broken", [ForgetsTheMask, ForgetsTheScale, DrawsAgain])
@by_differences
def test_planted_mistakes_are_caught(backend, broken):
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients(broken(0.4), SHAPE, backend)


def test_bad_arguments_are_explained():
    for kind in (Dropout, SpatialDropout, AlphaDropout):
        with pytest.raises(
            ValueError, match=rf"{kind.__name__} needs a rate in \[0, 1\), got rate=1"
        ):
            kind(1)
    with pytest.raises(ValueError, match="spread of at least 0, got spread=-1"):
        GaussianNoise(-1)
