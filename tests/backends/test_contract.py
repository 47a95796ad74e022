"""Every primitive of every backend, held to the portable version and to independent numbers."""

import contextlib
import importlib.util
import inspect
import math

import numpy as np
import pytest

from tests.conftest import SPECS, needs
from xpnn.backends import BACKENDS, Backend, backend_of, get_backend
from xpnn.backends.base import Backend as Base
from xpnn.backends import backend_class
from xpnn.errors import BackendUnavailable, DataError

LIBRARIES = sorted({spec.partition(":")[0] for spec in [*SPECS, "numpy"]})
SMALL, BLOCKED, THREADED = 7, 40_000, (1 << 20) + 17


def host(backend, *arrays):
    return [np.array(backend.to_numpy(array)) for array in arrays]


# elementwise --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
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


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
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


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
def test_elementwise_takes_0d_arrays_for_numbers(backend, rng, size):
    a, b = rng.standard_normal((2, size)).astype(np.float32)
    share = np.asarray(0.25, dtype=np.float32)
    found = backend.elementwise(blend, (0, 2))(*map(backend.asarray, (a.copy(), b, share)))
    assert found.dtype == backend.dtype("float32")
    np.testing.assert_allclose(host(backend, found)[0], blend(np, a, b, 0.25), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
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


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
def test_arrays_that_are_not_donated_are_left_alone(backend, rng, size):
    values = rng.standard_normal((3, size)).astype(np.float32)
    arrays = [backend.asarray(value.copy()) for value in values]
    backend.elementwise(momentum, (2,))(*arrays, 0.1)
    for array, value in zip(host(backend, *arrays[:2]), values, strict=False):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
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


# compile, counters, constants ---------------------------------------------------------------------


def test_compile_keeps_the_meaning(backend, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)

    def step(tree, y):
        return {"sum": tree["a"] + y, "product": backend.xp.sum(tree["a"] * y)}

    found = backend.compile(step, donate=(0,))({"a": backend.asarray(x.copy())}, backend.asarray(x))
    np.testing.assert_allclose(*host(backend, found["sum"], backend.asarray(2 * x)), rtol=1e-6)
    assert float(backend.to_numpy(found["product"])) == pytest.approx(
        float(np.sum(x * x)), rel=1e-5
    )


def test_counter_counts_without_changing_its_kind(backend):
    count = backend.counter(5)
    after = count + 1
    assert int(after) == 6
    if backend.counters_on_device:
        assert count.dtype == after.dtype == backend.xp.int32
        assert tuple(after.shape) == ()
    else:
        assert type(count) is type(after) is int


def test_scalar_is_a_number_of_python_or_a_0d_array(backend):
    number = backend.scalar(0.25)
    assert float(number) == 0.25
    if backend.counters_on_device:
        assert backend.owns(number)
        assert tuple(number.shape) == ()
    else:
        assert type(number) is float


def test_constant(backend):
    array = backend.constant((1.0, 2.5))
    assert array.dtype == backend.xp.float32
    np.testing.assert_array_equal(host(backend, array)[0], [1.0, 2.5])
    np.testing.assert_array_equal(host(backend, backend.constant((1.0, 2.5)))[0], [1.0, 2.5])


# scan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_scan_carries_from_step_to_step(backend, rng, reverse, compiled):
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)

    def step(carry, now):
        (total,) = carry
        return (0.5 * total + now,), (total, now)

    def walk(start, x):
        return backend.scan(step, (start,), (x,), reverse)

    start = backend.zeros((2, 3), "float32")
    (total,), (before, seen) = (backend.compile(walk) if compiled else walk)(
        start, backend.asarray(x)
    )
    wanted, kept = np.zeros((2, 3)), [None] * 5
    for t in (4, 3, 2, 1, 0) if reverse else range(5):
        kept[t] = wanted
        wanted = 0.5 * wanted + x[t]
    for array, right in zip(host(backend, total, before, seen), (wanted, kept, x), strict=True):
        np.testing.assert_allclose(array, right, rtol=1e-5, atol=1e-6)


# scatter_add --------------------------------------------------------------------------------------

