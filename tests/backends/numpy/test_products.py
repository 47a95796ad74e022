"""Products by NumPy or MKL: the numbers of ``np.matmul``, and a choice that stays."""

import gc
import subprocess
import sys
from importlib.util import find_spec
from unittest.mock import Mock, patch

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from xpnn.backends import get_backend
from xpnn.backends.numpy import mkl, products
from xpnn.backends.numpy.cores import Cores
from xpnn.backends.numpy.fastest import Fastest, fastest
from xpnn.backends.numpy.products import BY_NUMPY, ByFastest, Products
from xpnn.backends.numpy.replay import Replayed

WITH_MKL = pytest.mark.skipif(mkl._path() is None, reason="MKL is not installed")
OPENBLAS = {"version": "0.3", "architecture": "SkylakeX"}
WAYS = ["NumPy", "MKL", "MKL's own kernel"]

LYING = {
    "rows": lambda x: x,
    "columns": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "rows of longer ones": lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "heads side by side": lambda x: np.ascontiguousarray(np.moveaxis(x, 0, -2)).swapaxes(0, -2),
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "a stack backwards": lambda x: x[::-1].copy()[::-1],
}
MATRICES = [
    *("rows", "columns", "rows of longer ones", "every second", "backwards", "a stack backwards")
]
SHAPES = [  # of a and b
    ((7, 5), (5, 9)),
    ((1, 6), (6, 1)),
    ((6, 1), (1, 4)),
    ((40, 300), (300, 3)),
    ((3, 0), (0, 4)),
    ((0, 3), (3, 4)),
    ((2, 3, 4, 5), (2, 3, 5, 6)),
    ((4, 5), (3, 5, 6)),
    ((3, 1, 5), (5, 4)),
    ((2, 1, 4, 5), (3, 5, 6)),
    ((0, 4, 5), (5, 6)),
    ((5,), (5, 6)),
    ((3, 4, 5), (5,)),
]


@pytest.fixture(scope="module")
def library():
    if find_spec("torch"):
        import torch  # noqa: F401  # first, as behind this MKL it would round otherwise
    return mkl.Mkl(mkl._path(), "of the tests")


class Always:
    """Stands for what chooses: always one way, or NumPy where there is no such way."""

    def __init__(self, name):
        self.name, self.tried = name, []

    def of(self, kind, ways):
        self.tried.append(kind)
        made = ways()
        for way in made.values():
            way()  # on memory of their own
        return self.name if self.name in made else "NumPy"


def whole_numbers(shape, dtype, seed=0):
    """Whose products have no rounding, in whatever order they are added up."""
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


