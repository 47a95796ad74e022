"""Positions: learned, sinusoidal, and as rotations of queries and keys."""

import math

import numpy as np
import pytest

from tests.layers.oracles import assert_close, by_differences, passes, randomized
from xpnn import LearnedPositions, Network, Sequential, SinusoidalPositions
from xpnn.errors import GradientError, ShapeError
from xpnn.layers.sequence.positions import Rotary
from xpnn.testing import check_gradients


def test_learned_positions_add_one_vector_to_each_step(backend, rng):
    network = randomized(Network([LearnedPositions(6)], (4, 3), backend))
    x, delta = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    weight = network.numpy_arrays()["0.learnedpositions.weight"]
    assert weight.shape == (6, 3)
    unused = np.zeros((2, 3))
    assert_close(
        passes(network, x, delta),
        {
            "output": x + weight[:4],
            "input": delta,
            "0.learnedpositions.weight": np.concatenate([np.sum(delta, axis=0), unused]),
        },
        1e-6,
    )


def test_sinusoids_are_those_of_the_paper(backend):
    time, features = 50, 8
    network = Network([SinusoidalPositions()], (time, features), backend)
    found = backend.to_numpy(network.forward(np.zeros((1, time, features))))[0]
    for t in (0, 1, 7, 49):
        for i in range(features // 2):
            angle = t / 10000 ** (2 * i / features)
            assert found[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)


def turned_in_the_complex_plane(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    turn = np.exp(1j * positions[..., None] * base ** (-np.arange(half) / half))
    points = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([points.real, points.imag], axis=-1)


@pytest.mark.parametrize("offset", [0, 3])
def test_rotary_turns_points_of_the_plane(backend, rng, offset):
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    places = np.arange(5) + offset
    expected = turned_in_the_complex_plane(x, places)
    xp, array = backend.xp, backend.asarray(x)
    counter = xp.asarray(offset, dtype=xp.int32, device=backend.device)
    with backend.on_device():
        turn = Rotary(backend).turn
        compiled = backend.compiled(lambda array, first: turn(first, array)[0], known=True)
        for found in (
            *turn(offset, array),
            *turn(counter, array),
            *turn(backend.asarray(places), array),
            compiled(array, counter),
        ):
            np.testing.assert_allclose(backend.to_numpy(found), expected, atol=2e-6)


def test_rotary_takes_positions_of_each_sample(backend, rng):
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    places = np.stack([np.arange(5), np.arange(5) + 40])[:, None, :]  # (batch, 1 for heads, time)
    with backend.on_device():
        (found,) = Rotary(backend, base=100.0).turn(backend.asarray(places), backend.asarray(x))
    expected = turned_in_the_complex_plane(x, places, base=100.0)
    np.testing.assert_allclose(backend.to_numpy(found), expected, atol=1e-5)


def test_rotary_products_depend_on_the_distance_alone(backend, rng):
    q, k = (backend.asarray(rng.standard_normal((1, 8)).astype(np.float32)) for _ in "qk")
    xp = backend.xp
    with backend.on_device():
        turn = Rotary(backend).turn
        pairs = [(*turn(p, q), *turn(p + 4, k)) for p in (0, 1, 17)]
        products = [float(backend.to_numpy(xp.sum(one * other))) for one, other in pairs]
    np.testing.assert_allclose(products, products[0], rtol=1e-4)


def test_rotary_inverse_is_the_transpose(backend, rng):
    """sum(delta * turn(x)) = sum(turn_back(delta) * x): what a backward has to be."""
    x, delta = (rng.standard_normal((2, 5, 8)) for _ in range(2))
    with backend.allow_float64(), backend.on_device():
        lent = backend.asarray(x), backend.asarray(delta)
        (forth,) = map(backend.to_numpy, Rotary(backend).turn(2, lent[0]))
        (back,) = map(backend.to_numpy, Rotary(backend).turn_back(2, lent[1]))
    assert back.dtype == np.float64
    assert np.sum(delta * forth) == pytest.approx(np.sum(back * x), rel=1e-12)


def test_rotary_keeps_half_precision_and_its_angles(backend, rng):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = rng.standard_normal((3000, 4)).astype(np.float16)  # float16 cannot count beyond 2048
    (found,) = map(backend.to_numpy, Rotary(backend).turn(0, backend.asarray(x)))
    assert found.dtype == np.float16
    expected = turned_in_the_complex_plane(x.astype(np.float64), np.arange(3000))
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_misfits_are_explained():
    with pytest.raises(ShapeError, match=r"knows 3 positions, but sequences are 4 long"):
        Network([LearnedPositions(3)], (4, 2))
    with pytest.raises(ShapeError, match=r"wants inputs of shape \(time, features\), got \(4,\)"):
        Network([SinusoidalPositions()], (4,))
    with pytest.raises(ShapeError, match="even number of features, got 3"):
        Network([SinusoidalPositions()], (4, 3))


class ForgetsThePositions(LearnedPositions):
    def backward(self, delta):
        super().backward(delta)
        self.grads["weight"] = self.grads["weight"] * 0.0
        return delta


@pytest.mark.parametrize(
    "make", [LearnedPositions, lambda: LearnedPositions(5), SinusoidalPositions]
)
@by_differences
def test_backward_matches_finite_differences(backend, make):
    assert check_gradients(make(), (3, 4), backend).error < 1e-6


@by_differences
def test_a_planted_mistake_is_caught(backend):
    with pytest.raises(GradientError, match="weight: zero"):
        check_gradients(Sequential([ForgetsThePositions()]), (3, 4), backend)
