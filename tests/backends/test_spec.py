"""The grammar of ``library:device``: good specs, bad ones, and backends side by side."""

import numpy as np
import pytest

from tests.conftest import needs
from xpnn.backends import BACKENDS, backend_of, get_backend
from xpnn.errors import BackendUnavailable
from xpnn.layers import GELU, Dense
from xpnn.network import Network

pytestmark = pytest.mark.width


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


@pytest.mark.parametrize(
    ("spec", "meant"),
    [("nympy", ", did you mean 'numpy'?"), ("cuda", "; a GPU is 'cupy' or 'torch:cuda'")],
)
def test_unknown_names_are_answered_with_what_may_be_meant(spec, meant):
    with pytest.raises(BackendUnavailable) as caught:
        get_backend(spec)
    assert meant in str(caught.value)


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
    assert two.owns(two.move(array))


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
