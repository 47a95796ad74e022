"""What every layer of ``table.py`` promises of its numbers, checked on each backend."""

import contextlib

import numpy as np
import pytest

from tests.conftest import traced
from tests.layers.oracles import by_differences_not_on_torch
from tests.layers.table import (
    BATCH,
    IN_FLOAT32,
    Ids,
    build,
    draw,
    each_dtype,
    each_layer,
    each_layer_by_kind,
    each_layer_by_width,
    each_layer_of_few_numbers,
    each_layer_of_floats,
    each_layer_of_one_mode,
    each_layer_of_two_modes,
    each_layer_over_blocks,
    first_run,
    host,
    kinds_of_state,
    run,
    runs,
)
from xpnn.errors import BackendUnavailable
from xpnn.testing import check_gradients

pytestmark = pytest.mark.width

MISSING = {"numpy": ["bfloat16"], "array-api-strict": ["float16", "bfloat16"]}

# Right numbers ------------------------------------------------------------------------------------


@pytest.mark.any_width
@each_layer_of_few_numbers
@by_differences_not_on_torch
def test_backward_matches_finite_differences(backend, make, input_shape):
    ids = draw(input_shape) if isinstance(input_shape, Ids) else None
    report = check_gradients(make(), input_shape, backend, x=ids)
    assert report.rows
    assert report.error < 1e-6
    assert not any(row.left_out for row in report.rows)


