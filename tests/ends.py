"""Numbers at which formulas break, and what it is to be right there: see the files test_ends.py."""

import contextlib

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from xpnn.errors import BackendUnavailable

mpmath.mp.dps = 60

INF = float("inf")
DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
LARGEST = {
    "float16": 65504.0,
    "bfloat16": float(mpf(2) ** 128 - mpf(2) ** 120),
    "float32": float(np.finfo("float32").max),
    "float64": float(np.finfo("float64").max),
}
SMALLEST = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}
TAILS = (0.5, 1, 2.25, 3, 4, 5.5, 8, 9.5, 10, 11.5, 14, 18, 30, 60, 68, 80, 87, 100, 350, 699, 1e3)
FAR = (60000.0, 1e10, 1e20, 1e30)

each_dtype = pytest.mark.parametrize(
    "dtype",
    [  # XLA's own exp and log are of float32 and float64; halves it works out in float32
        pytest.param(dtype, marks=pytest.mark.slow_to_compile if dtype == "bfloat16" else ())
        for dtype in DIGITS
    ],
)


def ends_of(dtype):
    """Both signs of the numbers at which formulas break, as float64."""
    largest, smallest = LARGEST[dtype], SMALLEST[dtype]
    points = [
        0.0,
        smallest,
        4 * smallest,
        2**12 * smallest,
        2.0 ** -DIGITS[dtype],
        1e-3,
        *TAILS,
        *FAR,
    ]
    points += [largest**0.5, largest / 2, largest]
    points = sorted({round_to(p, dtype) for p in points if p <= largest})
    return np.array([*(-p for p in points[:0:-1]), *points])


def round_to(x, dtype):
    """The number of that dtype next to ``x``; NumPy has no bfloat16."""
    if dtype != "bfloat16":
        return float(np.dtype(dtype).type(x))
    exponent = np.floor(np.log2(x)) - 7 if x else 0
    return float(np.round(x / 2.0**exponent) * 2.0**exponent)


@contextlib.contextmanager
def width(backend, dtype):
    """Where ``dtype`` works; the test is skipped if it does not."""
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
    """Whether a number is the exact one but for rounding, which may be to infinity or to 0.

    Args:
        relative, absolute: roundings of the exact number, and of 1, that are allowed.
    """
    eps, largest, exact = 2.0 ** (1 - DIGITS[dtype]), LARGEST[dtype], mpf(exact)
    if abs(exact) > largest * (1 - relative * eps):
        return mpmath.sign(exact) * mpf(found) >= largest * (1 - 2 * relative * eps)
    flushed = 2.0**-21 if dtype == "float16" else SMALLEST[dtype]  # JAX knows no smaller ones
    return bool(abs(mpf(found) - exact) <= eps * (relative * abs(exact) + absolute) + flushed)


def softmax(row):
    """Exact, of rows whose largest number is finite."""
    powers = [mpmath.exp(x - max(row)) for x in row]
    return [power / mpmath.fsum(powers) for power in powers]


def log_softmax(row):
    """Exact, likewise."""
    total = mpmath.log(mpmath.fsum(mpmath.exp(x - max(row)) for x in row))
    return [(x - max(row)) - total for x in row]
