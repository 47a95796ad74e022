"""The formulas that many parts share, on every backend, against the math module and by hand."""

import math

import numpy as np
import pytest

from xpnn.numerics import (
    HOST,
    erfc_by_chebyshev,
    gate,
    log_softmax,
    mix_bits,
    one_hot,
    sigmoid,
    softplus,
    stream_key,
    sum_to_features,
    widened,
)

pytestmark = pytest.mark.width

GRID = np.array([-1e4, -800.0, -90.0, -20.0, -1.5, -1e-3, 0.0, 1e-3, 0.7, 20.0, 90.0, 800.0, 1e4])


def on_host(backend, array):
    return np.array(backend.to_numpy(array))


# half of what XLA's tanh may be off by, 2.6e-7, and a rounding
@pytest.mark.parametrize(("function", "atol"), [(sigmoid, 1e-7), (gate, 2e-7)])
def test_sigmoid_never_overflows(backend, function, atol):
    found = on_host(backend, function(backend.asarray(GRID, "float32"), backend.xp))
    wanted = [1 / (1 + math.exp(-x)) if x > -700 else 0.0 for x in GRID]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)
    assert found.dtype == np.float32


def test_softplus_never_overflows(backend):
    found = on_host(backend, softplus(backend.asarray(GRID, "float32"), backend.xp))
    wanted = [max(x, 0.0) + math.log1p(math.exp(-abs(x))) for x in GRID]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-30)


def test_log_softmax_by_hand(backend):
    x = np.array([[math.log(1), math.log(2), math.log(5)], [0.0, 0.0, 0.0]])
    found = on_host(backend, log_softmax(backend.asarray(x, "float32"), backend.xp))
    wanted = np.log([[1 / 8, 2 / 8, 5 / 8], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_log_softmax_does_not_see_a_shift(backend, shift):
    x = np.array([[0.0, 1.0, -3.0, 0.5]])
    found = on_host(backend, log_softmax(backend.asarray(x + shift, "float32"), backend.xp))
    wanted = x - math.log(sum(math.exp(v) for v in x[0]))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_log_softmax_of_scores_far_apart(backend):
    found = on_host(backend, log_softmax(backend.asarray([[1e4, -1e4]], "float32"), backend.xp))
    np.testing.assert_array_equal(found, [[0.0, -2e4]])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_one_hot_by_hand(backend, dtype):
    labels = backend.asarray(np.array([[2, 0], [1, 2]], dtype=dtype))
    rows = one_hot(labels, 3, backend.dtype("float32"), backend.xp)
    assert rows.dtype == backend.dtype("float32")
    wanted = [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]]
    np.testing.assert_array_equal(on_host(backend, rows), wanted)


def test_one_hot_of_more_classes_than_a_byte_counts(backend):
    labels = backend.asarray(np.array([200, 3], dtype=np.uint8))
    rows = on_host(backend, one_hot(labels, 300, backend.dtype("float32"), backend.xp))
    assert rows.shape == (2, 300)
    np.testing.assert_array_equal(np.argmax(rows, axis=1), [200, 3])
    assert np.sum(rows) == 2


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 3, 4, 5)])
def test_sum_to_features(backend, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    found = on_host(backend, sum_to_features(backend.asarray(x), backend.xp))
    wanted = [math.fsum(column) for column in x.reshape(-1, shape[-1]).T]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_widened_leaves_what_is_wide(backend):
    x = backend.asarray([1.0, 2.0], "float32")
    assert widened(x, backend.xp) is x
    if backend.name != "array-api-strict":  # which has no half precision
        assert widened(backend.asarray([1.0], "float16"), backend.xp).dtype == backend.xp.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erfc_by_chebyshev(dtype):
    """In its tail, relative to what the rounding of z^2 makes of it."""
    x = np.concatenate([np.linspace(-8, 26, 4001), [0.0, 1e-20, 1e6, -1e6]]).astype(dtype)
    found = erfc_by_chebyshev(x, np)
    assert found.dtype == dtype
    wanted, info = np.array([math.erfc(float(v)) for v in x]), np.finfo(dtype)
    bound = info.eps * (20 + 10 * np.minimum(x.astype("float64") ** 2, 1e3)) * wanted + info.tiny
    assert np.all(np.abs(found - wanted) <= bound)


def test_erfc_by_chebyshev_is_odd_about_1_and_falls():
    x = np.linspace(0.0, 6.0, 500)
    np.testing.assert_array_equal(erfc_by_chebyshev(-x[1:], np), 2 - erfc_by_chebyshev(x[1:], np))
    assert np.all(np.diff(erfc_by_chebyshev(x, np)) < 4e-16)


def test_the_tail_of_sigmoid(backend):
    x = np.array([-9.0, -18.0, -30.0, -60.0, -87.0])
    found = on_host(backend, sigmoid(backend.asarray(x, "float32"), backend.xp))
    np.testing.assert_allclose(found, [math.exp(v) / (1 + math.exp(v)) for v in x], rtol=1e-5)


def test_mix_bits_is_a_bijection():
    """Undone step by step: xor-shifts and a multiplication by an odd number have inverses."""
    x = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    word, inverse = mix_bits(x, np), pow(0x45D9F3B, -1, 2**32)
    for _ in range(2):
        word = ((word ^ (word >> 16)).astype(np.uint64) * inverse % 2**32).astype(np.uint32)
    np.testing.assert_array_equal(word ^ (word >> 16), x)


def test_mix_bits_of_python_integers_and_of_wide_arrays_agree():
    x = np.array([0, 1, 2, 12345, 2**31, 2**32 - 1])
    narrow = mix_bits(x.astype(np.uint32), np)
    np.testing.assert_array_equal(mix_bits(x, np), narrow)
    assert [mix_bits(int(word), None) for word in x] == narrow.tolist()


def test_mix_bits_flips_half_of_the_bits():
    x = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32)
    for bit in range(32):
        flipped = mix_bits(x, np) ^ mix_bits(x ^ np.uint32(1 << bit), np)
        share = np.mean((flipped[:, None] >> np.arange(32, dtype=np.uint32)) & 1, axis=0)
        assert np.all(np.abs(share - 0.5) < 0.1), bit  # each output bit, by each input bit


def test_stream_keys_of_one_seed_are_all_different():
    draws = np.arange(100_000, dtype=np.uint32)
    for low, high in [(0, 0), (7, 0), (0, 7), (2**32 - 1, 123)]:
        keys = stream_key(draws, np.uint32(low), np.uint32(high), np)
        assert len(np.unique(keys)) == len(draws)


def test_the_host_namespace_speaks_python_numbers():
    assert HOST.where(HOST.minimum(2, 3) < 3, HOST.sqrt(4.0), 0.0) == 2.0
    assert type(HOST.exp(1.0)) is float
    assert HOST.pow(2.0, 3) == 8.0
    assert HOST.maximum(1, HOST.floor(2.7)) == 2