SCATTERS = [
    pytest.param((5, 3), [0, 2, 2, 4, 2], id="repeats"),
    pytest.param((4,), [3, 3, 3], id="rows-of-one-number"),
    pytest.param((3, 2, 2), [1, 0], id="rows-of-matrices"),
    pytest.param((6, 2), [], id="nothing"),
    pytest.param((1, 2), [0] * 50, id="one-row"),
]


@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize(("shape", "indices"), SCATTERS)
def test_scatter_add_sums_up_repeats(backend, rng, shape, indices, index_dtype):
    array = rng.standard_normal(shape).astype(np.float32)
    updates = rng.standard_normal((len(indices), *shape[1:])).astype(np.float32)
    wanted = array.copy()
    for k, row in enumerate(indices):
        wanted[row] += updates[k]
    ids = np.asarray(indices, dtype=index_dtype)
    for scatter_add in (type(backend).scatter_add, Base.scatter_add):
        given = [backend.asarray(a.copy()) for a in (array, ids, updates)]
        found = scatter_add(backend, *given)
        assert found.dtype == backend.dtype("float32")
        np.testing.assert_allclose(host(backend, found)[0], wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(host(backend, given[2])[0], updates)


def test_scatter_add_leaves_read_only_arrays_alone():
    array = np.zeros((2, 2), dtype=np.float32)
    array.flags.writeable = False
    found = get_backend("numpy").scatter_add(array, np.array([1]), np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(found, [[0, 0], [1, 1]])
    assert not np.any(array)


# erf ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True], ids=["own", "portable"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_equals_that_of_the_math_module(backend, dtype, portable):
    grid = np.concatenate(
        [np.linspace(-7, 7, 2001), [1e-30, -1e-8, 1e-3, 40.0, -1e4, np.inf, -np.inf, 0]]
    )
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        x = grid.astype(dtype)
        erf = Base.erf if portable else type(backend).erf
        found = erf(backend, backend.asarray(x))
        assert found.dtype == backend.dtype(dtype)
        wanted = [math.erf(float(v)) for v in x]
        atol = 5e-7 if dtype == "float32" else 2e-15
        np.testing.assert_allclose(host(backend, found)[0], wanted, rtol=0, atol=atol)


def test_erf_keeps_nan_and_stays_within_one(backend):
    x = np.array([np.nan, 3.9, 4.1, 5.0, 9.0, -9.0], dtype=np.float32)
    for erf in (Base.erf, type(backend).erf):
        found = host(backend, erf(backend, backend.asarray(x)))[0]
        assert np.isnan(found[0])
        assert np.all(np.abs(found[1:]) <= 1)


def test_erf_of_half_precision_stays_half(backend):
    if backend.name == "array-api-strict":
        with pytest.raises(BackendUnavailable, match="no dtype 'float16'"):
            backend.dtype("float16")
        return
    x = backend.asarray(np.array([-1.0, 0.5], dtype=np.float16))
    found = backend.erf(x)
    assert found.dtype == backend.dtype("float16")
    np.testing.assert_allclose(host(backend, found)[0], [math.erf(-1), math.erf(0.5)], atol=1e-3)


# random_bits --------------------------------------------------------------------------------------


def mixed(word):
    """Mueller's hash, on Python's integers."""
    for _ in range(2):
        word = ((word >> 16) ^ word) * 0x45D9F3B % 2**32
    return (word >> 16) ^ word


def words(seed, draw, count):
    """What random_bits promises, one word after another."""
    key = mixed(mixed(mixed(draw) ^ seed % 2**32) ^ seed >> 32)
    return [mixed(mixed(i) ^ key) for i in range(count)]


def bits(backend, seed, draw, shape):
    return host(backend, backend.random_bits(seed, backend.counter(draw), shape))[0]


SEEDS = [0, 1, 12345, 2**31, 2**32 - 1, 2**32, 2**63 + 5, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("draw", [0, 1, 77, 2**31 - 1])
def test_random_bits_are_the_same_words_everywhere(backend, seed, draw):
    wanted = words(seed, draw, 12)
    for shape in [(12,), (3, 4), (2, 3, 2)]:
        found = bits(backend, seed, draw, shape)
        assert found.shape == shape
        assert found.reshape(-1).tolist() == wanted
    portable = Base.random_bits(backend, seed, backend.counter(draw), (12,))
    assert host(backend, portable)[0].tolist() == wanted


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0)])
def test_random_bits_of_odd_shapes(backend, shape):
    found = bits(backend, 9, 4, shape)
    assert found.shape == shape
    assert found.reshape(-1).tolist() == words(9, 4, found.size)


