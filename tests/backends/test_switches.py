"""deterministic=True and tf32=...: switches of one backend object."""

import contextlib

import numpy as np
import pytest

import xpnn
from tests.conftest import needs, on_gpu
from xpnn import Adam, Dense, Embedding, Flatten, Network, Trainer, get_backend
from xpnn.backends.cupy.switches import TF32_MATH
from xpnn.backends.portable.base import Backend as Base

pytestmark = pytest.mark.width

SCATTERS = [
    pytest.param((5, 3), [0, 2, 2, 4, 2], id="repeats"),
    pytest.param((4,), [3, 3, 3], id="rows-of-one-number"),
    pytest.param((3, 2, 2), [1, 0], id="rows-of-matrices"),
    pytest.param((6, 2), [], id="nothing"),
    pytest.param((1, 2), [0] * 50, id="one-row"),
    pytest.param((9, 7), [8, 1, 8, 8, 0, 1] * 20, id="many"),
]


def deterministic(backend):
    return get_backend(backend.spec, deterministic=True)


@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize(("shape", "indices"), SCATTERS)
def test_deterministic_sums_are_those_of_the_portable_version(
    backend, rng, shape, indices, index_dtype
):
    place = deterministic(backend)
    array = rng.standard_normal(shape).astype(np.float32)
    updates = rng.standard_normal((len(indices), *shape[1:])).astype(np.float32)
    ids = np.asarray(indices, dtype=index_dtype)
    found, wanted = (
        place.to_numpy(add(place, *map(place.asarray, (array.copy(), ids, updates))))
        for add in (type(place).scatter_add, Base.scatter_add)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def in_order(array, indices, updates):
    total = array.copy()
    for row, update in zip(indices, updates, strict=True):
        total[row] += update
    return total


@needs("cupy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cupy_adds_in_order_and_without_atomics(rng, dtype, monkeypatch):
    import cupy

    place = get_backend("cupy", deterministic=True)  # opened first, which tries a sum
    monkeypatch.setattr(cupy, "add", None)  # whose at() uses atomics
    array = np.zeros((5, 4), dtype)
    ids = rng.integers(0, 5, 300)
    updates = (rng.standard_normal((300, 4)) * 10.0 ** rng.integers(-6, 6, (300, 1))).astype(dtype)
    found = place.scatter_add(*map(place.asarray, (array, ids, updates)))
    np.testing.assert_array_equal(place.to_numpy(found), in_order(array, ids, updates))


@needs("cupy")
def test_cupy_adds_half_precision_in_single():
    place = get_backend("cupy", deterministic=True)
    ids, updates = np.zeros(4096, np.int64), np.ones((4096, 1), np.float16)
    found = place.scatter_add(*map(place.asarray, (np.zeros((1, 1), np.float16), ids, updates)))
    assert place.to_numpy(found)[0, 0] == 4096  # ones added to 2048 in half precision are lost


@pytest.mark.any_width
@needs("jax")
@pytest.mark.parametrize(("shape", "indices"), SCATTERS)
def test_jax_sums_run_by_run_what_a_gpu_would_add_in_any_order(rng, shape, indices):
    import jax

    from xpnn.backends.jax.backend import _add_in_order

    array = rng.standard_normal(shape).astype(np.float32)
    updates = rng.standard_normal((len(indices), *shape[1:])).astype(np.float32)
    ids = np.asarray(indices, dtype=np.int32)
    by_calls = [_add_in_order] if len(indices) < 10 else []  # each is compiled by itself
    for add in (jax.jit(_add_in_order), *by_calls):
        found = np.asarray(add(*map(jax.numpy.asarray, (array, ids, updates))))
        np.testing.assert_allclose(found, in_order(array, ids, updates), rtol=1e-5, atol=1e-5)


def test_a_deterministic_network_trains_to_the_same_bits(backend, rng):
    place = deterministic(backend)
    x = rng.integers(0, 6, (40, 5))
    weights = []
    for _ in range(2):
        network = Network([Embedding(6, 4), Flatten(), Dense(3)], (5,), place)
        trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-2))
        trainer.fit(x, x[:, 0] % 3, epochs=2, batch_size=8, progress=False)
        weights.append(network.numpy_arrays())
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])


