"""What every loss promises, checked for each configuration on each backend."""

import contextlib
from functools import cache, partial

import numpy as np
import pytest

from tests.conftest import needs, traced
from tests.losses.table import CASES, each_loss, each_loss_apart
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, ShapeError
from xpnn.losses import check_targets, cross_entropy, mean_squared_error, total_weight
from xpnn.testing import check_gradients

pytestmark = pytest.mark.width

HALVES = ("float16", "bfloat16")
WEIGHTS = np.array([2.0, 0.0, 1.0, 3.0, 1.0])


def on_host(backend, pair):
    return [np.array(backend.to_numpy(array)) for array in pair]


def called(backend, loss, *arrays, dtype=None, **named):
    """Value and delta on the host, of arrays on the host."""
    moved = [None if a is None else backend.asarray(a) for a in arrays]
    named = {name: backend.asarray(array) for name, array in named.items()}
    with backend.on_device():
        return on_host(backend, on_arrays(loss, backend)(moved, named))


@cache
def on_arrays(loss, backend):
    """The loss as a function of arrays; compiled on JAX, which compiles each call by itself."""

    def call(arrays, named):
        return loss(*arrays, backend=backend, **named)

    return backend.compiled(call, wanted=backend.name == "jax")


@pytest.mark.slow_to_compile  # to 14 digits, value and delta are those of torch
@pytest.mark.any_width
@each_loss
def test_delta_matches_finite_differences(backend, case):
    if backend.name == "array-api-strict":
        pytest.skip("value and delta are compared with those of torch, below")
    predictions, targets = case.arrays()
    check_gradients(case.loss, x=predictions, targets=targets, backend=backend)


@pytest.mark.slow_to_compile  # weights count like repetitions of what is compared with torch
@pytest.mark.any_width
@each_loss
def test_weighted_delta_matches_finite_differences(backend, case):
    if backend.name == "array-api-strict":
        pytest.skip("what weights do is shown by repetitions, below")
    predictions, targets = case.arrays()
    loss = partial(case.loss, sample_weight=WEIGHTS)
    check_gradients(loss, x=predictions, targets=targets, backend=backend)


@needs("torch")
@each_loss
@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-6), ("float64", 1e-14)])
def test_value_and_delta_are_those_of_torch(backend, case, dtype, close):
    import torch

    predictions, targets = case.arrays(dtype)
    exact = torch.tensor(predictions, dtype=torch.float64, requires_grad=True)
    theirs = torch.tensor(targets, dtype=None if targets.dtype.kind == "i" else torch.float64)
    reference = case.reference(torch.nn.functional, exact, theirs)
    reference.backward()
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        value, delta = called(backend, case.loss, predictions, targets)
    np.testing.assert_allclose(value, reference.item(), rtol=close, atol=close)
    np.testing.assert_allclose(delta, exact.grad.numpy(), rtol=close, atol=close)


@pytest.mark.any_width
@each_loss
def test_huge_predictions_give_finite_numbers(backend, case):
    predictions, targets = case.arrays("float32")
    for size in (1e4, -1e4):
        huge = np.where(np.arange(predictions.size) % 2, size, -size).reshape(predictions.shape)
        for one in (huge, np.full(predictions.shape, size)):
            value, delta = called(backend, case.loss, one.astype(np.float32), targets)
            assert np.isfinite(value)
            assert np.all(np.isfinite(delta))