@WITH_MKL
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_is_that_of_matmul(library, way, shapes, dtype):
    a, b = (whole_numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    wanted, always = a @ b, Always(way)
    results = ["rows", "columns", "rows of longer ones"] if wanted.ndim > 1 else ["rows"]
    for left in MATRICES if a.ndim > 1 else ["rows"]:
        for right in MATRICES if b.ndim > 1 else ["rows"]:
            for result in results:
                out = LYING[result](np.full_like(wanted, np.nan))
                ByFastest(library, always).stack(LYING[left](a), LYING[right](b), out)()
                np.testing.assert_array_equal(out, wanted, err_msg=f"{left}, {right}, {result}")
    assert bool(always.tried) == (0 not in (*a.shape, *wanted.shape) and min(a.ndim, b.ndim) > 1)


@WITH_MKL
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul")  # NumPy's: inf times 0
def test_what_is_no_number_passes_through(library, way):
    a, b = whole_numbers((3, 40, 8), np.float32), whole_numbers((3, 8, 6), np.float32, 1)
    a[0, 3, 2], a[1, 5, 5], b[2, 1, 1] = np.nan, np.inf, -np.inf
    wanted = a @ b
    empty = np.empty_like(wanted)
    for left, right, out in ((a, b, empty), *zip(a, b, empty, strict=True)):
        ByFastest(library, Always(way)).stack(left, right, out)()
        np.testing.assert_array_equal(out, left @ right)
    assert np.isnan(wanted).any()
    assert np.isinf(wanted).any()


@WITH_MKL
def test_what_mkl_cannot_read_stays_with_numpy(library):
    always = Always("MKL")
    multiply = ByFastest(library, always)
    x, whole = whole_numbers((6, 6), np.float32), np.arange(36).reshape(6, 6)
    shifted = np.frombuffer(bytes(1) + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 6)
    repeated, windows = np.broadcast_to(x[0], (6, 6)), sliding_window_view(x.reshape(-1)[:11], 6)
    halves = x.astype(np.float16)
    others = (x, x.astype(np.float64)), (x, shifted), (repeated, x), (x, windows)
    for a, b in ((whole, whole), (halves, halves), *others):
        out = np.empty((6, 6), np.result_type(a, b))
        multiply.stack(a, b, out)()
        np.testing.assert_array_equal(out, a @ b)
    for operands in (lambda out: (out, x), lambda out: (x, out)):
        out = x.copy()
        multiply.stack(*operands(out), out)()  # over what it reads
        np.testing.assert_array_equal(out, x @ x)
    assert not always.tried


@WITH_MKL
@pytest.mark.parametrize("way", WAYS[1:])
def test_what_is_bound_keeps_its_memory(library, way):
    multiply, bound, outs = ByFastest(library, Always(way)), [], []
    for seed in range(20):
        a, b = (whole_numbers((32, 32), np.float32, seed + k) for k in range(2))
        outs.append((np.empty((32, 32), np.float32), a @ b))
        bound.append(multiply.matrices(a, b, outs[-1][0]))
    del a, b, multiply
    gc.collect()
    for _ in range(20):
        np.full((32, 32), np.nan, np.float32)
    for task, (out, wanted) in zip(bound, outs, strict=True):
        task()
        np.testing.assert_array_equal(out, wanted)


@WITH_MKL
def test_a_process_may_end_while_its_threads_multiply():
    """Threads that are daemons go on until the end, in code that MKL has made."""
    program = """
import threading, time
import numpy as np
from xpnn.backends.numpy import mkl
library, started = mkl.Mkl(mkl._path(), "of the tests"), threading.Barrier(2)
sizes = [(np.ones((16, k)), np.ones((k, 16)), np.ones((16, 16))) for k in range(1, 20)]
tasks = [library.own_kernel(*arrays) for arrays in sizes]
def multiply():
    started.wait()
    while True:
        for task in tasks:
            task()
threading.Thread(target=multiply, daemon=True).start()
started.wait()
time.sleep(0.05)
"""
    ended = [subprocess.run([sys.executable, "-c", program], check=False) for _ in range(2)]
    assert [one.returncode for one in ended] == [0, 0]


@WITH_MKL
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_in_parts(library, way, count):
    def step(x, w):
        z = x @ w
        return z, w.T @ x.T, z.reshape(4, -1, 50) @ np.ones((4, 50, 7))

    given = whole_numbers((1200, 30), np.float64), whole_numbers((30, 50), np.float64, 1)
    always = Always(way)
    with (
        patch.object(ByFastest, "least", 1),
        patch.object(products, "openblas_threads", lambda: count),
    ):
        replayed = Replayed(step, required=True, multiply=ByFastest(library, always))
        for found, wanted in zip(replayed(*given), step(*given), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert always.tried
    split = [one for one in replayed.units[0]._calls if getattr(one.func, "__name__", "") == "run"]
    assert len(split) == (3 if count > 1 else 0)


def test_cores_are_as_many_as_openblas_has_threads():
    three, six = Cores(3), Cores(6)

    class Alone:
        alone, least = True, 1

    with patch.object(products, "openblas_threads", lambda: 3):
        assert Products(None, BY_NUMPY).cores is None  # OpenBLAS has threads of its own
        assert Products(None, Alone()).cores.count == 3
        assert Products(six, Alone())._parts(10**9, 100) == 3
    with patch.object(products, "openblas_threads", lambda: 1):
        assert Products(None, Alone()).cores is None
        assert Products(three, Alone())._parts(10**9, 100) == 1


# Choosing -----------------------------------------------------------------------------------------


class Clock:
    """A clock that ways move."""

    def __init__(self, **seconds):
        self.now, self.calls = 0.0, dict.fromkeys(seconds, 0)
        self.ways = {name: self.way(name, took) for name, took in seconds.items()}

    def way(self, name, took):
        def run():
            self.now += took
            self.calls[name] += 1

        return run

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        ({"usual": 1e-3, "other": 2e-3}, "usual"),
        ({"usual": 1e-3, "other": 0.97e-3}, "usual"),  # not clearly faster
        ({"usual": 1e-3, "other": 0.9e-3}, "other"),
        ({"usual": 1e-3, "other": 0.9e-3, "third": 0.8e-3}, "third"),
        ({"usual": 1e-7, "other": 3e-8}, "other"),
        ({"usual": 0.0, "other": 0.0}, "usual"),  # a clock that stands still
    ],
)
def test_the_fastest_is_chosen(seconds, name):
    clock = Clock(**seconds)
    assert fastest(clock.ways, clock) == name


