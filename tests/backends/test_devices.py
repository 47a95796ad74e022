"""Several devices of one library: what is on the wrong one, and in which context work is done."""

import contextlib
import os

import numpy as np
import pytest

import xpnn
from tests.backends.process import python
from tests.conftest import needs
from xpnn import (
    Accuracy,
    Adam,
    BatchNorm,
    BestWeights,
    Dense,
    Dropout,
    Embedding,
    History,
    Network,
    ReduceOnPlateau,
    ReLU,
    StopOnNaN,
    Trainer,
    backends,
)
from xpnn.backends import backend_of, get_backend
from xpnn.backends.strict.backend import StrictBackend
from xpnn.errors import DataError, DeviceError
from xpnn.guide import HiddenLayer, InputLayer, OutputLayer
from xpnn.saving import load_weights, save_weights

pytestmark = pytest.mark.width

array_api_strict = pytest.importorskip("array_api_strict")

ONE, TWO = (get_backend(f"array-api-strict:device{n}") for n in (1, 2))
X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trainer(backend, **options):
    network = Network([Dense(8), BatchNorm(), ReLU(), Dropout(0.3), Dense(2)], (4,), backend)
    optimizer = Adam(ReduceOnPlateau(1e-2, patience=0))
    return Trainer(network, xpnn.cross_entropy, optimizer, **options)


# The wrong device ---------------------------------------------------------------------------------

WORDS = (
    r"wanted arrays on 'array-api-strict:device1', got one on 'array-api-strict:device2'; move the "
    r"array, get_backend\('array-api-strict:device1'\).move\(x\), or the network, "
    r"network.to\('array-api-strict:device2'\)"
)
ENTRIES = [
    pytest.param(lambda t, x, y: t.network(x), id="call"),
    pytest.param(lambda t, x, y: t.network.forward(x), id="forward"),
    pytest.param(lambda t, x, y: t.network.predict(x), id="predict"),
    pytest.param(lambda t, x, y: t.fit(x, Y, progress=False), id="fit-inputs"),
    pytest.param(lambda t, x, y: t.fit(X, y, progress=False), id="fit-targets"),
    pytest.param(
        lambda t, x, y: t.fit(X, Y, sample_weight=y, progress=False), id="fit-sample-weight"
    ),
    pytest.param(lambda t, x, y: t.fit(X, Y, validation=(x, Y), progress=False), id="validation"),
    pytest.param(lambda t, x, y: t.evaluate(x, Y), id="evaluate"),
    pytest.param(lambda t, x, y: t.step(x, Y), id="step-inputs"),
    pytest.param(lambda t, x, y: t.step(X, y), id="step-targets"),
    pytest.param(lambda t, x, y: t.step(X, Y, y), id="step-weights"),
    pytest.param(
        lambda t, x, y: t.network.load({**t.network.numpy_arrays(), "0.dense.weight": x[:4, :]}),
        id="load",
    ),
]


def test_a_batch_of_the_known_form_on_another_device_is_refused():
    trained = trainer(ONE)
    trained.step(ONE.asarray(X), ONE.asarray(Y))
    for batch in [(TWO.asarray(X), ONE.asarray(Y)), (ONE.asarray(X), TWO.asarray(Y))]:
        with pytest.raises(DeviceError, match=WORDS):
            trained.step(*batch)
    assert trained.steps == 1


@pytest.mark.parametrize("enter", ENTRIES)
def test_an_array_on_another_device_is_refused(enter):
    one = trainer(ONE)
    before = one.network.numpy_arrays()
    with pytest.raises(DeviceError, match=WORDS):
        enter(one, TWO.asarray(X), TWO.asarray(Y))
    assert one.steps == 0
    after = one.network.numpy_arrays()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_device_error_is_an_error_about_data():
    assert issubclass(DeviceError, DataError)


@pytest.mark.parametrize("way", ["the array", "the network"])
def test_both_ways_out_that_the_error_names(way):
    one, x = trainer(ONE), TWO.asarray(X)
    wanted = ONE.to_numpy(one.predict(X))
    if way == "the array":
        found = one.predict(ONE.move(x))
        assert ONE.owns(found)
    else:
        found = one.network.to("array-api-strict:device2").predict(x)
        assert TWO.owns(found)
    np.testing.assert_array_equal(backend_of(found).to_numpy(found), wanted)


def test_move_leaves_what_fits_and_takes_what_asarray_takes(backend):
    array = backend.asarray(X)
    assert backend.move(array) is array
    for values in (X, X.tolist(), TWO.asarray(X)):
        found = backend.move(values, "float32")
        assert backend.owns(found)
        np.testing.assert_array_equal(backend.to_numpy(found), X)
    with pytest.raises(DataError, match="wanted numbers"):
        backend.move(["a"])


@needs("torch")
def test_a_tensor_on_another_device_is_refused():
    import torch

    with pytest.raises(DeviceError, match="wanted arrays on 'torch:cpu', got one on 'torch:meta'"):
        trainer("torch").predict(torch.zeros((2, 4), device="meta"))