def test_random_bits_of_many_words(backend):
    count = 70_000  # more than NumPy takes in one block
    found = bits(backend, 3, 2, (count,))
    assert found[-50:].tolist() == words(3, 2, count)[-50:]


def test_random_bits_are_the_same_in_a_compiled_step(backend):
    def step(draw):
        return backend.random_bits(5, draw, (6,)), draw + 1

    compiled, draw = backend.compile(step), backend.counter()
    for wanted in (words(5, 0, 6), words(5, 1, 6)):
        found, draw = compiled(draw)
        assert host(backend, found)[0].tolist() == wanted


NUMPY = get_backend("numpy")
MANY = 200_000


def floats(seed, draw):
    return NUMPY.random_bits(seed, draw, (MANY,)) / 2**32


def test_random_bits_are_uniform():
    u = floats(1, 0)
    assert abs(np.mean(u) - 0.5) < 4 * math.sqrt(1 / 12 / MANY)
    assert abs(np.var(u) - 1 / 12) < 4 * math.sqrt(1 / 180 / MANY)


@pytest.mark.parametrize("draw", [0, 1, 1000])
def test_each_bit_is_set_half_of_the_time(draw):
    drawn = NUMPY.random_bits(7, draw, (MANY,))
    for bit in range(32):
        assert abs(np.mean((drawn >> bit) & 1) - 0.5) < 4.5 * 0.5 / math.sqrt(MANY)


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3])
def test_bytes_are_even(seed):
    drawn = NUMPY.random_bits(seed, 0, (MANY,))
    for byte in range(4):
        counts = np.bincount((drawn >> (8 * byte)) & 255, minlength=256)
        chi_square = np.sum((counts - MANY / 256) ** 2) / (MANY / 256)
        assert 150 < chi_square < 370  # 255 degrees of freedom: 255 +- 5 standard deviations


PAIRS = [
    pytest.param((1, 0), (1, 1), id="draws"),
    pytest.param((1, 0), (1, 1000), id="far-draws"),
    pytest.param((1, 0), (2, 0), id="low-seeds"),
    pytest.param((5, 0), (5 + 2**32, 0), id="high-seeds"),
    pytest.param((0, 1), (2**32, 0), id="seed-for-draw"),
    pytest.param((0, 1), (1, 0), id="layer-for-draw"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("shift", [0, 1, 2, 17])
def test_streams_are_not_correlated(one, other, shift):
    a, b = floats(*one), np.roll(floats(*other), shift)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(MANY)


def test_neighbours_are_not_correlated():
    u = floats(3, 3)
    for lag in (1, 2, 3, 8, 64, 256, 1024):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 4.5 / math.sqrt(MANY)


def test_another_seed_is_not_the_same_draws_in_another_order():
    firsts = [{words(seed, draw, 1)[0] for draw in range(64)} for seed in (0, 2**32, 2**33, 1, 2)]
    for i, one in enumerate(firsts):
        assert len(one) == 64
        assert all(one.isdisjoint(other) for other in firsts[i + 1 :])


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.8, 0.999, 1.0])
def test_random_mask_keeps_its_share(backend, keep):
    mask = host(backend, backend.random_mask(keep, 11, backend.counter(3), (100, 200)))[0]
    assert mask.dtype == np.bool_
    assert abs(np.mean(mask) - keep) <= 4.5 * math.sqrt(keep * (1 - keep) / mask.size)
    np.testing.assert_array_equal(mask, np.reshape(words(11, 3, 20_000), mask.shape) < keep * 2**32)


# asarray and back ---------------------------------------------------------------------------------

PLAIN = np.arange(12, dtype=np.float32).reshape(3, 4)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


