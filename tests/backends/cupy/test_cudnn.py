"""Convolution by cuDNN: where it serves, what is kept of it, and what becomes of it without."""

import gc
import logging
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.backends.test_convolution import CASES, all_three, by_loops
from tests.conftest import needs
from xpnn import (
    Adam,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    MaxPool2D,
    Network,
    Trainer,
    TransformerBlock,
    cross_entropy,
    get_backend,
)
from xpnn.backends.cupy import cudnn as ours
from xpnn.backends.cupy.backend import CupyBackend
from xpnn.backends.portable.base import Backend as Base
from xpnn.commands.doctor import examine

pytestmark = needs("cupy")


@pytest.fixture
def cudnn():
    return pytest.importorskip("cudnn")


@pytest.fixture
def place(cudnn):
    """CuPy with a cuDNN that nobody has asked anything yet."""
    backend = CupyBackend()
    backend._cudnn = ours.Cudnn(cudnn, backend.device.id)
    return backend


@pytest.fixture
def refusals(caplog):
    """A function that returns what cuDNN has refused since it was last called."""
    caplog.set_level(logging.INFO, logger="xpnn")

    def refused():
        found = [one.getMessage() for one in caplog.records if "cuDNN refuses" in one.getMessage()]
        caplog.clear()
        return found

    return refused