@pytest.mark.any_width
@needs("jax")
def test_two_devices_of_jax():
    assert python(
        """
        import numpy as np, jax, xpnn
        from xpnn import Adam, Dense, Dropout, Embedding, Flatten, Network, Trainer, get_backend
        from xpnn.backends import backend_of

        first, second = jax.devices()
        layers = lambda: [Embedding(9, 3), Flatten(), Dense(4), Dropout(0.2), Dense(2)]
        x = np.arange(40).reshape(10, 4) % 9
        y = x[:, 0] % 2
        trainers = [
            Trainer(Network(layers(), (4,), spec), xpnn.cross_entropy, Adam(1e-2))
            for spec in ("jax", "jax:cpu:1")
        ]
        curves = [t.fit(x, y, epochs=3, batch_size=4, progress=False)["loss"] for t in trainers]
        np.testing.assert_allclose(*curves, rtol=1e-6)
        outputs = trainers[1].predict(x)
        assert outputs.devices() == {second}
        assert all(w.devices() == {second} for w in trainers[1].network.params.values())
        assert backend_of(outputs) is get_backend("jax:cpu:1")
        assert backend_of(trainers[0].predict(x)) is get_backend("jax")
        try:
            trainers[0].predict(jax.device_put(x, second))
        except xpnn.DeviceError as error:
            print(error)
        try:
            mesh = jax.sharding.Mesh(np.array([first, second]), "a")
            spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
            trainers[0].predict(jax.device_put(x, spread))
        except xpnn.DeviceError as error:
            print(str(error).partition(";")[0])
        moved = trainers[0].to("jax:cpu:1")
        moved.fit(x, y, epochs=1, progress=False)
        assert moved.predict(x).devices() == {second}
        """,
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
        JAX_PLATFORMS="cpu",
    ).splitlines() == [
        "wanted arrays on 'jax:cpu:0', got one on 'jax:cpu:1'; move the array, "
        "get_backend('jax:cpu:0').move(x), or the network, network.to('jax:cpu:1')",
        "wanted arrays on 'jax:cpu:0', got one on 'jax:all'",
    ]


# The context in which work is done ----------------------------------------------------------------


class ContextBackend(StrictBackend):
    """array-api-strict on device1, where arrays may only be made inside of ``on_device``.

    Stands in for a second GPU, on which CuPy makes arrays while it is the current device only.
    """

    counters_on_device = True
    depth = 0

    def __init__(self):
        super().__init__("device1")

    @contextlib.contextmanager
    def on_device(self):
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def from_numpy(self, array):
        with self.on_device():
            return super().from_numpy(array)

    def counter(self, start=0):
        return self.scalar(start)  # a float: array-api-strict adds none to an integer

    def scalar(self, value):
        with self.on_device():
            return self.xp.asarray(float(value), device=self.device)

    def random_bits(self, seed, draw, shape):
        with self.on_device():
            return super().random_bits(seed, draw, shape)


@pytest.fixture
def place(monkeypatch):
    backend, kind = ContextBackend(), array_api_strict._array_object.Array
    make = kind._new.__func__

    def watched(cls, x, /, device=None):
        if device == backend.device and not backend.depth:
            raise AssertionError("an array was made outside of on_device")
        return make(cls, x, device)

    def opened(spec):
        return backend if spec.startswith("array-api-strict") else open_any(spec)

    open_any = backends._open
    monkeypatch.setattr(backends, "_open", opened)
    monkeypatch.setattr(kind, "_new", classmethod(watched))
    return backend


def look_at(place, tmp_path):
    history = History()
    one = trainer(
        place, metrics=[Accuracy()], callbacks=[StopOnNaN(), BestWeights(), history], log_every=2
    )
    weight = np.ones(len(X))
    one.fit(X, Y, epochs=3, batch_size=5, sample_weight=weight, validation=0.25, progress=False)
    one.fit(X, Y, batch_size=5, validation=(X, Y, weight), progress=False)
    one.step(X, Y, weight)
    one.evaluate(X, Y, sample_weight=weight)
    one.predict(X, batch_size=5)
    one.predict(X.astype(np.float64))
    network = one.network
    network.backward(network.forward(X, training=True))
    network(X)
    network.load(network.numpy_arrays())
    network.summary(one.optimizer)
    save_weights(network, tmp_path / "weights.safetensors")
    load_weights(network, tmp_path / "weights.safetensors")
    one.to(place).step(X, Y)
    one.to("numpy").to(place).fit(X, Y, validation=(X, Y), progress=False)
    Accuracy()(place.asarray(X), place.asarray(Y))
    xpnn.split(place.asarray(X), place.asarray(Y), stratify=Y)
    reader = Network([Embedding(5, 3), Dense(5)], (4,), place)
    reader.predict(np.zeros((2, 4), np.uint8))
    xpnn.generate(reader, [1, 2], 3)
    place.move(X, "float64")
    place.asarray(place.asarray(X), "float64")
    place.zeros((2,), "float32")
    place.random_mask(0.5, 1, place.counter(), (3,))
    place.free_memory()
    top = InputLayer(X, backend=place)
    hidden = HiddenLayer(3, upper_layer=top)
    last = OutputLayer(1, upper_layer=hidden)
    for layer in (hidden, last):
        layer.feedforward()
    last.backprop(X[:, :1])
    top.z = X[:2, :]


def test_everything_is_done_in_the_context_of_the_device(place, tmp_path):
    look_at(place, tmp_path)
    assert place.depth == 0


def test_the_watch_notices_work_outside_of_the_context(place):
    array = place.asarray(X)
    with pytest.raises(AssertionError, match="outside of on_device"):
        array + array
    with pytest.raises(AssertionError, match="outside of on_device"):
        place.xp.ones(3, device=place.device)
    with place.on_device():
        assert array + array is not None


@needs("cupy")
def test_the_context_of_cupy_is_its_device():
    import cupy

    place = get_backend("cupy:0")
    with place.on_device():
        assert cupy.cuda.Device().id == 0
        assert place.owns(cupy.zeros(3))
