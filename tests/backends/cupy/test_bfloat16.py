"""bfloat16 on CuPy: what CuPy itself does not do with arrays of that dtype."""

import operator
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import Dense, Network, Trainer, mean_squared_error
from xpnn.backends import get_backend
from xpnn.optimizers import SGD

pytestmark = needs("cupy")

HALF_A_BIT = 2.0**-8  # what rounding to 8 bits may change, of a number


@pytest.fixture
def backend():
    return get_backend("cupy")


@pytest.fixture
def half(backend):
    """Numbers of either sign, exactly representable, on the device and on the host."""
    values = np.array([[-3.0, -0.5, 0.25], [1.5, 2.0, 24.0]], np.float32)
    return backend.asarray(values, "bfloat16"), values


OPERATORS = ["add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "eq", "ne"]


@pytest.mark.parametrize("number", [3, 0.3])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_python_number_takes_the_dtype_of_the_array(backend, half, name, number):
    apply, (x, values) = getattr(operator, name), half
    if name == "pow":
        x, values = abs(x), abs(values)
    rounded = np.float32(backend.asarray(np.float32(number), "bfloat16").get())
    for found, wanted in [
        (apply(x, number), apply(values, rounded)),
        (apply(number, x), apply(rounded, values)),
    ]:
        assert found.dtype == (bool if wanted.dtype == bool else backend.dtype("bfloat16"))
        found = found.get().astype("float32")
        np.testing.assert_allclose(found, wanted, rtol=HALF_A_BIT)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_the_larger_and_the_smaller_of_an_array_and_a_number(backend, half, name):
    (x, values), xp = half, backend.xp
    found = getattr(xp, name)(x, 0.25)
    assert found.dtype == backend.dtype("bfloat16")
    np.testing.assert_array_equal(found.get().astype("float32"), getattr(np, name)(values, 0.25))


def test_a_choice_keeps_the_dtype(backend, half):
    (x, values), xp = half, backend.xp
    for pair, wanted in [
        ((x, 2 * x), np.where(values > 0, values, 2 * values)),
        ((x, 0.0), np.where(values > 0, values, 0.0)),
        ((1, x), np.where(values > 0, 1.0, values)),
    ]:
        found = xp.where(x > 0, *pair)
        assert found.dtype == backend.dtype("bfloat16")
        np.testing.assert_array_equal(found.get().astype("float32"), wanted)


def test_float32_beside_it_stays_float32(backend, half):
    (x, values), xp = half, backend.xp
    wide = backend.asarray(values)
    assert (x * wide).dtype == (wide * 2.0).dtype == xp.where(x > 0, x, wide).dtype == xp.float32
    assert (backend.asarray(values, "float16") * 2.0).dtype == xp.float16


def test_the_namespace_knows_it(backend, half):
    (x, _), xp = half, backend.xp
    found = xp.finfo(x.dtype)
    assert (found.bits, float(found.eps), float(found.max)) == (16, 2.0**-7, 2.0**128 - 2.0**120)
    assert xp.isdtype(x.dtype, "real floating")
    assert xp.isdtype(x.dtype, ("integral", "numeric"))
    assert not xp.isdtype(x.dtype, ("integral", "bool", "complex floating"))
    assert not xp.isdtype(x.dtype, xp.float32)


def test_a_rule_is_worked_out_in_float32_and_rounded_once(backend, rng):
    values = rng.normal(size=(4, 5)).astype("float32")
    x = backend.asarray(values, "bfloat16")
    exact = x.get().astype("float64")

    def rule(xp, x):
        wide = xp.astype(x, xp.float32)
        return xp.log(xp.exp(x * 3.0) + 1.0) - x, wide * 0.1, xp.astype(wide, x.dtype), x > 0

    narrow, wide, again, signs = backend.elementwise(rule)(x)
    kinds = [one.dtype.name for one in (narrow, wide, again, signs)]
    assert kinds == ["bfloat16", "float32", "bfloat16", "bool"]
    wanted = np.log(np.exp(3 * exact) + 1) - exact
    np.testing.assert_allclose(narrow.get().astype("float64"), wanted, rtol=0.51 * 2 * HALF_A_BIT)
    np.testing.assert_allclose(wide.get(), 0.1 * exact, rtol=1e-6)
    np.testing.assert_array_equal(again.get(), x.get())


def test_donated_arrays_are_written_over(backend, half):
    (x, values), wide = half, backend.asarray(half[1])

    def rule(xp, w, g, m):
        return w - 0.5 * g, 0.5 * m + g

    w = backend.asarray(values, "bfloat16")
    at = w.data.ptr
    new, slot = backend.elementwise(rule, donate=(0, 2))(w, x, wide)
    assert new.data.ptr == at
    assert (new.dtype.name, slot.dtype.name) == ("bfloat16", "float32")
    np.testing.assert_array_equal(new.get().astype("float32"), 0.5 * values)
    np.testing.assert_array_equal(slot.get(), 1.5 * values)


def test_windows_and_sums_are_those_of_float32_rounded_once(backend, rng):
    x = backend.asarray(rng.normal(size=(6, 5, 4)).astype("float32"), "bfloat16")
    wide = backend.asarray(x, "float32")

    def results(x):
        yield backend.pad(x, 1, 2, 9)
        yield backend.pad(x, 0, -1, 4, -np.inf)
        yield backend.fold([x, x, x], 1, 9, stride=2, dilation=1, low=1)
        yield backend.softmax(x)
        yield backend.xp.sum(x, axis=0)

    for narrow, wanted in zip(results(x), results(wide), strict=True):
        rounded = backend.xp.astype(wanted, backend.dtype("bfloat16"))
        assert narrow.dtype == rounded.dtype
        found, rounded = (one.get().astype("float32") for one in (narrow, rounded))
        np.testing.assert_allclose(found, rounded, rtol=HALF_A_BIT)
    for features in (False, True):
        for reduced in (backend.sums(None, features=features), backend.means(None)):
            np.testing.assert_allclose(reduced(x).get(), reduced(wide).get(), rtol=1e-5, atol=1e-5)
            assert reduced(x).dtype == backend.xp.float32


@pytest.mark.parametrize("deterministic", [False, True])
def test_rows_add_up_in_float32(deterministic):
    backend = get_backend("cupy", deterministic=deterministic)
    ids = backend.asarray(np.zeros(1024, np.int32))
    ones = backend.asarray(np.ones((1024, 2), np.float32), "bfloat16")
    found = backend.scatter_add(backend.zeros((3, 2), "bfloat16"), ids, ones)
    assert found.dtype == backend.dtype("bfloat16")  # in which 256 + 1 is 256
    np.testing.assert_array_equal(found.get().astype("float32"), [[1024] * 2, [0] * 2, [0] * 2])


def test_a_step_is_captured(backend):
    network = Network([Dense(4), Dense(1)], (3,), backend, dtype="bfloat16")
    trainer = Trainer(network, mean_squared_error, SGD(0.01), compile=True)
    x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    losses = [float(backend.to_numpy(trainer.step(x, y))) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert {array.dtype.name for array in network.params.values()} == {"bfloat16"}


def test_without_ml_dtypes_it_is_said_what_to_type():
    program = """
import sys
class Missing:
    def find_spec(name, path, target=None):
        if name == "ml_dtypes":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing)
from xpnn import Dense, Network, Trainer, mean_squared_error
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable
from xpnn.optimizers import SGD
Network([Dense(2)], (3,), "cupy", dtype="float16")
for make in (
    lambda: Network([Dense(2)], (3,), "cupy", dtype="bfloat16"),
    lambda: Trainer(
        Network([Dense(2)], (3,), "cupy"), mean_squared_error, SGD(), precision="bfloat16"
    ),
):
    try:
        make()
    except BackendUnavailable as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("pip install ml_dtypes") == 2
