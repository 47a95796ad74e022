"""Asking for a backend: the grammar, what is imported when, and what is said where it fails."""

import os
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import backends
from xpnn.backends import BACKENDS, Backend, backend_class, backend_of, cuda_driver, get_backend
from xpnn.backends.cupy import CupyBackend
from xpnn.backends.torch import TorchBackend
from xpnn.errors import BackendUnavailable
from xpnn.layers import GELU, Dense, Dropout, ReLU
from xpnn.network import Network

PYTHON_PATH = os.pathsep.join(
    filter(None, [os.path.dirname(os.path.dirname(xpnn.__file__)), os.environ.get("PYTHONPATH")])
)


def python(code, **environment):
    """What a fresh Python prints for ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The grammar --------------------------------------------------------------------------------------


def test_a_spec_gives_one_backend(backend):
    assert get_backend(backend.spec) is backend
    assert get_backend(backend) is backend
    assert backend.spec.partition(":")[0] == backend.name


def test_numpy_is_the_default():
    assert get_backend() is get_backend("numpy")
    assert get_backend("numpy:cpu").device is None


@pytest.mark.parametrize("spec", ["nympy", "", "NumPy", "tensorflow", "cuda", " numpy"])
def test_unknown_names_are_answered_with_the_known_ones(spec):
    with pytest.raises(BackendUnavailable) as caught:
        get_backend(spec)
    assert f"there is no backend {spec!r}" in str(caught.value)
    assert all(repr(name) in str(caught.value) for name in [*BACKENDS, "auto"])


@pytest.mark.parametrize("spec", [None, 3, np, ["numpy"]])
def test_what_is_no_spec_is_a_type_error(spec):
    with pytest.raises(TypeError, match="backend is a string such as 'numpy', or a Backend, got"):
        get_backend(spec)


BAD_DEVICES = [
    pytest.param("numpy:gpu", "has one device, the CPU, but 'gpu'.*write 'numpy'", id="numpy"),
    pytest.param(
        "array-api-strict:device9", "cpu, device1, device2.*'device9'.*write", id="strict"
    ),
    pytest.param(
        "torch:banana",
        "torch cannot use the device 'banana'.*has cpu",
        id="torch",
        marks=needs("torch"),
    ),
    pytest.param(
        "torch:cuda:99", "torch cannot use .*'cuda:99'", id="torch-cuda", marks=needs("torch")
    ),
    pytest.param(
        "torch:meta", "torch cannot use the device 'meta'", id="torch-meta", marks=needs("torch")
    ),
    pytest.param(
        "jax:banana", "JAX has no device 'banana' here, only cpu:0", id="jax", marks=needs("jax")
    ),
    pytest.param("jax:cpu:99", "JAX has no device 'cpu:99'", id="jax-number", marks=needs("jax")),
    pytest.param(
        "cupy:99",
        r"CuPy sees 1 GPU\(s\), numbered from 0, got '99'",
        id="cupy",
        marks=needs("cupy"),
    ),
    pytest.param(
        "cupy:x", "numbered from 0, got 'x'; write 'cupy:0'", id="cupy-letter", marks=needs("cupy")
    ),
]


@pytest.mark.parametrize(("spec", "words"), BAD_DEVICES)
def test_bad_devices_are_answered_with_the_good_ones(spec, words):
    with pytest.raises(BackendUnavailable, match=words):
        get_backend(spec)


GOOD_DEVICES = [
    pytest.param("torch:cpu", marks=needs("torch")),
    pytest.param("jax:cpu", marks=needs("jax")),
    pytest.param("jax:cpu:0", marks=needs("jax")),
    pytest.param("cupy:0", marks=needs("cupy")),
    "array-api-strict:cpu",
    "array-api-strict:device2",
]


@pytest.mark.parametrize("spec", GOOD_DEVICES)
def test_a_device_may_be_named(spec):
    place = get_backend(spec)
    array = place.asarray([1.0, 2.0])
    assert place.owns(array)
    assert place.spec == spec
    assert backend_of(array).device == place.device


def test_devices_of_one_library_are_two_backends():
    one, two = get_backend("array-api-strict:device1"), get_backend("array-api-strict:device2")
    array = one.asarray([1.0])
    assert not two.owns(array)
    assert two.owns(two.asarray(array))


def test_two_networks_on_two_backends_live_side_by_side(backend):
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    nets = [Network([Dense(3), GELU()], (4,), place) for place in (backend, "numpy", backend)]
    outputs = [net.backend.to_numpy(net(x)) for net in nets]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    assert backend_of(nets[0](x)).name == backend.name


@pytest.mark.parametrize("values", [[1.0], 2.5, np.ones(2), np.float32(1)])
def test_backend_of_plain_values_is_numpy(values):
    assert backend_of(values) is get_backend("numpy")


# auto ---------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    """get_backend and the driver's answer as in a new process."""
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()