VALUES = [  # what a person may hand over, and the same as a plain array
    pytest.param([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), id="list"),
    pytest.param(((1.5, 2.0), (3.0, 4.0)), np.array([[1.5, 2], [3, 4]]), id="tuples"),
    pytest.param([np.ones(2), np.zeros(2)], np.array([[1.0, 1], [0, 0]]), id="list-of-arrays"),
    pytest.param(3, np.array(3), id="integer"),
    pytest.param(2.5, np.array(2.5), id="float"),
    pytest.param([True, False], np.array([True, False]), id="booleans"),
    pytest.param(np.float32(2.5), np.array(2.5, np.float32), id="scalar"),
    pytest.param(range(4), np.arange(4), id="range"),
    pytest.param(PLAIN.astype(">f4"), PLAIN, id="big-endian"),
    pytest.param(np.arange(3, dtype=">i8"), np.arange(3), id="big-endian-integers"),
    pytest.param(PLAIN[:, ::2], PLAIN[:, ::2].copy(), id="strided"),
    pytest.param(PLAIN.T, PLAIN.T.copy(), id="transposed"),
    pytest.param(np.asfortranarray(PLAIN), PLAIN, id="fortran"),
    pytest.param(PLAIN[::-1, ::-1], PLAIN[::-1, ::-1].copy(), id="backwards"),
    pytest.param(read_only(PLAIN), PLAIN, id="read-only"),
    pytest.param(
        np.broadcast_to(np.float32(2), (2, 3)), np.full((2, 3), 2, np.float32), id="stride-0"
    ),
    pytest.param(np.array(7.0, np.float32), np.array(7.0, np.float32), id="0-d"),
    pytest.param(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), id="empty"),
    pytest.param(np.arange(250, 256, dtype=np.uint8), np.arange(250, 256), id="uint8"),
    pytest.param(np.array([1, 2**16 - 1], np.uint16), np.array([1, 2**16 - 1]), id="uint16"),
    pytest.param(np.array([1, 2**31 - 1], np.uint32), np.array([1, 2**31 - 1]), id="uint32"),
    pytest.param(np.array([-5, 5], np.int8), np.array([-5, 5]), id="int8"),
    pytest.param(np.array([0.5, -2], np.float16), np.array([0.5, -2]), id="float16"),
    pytest.param(np.array([0.5, -2], np.longdouble), np.array([0.5, -2]), id="long-double"),
    pytest.param(memoryview(PLAIN), PLAIN, id="memoryview"),
]


@pytest.mark.parametrize(("values", "plain"), VALUES)
def test_asarray_takes_what_a_person_may_have(backend, values, plain):
    array = backend.asarray(values)
    assert backend.owns(array)
    assert tuple(array.shape) == plain.shape
    np.testing.assert_array_equal(host(backend, array)[0], plain)
    single = backend.asarray(values, "float32")
    assert single.dtype == backend.dtype("float32")
    np.testing.assert_array_equal(host(backend, single + single)[0], 2 * plain.astype(np.float32))


NOT_NUMBERS = [
    pytest.param("seven", id="string"),
    pytest.param(["1", "2"], id="strings"),
    pytest.param([[1, 2], [3]], id="ragged"),
    pytest.param([1, None], id="none-inside"),
    pytest.param(None, id="none"),
    pytest.param({"a": 1}, id="dictionary"),
    pytest.param(object(), id="object"),
    pytest.param(np.array([1, "a"], dtype=object), id="objects"),
    pytest.param(np.array(["2020-01-01"], dtype="datetime64[D]"), id="dates"),
    pytest.param(np.ones(2, dtype=complex), id="complex"),
    pytest.param((i for i in range(3)), id="generator"),
    pytest.param(np.zeros(2, dtype=[("a", "f4")]), id="records"),
]


@pytest.mark.parametrize("values", NOT_NUMBERS)
def test_asarray_refuses_what_is_not_numbers(backend, values):
    with pytest.raises(DataError, match="wanted (numbers|an array of numbers)"):
        backend.asarray(values)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_asarray_takes_arrays_of_every_library(backend, library, dtype):
    other = get_backend("array-api-strict:device2" if library == "array-api-strict" else library)
    values = (PLAIN > 3) if dtype == "bool" else PLAIN.astype(dtype)
    array = backend.asarray(other.asarray(values))
    assert backend.owns(array)
    np.testing.assert_array_equal(host(backend, array)[0], values)
    assert host(backend, array)[0].dtype == values.dtype


