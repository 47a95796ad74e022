"""elementwise: one sweep over memory gives what the plain rule gives, on every backend."""

import contextlib

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.backends import get_backend
from xpnn.backends.portable.base import Backend as Base

pytestmark = pytest.mark.width

LIBRARIES = sorted({spec.partition(":")[0] for spec in [*SPECS, "numpy"]})
SMALL, BLOCKED, THREADED = 7, 40_000, (1 << 20) + 17
each_size = pytest.mark.parametrize(  # what is large for NumPy is so for none of the others
    "size", [SMALL, BLOCKED, pytest.param(THREADED, marks=pytest.mark.slow_to_compile)]
)


def host(backend, *arrays):
    return [np.array(backend.to_numpy(array)) for array in arrays]


def blend(xp, a, b, share):
    return a + share * (b - a)


def momentum(xp, w, g, m, rate):
    m = 0.9 * m + g
    return w - rate * m, m


def leaky(xp, x):
    return xp.where(x > 0, x, 0.1 * x)


def positive(xp, x):
    return x > 0


def everything(xp, x):
    """Each function that a rule may use."""
    y = xp.exp(-xp.abs(x)) + xp.log(1.0 + x * x) + xp.tanh(x) + xp.sqrt(xp.abs(x))
    y = y + xp.expm1(xp.minimum(x, 1.0)) + xp.log1p(xp.maximum(x, 0.0)) + xp.sign(x)
    return y * xp.astype(x >= 0.5, x.dtype) + xp.where(x < -1, x, -x)


@each_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_equals_the_plain_rule(backend, rng, size, dtype):
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        x = rng.standard_normal(size).astype(dtype)
        found = backend.elementwise(everything)(backend.asarray(x))
        plain = Base.elementwise(backend, everything)(backend.asarray(x))
        assert found.dtype == plain.dtype == backend.dtype(dtype)
        rtol = 1e-5 if dtype == "float32" else 1e-12
        for array in host(backend, found, plain):
            np.testing.assert_allclose(array, everything(np, x), rtol=rtol, atol=rtol)


@each_size
@pytest.mark.parametrize("donate", [(), (0,), (2,), (0, 1, 2)])
def test_elementwise_with_several_results_and_donated_arrays(backend, rng, size, donate):
    w, g, m = rng.standard_normal((3, size)).astype(np.float32)
    sweep = backend.elementwise(momentum, donate)
    found = sweep(*(backend.asarray(a.copy()) for a in (w, g, m)), 0.1)
    assert isinstance(found, tuple)
    for array, wanted in zip(host(backend, *found), momentum(np, w, g, m, 0.1), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)
        assert array.dtype == np.float32


@pytest.mark.parametrize("size", [SMALL, BLOCKED])
def test_elementwise_broadcasts(backend, rng, size):
    a = rng.standard_normal((size, 3)).astype(np.float32)
    for b in (a[0], a[:, :1], a[:1], a[0, 0]):
        found = backend.elementwise(blend, (0,))(
            backend.asarray(a.copy()), backend.asarray(b), 0.25
        )
        np.testing.assert_allclose(
            host(backend, found)[0], blend(np, a, b, 0.25), rtol=1e-5, atol=1e-6
        )


@each_size
def test_elementwise_takes_0d_arrays_for_numbers(backend, rng, size):
    a, b = rng.standard_normal((2, size)).astype(np.float32)
    share = np.asarray(0.25, dtype=np.float32)
    found = backend.elementwise(blend, (0, 2))(*map(backend.asarray, (a.copy(), b, share)))
    assert found.dtype == backend.dtype("float32")
    np.testing.assert_allclose(host(backend, found)[0], blend(np, a, b, 0.25), rtol=1e-5, atol=1e-6)


@each_size
def test_elementwise_result_may_have_another_dtype(backend, rng, size):
    x = rng.standard_normal(size).astype(np.float32)
    found = backend.elementwise(positive, (0,))(backend.asarray(x.copy()))
    assert found.dtype == backend.dtype("bool")
    np.testing.assert_array_equal(host(backend, found)[0], x > 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_elementwise_on_arrays_that_are_not_contiguous(backend, rng, order):
    x = rng.standard_normal((300, 200)).astype(np.float32)
    view = backend.xp.permute_dims(backend.asarray(x), order)[::2, ...]
    found = backend.elementwise(leaky, (0,))(view)
    np.testing.assert_allclose(host(backend, found)[0], leaky(np, np.transpose(x, order)[::2]))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (2, 3, 4)])
def test_elementwise_on_odd_shapes(backend, shape):
    x = np.full(shape, -2.0, dtype=np.float32)
    found = backend.elementwise(leaky)(backend.asarray(x))
    assert tuple(found.shape) == shape
    np.testing.assert_allclose(host(backend, found)[0], 0.1 * x)


def test_elementwise_may_see_one_array_twice(backend, rng):
    x = rng.standard_normal(BLOCKED).astype(np.float32)
    array = backend.asarray(x.copy())
    found = backend.elementwise(blend, (0,))(array, array, 0.5)
    np.testing.assert_allclose(host(backend, found)[0], x, rtol=1e-6)


@each_size
def test_arrays_that_are_not_donated_are_left_alone(backend, rng, size):
    values = rng.standard_normal((3, size)).astype(np.float32)
    arrays = [backend.asarray(value.copy()) for value in values]
    backend.elementwise(momentum, (2,))(*arrays, 0.1)
    for array, value in zip(host(backend, *arrays[:2]), values, strict=False):
        np.testing.assert_array_equal(array, value)


@each_size
def test_read_only_donated_arrays_are_not_written_to(rng, size):
    values = rng.standard_normal((3, size)).astype(np.float32)
    arrays = [value.copy() for value in values]
    for array in arrays:
        array.flags.writeable = False
    found = get_backend("numpy").elementwise(momentum, (0, 1, 2))(*arrays, 0.1)
    for array, value in zip(arrays, values, strict=True):
        np.testing.assert_array_equal(array, value)
    for array, wanted in zip(found, momentum(np, *values, 0.1), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-6, atol=1e-7)


def test_large_donated_arrays_are_used(rng):
    w, g, m = rng.standard_normal((3, BLOCKED)).astype(np.float32)
    new_w, new_m = get_backend("numpy").elementwise(momentum, (0, 2))(w, g, m, 0.1)
    assert np.shares_memory(new_w, w)
    assert np.shares_memory(new_m, m)
    assert not np.shares_memory(new_w, new_m)


@pytest.mark.parametrize("size", [BLOCKED, THREADED])
def test_an_error_in_a_rule_comes_out(size):
    def broken(xp, x):
        raise ZeroDivisionError("of this rule")

    with pytest.raises(ZeroDivisionError, match="of this rule"):
        get_backend("numpy").elementwise(broken)(np.ones(size, dtype=np.float32))
