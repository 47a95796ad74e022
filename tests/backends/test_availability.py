"""Where a library or a device does not work: what is said, and how soon."""

import os
import sys
import time
from types import SimpleNamespace

import pytest

from tests.backends.process import PYTHON_PATH, python
from tests.conftest import needs
from xpnn import backends
from xpnn.backends import BACKENDS, backend_class, cuda_driver, get_backend
from xpnn.backends.cupy.backend import CupyBackend
from xpnn.backends.torch.backend import TorchBackend
from xpnn.errors import BackendUnavailable

pytestmark = [pytest.mark.width, pytest.mark.by_what_is_installed]


def driver(init=0, count=1, answer=0):
    """A driver that gives these answers."""

    def count_devices(where):
        where._obj.value = count
        return answer

    return SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=count_devices)


# auto ---------------------------------------------------------------------------------------------


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


def test_a_library_that_is_broken(tmp_path):
    (tmp_path / "torch.py").write_text(
        "import sys\nraise sys.fault('libc10.so: cannot open shared object file')"
    )
    (tmp_path / "torch-2.9.0.dist-info").mkdir()
    (tmp_path / "torch-2.9.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.9.0\n")
    code = """
        import sys
        from xpnn import get_backend
        from xpnn.errors import BackendUnavailable
        for sys.fault in (ImportError, OSError):
            try:
                get_backend("torch")
            except BackendUnavailable as error:
                print(error)
    """
    said = python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), PYTHON_PATH]))
    assert said.splitlines() == 2 * [
        "torch is installed, but importing it fails: libc10.so: cannot open shared object file; "
        "install it again, type: pip install torch"
    ]


HIDE = {
    "not-installed": "sys.modules[library] = None",
    "no-driver": "cuda_driver.DRIVER_LIBRARIES = ('libno-such-driver.so.1',)",
}
UNAVAILABLE = [
    pytest.param(["cupy", "torch", "jax", "array-api-strict"], "not-installed", id="all"),
    pytest.param(["cupy"], "no-driver", id="cupy-no-driver"),
    pytest.param(["torch:cuda"], "no-driver", id="torch-no-driver", marks=needs("torch")),
]


@pytest.mark.parametrize(("specs", "cause"), UNAVAILABLE)
def test_the_answer_takes_less_than_a_second(specs, cause):
    code = f"""
        import sys, time
        from xpnn import get_backend
        from xpnn.backends import cuda_driver
        from xpnn.errors import BackendUnavailable
        for spec in {specs}:
            library = spec.partition(":")[0].replace("-", "_")
            {HIDE[cause]}
            start = time.perf_counter()
            try:
                get_backend(spec)
            except BackendUnavailable as error:
                print(time.perf_counter() - start, bool(sys.modules.get(library)), error)
    """
    said = python(code).splitlines()
    assert len(said) == len(specs)
    for line in said:
        seconds, imported, words = line.split(maxsplit=2)
        assert float(seconds) < 1
        assert imported == "False"
        assert "type: pip install" in words or "no NVIDIA driver is installed" in words


@needs("torch")
def test_a_gpu_that_is_not_there_is_told_in_less_than_a_second(fresh):
    fresh.setattr(cuda_driver, "_load_driver", lambda: None)
    start = time.perf_counter()
    with pytest.raises(BackendUnavailable):
        get_backend("torch:cuda:1")
    assert time.perf_counter() - start < 1
