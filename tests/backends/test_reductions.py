"""``sums``, ``means`` and ``softmax`` of every backend, held to NumPy in float64."""

import functools

import numpy as np
import pytest

from tests.conftest import needs
from xpnn.backends import get_backend
from xpnn.backends.portable.base import Backend as Base
from xpnn.numerics import product_over_rows

pytestmark = pytest.mark.width

CASES = [
    *(("product", shape) for shape in [(5, 7), (2, 3, 4, 5), (4, 1), (1, 6), (700, 3), (0, 4)]),
    *((rule, shape) for rule in ("itself", "gap") for shape in [(3, 2000), (40, 9, 3), (3000, 5)]),
]


def host(backend, array):
    return np.array(backend.to_numpy(array))


def product(xp, a, b):
    return a * b


def gap(xp, a, b):
    return xp.exp(-xp.abs(a - b))


def root(xp, x):
    return 1.0 / xp.sqrt(x * x + 0.5)


RULES = {  # a rule, the same for NumPy, and how many arrays it takes
    "itself": (None, lambda a: a, 1),
    "product": (product, lambda a, b: a * b, 2),
    "gap": (gap, lambda a, b: np.exp(-np.abs(a - b)), 2),
}


@pytest.mark.parametrize("finish", [None, root])
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("kind", ["sums", "means"])
@pytest.mark.parametrize(("rule", "shape"), CASES)
def test_sums_and_means(backend, rng, rule, shape, kind, features, finish):
    if kind == "means" and features and not shape[0]:
        pytest.skip("the mean of nothing")
    ours, theirs, count = RULES[rule]
    arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]
    axes = tuple(range(len(shape) - 1)) if features else -1
    reduce = functools.partial(getattr(np, kind[:-1]), axis=axes, keepdims=not features)
    wanted = reduce(theirs(*(array.astype("float64") for array in arrays)))
    wanted = wanted if finish is None else finish(np, wanted)
    for reduced in (type(backend)._reduced, Base._reduced):
        summed = reduced(backend, ours, finish, features, kind == "means")
        found = summed(*map(backend.asarray, arrays))
        assert found.dtype == backend.dtype("float32")
        assert tuple(found.shape) == wanted.shape
        np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-4, atol=1e-4)
    named = getattr(backend, kind)(ours, finish, features=features)
    found = host(backend, named(*map(backend.asarray, arrays)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_rows_that_meet_one_row(backend, rng):
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in [(4096, 3), (1, 3)])
    found = backend.sums(product, features=True)(backend.asarray(a), backend.asarray(b))
    wanted = np.sum(a.astype("float64") * b, axis=0)
    np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape", [(4096, 3), (3000, 5), (4097, 2), (2048, 3, 2), (1, 4), (0, 3), (4096, 0)]
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_plain_sums_over_many_rows(backend, rng, shape, keepdims):
    x = rng.standard_normal(shape).astype(np.float32)
    found = backend.xp.sum(backend.asarray(x), axis=0, keepdims=keepdims)
    assert found.dtype == backend.dtype("float32")
    wanted = np.sum(x.astype("float64"), axis=0, keepdims=keepdims)
    np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-4, atol=1e-4)


LONG = {  # the shape of many numbers, and the axes over which they are added up
    "columns": ((400_000, 2), 0),
    "one column": ((400_000, 1), 0),
    "row": ((2, 400_001), -1),
    "between": ((2, 200_003, 2), 1),
    "several": ((500, 400, 2), (0, 1)),
    "all": ((400_000, 2), None),
}


def equal_and_off_the_grid(shape):
    """Terms whose roundings all go the same way, the worst for a sum."""
    return np.full(shape, 0.1, np.float32)