def close(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


# Where it serves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_serves_every_convolution(place, rng, refusals, monkeypatch, case, dtype):
    for name in ("convolve", "convolve_input_gradient", "convolve_kernel_gradient"):
        monkeypatch.setattr(Base, name, None)
    arrays = case.arrays(rng, dtype)
    biases = [rng.standard_normal(n).astype(dtype) for n in (case.filters, case.channels)]
    found = all_three(CupyBackend, place, case, *arrays, biases)
    S, dZ, dW = by_loops(case, *arrays)
    close(found, (S + biases[0], dZ + biases[1], dW), 2e-6 if dtype == "float32" else 2**-9)
    assert not refusals()


def test_it_serves_bfloat16(place, rng, refusals):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    case = CASES["many channels"]
    arrays = case.arrays(rng, ml_dtypes.bfloat16)
    b = rng.standard_normal(case.filters).astype(ml_dtypes.bfloat16)
    c = rng.standard_normal(case.channels).astype(ml_dtypes.bfloat16)
    found = all_three(CupyBackend, place, case, *arrays, (b, c))
    S, dZ, dW = by_loops(case, *arrays)
    wanted = S + b.astype(float), dZ + c.astype(float), dW
    close(found, wanted, 2**-7)  # 8 bits of mantissa
    assert place._cudnn.plan.cache_info().currsize == 3
    assert not refusals()


def test_layers_take_images_as_they_lie(place):
    assert not place.positions_first


def test_arrays_in_pieces_and_at_odd_addresses_are_read(place, rng):
    case = CASES["same"]
    Z, W, delta = case.arrays(rng)
    wanted = by_loops(case, Z, W, delta)
    apart, shifted = [], []
    for one in map(place.asarray, (Z, W, delta)):
        wide = place.xp.zeros((*one.shape, 2), dtype=one.dtype)
        wide[..., 0] = one
        apart.append(wide[..., 0])
        flat = place.xp.zeros(one.size + 1, dtype=one.dtype)
        flat[1:] = one.ravel()
        shifted.append(flat[1:].reshape(one.shape))
    for arrays in (apart, shifted):
        close(all_three(CupyBackend, place, case, *arrays), wanted, 2e-6)


def test_float64_and_mixed_dtypes_are_left_to_the_portable_version(place, rng, refusals):
    case = CASES["same"]
    arrays = case.arrays(rng, "float64")
    close(all_three(CupyBackend, place, case, *arrays), by_loops(case, *arrays), 1e-13)
    Z, W, delta = arrays
    Z, delta = Z.astype("float32"), delta.astype("float32")
    close(all_three(CupyBackend, place, case, Z, W, delta), by_loops(case, Z, W, delta), 2e-6)
    assert place._cudnn.plan.cache_info().currsize == 1  # of the kernel's gradient
    assert not refusals()


# What it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["class", "status"])
def test_what_it_refuses_is_worked_out_by_the_portable_version(
    place, cudnn, rng, refusals, monkeypatch, kind
):
    error = cudnn.cudnnGraphNotSupportedError if kind == "class" else RuntimeError
    asked = []

    def refuse(self):
        asked.append(self)
        raise error("CUDNN_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(cudnn.pygraph, "check_support", refuse)
    case = CASES["all options"]
    arrays = case.arrays(rng)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    S, dZ, dW = by_loops(case, *arrays)
    for _ in range(2):
        found = all_three(CupyBackend, place, case, *arrays, (bias, None))
        close(found, (S + bias, dZ, dW), 2e-6)
    said = refusals()
    assert len(asked) == len(said) == 4  # once each; forward with the bias and without
    assert "name='conv_fprop'" in said[0]
    assert said[0].endswith("CUDNN_STATUS_NOT_SUPPORTED")


def test_a_bias_that_it_refuses_is_added_behind(place, cudnn, rng, refusals, monkeypatch):
    own = cudnn.pygraph.bias

    def refuse(self, *arguments, **options):
        def support():
            raise cudnn.cudnnGraphNotSupportedError("no engine has it")

        self.check_support = support
        return own(self, *arguments, **options)

    monkeypatch.setattr(cudnn.pygraph, "bias", refuse)
    monkeypatch.setattr(Base, "convolve", None)
    case = CASES["same"]
    arrays = case.arrays(rng)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    found = all_three(CupyBackend, place, case, *arrays, (bias, None))
    close(found[:1], [by_loops(case, *arrays)[0] + bias], 2e-6)
    assert len(refusals()) == 1


def test_a_graph_that_is_described_wrongly_is_an_error(place, rng, monkeypatch):
    from xpnn.backends.cupy import convolution

    monkeypatch.setattr(convolution, "_options", lambda slides: {"stride": [1, 1]})
    case = CASES["same"]
    with pytest.raises(ValueError, match="padding"):
        all_three(CupyBackend, place, case, *case.arrays(rng))


@pytest.mark.parametrize("fits", [True, False])
def test_a_plan_needs_no_more_than_its_share_of_the_memory(
    place, cudnn, rng, refusals, monkeypatch, fits
):
    import cupy

    limits, most = [], cupy.cuda.Device().mem_info[1] // 16

    def deselect(self, limit):
        limits.append(limit)
        self.limit = limit

    def support(self):
        if hasattr(self, "limit") and not fits:
            raise cudnn.cudnnGraphNotSupportedError("no engine needs so little")

    def size(self):
        return getattr(self, "limit", most + 1)

    monkeypatch.setattr(cudnn.pygraph, "deselect_workspace_greater_than", deselect, raising=False)
    monkeypatch.setattr(cudnn.pygraph, "check_support", support)
    monkeypatch.setattr(cudnn.pygraph, "get_workspace_size", size)
    case = CASES["same"]
    arrays = case.arrays(rng)
    for _ in range(2):
        close(all_three(CupyBackend, place, case, *arrays), by_loops(case, *arrays), 2e-6)
    assert limits == [most] * 3
    assert len(refusals()) == (0 if fits else 3)


# Switches -----------------------------------------------------------------------------------------

old_gpus = pytest.mark.filterwarnings(
    "ignore:COMPUTE_TYPE_BF16 and COMPUTE_TYPE_TF32:UserWarning"  # CuPy's, of itself
)


def error_of(place, rng):
    """How far the three products of float32 are off, as a share of their largest numbers."""
    case = CASES["many channels"]
    arrays = case.arrays(rng)
    found, wanted = all_three(CupyBackend, place, case, *arrays), by_loops(case, *arrays)
    pairs = zip(found, wanted, strict=True)
    return [np.abs(one - other).max() / np.abs(other).max() for one, other in pairs]


@old_gpus
@pytest.mark.parametrize("tf32", [None, False, True])
def test_tf32_is_for_those_who_allow_it(place, rng, tf32):
    """It leaves 10 bits of each factor."""
    place.tf32 = tf32
    low, high = (5e-6, 5e-3) if tf32 else (0, 2e-6)
    assert all(low < error < high for error in error_of(place, rng))


def test_cupys_own_switch_for_tf32_holds(place, rng, monkeypatch):
    from xpnn.backends.cupy import convolution
    from xpnn.backends.cupy.products import COMPUTE_32F_FAST_TF32

    monkeypatch.setattr(convolution, "compute_type", lambda dtype: COMPUTE_32F_FAST_TF32)
    assert min(error_of(place, rng)) > 5e-6
    place.tf32 = False
    assert max(error_of(place, rng)) < 2e-6


def test_sums_in_any_order_are_left_out_where_bits_have_to_be_the_same(
    place, cudnn, rng, monkeypatch
):
    notes, own = [], cudnn.pygraph.deselect_numeric_notes

    def deselect(self, given):
        notes.append({one.name for one in given})
        return own(self, given)

    monkeypatch.setattr(cudnn.pygraph, "deselect_numeric_notes", deselect)
    case = CASES["same"]
    all_three(CupyBackend, place, case, *case.arrays(rng, "float16"))
    assert notes == []
    place.deterministic = True
    all_three(CupyBackend, place, case, *case.arrays(rng, "float16"))
    assert notes == [{"NONDETERMINISTIC"}] * 3
    all_three(CupyBackend, place, case, *case.arrays(rng, "float32"))
    assert notes[3:] == [{"NONDETERMINISTIC", *ours.NOT_EXACT}] * 3


# What is kept -------------------------------------------------------------------------------------


def test_plans_are_kept_and_their_number_is_bounded(cudnn, rng, monkeypatch):
    monkeypatch.setattr(ours, "PLANS", 4)
    place = CupyBackend()
    place._cudnn = ours.Cudnn(cudnn, place.device.id)
    case = CASES["same"]
    for batch in (2, 2, 3, 4):
        all_three(CupyBackend, place, case, *case.arrays(rng, batch=batch))
    found = place._cudnn.plan.cache_info()
    assert (found.hits, found.misses, found.currsize) == (3, 9, 4)


def test_a_captured_graph_keeps_its_plans(place, rng):
    """They own kernels that it launches, however many others were made since."""
    case = CASES["same"]
    step = place.compiled(lambda Z, W: place.convolve(Z, W, case.slides), wanted=True)
    Z, W, delta = case.arrays(rng)
    wanted = by_loops(case, Z, W, delta)[:1]
    with place.on_device():
        for _ in range(3):
            found = step(place.asarray(Z), place.asarray(W))
    assert len(step.context.plans) == 1
    place._cudnn.plan.cache_clear()
    gc.collect()
    with place.on_device():
        found = step(place.asarray(Z), place.asarray(W))
    close([place.to_numpy(found)], wanted, 2e-6)


def test_what_a_convolution_took_is_given_back(place, rng):
    import cupy

    case, pool = CASES["all options"], cupy.get_default_memory_pool()
    arrays = [place.asarray(one) for one in case.arrays(rng)]
    all_three(CupyBackend, place, case, *arrays)
    gc.collect()
    used = pool.used_bytes()
    all_three(CupyBackend, place, case, *arrays)
    assert pool.used_bytes() == used


def test_work_goes_to_the_current_stream(place, rng):
    """Which the stand-in for a GPU and racing kernels on a real one both tell from another."""
    import cupy

    case = CASES["same"]
    arrays = case.arrays(rng)
    wanted = by_loops(case, *arrays)
    for stream in (cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)):
        with stream:
            close(all_three(CupyBackend, place, case, *arrays), wanted, 2e-6)
    close(all_three(CupyBackend, place, case, *arrays), wanted, 2e-6)


# Without it ---------------------------------------------------------------------------------------

WITHOUT = {
    "not installed": (None, "nvidia-cudnn-frontend is not installed"),
    "too old": (SimpleNamespace(__version__="1.17.0"), "1.17.0 was never tried"),
    "too new": (SimpleNamespace(__version__="1.32.1"), "1.32.1 was never tried"),
    "an old cuDNN": (
        SimpleNamespace(__version__="1.20.0", backend_version=lambda: 8907),
        "cuDNN is of version 8907, which is too old",
    ),
}


def no_cudnn():
    raise RuntimeError("Unable to find symbol cudnnGetVersion")


def two_runtimes():
    raise RuntimeError("Multiple libcudart libraries found: libcudart.so.12 and libcudart.so.13")


for name, fails in (("no cuDNN", no_cudnn), ("two CUDAs", two_runtimes)):
    module = SimpleNamespace(__version__="1.20.0", backend_version=fails)
    WITHOUT[name] = (module, "cuDNN does not load, ")


@pytest.fixture(params=WITHOUT)
def without(request, monkeypatch):
    """CuPy where there is no cuDNN that it can use, and why."""
    module, why = WITHOUT[request.param]
    monkeypatch.setitem(sys.modules, "cudnn", module)
    monkeypatch.setattr("xpnn.backends.cupy.backend.opened", ours.opened.__wrapped__)
    return CupyBackend(), why


def test_without_it_the_products_are_those_of_the_portable_version(without, rng, caplog):
    place, why = without
    case = CASES["all options"]
    arrays = case.arrays(rng)
    for _ in range(2):
        close(all_three(CupyBackend, place, case, *arrays), by_loops(case, *arrays), 2e-6)
    assert place.positions_first
    said = [one.getMessage() for one in caplog.records]
    assert said == [place.missing()]
    assert said[0].startswith(
        "convolutions, and attention in half precision, go without cuDNN, which is faster: "
    )
    assert why in said[0]
    assert "type: pip install 'nvidia-cudnn-frontend>=1.18,<1.23' nvidia-cudnn-cu1" in said[0]


def test_without_it_networks_that_convolve_say_so_in_their_summary(without):
    place, _ = without
    convolves = Network([Conv2D(2, 3), MaxPool2D(2), Flatten(), Dense(2)], (6, 6, 1), place)
    assert str(convolves.summary()).splitlines()[-1] == f"could be faster     {place.missing()}"
    assert Network([Dense(2)], (3,), place).summary().missing is None


def test_without_it_the_doctor_says_so(without, monkeypatch):
    place, _ = without
    monkeypatch.setattr("xpnn.commands.doctor.get_backend", lambda name: place)
    assert examine("cupy").endswith(f"; {place.missing()}")


def test_with_it_nothing_is_missing(place):
    assert place.missing() is None
    network = Network([Conv2D(2, 3)], (6, 6, 1), place)
    assert network.summary().missing is None


def test_it_is_not_looked_for_before_a_window_slides(monkeypatch):
    monkeypatch.setattr("xpnn.backends.cupy.backend.opened", None)
    place = CupyBackend()
    Network([Dense(2)], (3,), place).predict(np.zeros((2, 3), np.float32))
    assert "_cudnn" not in vars(place)


def test_other_backends_miss_nothing(backend):
    if backend.name != "cupy":
        assert backend.missing() is None


def test_backends_of_one_gpu_share_plans(cudnn):
    plain, switched = get_backend("cupy"), get_backend("cupy", deterministic=True)
    assert plain._cudnn is switched._cudnn


# Dropped as a whole ------------------------------------------------------------------------------


def with_large_workspaces(cudnn):
    """What its plans are asked for, by name; each wants a megabyte more than it says."""
    plan, names = cudnn.plan, set()

    def wanting(form):
        names.add(form.name)
        found = plan(form)
        return None if found is None else replace(found, workspace=found.workspace + 2**20)

    cudnn.plan = wanting
    return names


@pytest.mark.parametrize("compile", [None, False])
def test_workspaces_of_cudnn_are_given_back(cupy_that_attends, compile):
    """Of its convolutions and of its attention, in captured steps and kernel by kernel."""
    import cupy

    backend, pool = cupy_that_attends, cupy.get_default_memory_pool()
    names = with_large_workspaces(backend._cudnn)

    def run():
        layers = [Embedding(12, 16), Conv1D(16, 3, padding="same"), TransformerBlock(16, 2)]
        network = Network([*layers, Dense(12)], (6,), backend)
        trainer = Trainer(network, cross_entropy, Adam(1e-3), precision="float16", compile=compile)
        x, y = np.ones((4, 6), "i4"), np.zeros((4, 6), "i4")
        for _ in range(4):
            trainer.step(x, y)

    run()
    backend.free_memory()
    used, total = pool.used_bytes(), pool.total_bytes()
    free = cupy.cuda.runtime.memGetInfo()[0]
    run()
    assert pool.used_bytes() == used
    backend.free_memory()
    assert pool.total_bytes() == total
    assert cupy.cuda.runtime.memGetInfo()[0] == free
    assert names == {"conv_fprop", "conv_dgrad", "conv_wgrad", "sdpa", "sdpa_backward"}