@each_loss_apart
@pytest.mark.any_width
def test_weights_count_like_repetitions(backend, case):
    predictions, targets = case.arrays("float32")
    times = WEIGHTS.astype(int)
    value, delta = called(
        backend, case.loss, predictions, targets, sample_weight=WEIGHTS.astype(np.float32)
    )
    repeated = [np.repeat(array, times, axis=0) for array in (predictions, targets)]
    expected, parts = called(backend, case.loss, *repeated)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    owner = np.repeat(np.arange(len(times)), times)
    summed = np.zeros_like(predictions)
    np.add.at(summed, owner, parts)
    np.testing.assert_allclose(delta, summed, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(delta[WEIGHTS == 0], 0)


@pytest.mark.slow_to_compile  # test_cuts compares the same there, in fewer parts
@each_loss_apart
@pytest.mark.parametrize("weights", [None, np.array([0.0, 2.0, 0.3, 0.1, 1e-6])])
@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-6), ("float64", 1e-14)])
def test_samples_one_by_one_have_the_mean_of_the_whole(backend, case, weights, dtype, close):
    """By what ``total_weight`` says that each of them weighs."""
    predictions, targets = case.arrays(dtype)
    values, totals = [], []
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        for k in range(5):
            p, y = (backend.asarray(array[k : k + 1]) for array in (predictions, targets))
            weight = None if weights is None else backend.asarray(weights[k : k + 1], dtype)
            with backend.on_device():
                value, _ = case.loss(p, y, sample_weight=weight, backend=backend)
                total = total_weight(case.loss, y, weight, case.shape[1:], backend, dtype)
            values.append(float(backend.to_numpy(value)))
            totals.append(float(backend.to_numpy(total) if hasattr(total, "dtype") else total))
    empty = np.equal(totals, 0)
    assert empty[0] or weights is None
    assert np.all(np.isnan(values) == empty)
    mean = np.average(np.where(empty, 0, values), weights=totals)
    assert mean == pytest.approx(_exact_mean(case.loss, predictions, targets, weights), rel=close)


def _exact_mean(loss, predictions, targets, weights):
    """By NumPy in float64, of the whole."""
    predictions = predictions.astype(np.float64)
    targets = targets if targets.dtype.kind == "i" else targets.astype(np.float64)
    value, _ = loss(predictions, targets, sample_weight=weights, backend=get_backend("numpy"))
    return float(value)


@pytest.mark.any_width
@each_loss
def test_weights_of_zero_for_all_teach_nothing(backend, case):
    predictions, targets = case.arrays("float32")
    nothing = np.zeros(5, dtype=np.float32)
    value, delta = called(backend, case.loss, predictions, targets, sample_weight=nothing)
    assert np.isnan(value)  # the mean of nothing
    np.testing.assert_array_equal(delta, 0)


@each_loss
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param("float16", marks=pytest.mark.any_width),
        pytest.param("bfloat16", marks=[pytest.mark.any_width, pytest.mark.slow_to_compile]),
        "float32",
        "float64",
    ],
)
def test_dtype_is_that_of_the_predictions(backend, case, dtype):
    wide = backend.allow_float64() if dtype == "float64" else contextlib.nullcontext()
    with wide, backend.on_device():
        try:
            wanted = backend.dtype(dtype)
        except BackendUnavailable:
            pytest.skip(f"{backend.name} has no {dtype}")
        predictions, targets = case.arrays("float32")
        arrays = backend.asarray(predictions, dtype), backend.asarray(targets)
        weight = backend.asarray(WEIGHTS.astype(np.float32))
        for extra in ({}, {"sample_weight": weight}):
            call = partial(case.loss, *arrays, backend=backend, **extra)
            value, delta = traced(backend, call)
            assert value.dtype == (backend.dtype("float32") if dtype in HALVES else wanted)
            assert delta.dtype == wanted
            assert tuple(delta.shape) == predictions.shape
            assert tuple(value.shape) == ()
        if dtype in HALVES:
            expected = called(backend, case.loss, predictions, targets)
            half = on_host(backend, on_arrays(case.loss, backend)(arrays, {}))
            # float16 has 11 bits: 1e-3 relative, and 1e-3 of the largest predictions, about 2
            coarser = 8 if dtype == "bfloat16" else 1  # than float16, with 8 bits for 11
            np.testing.assert_allclose(half[0], expected[0], rtol=5e-3 * coarser)
            np.testing.assert_allclose(
                half[1], expected[1], rtol=2e-2 * coarser, atol=2e-3 * coarser
            )


@pytest.mark.slow_to_compile  # whose arrays nothing writes to
@each_loss
def test_nothing_that_came_in_is_written_to(backend, case):
    arrays = [*case.arrays("float32"), WEIGHTS.astype(np.float32)]
    for array in arrays:
        array.flags.writeable = False
    moved = [backend.asarray(array) for array in arrays]
    with backend.on_device():
        case.loss(*moved[:2], sample_weight=moved[2], backend=backend)
    for array, after in zip(arrays, moved, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(after), array)