@needs("torch")
def test_asarray_takes_torch_tensors_with_a_history(backend):
    import torch

    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    array = backend.asarray(tensor * 2)
    np.testing.assert_array_equal(host(backend, array)[0], [2.0, 4.0])
    assert not getattr(array, "requires_grad", False)


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=needs(name)) for name in ("torch", "jax")]
)
def test_asarray_takes_bfloat16(backend, library):
    other = get_backend(library)
    half = other.xp.astype(other.asarray([0.5, 3.0]), other.xp.bfloat16)
    np.testing.assert_array_equal(host(other, half)[0], [0.5, 3.0])
    array = backend.asarray(half, "float32")
    np.testing.assert_array_equal(host(backend, array)[0], [0.5, 3.0])


def test_nothing_is_copied_where_values_fit(backend):
    array = backend.asarray(PLAIN)
    assert backend.asarray(array) is array
    assert backend.asarray(array, "float32") is array


def test_numpy_shares_memory():
    array = PLAIN.copy()
    assert NUMPY.asarray(array) is array
    assert NUMPY.to_numpy(array) is array
    assert np.shares_memory(NUMPY.asarray(array[::-1, ::2]), array)


@needs("torch")
def test_torch_shares_memory_with_numpy():
    array = PLAIN.copy()
    tensor = get_backend("torch").asarray(array)
    assert np.shares_memory(get_backend("torch").to_numpy(tensor), array)
    fixed = read_only(PLAIN)
    tensor = get_backend("torch").asarray(fixed)
    tensor += 1
    np.testing.assert_array_equal(fixed, PLAIN)


def test_dtypes_by_name(backend):
    for name in ("float32", "int32", "bool"):
        assert backend.zeros((2,), name).dtype == backend.dtype(name)
    with pytest.raises(BackendUnavailable, match=r"has no dtype 'float12'; choose another"):
        backend.dtype("float12")


@needs("jax")
def test_jax_says_how_to_have_64_bits():
    import jax

    with jax.enable_x64(False):
        with pytest.raises(BackendUnavailable, match="jax_enable_x64"):
            get_backend("jax").asarray([1.0], "float64")


def test_float64_where_it_is_asked_for(backend):
    with backend.allow_float64():
        array = backend.asarray([1 / 3], "float64")
        assert array.dtype == backend.dtype("float64")
        assert host(backend, array * 3.0)[0][0] == 1.0


# Names and housekeeping ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_overrides_have_the_signature_of_the_base(name):
    kind, overridden = backend_class(name), 0
    for attribute, method in vars(kind).items():
        base = getattr(Base, attribute, None)
        if not inspect.isfunction(method) or not inspect.isfunction(base):
            continue
        overridden += 1
        ours, theirs = inspect.signature(method), inspect.signature(base)
        assert list(ours.parameters.items()) == list(theirs.parameters.items()), attribute
        assert ours.return_annotation == theirs.return_annotation, attribute
    assert overridden > 3


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_adds_no_public_method(name):
    public = {attribute for attribute in vars(backend_class(name)) if not attribute.startswith("_")}
    assert public <= set(dir(Base)) | {"name", "library", "install"}


def test_backend_says_what_it_is(backend):
    assert repr(backend) == f"<backend {backend.spec}>"
    assert backend.name in backend.describe()
    assert "\n" not in backend.describe()
    assert any(character.isdigit() for character in backend.describe())
    assert backend.describe_devices()
    assert all(isinstance(line, str) for line in backend.describe_devices())


def test_housekeeping_leaves_arrays_alone(backend):
    with backend.on_device(), backend.on_device():
        array = backend.zeros((2, 2), "float32") + 1.0
    backend.synchronize()
    backend.free_memory()
    np.testing.assert_array_equal(host(backend, array)[0], np.ones((2, 2)))


def test_backend_of_finds_the_way_back(backend):
    found = backend_of(backend.asarray([1.0, 2.0]))
    assert isinstance(found, Backend)
    assert (found.name, found.device) == (backend.name, backend.device)


def test_every_library_that_is_asked_for_is_here():
    for spec in SPECS:
        library = backend_class(spec.partition(":")[0]).library
        assert importlib.util.find_spec(library.replace("-", "_")) is not None
