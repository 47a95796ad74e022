"""Starting weights have the spread that their papers ask for, and one seed gives one draw."""

import inspect
import math

import numpy as np
import pytest
from numpy.random import Generator, Philox

from tests.conftest import needs
from xpnn import initializers
from xpnn.initializers import (
    constant,
    fans,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    normal,
    ones,
    orthogonal,
    uniform,
    zeros,
)

WIDE, KERNEL = (400, 500), (3, 5, 40, 60)
SPREADS = [  # an initializer, a shape, the variance that the source asks for
    pytest.param(glorot_uniform, WIDE, 2 / 900, id="glorot-uniform"),
    pytest.param(glorot_normal, WIDE, 2 / 900, id="glorot-normal"),
    pytest.param(he_uniform, WIDE, 2 / 400, id="he-uniform"),
    pytest.param(he_normal, WIDE, 2 / 400, id="he-normal"),
    pytest.param(lecun_normal, WIDE, 1 / 400, id="lecun-normal"),
    pytest.param(glorot_uniform, KERNEL, 2 / (15 * 40 + 15 * 60), id="glorot-uniform-kernel"),
    pytest.param(he_normal, KERNEL, 2 / (15 * 40), id="he-normal-kernel"),
    pytest.param(normal(0.3), WIDE, 0.09, id="normal"),
    pytest.param(normal(), WIDE, 1.0, id="normal-1"),
    pytest.param(uniform(0.3), WIDE, 0.3**2 / 3, id="uniform"),
    pytest.param(orthogonal, WIDE, 1 / 500, id="orthogonal"),
]


def draw(initializer, shape, seed=0):
    return initializer(shape, Generator(Philox(seed)))


@pytest.mark.parametrize(("initializer", "shape", "variance"), SPREADS)
def test_mean_and_spread(initializer, shape, variance):
    weights = draw(initializer, shape)
    assert weights.shape == shape
    assert weights.dtype == np.float64
    assert abs(np.mean(weights)) < 4 * math.sqrt(variance / weights.size)
    assert np.var(weights) == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(
    ("initializer", "limit"),
    [(glorot_uniform, math.sqrt(6 / 900)), (he_uniform, math.sqrt(6 / 400)), (uniform(0.05), 0.05)],
)
def test_uniform_draws_fill_their_range(initializer, limit):
    weights = draw(initializer, WIDE)
    assert -limit <= np.min(weights) < -0.99 * limit
    assert 0.99 * limit < np.max(weights) <= limit


@pytest.mark.parametrize("initializer", [glorot_normal, he_normal, lecun_normal, normal(2.0)])
def test_normal_draws_are_normal(initializer):
    weights = draw(initializer, WIDE) / np.std(draw(initializer, WIDE))
    for sigmas in (0.5, 1.0, 2.0, 3.0):  # the share within so many standard deviations
        wanted = math.erf(sigmas / math.sqrt(2))
        assert np.mean(np.abs(weights) < sigmas) == pytest.approx(wanted, abs=0.004)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((4, 3), (4, 3)),
        ((5,), (5, 5)),
        ((), (1, 1)),
        ((3, 4, 5), (12, 15)),
        ((2, 3, 4, 5), (24, 30)),
    ],
)
def test_fans(shape, wanted):
    assert fans(shape) == wanted


@pytest.mark.parametrize("shape", [(6, 6), (8, 5), (5, 8), (3, 3, 2, 7), (1, 1), (1, 4)])
def test_orthogonal_columns_or_rows(shape):
    weights = draw(orthogonal, shape).reshape(-1, shape[-1])
    small = weights if weights.shape[0] < weights.shape[1] else weights.T
    np.testing.assert_allclose(small @ small.T, np.eye(len(small)), atol=1e-12)


def test_orthogonal_draws_turn_and_mirror():
    """Uniform over all such matrices: a determinant of 1 and of -1 come equally often."""
    signs = [np.sign(np.linalg.det(draw(orthogonal, (3, 3), seed))) for seed in range(200)]
    assert 70 < signs.count(1.0) < 130
    corners = [draw(orthogonal, (3, 3), seed)[0, 0] for seed in range(200)]
    assert abs(np.mean(corners)) < 0.15


def test_what_is_not_drawn():
    np.testing.assert_array_equal(draw(zeros, (2, 3)), [[0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(draw(ones, (2,)), [1, 1])
    np.testing.assert_array_equal(draw(constant(0.25), (2,)), [0.25, 0.25])


PLAIN = [
    pytest.param(function, id=name)
    for name, function in vars(initializers).items()
    if inspect.isfunction(function)
    and list(inspect.signature(function).parameters) == ["shape", "rng"]
]


@pytest.mark.parametrize("initializer", PLAIN)
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 3, 2, 4), (5,)])
def test_one_seed_gives_one_draw(initializer, shape):
    first, again, other = (draw(initializer, shape, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape == shape
    assert np.all(np.isfinite(first))
    if initializer not in (zeros, ones) and first.size > 1:
        assert not np.array_equal(first, other)


TORCH = [
    pytest.param(glorot_uniform, "xavier_uniform_", {}, id="glorot-uniform"),
    pytest.param(glorot_normal, "xavier_normal_", {}, id="glorot-normal"),
    pytest.param(he_uniform, "kaiming_uniform_", {"nonlinearity": "relu"}, id="he-uniform"),
    pytest.param(he_normal, "kaiming_normal_", {"nonlinearity": "relu"}, id="he-normal"),
    pytest.param(lecun_normal, "kaiming_normal_", {"nonlinearity": "linear"}, id="lecun-normal"),
    pytest.param(orthogonal, "orthogonal_", {}, id="orthogonal"),
]


@needs("torch")
@pytest.mark.parametrize(("initializer", "name", "options"), TORCH)
def test_spread_is_that_of_torch(initializer, name, options):
    import torch

    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, name)(torch.empty(500, 400), **options)  # (outputs, inputs)
    assert np.std(draw(initializer, (400, 500))) == pytest.approx(float(theirs.std()), rel=0.02)