@each_loss_apart
def test_large_arrays_are_like_small_ones(case):
    """NumPy sweeps over large arrays block by block; nothing is lent to it to write into."""
    numpy, times = get_backend("numpy"), 20_000
    small = case.arrays("float32")
    large = [np.tile(array, (times, *[1] * (array.ndim - 1))) for array in small]
    before = [array.copy() for array in large]
    value, delta = case.loss(*large, backend=numpy)
    for array, kept in zip(large, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    expected, slopes = case.loss(*small, backend=numpy)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(delta[-5:], slopes / times, rtol=1e-5)


@pytest.mark.any_width
@each_loss
def test_compiled_it_gives_the_same_and_is_traced_once(backend, case):
    traces = []

    def step(predictions, targets, weight):
        traces.append(1)
        return case.loss(predictions, targets, sample_weight=weight, backend=backend)

    compiled = backend.compiled(step, known=True)
    weight = backend.asarray(WEIGHTS.astype(np.float32))
    for seed in range(3):
        arrays = case.arrays("float32", seed)
        moved = [backend.asarray(array) for array in arrays]
        with backend.on_device():
            value, delta = on_host(backend, compiled(*moved, weight))
        expected = called(backend, case.loss, *arrays, sample_weight=WEIGHTS.astype(np.float32))
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        np.testing.assert_allclose(delta, expected[1], rtol=1e-5, atol=1e-7)
    if backend.name == "jax":
        assert len(traces) == 1


@each_loss
@pytest.mark.any_width
def test_nothing_passes_between_host_and_device(backend, case, monkeypatch):
    moved = [backend.asarray(array) for array in case.arrays("float32")]
    weight = backend.asarray(WEIGHTS.astype(np.float32))

    def run():
        return case.loss(*moved, sample_weight=weight, backend=backend)

    def refuse(*_):
        raise AssertionError("this waits for the device, or copies to it")

    with backend.on_device():
        traced(backend, run)  # constants may be copied, once; a tracer cannot be read
        monkeypatch.setattr(type(backend), "from_numpy", refuse)
        monkeypatch.setattr(type(backend), "to_numpy", refuse)
        if backend.name in ("array-api-strict", "torch"):
            reads = ("__float__", "__int__", "__bool__", "__index__", "__array__", "item", "numpy")
            for read in reads:
                if hasattr(type(weight), read):
                    monkeypatch.setattr(type(weight), read, refuse)
        traced(backend, run)


@pytest.mark.any_width
@needs("jax")
@each_loss
def test_a_compiled_loss_needs_no_transfer(case):
    import jax

    backend = get_backend("jax")
    step = backend.compiled(partial(case.loss, backend=backend), known=True)
    moved = [backend.asarray(array) for array in case.arrays("float32")]
    value, _ = step(*moved)
    with jax.transfer_guard("disallow_explicit"):
        again, _ = step(*moved)
    assert float(value) == float(again)


@each_loss
def test_the_table_s_own_targets_pass_the_check(backend, case):
    _, targets = case.arrays("float32")
    check_targets(case.loss, backend.asarray(targets), case.shape[1:], backend)


@each_loss
@pytest.mark.any_width
def test_the_backend_is_found_from_the_predictions(backend, case):
    predictions, targets = case.arrays("float32")
    with backend.on_device():
        value, delta = case.loss(backend.asarray(predictions), targets)  # targets of NumPy
    assert backend.owns(delta)
    expected, _ = called(backend, case.loss, predictions, targets)
    np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (1,), (5, 2), (), (5, 3, 1)])
def test_weights_of_another_shape_are_refused(backend, shape):
    predictions, targets = CASES["squared"].arrays("float32")
    with pytest.raises(ShapeError, match=r"sample_weight of shape \(5,\), or of more axes"):
        called(
            backend,
            mean_squared_error,
            predictions,
            targets,
            sample_weight=np.ones(shape, np.float32),
        )


@pytest.mark.parametrize("shape", [(3,), (5, 1), (3, 5)])
def test_targets_of_another_shape_are_refused(backend, shape):
    predictions, _ = CASES["squared"].arrays("float32")
    with pytest.raises(ShapeError, match=r"wanted targets of the predictions' shape \(5, 3\), got"):
        called(backend, mean_squared_error, predictions, np.zeros(shape, np.float32))


def test_a_mask_over_time_leaves_steps_out(backend):
    case = CASES["sequences"]
    predictions, targets = case.arrays("float32")
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=np.float32)
    value, delta = called(backend, cross_entropy, predictions, targets, sample_weight=mask)
    kept = mask.astype(bool)
    expected, parts = called(backend, cross_entropy, predictions[kept], targets[kept])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(delta[kept], parts, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(delta[~kept], 0)
