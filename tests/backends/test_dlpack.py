"""Memory that libraries share: what comes in is not copied, what comes out can be read in place."""

import itertools

import numpy as np
import pytest

from tests.conftest import SPECS, needs, on_device_of
from xpnn.backends import get_backend
from xpnn.errors import DataError
from xpnn.layers import Dense, Dropout, ReLU
from xpnn.losses import mean_squared_error
from xpnn.network import Network
from xpnn.optimizers import SGD
from xpnn.training import Trainer

pytestmark = pytest.mark.width

HOSTS = [
    pytest.param(name, marks=needs(name)) for name in ("numpy", "torch", "jax", "array-api-strict")
]
PAIRS = [
    pytest.param(*(one.values[0] for one in pair), marks=[m for one in pair for m in one.marks])
    for pair in itertools.product(HOSTS, HOSTS)
]


def aligned(count=64, dtype=np.float32):
    """Writable numbers from an address that all libraries take, a multiple of 64 bytes."""
    room = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    array = room[start : start + count * np.dtype(dtype).itemsize].view(dtype)
    array[:] = np.arange(count)
    return array


def address(backend, array):
    return backend.to_numpy(array).__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_libraries_on_the_host_share_memory(source, target, dtype):
    giver, taker = get_backend(source), get_backend(target)
    given = giver.asarray(aligned(dtype=dtype))
    taken = taker.asarray(given, dtype)
    assert taker.owns(taken)
    shared = target != "jax" or source == "jax"  # whose arrays never change
    assert (address(taker, taken) == address(giver, given)) == shared
    np.testing.assert_array_equal(taker.to_numpy(taken), giver.to_numpy(given))


@pytest.mark.any_width
@needs("torch")
@needs("jax")
@pytest.mark.parametrize(("source", "target"), [("torch", "jax"), ("jax", "torch")])
def test_bfloat16_stays_bfloat16(source, target):
    giver, taker = get_backend(source), get_backend(target)
    half = giver.xp.astype(giver.asarray([0.5, 3.0]), giver.xp.bfloat16)
    taken = taker.asarray(half)
    assert taken.dtype == taker.dtype("bfloat16")
    np.testing.assert_array_equal(taker.to_numpy(taken), [0.5, 3.0])


TENSORS = [
    pytest.param(lambda t: t.arange(12.0).reshape(3, 4).T, id="transposed"),
    pytest.param(lambda t: t.arange(12.0).reshape(3, 4)[:, ::2], id="strided"),
    pytest.param(lambda t: t.arange(12.0)[3:], id="offset"),
    pytest.param(lambda t: t.ones(3).expand(2, 3), id="stride-0"),
    pytest.param(lambda t: t.ones((0, 3)), id="empty"),
    pytest.param(lambda t: t.tensor(2.5), id="0-d"),
    pytest.param(lambda t: t.arange(3, dtype=t.float64), id="float64"),
    pytest.param(lambda t: t.arange(3), id="int64"),
    pytest.param(lambda t: t.arange(3, dtype=t.uint8), id="uint8"),
    pytest.param(lambda t: t.arange(3, dtype=t.float16), id="float16"),
    pytest.param(lambda t: 2 * t.ones(3, requires_grad=True), id="history"),
    pytest.param(lambda t: t.nn.Parameter(t.ones(3)), id="parameter"),
]


@needs("torch")
@pytest.mark.parametrize("make", TENSORS)
def test_tensors_of_every_kind(backend, make):
    import torch

    tensor = on_device_of(backend, make(torch))
    found = backend.asarray(tensor, "float32")
    assert backend.owns(found)
    np.testing.assert_array_equal(backend.to_numpy(found), tensor.detach().cpu().numpy())


@needs("torch")
@needs("jax")
def test_tensors_with_a_history_keep_their_dtype():
    import torch

    tensor = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    taken = get_backend("jax").asarray(tensor)
    assert str(taken.dtype) == "bfloat16"  # over the host it would be float32


@needs("torch")
def test_complex_tensors_are_refused(backend):
    if backend.name == "torch":
        pytest.skip("its own tensors are taken as they are")
    import torch

    with pytest.raises(DataError, match="wanted numbers"):
        backend.asarray(torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize("source", SPECS)
def test_training_never_writes_into_what_was_given(backend, source):
    giver = get_backend(source)
    host = aligned(48).reshape(12, 4), aligned(24).reshape(12, 2)
    x, y = (giver.move(array) for array in host)
    before = [np.array(giver.to_numpy(array)) for array in (x, y)]
    layers = [ReLU(), Dropout(0.5), Dense(4), ReLU(), Dense(2), Dropout(0.2)]
    trainer = Trainer(Network(layers, (4,), backend), mean_squared_error, SGD(0.1, momentum=0.9))
    if giver.name == backend.name:
        x, y = backend.move(x), backend.move(y)
    for _ in range(3):  # the first one records, the later ones replay
        trainer.step(x, y)
    trainer.fit(x, y, epochs=2, batch_size=5, progress=False)
    trainer.predict(x)
    for array, then in zip((x, y), before, strict=True):
        np.testing.assert_array_equal(giver.to_numpy(array), then)


@pytest.mark.parametrize("source", SPECS)
def test_load_shares_no_memory_with_what_was_given(backend, source):
    giver = get_backend(source)
    network = Network([Dense(8)], (8,), backend)
    weight = giver.asarray(aligned(64).reshape(8, 8))
    before = np.array(giver.to_numpy(weight))
    network.load({"0.dense.weight": weight, "0.dense.bias": giver.asarray(aligned(8))})
    trainer = Trainer(network, mean_squared_error, SGD(1.0))
    for _ in range(3):
        trainer.step(np.ones((2, 8), np.float32), np.ones((2, 8), np.float32))
    np.testing.assert_array_equal(giver.to_numpy(weight), before)


@needs("torch")
def test_torch_reads_predictions_in_place(backend):
    import torch

    network = Network([Dense(2)], (3,), backend)
    outputs = network.predict(np.ones((4, 3)))
    if backend.name == "array-api-strict" and backend.device != backend.xp.Device("CPU_DEVICE"):
        pytest.skip("array-api-strict gives nothing away from its made-up devices")
    if backend.name == "cupy":
        pytest.skip("torch for the CPU reads nothing from a GPU")
    tensor = torch.from_dlpack(outputs)
    np.testing.assert_array_equal(tensor.cpu().numpy(), backend.to_numpy(outputs))
    assert tensor.data_ptr() == (
        outputs.data_ptr() if backend.name == "torch" else address(backend, outputs)
    )


@needs("cupy")
def test_cupy_takes_arrays_of_its_device_in_place():
    import cupy

    class Foreign:
        """An array of some other library, on the GPU."""

        def __init__(self, array):
            self.array, self.dtype = array, array.dtype

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    array = cupy.arange(12, dtype=cupy.float32).reshape(3, 4)
    found = get_backend("cupy").asarray(Foreign(array))
    assert found.data.ptr == array.data.ptr
    np.testing.assert_array_equal(found.get(), array.get())
