"""Every activation at the ends of each dtype, against its limit worked out in 60 digits.

At the largest and smallest numbers, at infinity, and in the tails between. A value is right to a
few roundings, and to what the rounding of its input makes of it; a slope to a few roundings of 1,
and of the input that it is multiplied with where it is not flat.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from xpnn import Network
from xpnn.errors import BackendUnavailable
from xpnn.layers import (
    ELU,
    GELU,
    SELU,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from xpnn.layers.activations import Activation

pytestmark = pytest.mark.fault("numbers at the ends of their range")

mpmath.mp.dps = 60

DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
LARGEST = {
    "float16": 65504.0,
    "bfloat16": float(mpf(2) ** 128 - mpf(2) ** 120),
    "float32": float(np.finfo("float32").max),
    "float64": float(np.finfo("float64").max),
}
SMALLEST = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


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


INF = float("inf")
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

TAILS = (
    0.5,
    1,
    2.25,
    3,
    4,
    5.5,
    8,
    9.5,
    10,
    11.5,
    14,
    18,
    30,
    60,
    68,
    80,
    87,
    100,
    350,
    699,
    720,
    1e3,
)


def test_every_activation_has_its_ends_here():
    from tests.test_public import kinds

    missing = kinds(Activation) - {type(row.make()) for row in ENDS.values()}
    assert not missing, f"an activation is held to its limits by a line in ENDS, but not {missing}"


def ends_of(dtype):
    """Both signs of the numbers at which formulas break, as float64."""
    largest, smallest = LARGEST[dtype], SMALLEST[dtype]
    points = [0.0, smallest, 4 * smallest, 2.0 ** -DIGITS[dtype], 1e-3, *TAILS]
    points += [60000.0, 1e10, 1e20, 1e30, largest**0.5, largest / 2, largest]
    points = sorted({round_to(p, dtype) for p in points if p <= largest})
    return np.array([*(-p for p in points[:0:-1]), *points])


def round_to(x, dtype):
    """Half precisions by hand: NumPy has no bfloat16."""
    if dtype in ("float16", "float32", "float64"):
        return float(np.dtype(dtype).type(x))
    exponent = np.floor(np.log2(x)) - 7 if x else 0
    return float(np.round(x / 2.0**exponent) * 2.0**exponent)


@contextlib.contextmanager
def width(backend, dtype):
    """In which ``dtype`` works, or the test is skipped."""
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        try:
            backend.dtype(dtype)
        except BackendUnavailable:
            pytest.skip(f"{backend.name} has no {dtype}")
        with backend.on_device(), backend.overflowing():
            yield


def host(backend, array):
    return np.array(backend.to_numpy(array)).astype("float64")


def is_right(found, exact, dtype, relative, absolute):
    """Whether a number is the exact one but for rounding, which may be to infinity or to 0."""
    eps, largest, exact = 2.0 ** (1 - DIGITS[dtype]), LARGEST[dtype], mpf(exact)
    if abs(exact) > largest * (1 - eps):
        return found == float(mpmath.sign(exact)) * INF or abs(found) >= largest * (1 - 4 * eps)
    flushed = 2.0**-21 if dtype == "float16" else SMALLEST[dtype]  # JAX knows no smaller ones
    return bool(abs(mpf(found) - exact) <= eps * (relative * abs(exact) + absolute) + flushed)


@pytest.mark.any_width
@pytest.mark.parametrize("dtype", DIGITS)
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
