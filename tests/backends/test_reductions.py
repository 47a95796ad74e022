"""``sums``, ``means`` and ``softmax`` of every backend, held to NumPy in float64."""

import functools

import numpy as np
import pytest

from tests.conftest import needs
from xpnn.backends import get_backend
from xpnn.backends.portable.base import Backend as Base

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


def test_softmax_of_large_scores_in_half_precision(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    x = np.zeros((2, 4096), np.float16)
    x[1] = 60000
    for softmax in (type(backend).softmax, Base.softmax):
        found = softmax(backend, backend.asarray(x))
        assert found.dtype == backend.dtype("float16")
        np.testing.assert_allclose(host(backend, found), 1 / 4096, rtol=1e-3)
