"""Starting weights have the spread that their papers ask for, and one seed gives one draw."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator, Philox

from tests.conftest import needs
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


@dataclass
class Case:
    """One configuration of an initializer.

    Attributes:
        function: the public function, which is the initializer or makes it from ``options``.
        variance: what the source asks for.
        shape: of the weights that are drawn.
        options: of those that are made.
        mean: of the weights.
        limit: no weight is further from the mean; None where there is no bound.
    """

    function: Callable[..., Any]
    variance: float
    shape: tuple[int, ...] = WIDE
    options: tuple[float, ...] | None = None
    mean: float = 0.0
    limit: float | None = None

    @property
    def initializer(self):
        return self.function if self.options is None else self.function(*self.options)


INITIALIZERS = {  # a new initializer joins by adding one line
    "glorot-uniform": Case(glorot_uniform, 2 / 900, limit=math.sqrt(6 / 900)),
    "glorot-normal": Case(glorot_normal, 2 / 900),
    "he-uniform": Case(he_uniform, 2 / 400, limit=math.sqrt(6 / 400)),
    "he-normal": Case(he_normal, 2 / 400),
    "lecun-normal": Case(lecun_normal, 1 / 400),
    "glorot-uniform-kernel": Case(
        glorot_uniform, 2 / (15 * 40 + 15 * 60), KERNEL, limit=math.sqrt(6 / (15 * 40 + 15 * 60))
    ),
    "he-normal-kernel": Case(he_normal, 2 / (15 * 40), KERNEL),
    "normal": Case(normal, 0.09, options=(0.3,)),
    "normal-1": Case(normal, 1.0, options=()),
    "uniform": Case(uniform, 0.3**2 / 3, options=(0.3,), limit=0.3),
    "uniform-0.05": Case(uniform, 0.05**2 / 3, options=(), limit=0.05),
    "orthogonal": Case(orthogonal, 1 / 500),
    "zeros": Case(zeros, 0.0, limit=0.0),
    "ones": Case(ones, 0.0, mean=1.0, limit=0.0),
    "constant": Case(constant, 0.0, options=(0.25,), mean=0.25, limit=0.0),
}
each_initializer = pytest.mark.parametrize("case", INITIALIZERS.values(), ids=INITIALIZERS)


def draw(initializer, shape, seed=0):
    return initializer(shape, Generator(Philox(seed)))


@each_initializer
def test_mean_and_spread(case):
    weights = draw(case.initializer, case.shape)
    assert weights.shape == case.shape
    assert weights.dtype == np.float64
    assert abs(np.mean(weights) - case.mean) <= 4 * math.sqrt(case.variance / weights.size)
    assert np.var(weights) == pytest.approx(case.variance, rel=0.02)


@each_initializer
def test_draws_fill_their_range_and_no_more(case):
    off = draw(case.initializer, case.shape) - case.mean
    if case.limit is None:
        assert np.max(off) > 3 * math.sqrt(case.variance)  # it is no uniform draw
        assert np.min(off) < -3 * math.sqrt(case.variance)
    else:
        assert -case.limit <= np.min(off) <= -0.99 * case.limit
        assert 0.99 * case.limit <= np.max(off) <= case.limit


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


@each_initializer
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 3, 2, 4), (5,)])
def test_one_seed_gives_one_draw(case, shape):
    first, again, other = (draw(case.initializer, shape, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape == shape
    assert np.all(np.isfinite(first))
    if case.variance and first.size > 1:
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