def test_auto_without_a_gpu_is_numpy(fresh):
    fresh.setitem(sys.modules, "cupy", None)
    assert get_backend("auto").name == "numpy"


def test_auto_with_a_driver_but_no_gpu_is_numpy(fresh):
    fresh.setattr(cuda_driver, "_load_driver", lambda: driver(count=0))
    fresh.setattr(backends.importlib.util, "find_spec", lambda name: object())
    assert get_backend("auto").name == "numpy"


@needs("cupy")
def test_auto_with_a_gpu_is_cupy(fresh):
    assert get_backend("auto").name == "cupy"


# Where a library does not work --------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
def test_a_library_that_is_not_installed(fresh, name):
    library = backend_class(name).library.replace("-", "_")
    fresh.setitem(sys.modules, library, None)
    with pytest.raises(BackendUnavailable) as caught:
        get_backend(name)
    assert str(caught.value).startswith(f"{name} is not installed here; type: pip install ")
    assert isinstance(caught.value, RuntimeError)


def driver(init=0, count=1, answer=0):
    """A driver that gives these answers."""

    def count_devices(where):
        where._obj.value = count
        return answer

    return SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=count_devices)


DRIVERS = [
    pytest.param(None, "no NVIDIA driver is installed; install one", id="none"),
    pytest.param(driver(init=100), "sees no GPU; check nvidia-smi", id="no-gpu"),
    pytest.param(driver(count=0), "sees no GPU; check nvidia-smi", id="no-devices"),
    pytest.param(driver(answer=3), "sees no GPU; check nvidia-smi", id="count-fails"),
    pytest.param(driver(init=35), "older than CUDA needs; update the driver", id="old-driver"),
    pytest.param(driver(init=999), "unknown fault; restart the machine", id="unknown"),
    pytest.param(driver(init=42), "the NVIDIA driver fails with error 42", id="number"),
]


@pytest.mark.parametrize(("loaded", "words"), DRIVERS)
def test_a_gpu_that_does_not_work(fresh, loaded, words):
    fresh.setattr(cuda_driver, "_load_driver", lambda: loaded)
    with pytest.raises(BackendUnavailable) as caught:
        CupyBackend()
    assert str(caught.value).startswith("CuPy is installed, but ")
    assert words in str(caught.value)
    assert str(caught.value).endswith("until then use backend='numpy'")


@pytest.mark.parametrize(("loaded", "words"), DRIVERS)
def test_a_gpu_that_torch_cannot_use(fresh, loaded, words):
    fresh.setattr(cuda_driver, "_load_driver", lambda: loaded)
    fresh.setattr("importlib.metadata.version", lambda name: "2.9.0")
    with pytest.raises(BackendUnavailable) as caught:
        TorchBackend("cuda")
    assert str(caught.value).startswith("torch cannot use 'cuda' here: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith("use backend='torch' for the CPU")


def test_a_driver_that_works_has_no_fault(fresh):
    fresh.setattr(cuda_driver, "_load_driver", driver)
    assert cuda_driver.driver_fault() is None


def test_a_driver_that_cannot_be_loaded(fresh):
    fresh.setattr(cuda_driver, "DRIVER_LIBRARIES", ("libno-such-driver.so.1", "no-such.dll"))
    assert cuda_driver._load_driver() is None
    assert "no NVIDIA driver" in cuda_driver.driver_fault()


@pytest.mark.parametrize("fault", ["ImportError", "OSError"])
def test_a_library_that_is_broken(tmp_path, fault):
    (tmp_path / "torch.py").write_text(
        f"raise {fault}('libc10.so: cannot open shared object file')"
    )
    (tmp_path / "torch-2.9.0.dist-info").mkdir()
    (tmp_path / "torch-2.9.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.9.0\n")
    code = """
        from xpnn import get_backend
        from xpnn.errors import BackendUnavailable
        try:
            get_backend("torch")
        except BackendUnavailable as error:
            print(error)
    """
    said = python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), PYTHON_PATH]))
    assert said == (
        "torch is installed, but importing it fails: libc10.so: cannot open shared object file; "
        "install it again, type: pip install torch"
    )