@pytest.mark.parametrize("case", LONG)
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_long_sums_keep_their_digits(backend, case, kind):
    """To 1 in 30,000, a tenth of what one after another loses: see xpnn.backends.portable.sums."""
    shape, axis = LONG[case]
    x = equal_and_off_the_grid(shape)
    wanted = getattr(np, kind)(x.astype("float64"), axis=axis)
    for keepdims in (False, True):
        found = getattr(backend.xp, kind)(backend.asarray(x), axis=axis, keepdims=keepdims)
        assert found.dtype == backend.dtype("float32")
        assert tuple(found.shape) == np.sum(x, axis=axis, keepdims=keepdims).shape
        exact = np.reshape(wanted, found.shape)
        np.testing.assert_allclose(host(backend, found), exact, rtol=3e-5)


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("rule", ["itself", "product"])
def test_long_sums_of_rules_keep_their_digits(backend, rule, features):
    ours, theirs, count = RULES[rule]
    x = equal_and_off_the_grid((400_000, 2) if features else (2, 400_000))
    wanted = np.sum(theirs(*[x.astype("float64")] * count), axis=0 if features else -1)
    for reduced in (type(backend)._reduced, Base._reduced):
        found = reduced(backend, ours, None, features, False)(*[backend.asarray(x)] * count)
        np.testing.assert_allclose(np.squeeze(host(backend, found)), wanted, rtol=3e-5)


def test_a_compiled_step_keeps_the_digits_of_long_sums(backend):
    def step(x, y):
        xp = backend.xp
        sums = xp.sum(x, axis=0), xp.mean(x, axis=0), xp.sum(xp.reshape(x, (2, -1, 2)), axis=1)
        return *sums, xp.sum(x), product_over_rows(x, y, xp)

    compiled = backend.compiled(step, known=True)
    x = equal_and_off_the_grid((400_010, 2))
    wide, y = x.astype("float64"), np.ones((400_010, 1), np.float32)
    wanted = [wide.sum(0), wide.mean(0), wide.reshape(2, -1, 2).sum(1), wide.sum(), wide.T @ y]
    for _ in range(3):
        with backend.on_device():
            found = compiled(backend.asarray(x), backend.asarray(y))
        for one, exact in zip(found, wanted, strict=True):
            np.testing.assert_allclose(host(backend, one), exact, rtol=3e-5)


def test_whole_sums_keep_their_digits_however_arrays_lie(backend):
    """To 1 in 10,000: a GPU has 512 threads that add up 4000 numbers each."""
    x = backend.asarray(equal_and_off_the_grid((400_000, 5)))
    column = backend.asarray(equal_and_off_the_grid((400_000, 1)))
    for one in (x[:, :2], backend.xp.broadcast_to(column, (400_000, 2)), x.T, x[::2, :]):
        wanted = 0.1 * np.prod(one.shape)
        np.testing.assert_allclose(host(backend, backend.xp.sum(one)), wanted, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4097, 3), (100_003, 1), (8192, 65), (3, 6000, 2)])
def test_products_over_rows(backend, rng, shape):
    a = rng.standard_normal(shape).astype(np.float32)
    b = rng.standard_normal((*shape[:-1], 64)).astype(np.float32)[..., :2]
    found = product_over_rows(backend.asarray(a), backend.asarray(b), backend.xp)
    wanted = np.swapaxes(a.astype("float64"), -1, -2) @ b
    np.testing.assert_allclose(host(backend, found), wanted, atol=2e-3)


@pytest.mark.parametrize("width", [1, 3])
def test_long_products_over_rows_keep_their_digits(backend, width):
    x = equal_and_off_the_grid((400_010, width))
    ones = backend.xp.ones((400_010, 2), dtype=backend.dtype("float32"), device=backend.device)
    found = product_over_rows(backend.asarray(x), ones, backend.xp)
    np.testing.assert_allclose(host(backend, found), 0.1 * 400_010, rtol=3e-5)


def test_whole_numbers_are_counted_exactly(backend):
    ones = backend.xp.ones((20_000_001, 1), dtype=backend.xp.int32, device=backend.device)
    assert int(backend.xp.sum(ones)) == 20_000_001


@pytest.mark.parametrize("axis", [0, 1, None])
def test_sums_of_half_precision_are_rounded_once(backend, axis):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = np.full((5000, 9), 1.001, np.float16)
    wanted = np.sum(x.astype("float64"), axis=axis).astype(np.float16)
    found = backend.xp.sum(backend.asarray(x), axis=axis)
    assert found.dtype == backend.dtype("float16")
    np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-3)
    found = backend.xp.mean(backend.asarray(100 * x), axis=axis)
    assert found.dtype == backend.dtype("float16")
    np.testing.assert_allclose(host(backend, found), float(np.float16(100.1)), rtol=1e-3)


