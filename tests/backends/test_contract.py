"""The other primitives of every backend, held to the portable version and to plain numbers."""

import contextlib
import importlib.util
import inspect
import math

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.backends import BACKENDS, Backend, backend_class, backend_of, get_backend
from xpnn.backends.portable.base import Backend as Base
from xpnn.errors import BackendUnavailable, CompileError

pytestmark = pytest.mark.width

LIBRARIES = sorted({spec.partition(":")[0] for spec in [*SPECS, "numpy"]})
SMALL, BLOCKED, THREADED = 7, 40_000, (1 << 20) + 17


def host(backend, *arrays):
    return [np.array(backend.to_numpy(array)) for array in arrays]


# compile, counters, constants ---------------------------------------------------------------------


def test_compile_keeps_the_meaning(backend, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)

    def step(tree, y):
        return {"sum": tree["a"] + y, "product": backend.xp.sum(tree["a"] * y)}

    found = backend.compiled(step, donate=(0,), known=True)(
        {"a": backend.asarray(x.copy())}, backend.asarray(x)
    )
    np.testing.assert_allclose(*host(backend, found["sum"], backend.asarray(2 * x)), rtol=1e-6)
    assert float(backend.to_numpy(found["product"])) == pytest.approx(
        float(np.sum(x * x)), rel=1e-5
    )


def test_small_arrays_are_joined_around_large_ones(backend):
    sizes = {"a": 100_000, "b": 1, "c": 2_000_000, "d": 9_000, "e": 9_000, "f": 1}
    arrays = {name: backend.xp.zeros(size, device=backend.device) for name, size in sizes.items()}
    groups = backend.joint_groups(arrays)
    assert sorted(name for names in groups for name in names) == sorted(sizes)
    for names in groups:
        assert len(names) == 1 or sum(map(sizes.get, names)) <= backend.joint_size
    together = any({"b", "f"} <= set(names) for names in groups)
    assert together == (backend.joint_size > 0)


@pytest.mark.parametrize("compiled", [False, True])
def test_barrier_changes_no_value(backend, rng, compiled):
    x, y = (backend.asarray(rng.standard_normal((4, 3)).astype(np.float32)) for _ in range(2))
    if compiled and backend.name == "array-api-strict":
        with pytest.raises(CompileError, match="has nothing that compiles"):
            backend.compiled(lambda: (), wanted=True)
        return
    step = backend.compiled(lambda *arrays: backend.barrier(*arrays), wanted=compiled)
    for found, expected in zip(step(x, y), (x, y), strict=True):
        np.testing.assert_array_equal(*host(backend, found, expected))


@pytest.mark.parametrize("size", [SMALL, BLOCKED, THREADED])
def test_overflow_without_a_warning(backend, size):
    def rule(xp, a):
        return a * 1e30 - a * 2e30

    x = backend.xp.full((size,), 1e30, dtype=backend.xp.float32, device=backend.device)
    with backend.on_device(), backend.overflowing():
        found = backend.elementwise(rule)(x)
    assert not np.isfinite(backend.to_numpy(found)).any()  # XLA may put the factors together


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
@pytest.mark.parametrize("length", [5, 70])  # CuPy copies 32 arrays at a time
def test_scan_carries_from_step_to_step(backend, rng, reverse, compiled, length):
    x = rng.standard_normal((length, 2, 3)).astype(np.float32)

    def step(carry, now):
        (total,) = carry
        return (0.5 * total + now,), (total, now, now[0, ...] > 0.0)

    def walk(start, x):
        return backend.scan(step, (start,), (x,), reverse)

    start = backend.zeros((2, 3), "float32")
    (total,), (before, seen, above) = (backend.compiled(walk, known=True) if compiled else walk)(
        start, backend.asarray(x)
    )
    wanted, kept = np.zeros((2, 3)), [None] * length
    for t in range(length)[:: -1 if reverse else 1]:
        kept[t] = wanted
        wanted = 0.5 * wanted + x[t]
    for array, right in zip(host(backend, total, before, seen), (wanted, kept, x), strict=True):
        np.testing.assert_allclose(array, right, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(host(backend, above)[0], x[:, 0] > 0)


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


# erfc ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True], ids=["own", "portable"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erfc_equals_that_of_the_math_module(backend, dtype, portable):
    grid = np.concatenate(
        [np.linspace(-7, 7, 2001), [1e-30, -1e-8, 1e-3, 9.0, 40.0, -1e4, np.inf, -np.inf, 0]]
    )
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        x = grid.astype(dtype)
        erfc = Base.erfc if portable else type(backend).erfc
        found = erfc(backend, backend.asarray(x))
        assert found.dtype == backend.dtype(dtype)
        wanted = [math.erfc(float(v)) for v in x]
        atol, tail = (5e-7, 2e-5) if dtype == "float32" else (4e-15, 2e-13)
        np.testing.assert_allclose(host(backend, found)[0], wanted, rtol=0, atol=atol)
        far = (x > 1) & (x < 9.1)
        np.testing.assert_allclose(host(backend, found)[0][far], np.array(wanted)[far], rtol=tail)


def test_erfc_keeps_nan_and_stays_within_0_and_2(backend):
    x = np.array([np.nan, 3.9, 4.1, 5.0, 9.0, -9.0], dtype=np.float32)
    for erfc in (Base.erfc, type(backend).erfc):
        found = host(backend, erfc(backend, backend.asarray(x)))[0]
        assert np.isnan(found[0])
        assert np.all((found[1:] >= 0) & (found[1:] <= 2))


def test_erfc_of_half_precision_stays_half(backend):
    if backend.name == "array-api-strict":
        with pytest.raises(BackendUnavailable, match="no dtype 'float16'"):
            backend.dtype("float16")
        return
    x = backend.asarray(np.array([-1.0, 0.5, 3.0], dtype=np.float16))
    for erfc in (Base.erfc, type(backend).erfc):
        found = erfc(backend, x)
        assert found.dtype == backend.dtype("float16")
        wanted = [math.erfc(-1), math.erfc(0.5), math.erfc(3)]
        np.testing.assert_allclose(host(backend, found)[0], wanted, rtol=2e-3)


# Names and housekeeping ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_overrides_have_the_signature_of_the_base(name):
    kind, overridden = backend_class(name), []
    for attribute, method in vars(kind).items():
        method = getattr(method, "__func__", method)  # of a class method
        base = inspect.getattr_static(Base, attribute, None)
        base = getattr(base, "__func__", base)
        if not inspect.isfunction(method) or not inspect.isfunction(base):
            continue
        overridden.append(attribute)
        ours, theirs = inspect.signature(method), inspect.signature(base)
        assert list(ours.parameters.items()) == list(theirs.parameters.items()), attribute
        assert ours.return_annotation == theirs.return_annotation, attribute
    assert "load_namespace" in overridden


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_adds_no_public_method(name):
    public = {attribute for attribute in vars(backend_class(name)) if not attribute.startswith("_")}
    assert public <= set(dir(Base)) | {"name", "library", "install", "array_type"}


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


@pytest.mark.by_what_is_installed
def test_every_library_that_is_asked_for_is_here():
    for spec in SPECS:
        library = backend_class(spec.partition(":")[0]).library
        assert importlib.util.find_spec(library.replace("-", "_")) is not None
