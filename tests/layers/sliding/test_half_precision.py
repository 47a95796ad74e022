"""What windows add up in half precision: in float32, and rounded once."""

import numpy as np
import pytest

from xpnn import Network
from xpnn.errors import BackendUnavailable
from xpnn.layers import AveragePool1D, AveragePool2D, Conv1D, ConvTranspose2D, GlobalAveragePool

pytestmark = pytest.mark.fault("long sums of narrow numbers")

of_many_calls = (
    pytest.mark.slow_to_compile
)  # one for each entry of a window, each compiled by itself


def passes(backend, layer, x):
    """Output and dL/dZ for a delta of ones, of a layer in float16 whose parameters are ones."""
    try:
        network = Network([layer], x.shape[1:], backend, dtype="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    network.load({name: np.ones_like(one) for name, one in network.numpy_arrays().items()})
    ones = np.ones((len(x), *network.output_shape), np.float16)
    with backend.on_device():
        found = network.forward(backend.asarray(x.astype(np.float16)), training=True)
        back = network.backward(backend.asarray(ones))
    assert found.dtype == back.dtype == backend.dtype("float16")
    return [np.array(backend.to_numpy(one), dtype="float64") for one in (found, back)]


@pytest.mark.parametrize(
    ("size", "value"),
    [pytest.param(4096, 1.0, marks=of_many_calls), (64, 2000.0), (70_000, 60_000.0)],
)
def test_means_of_one_value_are_that_value(backend, size, value):
    for layer in (AveragePool1D(size), GlobalAveragePool()):
        if size == 70_000 and isinstance(layer, AveragePool1D):
            continue  # one call for each entry of the window
        found, back = passes(backend, layer, np.full((1, size, 1), value))
        np.testing.assert_allclose(found.reshape(-1), value, rtol=1e-3)
        np.testing.assert_allclose(back, 1 / size, rtol=1e-2)


@of_many_calls
def test_means_of_a_rectangle(backend):
    found, back = passes(backend, AveragePool2D(64), np.full((1, 64, 64, 2), 3.0))
    np.testing.assert_allclose(found, 3.0, rtol=1e-3)
    np.testing.assert_allclose(back, 1 / 4096, rtol=1e-3)


@of_many_calls
def test_slopes_of_windows_that_overlap(backend):
    """Each entry in the middle lies under 300 windows, which give it 1/300 each."""
    found, back = passes(backend, AveragePool1D(300, stride=1), np.full((1, 900, 1), 3.0))
    np.testing.assert_allclose(found, 3.0, rtol=1e-3)
    np.testing.assert_allclose(back[:, 300:600], 1.0, rtol=1e-3)


@of_many_calls
def test_means_that_do_not_count_padding(backend):
    """At the edges 2049 entries count, a number that half precision does not have."""
    layer = AveragePool1D(4097, stride=1, padding=2048)
    found, _ = passes(backend, layer, np.full((1, 4097, 1), 2.0))
    np.testing.assert_allclose(found, 2.0, rtol=1e-3)


@of_many_calls
@pytest.mark.parametrize("channels", [1, 8])
def test_convolutions_of_many_taps(backend, channels):
    """Above 4096, half precision counts by fours: 5.4 would be 4."""
    layer = Conv1D(1, 6000 // channels, use_bias=False)
    found, back = passes(backend, layer, np.full((1, 6000 // channels, channels), 0.9))
    np.testing.assert_allclose(found, 5400.0, rtol=2e-3)
    np.testing.assert_array_equal(back, 1.0)


@of_many_calls
def test_transposed_convolutions_add_what_overlaps(backend):
    layer = ConvTranspose2D(1, 60, use_bias=False)
    found, _ = passes(backend, layer, np.full((1, 60, 60, 1), 1.2))
    assert np.isclose(found[0, 59, 59, 0], 60 * 60 * 1.2, rtol=2e-3)