@needs("cupy")
def test_no_reduction_is_left_to_one_multiprocessor(rng, monkeypatch):
    """What cupy.fuse cannot write as a reduction it runs on a single one, and says nothing."""
    from cupy._core import new_fusion

    def refuse(function, name):
        raise AssertionError(f"{name} became a kernel for one multiprocessor")

    monkeypatch.setattr(new_fusion, "Fusion", refuse)
    backend = get_backend("cupy")
    for shape in ((4, 6), (4096, 3), (4, 5, 6)):
        x = backend.asarray(rng.standard_normal(shape).astype(np.float32))
        for make in (backend.sums, backend.means):
            for finish in (None, root):
                for features in (False, True):
                    make(product, finish, features=features)(x, x)
                    make(None, finish, features=features)(x)
    kernels = type(backend)()
    kernels.softmax(x, x > 0)
    kernels.log_softmax(x)


def test_sums_read_arrays_however_they_lie(backend, rng):
    x = rng.standard_normal((4, 3, 6, 2)).astype(np.float32)
    a = backend.xp.permute_dims(backend.asarray(x), (0, 2, 1, 3))
    b = backend.asarray(np.transpose(x, (0, 2, 1, 3)).copy())
    wanted = np.sum(np.transpose(x, (0, 2, 1, 3)) ** 2, axis=-1, keepdims=True)
    found = backend.sums(product)(a, b)
    np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-5)


@pytest.mark.parametrize("features", [False, True])
def test_half_precision_is_added_up_in_float32(backend, features):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = np.full((2, 5000), 1.5, np.float16)
    x = x.T if features else x
    for reduced in (type(backend)._reduced, Base._reduced):
        for mean, wanted in ((False, 5000 * 2.25), (True, 2.25)):
            found = reduced(backend, product, None, features, mean)(*map(backend.asarray, (x, x)))
            assert found.dtype == backend.dtype("float32")
            np.testing.assert_allclose(host(backend, found), wanted, rtol=1e-6)


# Softmax ------------------------------------------------------------------------------------------

MASKS = {
    "nothing": None,
    "later": np.triu(np.ones((5, 5), bool), 1),
    "padding": np.arange(5) > np.asarray([4, 1, 0])[:, None, None],
    "all but one": np.arange(5) != 3,
    "everything": np.ones(5, bool),
}


@pytest.mark.parametrize("mask", MASKS)
def test_softmax(backend, rng, mask):
    x = (100 * rng.standard_normal((3, 5, 5))).astype(np.float32)
    barred = MASKS[mask]
    seen = x.astype("float64") if barred is None else np.where(barred, -1e30, x)
    powers = np.exp(seen - seen.max(axis=-1, keepdims=True))
    wanted = powers / powers.sum(axis=-1, keepdims=True)
    for softmax in (type(backend).softmax, Base.softmax):
        given = [backend.asarray(one) for one in (x, barred) if one is not None]
        found = softmax(backend, *given)
        assert found.dtype == backend.dtype("float32")
        np.testing.assert_allclose(host(backend, found), wanted, rtol=3e-5, atol=1e-8)
        np.testing.assert_array_equal(host(backend, given[0]), x)
        if barred is not None and not np.all(barred):
            wide = np.broadcast_to(barred, x.shape)
            assert not np.any(host(backend, found)[wide])


def test_softmax_of_more_scores_than_half_precision_counts(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = np.zeros((1, 70_000), np.float16)
    for softmax in (type(backend).softmax, Base.softmax):
        found = host(backend, softmax(backend, backend.asarray(x)))
        np.testing.assert_allclose(found, 1 / 70_000, rtol=1e-2)
    for log_softmax in (type(backend).log_softmax, Base.log_softmax):
        found = host(backend, log_softmax(backend, backend.asarray(x)))
        np.testing.assert_allclose(found, -np.log(70_000), rtol=1e-6)


def test_log_softmax_of_scores_at_both_ends_of_half_precision(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = backend.asarray(np.asarray([[60000.0, -60000.0]], np.float16))
    for log_softmax in (type(backend).log_softmax, Base.log_softmax):
        found = host(backend, log_softmax(backend, x))
        np.testing.assert_allclose(found, [[0.0, -119_936 - 0.0]], rtol=1e-3)


def test_softmax_of_large_scores_in_half_precision(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = np.zeros((2, 4096), np.float16)
    x[1] = 60000
    for softmax in (type(backend).softmax, Base.softmax):
        found = softmax(backend, backend.asarray(x))
        assert found.dtype == backend.dtype("float16")
        np.testing.assert_allclose(host(backend, found), 1 / 4096, rtol=1e-3)
