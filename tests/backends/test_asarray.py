"""asarray and to_numpy: what a person may hand over, and what comes back."""

import numpy as np
import pytest

from tests.conftest import SPECS, needs, on_device_of
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, DataError

pytestmark = pytest.mark.width

LIBRARIES = sorted({spec.partition(":")[0] for spec in [*SPECS, "numpy"]})
SMALL, BLOCKED, THREADED = 7, 40_000, (1 << 20) + 17


def host(backend, *arrays):
    return [np.array(backend.to_numpy(array)) for array in arrays]


NUMPY = get_backend("numpy")
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
    with pytest.raises(DataError, match=r"wanted (numbers|an array of numbers)"):
        backend.asarray(values)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_asarray_takes_arrays_of_every_library(backend, library, dtype):
    other = backend if library == backend.name else get_backend(library)
    values = (PLAIN > 3) if dtype == "bool" else PLAIN.astype(dtype)
    array = backend.asarray(other.asarray(values))
    assert backend.owns(array)
    np.testing.assert_array_equal(host(backend, array)[0], values)
    assert host(backend, array)[0].dtype == values.dtype


@needs("torch")
def test_asarray_takes_torch_tensors_with_a_history(backend):
    import torch

    tensor = on_device_of(backend, torch.tensor([1.0, 2.0], requires_grad=True))
    array = backend.asarray(tensor * 2)
    np.testing.assert_array_equal(host(backend, array)[0], [2.0, 4.0])
    assert not getattr(array, "requires_grad", False)


@pytest.mark.any_width
@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=needs(name)) for name in ("torch", "jax")]
)
def test_asarray_takes_bfloat16(backend, library):
    other = backend if library == backend.name else get_backend(library)
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

    with jax.enable_x64(False), pytest.raises(BackendUnavailable, match="jax_enable_x64"):
        get_backend("jax").asarray([1.0], "float64")


def test_float64_where_it_is_asked_for(backend):
    with backend.allow_float64():
        array = backend.asarray([1 / 3], "float64")
        assert array.dtype == backend.dtype("float64")
        assert host(backend, array * 3.0)[0][0] == 1.0