def test_one_slow_round_does_not_count():
    clock = Clock(usual=1e-3, other=0.8e-3)
    ways, other = dict(clock.ways), clock.ways["other"]

    def disturbed():
        other()
        clock.now += 0.5 if clock.calls["other"] == 4 else 0.0

    assert fastest({**ways, "other": disturbed}, clock) == "other"


def test_what_is_chosen_stays(tmp_path):
    clock, later = Clock(usual=1e-3, other=0.5e-3), Clock(usual=1e-3, other=5e-3)
    choice = Fastest(tmp_path, "a machine", clock)
    assert choice.of("kind", lambda: clock.ways) == "other"
    assert choice.of("kind", lambda: later.ways) == "other"
    following = Fastest(tmp_path, "a machine", later)
    assert following.of("kind", lambda: later.ways) == "other"
    assert not any(later.calls.values())
    assert following.of("another kind", lambda: later.ways) == "usual"
    assert sorted(choice.all_chosen()) == ["other", "usual"]
    assert Fastest(tmp_path, "another", later).of("kind", lambda: later.ways) == "usual"


def test_of_two_processes_the_first_to_write_has_chosen(tmp_path):
    fast, slow = Clock(usual=2, other=1), Clock(usual=1, other=2)
    one, two = Fastest(tmp_path, 0, fast), Fastest(tmp_path, 0, slow)

    def meanwhile():
        assert two.of("kind", lambda: slow.ways) == "usual"
        return fast.ways

    assert one.of("kind", meanwhile) == "usual"
    assert fast.calls["other"] > 0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"kind", b"\xff\n\xfe", b"a\nb\nc"])
def test_what_cannot_be_read_is_the_usual_way(tmp_path, content):
    clock = Clock(usual=2, other=1)
    assert Fastest(tmp_path, 0, clock).of("kind", lambda: clock.ways) == "other"
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    choice = Fastest(tmp_path, 0, clock)
    assert choice.of("kind", lambda: clock.ways) is None
    assert choice.all_chosen() == []


def test_nothing_is_chosen_that_cannot_be_written(tmp_path):
    clock = Clock(usual=2, other=1)
    assert Fastest(tmp_path / "nowhere", 0, clock).of("kind", lambda: clock.ways) is None


# Finding MKL --------------------------------------------------------------------------------------


@pytest.fixture
def looked_for_anew(monkeypatch):
    monkeypatch.setenv(mkl.SWITCH, "1")  # also where PyTorch is installed
    for found in (mkl._looked_for, products._by_fastest):
        found.cache_clear()
    yield
    for found in (mkl._looked_for, products._by_fastest):
        found.cache_clear()


