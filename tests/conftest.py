"""The backends that the contract tables run on.

``XPNN_TEST_BACKENDS`` lists them, for example ``numpy,torch,jax,array-api-strict:device1,cupy``.
One that is asked for and does not work here is an error, never a silent skip. ``numpy:numba`` is
NumPy but for how it replays a recording, so it is gone through in ``REPLAYING`` alone.

``--passed-to FILE`` writes down which tests pass, and ``--passed-in FILE`` leaves these out in a
later run on the same machine: backends that were tested stay asked for, as the other side of a
comparison, but are no longer gone through one by one.

``--first-case-on jax,cupy`` goes there through all cases of a test in ``CONTRACTS`` alone, whose
cases differ in what a backend may do in its own way. The others call arrays by the standard: one
case shows that they do, and the rest is shown on the other backends.

A test that runs on a backend, or that ``needs`` its library, is marked with the library's name, so
that ``-m jax`` and ``-m "cupy and not slow"`` choose by what a test does, not by how it is called.
"""

import json
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from xpnn.backends import BACKENDS, Backend, get_backend

settings.register_profile("no deadline", deadline=None)  # a machine may do a lot else
settings.load_profile("no deadline")

SPECS = os.environ.get("XPNN_TEST_BACKENDS", "numpy,array-api-strict:device1").split(",")
REPLAYING = (
    *("backends", "distributed", "fuzz", "optimizers", "training/stepping"),
    *("layers/test_conduct.py", "layers/test_recomputation.py", "losses/test_contract.py"),
    *("training/test_losses.py", "training/test_updater.py", "training/test_several_outputs.py"),
    *("reliability/test_threads.py", "reliability/test_memory_flat.py"),
)
"""Folders and files of tests whose steps are compiled."""
CONTRACTS = (
    *("backends", "distributed", "fuzz", "layers", "losses", "sklearn"),
    *("optimizers/test_contract.py", "test_attributes.py"),
    *("training/stepping/test_peak.py", "training/stepping/test_precision.py"),
)
"""Folders and files of tests whose cases differ in what a backend does."""
if any(spec.startswith(("jax:gpu", "jax:cuda")) for spec in SPECS):
    # JAX rounds the factors of products to TF32 on a GPU; other libraries have to be asked to.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# What MKL multiplies goes by measured times, and summaries tell where it is installed and not used;
# tests of its products call it themselves.
os.environ.setdefault("XPNN_MKL", "0")
# PyTorch's compiler would start a process for each core, which imports PyTorch, for a few kernels.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


@pytest.fixture(params=SPECS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return get_backend(request.param)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark it with the libraries that it runs on or needs; skip it if one is not asked for."""
    needed = _needed(item)
    for library in {*map(_library, _params(item)), *needed} & {*BACKENDS}:
        item.add_marker(library.replace("-", "_"))
    missing = [library for library in needed if library not in map(_library, SPECS)]
    if missing:
        reason = f"XPNN_TEST_BACKENDS does not ask for {', '.join(missing)}"
        item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure(config: pytest.Config) -> None:
    """Xdist's workers report to the process that started them, which writes."""
    path = config.getoption("--passed-to")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Passed(Path(path)))


class Passed:
    """Writes down which tests of a run pass, and which backends it asked for."""

    def __init__(self, path: Path):
        self.path = path
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps({"backends": SPECS, "passed": self.names}))


@pytest.hookimpl(trylast=True)  # of what -m and -k have left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has passed in an earlier run and looks at nothing else in this one."""
    _leave_out(config, items, {item for item in items if _is_plain_numpy(item)})
    _leave_out(config, items, _further_cases(config.getoption("--first-case-on"), items))
    path = config.getoption("--passed-in")
    if path is None:
        return
    earlier = json.loads(Path(path).read_text())
    passed, known = {*earlier["passed"]}, {*earlier["backends"]}
    new = {*SPECS} - known
    new |= {*map(_library, new)} - {*map(_library, known)}  # "torch" where "torch:cuda" is new
    again = {one for one in items if one.nodeid in passed and not _looks_at(new, one)}
    _leave_out(config, items, again)


