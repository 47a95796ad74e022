"""Memory that is free as soon as nobody needs it: along a step, and when its owner is dropped."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import (
    GELU,
    GRU,
    LSTM,
    Adam,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePool,
    GroupNorm,
    LayerNorm,
    LearnedPositions,
    Masked,
    MaxPool2D,
    Network,
    Parallel,
    Recompute,
    ReLU,
    Residual,
    SimpleRNN,
    Tanh,
    TiedDense,
    Trainer,
    TransformerBlock,
    cross_entropy,
    mean_squared_error,
)
from xpnn.backends import get_backend
from xpnn.layers import Layer
from xpnn.layers.sequence.recurrence import Recurrent

# Along the way back ------------------------------------------------------------------------------


class Watching(Layer):
    """The identity; notes in ``seen`` which layers still keep something when delta comes by."""

    def __init__(self):
        super().__init__()
        self.seen, self.others = [], []

    def forward(self, x, training=False):
        self.cache["x"] = x
        return x

    def backward(self, delta):
        self.seen.append([bool(layer.cache) for layer in self.others])
        return delta


def watched(backend):
    looks = [Watching() for _ in range(3)]
    layers = [
        *(Dense(4), Tanh(), looks[0], Residual([Dense(4), Tanh()], Dense(4)), looks[1]),
        *(Parallel([Dense(2), Recompute([Dense(2), Tanh()])]), looks[2], Dense(2)),
    ]
    network = Network(layers, (4,), backend)
    for look in looks:
        look.others = [network.layers[0], network.layers[3].body.layers[0], network.layers[5]]
        look.others += [network.layers[7]]
    return network, looks


def data(backend, rng, shape=(8, 4), outputs=2):
    x = backend.asarray(rng.normal(size=shape).astype("f4"))
    return x, backend.asarray(rng.normal(size=(shape[0], outputs)).astype("f4"))


def test_what_backward_has_passed_is_forgotten_inside_of_a_step(backend, rng):
    network, looks = watched(backend)
    Trainer(network, mean_squared_error, Adam(), compile=False).step(*data(backend, rng))
    assert [look.seen[-1] for look in looks] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
    ]


def test_outside_of_a_step_all_of_it_stays(backend, rng):
    network, looks = watched(backend)
    x, y = data(backend, rng)
    Trainer(network, mean_squared_error, Adam(), compile=False).step(x, y)
    network.backward(network.forward(x, training=True))
    assert [look.seen[-1] for look in looks] == [[True] * 4] * 3
    assert all(layer.cache for layer in looks[0].others)


def test_a_step_that_ends_with_an_error_is_over(backend, rng):
    network, _ = watched(backend)
    x, y = data(backend, rng)
    trainer = Trainer(network, lambda *_, **__: 1 / 0, Adam(), compile=False)
    with pytest.raises(ZeroDivisionError):
        trainer.step(x, y)
    assert not any(layer.in_step for _, layer in network.walk())


@pytest.mark.slow_to_compile  # call by call; what is forgotten when is the same everywhere
def test_gradients_of_a_step_are_those_of_a_plain_backward(backend, rng):
    """With all that reads more than its own cache: ties, masks, shared ways, blocks done again."""
    embedding = Embedding(12, 8)
    network = Network(
        [
            *(embedding, LearnedPositions(), TransformerBlock(8, 2, causal=True)),
            Masked([LSTM(8, return_sequences=True), Recompute([TransformerBlock(8, 2)])]),
            Parallel([Dense(4), Residual([Dense(8), GELU()], Dense(8))]),
            *(Dense(8), GRU(8), TiedDense(12, embedding)),
        ],
        (6,),
        backend,
    )
    x = backend.asarray(rng.integers(0, 12, (5, 6)).astype("i4"))
    y = backend.asarray(rng.integers(0, 12, 5).astype("i4"))
    _, delta = cross_entropy(network.forward(x, training=True), y, backend=backend)
    network.backward(delta, to_input=False)
    wanted = {name: backend.to_numpy(grad) for name, grad in network.grads.items()}
    network.root.clear()
    with network.holding(network.params, network.state):
        network.root.forward(x, training=True)
        network.backward(delta, to_input=False)
        found = {name: backend.to_numpy(grad) for name, grad in network.grads.items()}
    assert found.keys() == wanted.keys()
    for name, grad in found.items():
        np.testing.assert_array_equal(grad, wanted[name], err_msg=name)


def deep_chain():
    """As many activations as gradients, of 256 KiB each."""
    layers = [layer for _ in range(16) for layer in (Dense(256), Tanh())]
    return Network(layers, (256,), "numpy")


def test_the_peak_of_a_deep_chain_is_a_third_lower(rng, monkeypatch):
    x, y = data(get_backend("numpy"), rng, (256, 256), 256)
    peaks = []
    for kept in (True, False):
        trainer = Trainer(deep_chain(), mean_squared_error, Adam(), compile=False)
        trainer.step(x, y)  # which looks at what layers promise, and makes the optimizer's slots
        if kept:
            monkeypatch.setattr(Layer, "forget", lambda self: None)
        else:
            monkeypatch.undo()
        tracemalloc.start()
        trainer.step(x, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 / 3 * peaks[0]


@pytest.mark.parametrize(("make", "each"), [(LSTM, 6), (GRU, 5), (SimpleRNN, 0)])
def test_a_recurrent_layer_keeps_only_what_its_last_products_read(backend, make, each, monkeypatch):
    """What its steps read is gone by then, in a training step; outside of it all stays."""
    kept = []
    products_back = Recurrent._products_back

    def watched_products(layer, products):
        kept.append(len(layer.cache["kept"]))
        assert layer.cache["h"].shape[0] == 5
        return products_back(layer, products)

    monkeypatch.setattr(Recurrent, "_products_back", watched_products)
    network = Network([make(4)], (5, 3), backend)
    x, y = (backend.asarray(np.ones(shape, "f4")) for shape in ((2, 5, 3), (2, 4)))
    network.backward(network.forward(x, training=True))
    Trainer(network, mean_squared_error, Adam(), compile=False).step(x, y)
    assert kept == [each, 0]


def test_the_peak_of_an_lstm_is_that_of_its_way_forward(rng):
    x, y = rng.standard_normal((64, 64, 64), "f4"), np.zeros((64, 64), "f4")
    network = Network([LSTM(64)], (64, 64), "numpy")
    trainer = Trainer(network, mean_squared_error, Adam(), compile=False)
    trainer.step(x, y)
    each = x.nbytes  # seven such are kept, in a list and stacked, beside four of P
    tracemalloc.start()
    trainer.step(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 19 * each


# Dropped as a whole ------------------------------------------------------------------------------


def of_images(backend):
    layers = [
        *(Conv2D(4, 3, padding="same"), BatchNorm(), ReLU(), MaxPool2D(2)),
        *(Residual([Conv2D(4, 3, padding="same"), GroupNorm(2)]), Dropout(0.1)),
        *(GlobalAveragePool(), Dense(10), GELU(), LayerNorm(), Dense(3)),
    ]
    return Network(layers, (8, 8, 3), backend), np.ones((6, 8, 8, 3), "f4"), np.zeros(6, "i4")


def of_sequences(backend):
    embedding = Embedding(12, 8)
    layers = [
        *(embedding, LearnedPositions(), TransformerBlock(8, 2, causal=True, dropout=0.1)),
        *(Recompute([TransformerBlock(8, 2)]), Masked([LSTM(8)]), TiedDense(12, embedding)),
    ]
    return Network(layers, (6,), backend), np.ones((6, 6), "i4"), np.zeros(6, "i4")


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("compile", [None, pytest.param(False, marks=pytest.mark.slow_to_compile)])
@pytest.mark.parametrize("make", [of_images, of_sequences])
def test_a_dropped_trainer_is_gone_at_once(backend, make, compile):
    network, x, y = make(backend)
    trainer = Trainer(network, cross_entropy, Adam(1e-3), compile=compile)
    for _ in range(3):
        trainer.step(x, y)
    trainer.evaluate(x, y)
    network.predict(x)
    if backend.name != "jax":  # which would compile each call; a step traces the same
        network.backward(network.forward(x, training=True))
    left = {name: weakref.ref(layer) for name, layer in network.walk()}
    left |= {"trainer": weakref.ref(trainer), "network": weakref.ref(network)}
    del trainer, network
    assert [name for name, found in left.items() if found() is not None] == []


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("compile", [None, False])
@pytest.mark.parametrize("make", [of_images, of_sequences])
def test_arrays_of_numpy_are_free_with_it(make, compile):
    def run():
        network, x, y = make("numpy")
        trainer = Trainer(network, cross_entropy, Adam(1e-3), compile=compile)
        trainer.fit(x, y, epochs=2, batch_size=3)
        network.backward(network.forward(x, training=True))

    domain = [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]
    run()
    tracemalloc.start()
    run()
    left = tracemalloc.take_snapshot().filter_traces(domain).traces
    tracemalloc.stop()
    assert sum(trace.size for trace in left) < 2000


@needs("cupy")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("compile", [None, False])
@pytest.mark.parametrize("make", [of_images, of_sequences])
def test_the_pool_and_the_device_get_everything_back(make, compile):
    """Graphs with pools of their own and the workspaces of their products among it."""
    import cupy

    backend, pool = get_backend("cupy"), cupy.get_default_memory_pool()

    def run():
        network, x, y = make(backend)
        trainer = Trainer(network, cross_entropy, Adam(1e-3), compile=compile)
        for _ in range(3):
            trainer.step(x, y)
        trainer.fit(x, y, epochs=2, batch_size=3)

    run()  # kernels are loaded, and what libraries keep for themselves
    backend.free_memory()
    used, total = pool.used_bytes(), pool.total_bytes()
    free = cupy.cuda.runtime.memGetInfo()[0]
    run()
    assert pool.used_bytes() == used
    backend.free_memory()
    assert pool.total_bytes() == total
    assert cupy.cuda.runtime.memGetInfo()[0] == free