@pytest.mark.any_width
@each_layer_over_blocks
def test_backward_matches_differences_along_a_line(backend, make, input_shape):
    """As a step goes, in float64, where such differences are right to about 1e-9."""
    rng, x = np.random.default_rng(0), draw(input_shape)
    with backend.allow_float64():
        network = build(make, input_shape, backend, "float64")
        start = {name: rng.standard_normal(one.shape) for name, one in network.params.items()}
        delta, passed = draw(network.output_shape, seed=2), runs(network)

        def passes(moved):
            network.params = {name: backend.asarray(one) for name, one in moved.items()}
            return passed(x)

        slopes = passes(start)
        for name, value in start.items():
            way, ends = rng.standard_normal(value.shape), []
            for h in (1e-5, -1e-5):
                ends.append(np.sum(passes({**start, name: value + h * way})["output"] * delta))
            wanted = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(np.sum(slopes[name] * way), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.any_width
@each_layer_of_two_modes
@by_differences_not_on_torch
def test_backward_matches_finite_differences_in_prediction(backend, make, input_shape):
    assert check_gradients(make(), input_shape, backend, training=False).error < 1e-6


@each_layer_by_width  # dtypes of all layers with 64 bits are told below
def test_same_numbers_on_every_backend(backend, make, input_shape):
    specs = backend.spec, "numpy"
    here, there = (first_run(make, input_shape, spec).results for spec in specs)
    assert here.keys() == there.keys()
    for name, array in here.items():
        # Gradients of about 1 that BatchNorm makes of larger ones, twice in the graph of shared
        # layers: NumPy is off by up to 0.9e-6 there, PyTorch on an AMD processor by 2.6e-6.
        np.testing.assert_allclose(array, there[name], rtol=2e-5, atol=5e-6, err_msg=name)


@pytest.mark.any_width
@each_layer
def test_output_shape_tells_the_truth(backend, make, input_shape):
    ran = first_run(make, input_shape, backend.spec)
    network, found = ran.network, ran.results
    assert found["output"].shape == (BATCH, *make().output_shape(input_shape))
    assert found["output"].shape == (BATCH, *network.output_shape)
    if not isinstance(input_shape, Ids):  # ids have no gradient
        assert found["input"].shape == (BATCH, *input_shape)
    for name, param in network.params.items():
        assert found[name].shape == tuple(param.shape), name


@pytest.mark.slow_to_compile
@pytest.mark.any_width
@each_layer_of_one_mode  # a mask for one sample is another one than a mask for three
def test_a_batch_of_one(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    delta = backend.asarray(draw(network.output_shape, seed=2))
    whole = run(network, x, delta)
    ones = [run(network, x[i : i + 1], delta[i : i + 1, ...]) for i in range(BATCH)]
    for name in whole.keys() & {"output", "input"}:
        parts = np.concatenate([one[name] for one in ones])
        np.testing.assert_allclose(whole[name], parts, rtol=1e-5, atol=1e-6)
    for name in network.grads:
        total = sum(one[name] for one in ones)
        np.testing.assert_allclose(whole[name], total, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.any_width
@each_layer_of_floats
def test_large_inputs_overflow_nowhere(backend, make, input_shape):
    ran = first_run(make, input_shape, backend.spec)
    found = ran.on_other_inputs(1e4 * np.sign(draw(input_shape)))
    assert all(np.all(np.isfinite(array)) for array in found.values())


# Pure numbers -------------------------------------------------------------------------------------


@each_layer_by_kind
@each_dtype
def test_dtype_is_kept(backend, make, input_shape, dtype):
    if dtype in MISSING.get(backend.name, ()):
        with pytest.raises(BackendUnavailable, match=f"no dtype '{dtype}'"):
            build(make, input_shape, backend, dtype)
        return
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        network, wanted = build(make, input_shape, backend, dtype), backend.dtype(dtype)
        floats = traced(backend, lambda: dtypes_of_a_pass(network, draw(input_shape), dtype))
        assert floats == dict.fromkeys(floats, wanted)
        assert "output" in floats
        assert isinstance(input_shape, Ids) != ("dL/d(input)" in floats)


def dtypes_of_a_pass(network, x, dtype):
    """Of everything real that a pass in training leaves behind, by name."""
    backend = network.backend
    out = network.forward(x, training=True)
    back = network.backward(backend.asarray(draw(network.output_shape), dtype))
    arrays = {"output": out, "dL/d(input)": back, **network.params}
    arrays |= {f"gradient of {name}": array for name, array in network.grads.items()}
    for name, layer in network.walk():
        cache = {k: v for k, v in layer.cache.items() if k not in IN_FLOAT32}
        arrays |= {f"cache of {name}: {k}": v for k, v in cache.items()}
    return {
        name: array.dtype
        for name, array in arrays.items()
        if hasattr(array, "dtype") and backend.xp.isdtype(array.dtype, "real floating")
    }


@each_layer
def test_state_keeps_its_dtypes(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    before = kinds_of_state(network)

    def forward():
        network.forward(x, training=True)
        return kinds_of_state(network)

    assert traced(backend, forward) == before


@pytest.mark.any_width
@each_layer
def test_lent_arrays_are_not_written_to(backend, make, input_shape):
    ran = first_run(make, input_shape, backend.spec)
    np.testing.assert_array_equal(backend.to_numpy(ran.x), ran.values[0])
    np.testing.assert_array_equal(backend.to_numpy(ran.delta), ran.values[1])
    for name, array in host(ran.network, "params").items():
        np.testing.assert_array_equal(array, ran.params[name])


@each_layer
def test_read_only_arrays_will_do(make, input_shape):
    network = build(make, input_shape, "numpy")
    x, delta = draw(input_shape), draw(network.output_shape)
    expected = run(build(make, input_shape, "numpy"), x.copy(), delta.copy())
    x.flags.writeable = delta.flags.writeable = False
    network.params = {name: frozen(array) for name, array in network.params.items()}
    found = run(network, x, delta)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.slow_to_compile  # whose arrays nothing writes to; what a layer keeps, others show
@pytest.mark.any_width
@each_layer
def test_backward_twice_gives_the_same(backend, make, input_shape):
    network = build(make, input_shape, backend)
    network.forward(draw(input_shape), training=True)
    delta = backend.asarray(draw(network.output_shape))
    results = []
    for _ in range(2):
        back = network.backward(delta)
        inputs = {} if back is None else {"input": np.array(backend.to_numpy(back))}
        results.append({**inputs, **host(network, "grads")})
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])


@pytest.mark.slow_to_compile  # call by call; a compiled step keeps nothing of a batch
@pytest.mark.any_width
@each_layer_of_one_mode  # a second batch sees another mask
def test_gradients_are_of_the_last_batch(backend, make, input_shape):
    network, other = build(make, input_shape, backend), draw(input_shape, seed=5)
    run(network, other)
    fresh = first_run(make, input_shape, backend.spec).results
    again = run(network, draw(input_shape))
    for name, array in fresh.items():
        if backend.name == "jax":  # the first run was compiled, which rounds in another order
            np.testing.assert_allclose(array, again[name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(array, again[name])
