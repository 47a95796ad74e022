"""Gradients of parameters over very many samples: as many times those of one, to 3 in 100,000.

What is added up one after another in float32 is off by 1 in 10,000 here, by 1 in 1000 at ten times
as many samples, and by half at a hundred times as many.
"""

import functools

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.table import LAYERS, OTHERWISE_IN_TRAINING, Ids, build, has_two_modes
from xpnn.backends import get_backend
from xpnn.layers import InstanceNorm, Recompute, WeightNorm
from xpnn.layers.sliding.convolution import KernelLayer

pytestmark = pytest.mark.fault("long sums of narrow numbers")

NUMBERS = 400_000  # of all inputs; of each channel there are a quarter at least
LARGER = {InstanceNorm: 4, WeightNorm: 4}  # what is added up, of both signs, than what is left


@functools.cache
def kinds_with_parameters():
    """The smallest line of each kind of layer that has parameters and sees samples one by one."""
    found = {}
    for row in LAYERS:
        layer, shape = row.values[0](), row.values[1]
        if has_two_modes(layer, OTHERWISE_IN_TRAINING) or isinstance(layer, Recompute):
            continue
        network = build(*row.values, "numpy")
        before = found.get(type(layer))
        if network.params and (before is None or np.prod(shape) < np.prod(before.values[1])):
            found[type(layer)] = row
    return list(found.values())


@pytest.mark.slow_to_compile
@pytest.mark.parametrize(("make", "input_shape"), kinds_with_parameters())
def test_gradients_over_many_samples(backend, request, make, input_shape):
    if backend.name == "cupy":
        request.getfixturevalue("without_cudnn")
    assert_as_many_times_those_of_one(backend, make, input_shape)


KERNELS = [row for row in kinds_with_parameters() if isinstance(row.values[0](), KernelLayer)]


@needs("cupy")
@pytest.mark.gpu_only  # the order in which cuDNN adds up is that of its kernels
@pytest.mark.parametrize(("make", "input_shape"), KERNELS)
def test_gradients_of_kernels_over_many_samples_by_cudnn(make, input_shape):
    pytest.importorskip("cudnn")
    assert_as_many_times_those_of_one(get_backend("cupy"), make, input_shape)


def assert_as_many_times_those_of_one(backend, make, input_shape):
    rng, network = np.random.default_rng(3), build(make, input_shape, backend)
    one = rng.uniform(0.1, 1.0, (1, *input_shape)).astype(np.float32)
    one = np.ones_like(one, dtype=np.int64) if isinstance(input_shape, Ids) else one
    delta = rng.uniform(0.1, 1.0, (1, *network.output_shape)).astype(np.float32)
    samples = NUMBERS // one.size
    grads = [
        gradients(network, np.repeat(one, n, axis=0), np.repeat(delta, n, axis=0))
        for n in (1, samples)
    ]
    larger = LARGER.get(type(network.layers[0]), 1)
    for name, wanted in grads[0].items():
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(
            grads[1][name] / samples, wanted, rtol=0, atol=3e-5 * scale * larger, err_msg=name
        )


def gradients(network, x, delta):
    backend = network.backend
    with backend.on_device():
        network.forward(backend.asarray(x), training=True)
        network.backward(backend.asarray(delta))
    return {
        name: np.array(backend.to_numpy(g), dtype="float64") for name, g in network.grads.items()
    }