@pytest.fixture
def installed(looked_for_anew, tmp_path, monkeypatch):
    """A library that is none, where the wheel has its own."""
    path = tmp_path / "libmkl_rt.so.3"
    path.write_text("not a library")
    monkeypatch.setattr(mkl, "_path", lambda: path)
    monkeypatch.setattr(mkl.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(mkl, "openblas", lambda: "OpenBLAS")
    monkeypatch.setattr(mkl.importlib.metadata, "version", lambda name: "2.4.6")


def test_without_the_wheel_numpy_multiplies(looked_for_anew, monkeypatch):
    monkeypatch.setattr(mkl, "_path", lambda: None)
    backend = get_backend("numpy")
    assert products.multiplication(deterministic=False) is BY_NUMPY
    assert backend.missing() is None
    assert "MKL" not in backend.describe()


def test_a_broken_library_is_named_and_numpy_multiplies(installed):
    why = get_backend("numpy").missing()
    assert why.startswith("MKL is installed, but not used: loading it fails: ")
    assert "libmkl_rt.so.3" in why
    assert why.endswith("type: pip install --force-reinstall mkl")
    assert products.multiplication(deterministic=False) is BY_NUMPY


class Loaded:
    """Stands for a library that another package has set up."""

    def __init__(self, interface=mkl.LP64, layer=mkl.SEQUENTIAL):
        self.MKL_Set_Interface_Layer = lambda wanted: interface
        self.MKL_Set_Threading_Layer = lambda wanted: layer


@pytest.mark.parametrize(
    ("loaded", "why"),
    [
        (Loaded(layer=0), "it has been loaded with threads of its own by another package"),
        (Loaded(interface=1), "it has been loaded with sizes of 64 bits by another package"),
        (Loaded(), "loading it fails: 'Loaded' object has no attribute 'cblas_sgemm'"),
    ],
)
def test_a_library_that_will_not_do_is_refused(installed, monkeypatch, loaded, why):
    monkeypatch.setattr(mkl.ctypes, "CDLL", lambda path: loaded)
    assert mkl.why_not().startswith(why)
    assert mkl.mkl() is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.setattr(mkl.importlib.util, "find_spec", lambda name: None), "threadpoolctl"),
        (lambda m: m.setattr(mkl, "openblas", lambda: None), "multiplies with something else"),
        (lambda m: m.delenv(mkl.SWITCH), "PyTorch is installed, which takes functions of an MKL"),
    ],
)
def test_mkl_is_only_used_beside_what_stays_as_it_is(installed, monkeypatch, change, why):
    change(monkeypatch)
    assert why in mkl.why_not()
    assert mkl.mkl() is None


def test_a_deterministic_backend_does_not_go_by_measured_times(monkeypatch):
    monkeypatch.setattr(products, "_by_fastest", lambda: "the fastest")
    assert products.multiplication(deterministic=False) == "the fastest"
    assert get_backend("numpy", deterministic=True).compile(abs).multiply is BY_NUMPY
    assert get_backend("numpy").compile(abs).multiply == "the fastest"


@pytest.fixture
def working(installed, monkeypatch, tmp_path):
    """A library that loads, and a folder for what is chosen."""
    monkeypatch.setattr(mkl, "Mkl", lambda path, version: Mock(version=version))
    monkeypatch.setattr(products, "openblas", lambda: Mock(info=lambda: OPENBLAS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


def test_doctor_says_what_was_chosen(working):
    words = "numpy 2.4.6 on cpu, products by MKL 2.4.6 where it is faster"
    assert get_backend("numpy").describe() == f"{words} (none was tried yet)"
    choice, clock = products._by_fastest().fastest, Clock(NumPy=1, MKL=2)
    for kind, took in (("a", 2), ("b", 0.5), ("c", 0.5)):
        clock.ways["MKL"] = clock.way("MKL", took)
        choice.clock = clock
        choice.of(kind, lambda: clock.ways)
    assert get_backend("numpy").describe() == f"{words} (so far in 2 of 3 kinds)"
    assert get_backend("numpy").missing() is None
    assert get_backend("numpy", deterministic=True).describe() == "numpy 2.4.6 on cpu"


def test_it_can_be_switched_off(working, monkeypatch):
    monkeypatch.setenv(mkl.SWITCH, "0")
    assert products.multiplication(deterministic=False) is BY_NUMPY
    backend = get_backend("numpy")
    assert backend.describe() == "numpy 2.4.6 on cpu, MKL switched off by XPNN_MKL=0"
    assert backend.missing() is None


def test_where_nothing_can_be_kept_numpy_multiplies(working, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", __file__)  # a file, in which no folder can be
    assert products.multiplication(deterministic=False) is BY_NUMPY
    assert "set XDG_CACHE_HOME to a folder that is yours alone" in get_backend("numpy").missing()
    assert "MKL" not in get_backend("numpy").describe()
