"""Network.to: the same network on another backend, and nothing shared with the old one."""

import numpy as np
import pytest

from tests.conftest import SPECS, needs
from xpnn.backends import backend_of, get_backend
from xpnn.errors import BackendUnavailable, DataError, ShapeError
from xpnn.layers import (
    GELU,
    GRU,
    L2,
    BatchNorm,
    Bidirectional,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MaxNorm,
    MaxPool2D,
    MultiHeadAttention,
    Parallel,
    ReLU,
    Residual,
    Tanh,
    TiedDense,
)
from xpnn.moving import moved
from xpnn.network import Network

pytestmark = pytest.mark.width


def dense():
    first = Dense(6).regularize(L2(1e-3), MaxNorm(2.0))
    return [first, BatchNorm(), Residual([Dense(6), Dropout(0.4)]), Parallel([Tanh(), GELU()])]


def tied():
    ids = Embedding(9, 4)
    return [ids, Bidirectional(GRU(4, return_sequences=True)), Dense(4), TiedDense(9, ids)]


def image():
    return [Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(2)]


def attending():
    return [LayerNorm(), MultiHeadAttention(2), Dense(3)]


STACKS = [
    pytest.param(dense, (5,), id="dense"),
    pytest.param(tied, (6,), id="tied"),
    pytest.param(image, (8, 8, 1), id="image"),
    pytest.param(attending, (4, 6), id="attention"),
]


def inputs(shape, layers, count=4):
    rng = np.random.default_rng(0)
    if layers is tied:
        return rng.integers(0, 9, (count, *shape))
    return rng.standard_normal((count, *shape)).astype(np.float32)


def same_values(one, other):
    values, wanted = one.numpy_arrays(), other.numpy_arrays()
    assert values.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(values[name], wanted[name], err_msg=name)


@pytest.mark.any_width
@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize(("layers", "shape"), STACKS)
def test_a_moved_network_says_the_same(backend, target, layers, shape):
    network, x = Network(layers(), shape, backend, seed=5), inputs(shape, layers)
    for layer in network.all_layers:
        layer.seed += 1  # which is not the one that building gives
    network.forward(x, training=True)  # counters and running means leave their start
    there = network.to(target)
    assert there.backend is get_backend(target)
    assert (there.seed, there.dtype, there.input_shape) == (5, "float32", shape)
    assert repr(there.layers) == repr(network.layers)
    same_values(there, network)
    for array in there.params.values():
        assert there.backend.owns(array)
    for training in (False, True):  # the second time with the same masks
        found, wanted = (
            one.backend.to_numpy(one.forward(x, training=training)) for one in (there, network)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    same_counters = {k: int(v) for k, v in there.numpy_arrays().items() if k.endswith("draw")}
    assert same_counters == {
        k: int(v) for k, v in network.numpy_arrays().items() if k.endswith("draw")
    }


@pytest.mark.parametrize("target", SPECS)
def test_a_moved_network_shares_nothing(backend, target):
    network = Network(dense(), (5,), backend)
    there, before = network.to(target), network.numpy_arrays()
    there.load({name: np.asarray(value) * 0 + 7 for name, value in before.items()})
    for name, array in there.params.items():
        there.params[name] = array + 1
    assert not {id(layer) for layer in there.all_layers} & {id(one) for one in network.all_layers}
    after = network.numpy_arrays()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert network.backend is backend
    there.layers[0].trainable = False
    assert network.layers[0].trainable


@pytest.mark.parametrize("target", SPECS)
def test_choices_of_the_layers_come_along(backend, target):
    network = Network(tied(), (6,), backend)
    network.layers[0].trainable = False
    network.layers[2].regularize(L2(0.5))
    there = network.to(target)
    assert there.trainable() == network.trainable()
    assert {name: repr(rules) for name, rules in there.regularizers().items()} == {
        name: repr(rules) for name, rules in network.regularizers().items()
    }
    assert there.layers[3].source is there.layers[0]


def test_hyperparameters_that_were_changed_stay_changed(backend):
    network = Network([Dense(3), Dropout(0.5)], (4,), backend)
    network.layers[1].rate = 0.25
    assert network.to(backend).layers[1].rate == 0.25


def test_caches_and_gradients_stay_behind(backend):
    network = Network([Dense(3)], (4,), backend)
    network.backward(network.forward(np.ones((2, 4)), training=True))
    there = network.to(backend)
    assert there.grads == {}
    assert not any(layer.cache for layer in there.all_layers)
    assert network.grads.keys() == network.params.keys()


def test_a_frozen_root_stays_frozen():
    network = Network([Dense(3)], (4,))
    network.root.trainable = False
    assert network.to("numpy").trainable() == set()


def test_what_a_subclass_adds_comes_along():
    class Named(Network):
        def __init__(self, title):
            super().__init__([Dense(3)], (4,))
            self.title = title
            assert self.all_layers

    network = Named("mine")
    there = network.to("numpy")
    assert (type(there), there.title) == (Named, "mine")
    assert there.all_layers[1] is there.layers[0]


@needs("torch")
@needs("jax")
@pytest.mark.parametrize(("source", "target"), [("torch", "jax"), ("jax", "torch")])
def test_half_precision_is_kept(source, target):
    network = Network([Dense(3)], (4,), source, dtype="bfloat16")
    there = network.to(target)
    half = there.backend.dtype("bfloat16")
    assert all(array.dtype == half for array in there.params.values())
    same_values(there, network)
    with pytest.raises(BackendUnavailable, match="numpy has no dtype 'bfloat16'"):
        network.to("numpy")


def test_devices_of_one_library():
    network = Network(dense(), (5,), "array-api-strict:device1")
    there = network.to("array-api-strict:device2")
    same_values(there, network)
    x = there.predict(inputs((5,), dense))
    assert backend_of(x) is get_backend("array-api-strict:device2")


def test_a_backend_that_does_not_work_changes_nothing():
    network = Network([Dense(3)], (4,))
    with pytest.raises(BackendUnavailable, match="there is no backend 'nympy'"):
        network.to("nympy")
    assert network.backend is get_backend("numpy")


def test_values_of_another_form_are_refused(backend):
    like = {"a": {"w": backend.asarray([1.0, 2.0])}, "step": 1}
    with pytest.raises(ShapeError, match="wanted values for a, step, got a"):
        moved({"a": {}}, like, backend)
    with pytest.raises(ShapeError, match=r"w has the shape \(2,\), got \(3,\)"):
        moved({"a": {"w": [1.0, 2.0, 3.0]}, "step": 2}, like, backend)


@pytest.mark.parametrize("like", [3, 0.5])
def test_a_number_takes_numbers_and_nothing_that_has_a_shape(backend, like):
    for given in (2, np.int64(2), np.array(2), backend.constant((2.0,))[0]):
        found = moved({"step": given}, {"step": like}, backend)["step"]
        assert found == 2
        assert type(found) is type(like)
    for given in (np.ones(1), np.ones((1, 1), np.int32), np.ones(2), backend.constant((2.0,))):
        with pytest.raises(ShapeError, match=r"step is a single number, got the shape \(\d,"):
            moved({"step": given}, {"step": like}, backend)
    with pytest.raises(DataError, match="step is a single number, got 'many'"):
        moved({"step": "many"}, {"step": like}, backend)