HIDE = {
    "not-installed": "sys.modules[library] = None",
    "no-driver": "cuda_driver.DRIVER_LIBRARIES = ('libno-such-driver.so.1',)",
}
UNAVAILABLE = [
    pytest.param("cupy", "not-installed", id="cupy"),
    pytest.param("torch", "not-installed", id="torch"),
    pytest.param("jax", "not-installed", id="jax"),
    pytest.param("array-api-strict", "not-installed", id="strict"),
    pytest.param("cupy", "no-driver", id="cupy-no-driver"),
    pytest.param("torch:cuda", "no-driver", id="torch-no-driver", marks=needs("torch")),
]


@pytest.mark.parametrize(("spec", "cause"), UNAVAILABLE)
def test_the_answer_takes_less_than_a_second(spec, cause):
    code = f"""
        import sys, time
        from xpnn import get_backend
        from xpnn.backends import cuda_driver
        from xpnn.errors import BackendUnavailable
        library = {spec.partition(":")[0].replace("-", "_")!r}
        {HIDE[cause]}
        start = time.perf_counter()
        try:
            get_backend({spec!r})
        except BackendUnavailable as error:
            print(time.perf_counter() - start, library in sys.modules and bool(sys.modules[library]))
            print(error)
    """
    numbers, said = python(code).splitlines()
    seconds, imported = numbers.split()
    assert float(seconds) < 1
    assert imported == "False"
    assert "type: pip install" in said or "no NVIDIA driver is installed" in said


@needs("torch")
def test_a_gpu_that_is_not_there_is_told_in_less_than_a_second(fresh):
    fresh.setattr(cuda_driver, "_load_driver", lambda: None)
    start = time.perf_counter()
    with pytest.raises(BackendUnavailable):
        get_backend("torch:cuda:1")
    assert time.perf_counter() - start < 1


# What is imported ---------------------------------------------------------------------------------

HEAVY = "torch", "jax", "cupy", "matplotlib", "scipy", "array_api_strict"


def imported_after(code):
    report = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    return python(f"{code}\n{report}")


def test_importing_xpnn_imports_no_library():
    assert (
        imported_after("import xpnn, xpnn.backends, xpnn.layers, xpnn.losses, xpnn.network") == "[]"
    )


def test_training_on_numpy_imports_no_other_library():
    code = (
        "import numpy as np\n"
        "from xpnn.layers import Dense, ReLU\n"
        "from xpnn.testing import training_curve\n"
        "training_curve(lambda: [Dense(3), ReLU(), Dense(2)], (4,), steps=2)"
    )
    assert imported_after(code) == "[]"


def test_a_backend_is_imported_when_it_is_asked_for():
    code = "from xpnn import get_backend\nget_backend('array-api-strict')"
    assert imported_after(code) == "['array_api_strict']"


def test_numpy_works_without_scipy():
    code = """
        import sys
        sys.modules["scipy"] = None
        import math, numpy as np
        from xpnn import get_backend
        x = np.linspace(-5, 5, 101)
        found = get_backend("numpy").erf(x)
        print(float(np.max(np.abs(found - [math.erf(v) for v in x]))))
    """
    assert float(python(code)) < 2e-15


# Threads and processes ----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_still_sweep_large_arrays():
    code = """
        import os, warnings
        import numpy as np
        from xpnn import get_backend
        warnings.simplefilter("ignore")  # forking beside threads is what is tested here
        double = get_backend("numpy").elementwise(lambda xp, x: 2 * x)
        x = np.ones(3_000_000, dtype=np.float32)
        assert double(x).sum() == 6_000_000
        child = os.fork()
        if child == 0:
            os._exit(0 if double(x).sum() == 6_000_000 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert python(code) == "0"


def test_threads_may_train_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(0).standard_normal((3000, 400)).astype(np.float32)

    def forward(seed):
        net = Network([Dense(400), ReLU(), Dropout(0.5)], (400,), seed=seed)
        return net.forward(x, training=True)

    alone = [forward(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(forward, range(3)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_backend_of_ones_own_will_do():
    class Counting(type(get_backend("numpy"))):
        """NumPy, counting what is asked of it."""

        name, asked = "counting", 0

        def asarray(self, values, dtype=None):
            self.asked += 1
            return super().asarray(values, dtype)

    own = Counting()
    assert isinstance(own, Backend)
    net = Network([Dense(3)], (4,), own)
    assert net.backend is own
    net(np.ones((2, 4)))
    assert own.asked > 2