def _leave_out(config: pytest.Config, items: list[pytest.Item], some: set[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=some)
    items[:] = [item for item in items if item not in some]


def _is_plain_numpy(item: pytest.Item) -> bool:
    """Whether it asks ``numpy:numba`` for what is NumPy's there."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("backend") == "numpy:numba" and not _is_in(REPLAYING, item)


def _further_cases(specs: str, items: list[pytest.Item]) -> set[pytest.Item]:
    """On each of these backends, all cases but the first of each test that is no contract."""
    chosen, seen, found = specs.split(","), set(), set()
    for item in items:
        spec = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if spec not in chosen or _is_in(CONTRACTS, item):
            continue
        key = spec, item.parent, item.originalname
        if key in seen:
            found.add(item)
        seen.add(key)
    return found


def _is_in(places: tuple[str, ...], item: pytest.Item) -> bool:
    return item.nodeid.removeprefix("tests/").startswith(places)


def _looks_at(new: set[str], item: pytest.Item) -> bool:
    """Whether what it finds may depend on backends, or their libraries, that are new."""
    by_name = {*_params(item), *map(_library, _params(item))} & new
    return bool(by_name) or item.get_closest_marker("by_what_is_installed") is not None


def _params(item: pytest.Item) -> list[str]:
    """The values of its parameters that may be specs of backends."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [value for value in values if isinstance(value, str)]


def _needed(item: pytest.Item) -> list[str]:
    every = (library for mark in item.iter_markers("needs") for library in mark.args)
    return list(dict.fromkeys(every))


def _library(spec: str) -> str:
    return spec.partition(":")[0]


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Ctrl-C as in a terminal: a shell starts what runs in the background with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_context_of_mlir() -> None:
    """JAX makes one for each program: a fifth of the time that a small one takes until it runs."""
    if "jax" in map(_library, SPECS):
        from jax._src.interpreters import mlir

        if hasattr(mlir, "make_ir_context"):
            mlir.make_ir_context = cache(mlir.make_ir_context)


@pytest.fixture(autouse=True, scope="session")
def dtypes_known_by_hash() -> None:
    """array-api-strict compares them one after another, a quarter of the time of what it does."""
    if "array-api-strict" in map(_library, SPECS):
        from array_api_strict import _array_object, _dtypes

        names, kinds = vars(_array_object), _dtypes._dtype_categories
        names |= {name: frozenset(names[name]) for name in names if name.endswith("_dtypes")}
        kinds |= {kind: frozenset(dtypes) for kind, dtypes in kinds.items()}
        known = {dtype._np_dtype: dtype for dtype in _dtypes._all_dtypes}
        _array_object.DType = lambda given: known.get(given) or _dtypes.DType(given)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers of a test, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy as it is where cuDNN is not installed."""
    place = get_backend("cupy")
    for attribute, value in (("_cudnn", None), ("positions_first", True)):
        monkeypatch.setitem(vars(place), attribute, value)


@pytest.fixture
def graphs_as_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs the graph of a step as it is: its compiler takes up to 20 s for each.

    What that makes of a step, of half precision and of an optimizer's rule is compared where the
    fixture is not used.
    """
    if "torch" in map(_library, SPECS):
        import torch

        monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


def on_gpu(backend: Backend) -> bool:
    """Whether its arrays lie on a GPU."""
    return backend.name == "cupy" or backend.spec.partition(":")[2].startswith(("cuda", "gpu"))


def on_device_of(backend: Backend, tensor: Any) -> Any:
    """PyTorch's tensor, for PyTorch's backend on its device: a tensor elsewhere is an error."""
    return tensor.to(backend.device) if backend.name == "torch" else tensor


def traced(backend: Backend, function: Callable[[], Any]) -> Any:
    """What it returns; JAX only traces it, in a tenth of the time, as it knows dtypes beforehand.

    With numbers, call by call and compiled, the same runs in other tests.
    """
    if backend.name != "jax":
        return function()
    import jax

    found = []
    jax.eval_shape(lambda: found.append(function()))
    return found[0]


def needs(*libraries: str) -> pytest.MarkDecorator:
    """For a test about some libraries: skipped where the run does not ask for them."""
    return pytest.mark.needs(*libraries)