def test_switches_belong_to_one_backend_object(backend):
    plain, switched = get_backend(backend.spec), get_backend(backend.spec, deterministic=True)
    assert (plain.deterministic, plain.tf32) == (False, None)
    assert (switched.deterministic, switched.tf32) == (True, None)
    assert switched is get_backend(backend.spec, deterministic=True)
    assert switched is not plain
    assert switched.device == plain.device
    assert get_backend(backend.spec, tf32=False) is not get_backend(backend.spec, tf32=True)
    assert repr(get_backend(backend.spec, deterministic=True, tf32=False)) == (
        f"<backend {backend.spec}, deterministic, tf32=False>"
    )
    assert Network([Dense(2)], (3,), switched).backend is switched


def test_an_open_backend_keeps_its_switches(backend):
    assert get_backend(backend) is backend
    for switch in ({"deterministic": True}, {"tf32": False}):
        with pytest.raises(ValueError, match="is open already; write get_backend"):
            get_backend(backend, **switch)


@pytest.mark.parametrize("tf32", [True, False])
def test_results_on_a_cpu_do_not_depend_on_tf32(backend, rng, tf32):
    if on_gpu(backend):
        pytest.skip("a GPU")
    x = rng.standard_normal((5, 4)).astype(np.float32)
    plain, switched = (
        Network([Dense(3)], (4,), place)
        for place in (backend, get_backend(backend.spec, tf32=tf32))
    )
    np.testing.assert_array_equal(
        backend.to_numpy(switched.predict(x)), backend.to_numpy(plain.predict(x))
    )


@needs("jax")
@pytest.mark.parametrize(("tf32", "precision"), [(True, "tensorfloat32"), (False, "highest")])
def test_jax_multiplies_in_the_precision_of_the_network(tf32, precision):
    import jax

    seen = []

    class Watching(Dense):
        def forward(self, Z, training=False):  # noqa: N803
            seen.append(jax.config.jax_default_matmul_precision)
            return super().forward(Z, training)

    place = get_backend("jax", tf32=tf32)
    trainer = Trainer(Network([Watching(2)], (3,), place), xpnn.cross_entropy, Adam())
    trainer.predict(np.ones((2, 3)))
    trainer.fit(np.ones((2, 3)), np.zeros(2, int), validation=0.5, progress=False)
    assert set(seen) == {precision}
    assert jax.config.jax_default_matmul_precision is None


@needs("torch")
@pytest.mark.parametrize("tf32", [True, False])
def test_torch_is_switched_for_a_gpu_and_back(monkeypatch, tf32):
    import torch

    place = type(get_backend("torch"))()
    monkeypatch.setattr(place, "tf32", tf32)
    monkeypatch.setattr(place, "device", torch.device("cuda:0"))
    switch = torch.backends.cuda.matmul
    before, switch.allow_tf32 = switch.allow_tf32, not tf32
    try:
        with contextlib.suppress(ZeroDivisionError), place.on_device():
            assert switch.allow_tf32 == tf32
            raise ZeroDivisionError
        assert switch.allow_tf32 == (not tf32)
    finally:
        switch.allow_tf32 = before


@needs("cupy")
@pytest.mark.filterwarnings("ignore:COMPUTE_TYPE_BF16 and COMPUTE_TYPE_TF32:UserWarning")
@pytest.mark.parametrize("tf32", [True, False])
def test_cupy_is_switched_and_back(monkeypatch, tf32):
    from cupy import _core, cuda, float32
    from cupy._core import _routines_linalg as linalg
    from cupy_backends.cuda.libs import cublas

    set_types, set_type = [], _core.set_compute_type

    def watched(dtype, kind):
        set_types.append(kind)
        set_type(dtype, kind)

    monkeypatch.setattr(_core, "set_compute_type", watched)
    before = _core.get_compute_type(float32)
    place = get_backend("cupy", tf32=tf32)
    handle, opposite = cuda.get_cublas_handle(), 0 if tf32 else TF32_MATH
    cublas.setMathMode(handle, opposite)
    with place.on_device():
        assert cublas.getMathMode(handle) == (TF32_MATH if tf32 else 0)
    assert cublas.getMathMode(handle) == opposite
    cublas.setMathMode(handle, 0)
    Network([Dense(2)], (3,), place).predict(np.ones((2, 3)))
    wanted = linalg.COMPUTE_TYPE_TF32 if tf32 else linalg.COMPUTE_TYPE_FP32
    assert wanted in set_types
    assert _core.get_compute_type(float32) == before
