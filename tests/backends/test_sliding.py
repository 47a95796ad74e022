"""``place`` and ``fold`` of every backend, held to loops and to the portable version."""

import math

import numpy as np
import pytest

from tests.conftest import needs
from xpnn.backends import get_backend
from xpnn.backends.portable.base import Backend as Base

pytestmark = pytest.mark.width


def host(backend, array):
    return np.array(backend.to_numpy(array))


def dtypes(backend):
    return ["float32"] if backend.name == "array-api-strict" else ["float32", "float16"]


PLACES = [  # start, length
    pytest.param(2, 10, id="borders"),
    pytest.param(0, 9, id="behind"),
    pytest.param(3, 8, id="in-front"),
    pytest.param(-2, 9, id="front-dropped"),
    pytest.param(1, 4, id="end-dropped"),
    pytest.param(-1, 3, id="both-dropped"),
    pytest.param(0, 5, id="as-it-is"),
    pytest.param(7, 7, id="all-dropped-behind"),
    pytest.param(-6, 4, id="all-dropped-in-front"),
]


@pytest.mark.parametrize("fill", [0.0, -math.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("start", "length"), PLACES)
def test_place_fills_up_and_drops_what_sticks_out(backend, rng, start, length, axis, fill):
    shape = [3, 2, 4]
    shape[axis] = 5
    for dtype in dtypes(backend):
        x = rng.standard_normal(shape).astype(dtype)
        wanted = np.full([*shape[:axis], length, *shape[axis + 1 :]], fill, dtype)
        for k in range(5):
            if 0 <= start + k < length:
                wanted[(slice(None),) * axis + (start + k,)] = np.take(x, k, axis)
        for pad in (type(backend).pad, Base.pad):
            given = backend.asarray(x)
            found = pad(backend, given, axis, start, length, fill)
            assert found.dtype == given.dtype
            np.testing.assert_array_equal(host(backend, found), wanted)
            np.testing.assert_array_equal(host(backend, given), x)


FOLDS = [  # entries, places, stride, dilation, low, length
    pytest.param(3, 6, 1, 1, 0, 8, id="overlap"),
    pytest.param(3, 6, 1, 1, 1, 6, id="same"),
    pytest.param(2, 6, 1, 1, 0, 6, id="cut-behind"),
    pytest.param(2, 6, 1, 3, 1, 5, id="cut-on-both-sides"),
    pytest.param(2, 4, 2, 1, 0, 8, id="side-by-side"),
    pytest.param(2, 4, 2, 1, 0, 9, id="rest-behind"),
    pytest.param(3, 4, 2, 1, 1, 8, id="strided"),
    pytest.param(2, 3, 4, 1, 0, 10, id="gaps"),
    pytest.param(3, 4, 1, 3, 2, 9, id="dilated"),
    pytest.param(3, 3, 2, 3, 1, 10, id="strided-dilated"),
    pytest.param(1, 4, 3, 1, 2, 8, id="one-entry"),
    pytest.param(4, 1, 1, 1, 1, 2, id="one-place"),
    pytest.param(40, 3, 2, 1, 3, 38, id="many-entries"),
]


@pytest.mark.any_width
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("entries", "places", "stride", "dilation", "low", "length"), FOLDS)
def test_fold_adds_up_what_windows_share(
    backend, rng, entries, places, stride, dilation, low, length, axis
):
    shape = [3, 2, 4]
    shape[axis] = places
    for dtype in dtypes(backend):
        parts = rng.standard_normal((entries, *shape)).astype(dtype)
        wanted = np.zeros([*shape[:axis], length, *shape[axis + 1 :]])
        for k, t in np.ndindex(entries, places):
            u = t * stride + k * dilation - low
            if 0 <= u < length:
                wanted[(slice(None),) * axis + (u,)] += np.take(parts[k], t, axis)
        for fold in dict.fromkeys((type(backend).fold, Base.fold)):
            given = [backend.asarray(one.copy()) for one in parts]

            def run(*parts, fold=fold):
                return fold(backend, parts, axis, length, stride, dilation, low)

            # as a whole on JAX, which would compile each call by itself
            found = backend.compiled(run, wanted=backend.name == "jax")(*given)
            assert found.dtype == given[0].dtype
            loose = 0.03 if dtype == "float16" and fold is Base.fold else 0.002
            rounding = 1e-6 if dtype == "float32" else loose
            np.testing.assert_allclose(host(backend, found), wanted, rtol=rounding, atol=rounding)
            for one, part in zip(given, parts, strict=True):
                np.testing.assert_array_equal(host(backend, one), part)


def test_fold_reads_parts_however_they_lie(backend, rng):
    xp, x = backend.xp, rng.standard_normal((3, 4, 5)).astype(np.float32)
    turned = xp.permute_dims(backend.asarray(x), (2, 0, 1))
    parts = [turned, xp.flip(turned, axis=0), turned]
    wanted = np.transpose(x, (2, 0, 1))
    wanted = 2 * wanted, wanted[::-1]
    padded = np.zeros((5, 3, 8), np.float32)
    padded[:, :, 0:4] += wanted[0] / 2
    padded[:, :, 1:5] += wanted[1]
    padded[:, :, 2:6] += wanted[0] / 2
    found = backend.fold(parts, 2, 8)
    np.testing.assert_allclose(host(backend, found), padded, rtol=1e-6, atol=1e-6)


@needs("cupy")
def test_fold_adds_up_half_precision_in_float32_on_a_gpu():
    backend = get_backend("cupy")
    large, one = (backend.asarray(np.full((9, 4), value, np.float16)) for value in (2048, 1))
    found = backend.fold([large, *[one] * 8], 0, 17)
    assert host(backend, found)[8].tolist() == [2056.0] * 4  # 2048 + 1 is 2048 in half
