"""Every activation at the ends of each dtype, against its limit worked out in 60 digits.

At the largest and smallest numbers, at infinity, and in the tails between. A value is right to a
few roundings, and to what the rounding of its input makes of it; a slope to a few roundings of 1,
and of the input that it is multiplied with where it is not flat.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from tests.ends import INF, SMALLEST, each_dtype, ends_of, host, is_right, softmax, width
from tests.test_public import kinds
from xpnn import Network
from xpnn.layers import (
    ELU,
    GELU,
    SELU,
    BatchNorm,
    GroupNorm,
    HardSwish,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    Mish,
    PReLU,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.layers.activations import Activation
from xpnn.layers.normalization import Normalization

pytestmark = pytest.mark.fault("numbers at the ends of their range")


def s(x):
    return 1 / (1 + mpmath.exp(-x))


def gelu_tanh(x):
    return x * s(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpf("0.044715") * x**3))


def gelu_tanh_slope(x):
    root = 2 * mpmath.sqrt(2 / mpmath.pi)
    u = root * (x + mpf("0.044715") * x**3)
    return s(u) + x * s(u) * s(-u) * root * (1 + mpf("0.134145") * x**2)


def normal(x):
    """The normal distribution function; mpmath has no erfc of 1e30."""
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2 if abs(x) < 1e4 else mpf(x > 0)


def mish_slope(x):
    e = mpmath.exp(x)
    n = e * (e + 2)
    return n / (n + 2) + 4 * x * e * (1 + e) / (n + 2) ** 2


@dataclass
class Row:
    """An activation, and what it must be.

    Attributes:
        make: makes it.
        value, slope: exact, of finite numbers; a kink has the slope of the layer's docstring.
        ends: value and slope at -inf and at inf.
    """

    make: Callable[[], Any]
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    ends: tuple[tuple[float, float], tuple[float, float]]


FLAT = ((0, 0), (INF, 1))  # as nothing on the left, as the identity on the right
SCALE, ALPHA = mpf(SELU.SCALE), mpf(SELU.ALPHA)
ENDS = {
    "identity": Row(Identity, lambda x: x, lambda x: 1, ((-INF, 1), (INF, 1))),
    "sigmoid": Row(Sigmoid, s, lambda x: s(x) * s(-x), ((0, 0), (1, 0))),
    "tanh": Row(Tanh, mpmath.tanh, lambda x: mpmath.sech(x) ** 2, ((-1, 0), (1, 0))),
    "relu": Row(ReLU, lambda x: max(x, 0), lambda x: int(x > 0), FLAT),
    "leaky-relu": Row(
        lambda: LeakyReLU(0.25),
        lambda x: x if x > 0 else x / 4,
        lambda x: 1 if x > 0 else 0.25,
        ((-INF, 0.25), (INF, 1)),
    ),
    "prelu": Row(
        PReLU,
        lambda x: x if x > 0 else x / 4,
        lambda x: 1 if x > 0 else 0.25,
        ((-INF, 0.25), (INF, 1)),
    ),
    "elu": Row(
        lambda: ELU(0.5),
        lambda x: x if x > 0 else mpmath.expm1(x) / 2,
        lambda x: 1 if x > 0 else mpmath.exp(x) / 2,
        ((-0.5, 0), (INF, 1)),
    ),
    "selu": Row(
        SELU,
        lambda x: SCALE * x if x > 0 else SCALE * ALPHA * mpmath.expm1(x),
        lambda x: SCALE if x > 0 else SCALE * ALPHA * mpmath.exp(x),
        ((-SCALE * ALPHA, 0), (INF, SCALE)),
    ),
    "silu": Row(SiLU, lambda x: x * s(x), lambda x: s(x) * (1 + x * s(-x)), FLAT),
    "hard-swish": Row(
        HardSwish,
        lambda x: x * min(max(x + 3, 0), 6) / 6,
        lambda x: int(x > 0) if abs(x) >= 3 else (2 * x + 3) / 6,
        FLAT,
    ),
    "mish": Row(
        Mish, lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), mish_slope, FLAT
    ),
    "softplus": Row(
        Softplus, lambda x: mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0), s, FLAT
    ),
    "gelu": Row(
        GELU,
        lambda x: x * normal(x),
        lambda x: normal(x) + x * mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi),
        FLAT,
    ),
    "gelu-tanh": Row(lambda: GELU("tanh"), gelu_tanh, gelu_tanh_slope, FLAT),
}  # fmt: skip


def test_every_activation_has_its_ends_here():
    missing = kinds(Activation) - {type(row.make()) for row in ENDS.values()}
    assert not missing, f"an activation is held to its limits by a line in ENDS, but not {missing}"


@pytest.mark.any_width
@each_dtype
@pytest.mark.parametrize("name", ENDS)
def test_activations_at_their_ends(backend, name, dtype):
    row = ENDS[name]
    with width(backend, dtype):
        points = np.array([-INF, *ends_of(dtype), INF])
        network = Network([row.make()], (1,), backend, dtype=dtype)
        S = backend.asarray(points[:, None], dtype)
        Z = host(backend, network.forward(S, training=True))[:, 0]
        dS = host(backend, network.backward(backend.asarray(np.ones_like(points[:, None]), dtype)))
    exact = [
        row.ends[0],
        *((row.value(mpf(p)), row.slope(mpf(p))) for p in points[1:-1]),
        row.ends[1],
    ]
    for point, value, slope, (wanted, steep) in zip(points, Z, dS[:, 0], exact, strict=True):
        condition = abs(mpf(point) * steep / wanted) if wanted and np.isfinite(point) else 0
        where = f"{name} at {point:g} in {dtype}"
        assert is_right(value, wanted, dtype, 8 + 3 * float(condition), 0), (
            f"{where} is {value:.8g}, wanted {mpmath.nstr(wanted, 9)}"
        )
        assert is_right(slope, steep, dtype, 0, 8 + min(abs(point), 32)), (
            f"{where} has the slope {slope:.8g}, wanted {mpmath.nstr(steep, 9)}"
        )


# Softmax ------------------------------------------------------------------------------------------


def rows_of(dtype):
    """Scores far apart, alike at both ends, barred, and saturated."""
    ends = ends_of(dtype)
    most, least = ends[-1], ends[len(ends) // 2 + 1]
    return np.array(
        [
            [most, -most, 0, 1],
            [most, most, -most, -most],
            [-most, -most, -most, -most],
            [-INF, 0, 1, -INF],
            [-INF, -most, -INF, -most],
            [-INF, most, -INF, -INF],
            [least, -least, 0, 0],
            [0, -9, -14, -80],
            [100, 0, 0, 0],
        ]
    )


@pytest.mark.any_width
@each_dtype
def test_softmax_at_its_ends(backend, dtype):
    rows = rows_of(dtype)
    delta = np.array([3.0, -1.0, 2.0, 0.5])
    with width(backend, dtype):
        network = Network([Softmax()], (4,), backend, dtype=dtype)
        Z = host(backend, network.forward(backend.asarray(rows, dtype), training=True))
        deltas = backend.asarray(np.tile(delta, (len(rows), 1)), dtype)
        dS = host(backend, network.backward(deltas))
    for row, found, slopes in zip(rows, Z, dS, strict=True):
        exact = softmax([mpf(x) for x in row])
        total = mpmath.fsum(p * d for p, d in zip(exact, delta, strict=True))
        for k, p in enumerate(exact):
            assert is_right(found[k], p, dtype, 100, 0), (row, found)
            assert is_right(slopes[k], p * (delta[k] - total), dtype, 0, 16), (row, slopes)
            assert p > 1e-60 or slopes[k] == 0, (row, slopes)


# Normalisations -----------------------------------------------------------------------------------

NORMS = {
    "batch-norm": (BatchNorm, 0),  # and the axis of a batch that it goes over
    "layer-norm": (LayerNorm, 1),
    "rms-norm": (RMSNorm, 1),
    "group-norm": (lambda: GroupNorm(1), 1),
    "instance-norm": (InstanceNorm, "positions"),
}


def test_every_normalisation_has_its_ends_here():
    assert kinds(Normalization) <= {type(make()) for make, _ in NORMS.values()}


def normalised(column, epsilon, centred):
    """Exact outputs of one group of numbers, and the slopes for the first being asked for."""
    n = len(column)
    m = mpmath.fsum(column) / n if centred else mpf(0)
    r = 1 / mpmath.sqrt(mpmath.fsum((z - m) ** 2 for z in column) / n + epsilon)
    X = [(z - m) * r for z in column]
    mean = mpf(1) / n if centred else mpf(0)
    return X, [r * ((k == 0) - mean - x * X[0] / n) for k, x in enumerate(X)]


@pytest.mark.any_width
@each_dtype
@pytest.mark.parametrize("name", NORMS)
def test_normalisations_at_their_ends(backend, name, dtype):
    """As far as squares fit into float32, or float64; beyond, what is not right is NaN."""
    make, axis = NORMS[name]
    least = 1024 * SMALLEST["float64" if dtype == "float64" else "float32"]  # JAX flushes the rest
    sizes = [size for size in ends_of(dtype) if size > least]
    groups = np.array([size * np.array([1.0, -1.0, 0.5, -0.25]) for size in sizes])
    delta = np.zeros_like(groups)
    delta[:, 0] = 1

    def turned(array):
        """Rows of groups as a batch, and back."""
        if axis == "positions":
            return array[..., None] if array.ndim == 2 else array[..., 0]
        return array if axis else array.T

    with width(backend, dtype):
        layer = make()
        network = Network([layer], turned(groups).shape[1:], backend, dtype=dtype)
        Z = backend.asarray(turned(groups), dtype)
        S = host(backend, network.forward(Z, training=True))
        dZ = host(backend, network.backward(backend.asarray(turned(delta), dtype)))
        Z = host(backend, Z)
    fits = 1e150 if dtype == "float64" else 1e18
    for size, group, *found in zip(sizes, *map(turned, (Z, S, dZ)), strict=True):
        exact = normalised([mpf(z) for z in group], mpf(layer.epsilon), name != "rms-norm")
        if size <= fits or not np.any(np.isnan(found)):
            for numbers, wanted in zip(found, exact, strict=True):
                scale = max(map(abs, wanted))
                for one, right in zip(numbers, wanted, strict=True):
                    assert is_right(one, right, dtype, 0, 32 * float(scale)), (size, found, exact)
