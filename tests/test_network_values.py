"""Starting values of a network, and its values by name."""

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.errors import DataError, ShapeError
from xpnn.initializers import constant
from xpnn.layers import (
    Dense,
    Dropout,
    Parallel,
    Tanh,
)
from xpnn.network import Network

pytestmark = pytest.mark.width


def small(backend="numpy", **options):
    return Network([Dense(3), Tanh(), Dropout(0.5), Dense(2)], (4,), backend, **options)


def batch(count=5, shape=(4,), seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def on_host(network, arrays):
    return {name: np.array(network.backend.to_numpy(array)) for name, array in arrays.items()}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# Starting values ----------------------------------------------------------------------------------


def test_layers_of_one_shape_start_with_different_weights():
    weights = list(Network([Dense(4), Dense(4), Dense(4)], (4,)).params.values())[::2]
    assert not np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])


def test_a_layer_more_at_the_end_leaves_the_first_ones_alone():
    short, long = Network([Dense(4), Dense(3)], (4,)), Network([Dense(4), Dense(3), Dense(2)], (4,))
    assert_same({name: long.params[name] for name in short.params}, short.params)


def test_start_of_the_weights_is_the_draw_of_the_initializer(backend):
    net = Network([Dense(3, weight_init=constant(0.5), bias_init=constant(-1.0))], (2,), backend)
    found = on_host(net, net.params)
    np.testing.assert_array_equal(found["0.dense.weight"], np.full((2, 3), 0.5))
    np.testing.assert_array_equal(found["0.dense.bias"], [-1, -1, -1])
    assert {array.dtype for array in found.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_given_starting_weights_are_not_shared(backend, dtype):
    start = np.ones((4, 4), dtype=dtype)
    with backend.allow_float64():
        layers = [Dense(4, weight_init=lambda shape, rng: start) for _ in range(2)]
        net = Network(layers, (4,), backend, dtype=dtype)
        net.params["0.dense.weight"] += 1.0
        if not backend.counters_on_device:  # NumPy, torch and strict have changed it in place
            assert float(net.params["0.dense.weight"][0, 0]) == 2
        np.testing.assert_array_equal(start, np.ones((4, 4)))
        assert float(backend.to_numpy(net.params["1.dense.weight"])[0, 0]) == 1


def test_masks_differ_from_layer_to_layer_and_from_batch_to_batch(backend):
    net = Network([Parallel([Dropout(0.5), Dropout(0.5)])], (40,), backend)
    ones = np.ones((2, 40), dtype=np.float32)
    first, second = (np.array(backend.to_numpy(net.forward(ones, training=True))) for _ in range(2))
    assert not np.array_equal(first[:, :40], first[:, 40:])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_a_state_that_is_put_back_draws_the_same_masks(backend):
    net = small(backend)
    net.forward(batch(), training=True)
    state = net.state
    second = np.array(backend.to_numpy(net.forward(batch(), training=True)))
    net.state = state
    np.testing.assert_array_equal(backend.to_numpy(net.forward(batch(), training=True)), second)


# Values by name -----------------------------------------------------------------------------------


def test_params_can_be_replaced(backend):
    net, other = small(backend), small(backend, seed=1)
    net.params = other.params
    assert_same(on_host(net, net.params), on_host(other, other.params))
    x = batch()
    np.testing.assert_array_equal(backend.to_numpy(net(x)), backend.to_numpy(other(x)))


def test_replacing_with_a_name_missing_changes_nothing():
    net = small()
    before = on_host(net, net.params)
    values = {name: array + 1 for name, array in net.params.items()}
    del values["3.dense.bias"]
    with pytest.raises(ShapeError, match=r"no value came for '3.dense.bias'; nothing was changed"):
        net.params = values
    assert_same(on_host(net, net.params), before)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((3, 3), np.float32), ShapeError, r"has the shape .*, got \(3, 3\); nothing was"),
        (
            [[1.0, 2.0]],
            TypeError,
            r"wanted an array for .*, got a list; .*load\(values\) takes lists",
        ),
    ],
)
def test_replacing_by_what_does_not_fit_changes_nothing(value, error, message):
    net = small()
    before = on_host(net, net.params)
    with pytest.raises(error, match=message):
        net.params = {**{name: one + 1 for name, one in net.params.items()}, "3.dense.bias": value}
    assert_same(on_host(net, net.params), before)


@pytest.mark.parametrize("source", SPECS)
def test_load_takes_what_any_network_gives(backend, source):
    net, other = small(backend), small(source, seed=1)
    other.forward(batch(), training=True)
    net.load(other.numpy_arrays())
    assert_same(net.numpy_arrays(), other.numpy_arrays())
    assert net.numpy_arrays()["2.dropout.draw"] == 1
    assert type(net.state["2.dropout.draw"]) is type(backend.counter())
    net.load({**other.params, **other.state})
    assert_same(net.numpy_arrays(), other.numpy_arrays())


def test_load_copies(backend):
    net = small(backend)
    values = net.numpy_arrays()
    net.load(values)
    for array in values.values():
        if isinstance(array, np.ndarray) and array.ndim:
            array[...] = 7
    assert not any(np.any(array == 7) for array in on_host(net, net.params).values())


def test_numpy_arrays_are_copies():
    net = small()
    net.numpy_arrays()["0.dense.weight"][...] = 7
    assert not np.any(net.params["0.dense.weight"] == 7)


BAD_VALUES = [
    pytest.param(lambda v: v.pop("0.dense.bias"), "no values came for 0.dense.bias", id="missing"),
    pytest.param(
        lambda v: v.update(extra=1), "this network has no extra, only 0.dense.", id="unknown"
    ),
    pytest.param(
        lambda v: v.update({"3.dense.bias": np.zeros(3)}),
        r"3.dense.bias has the shape \(2,\), got \(3,\)",
        id="shape",
    ),
    pytest.param(lambda v: v.update({"3.dense.bias": ["a", "b"]}), "wanted numbers", id="strings"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD_VALUES)
def test_load_of_bad_values_changes_nothing(backend, spoil, words):
    net, values = small(backend), small(seed=1).numpy_arrays()
    before = net.numpy_arrays()
    spoil(values)
    with pytest.raises((ShapeError, DataError), match=words):
        net.load(values)
    assert_same(net.numpy_arrays(), before)


def test_holding_lends_and_gives_back(backend):
    net, other = small(backend), small(backend, seed=1)
    own, state = net.params, net.state
    with net.holding(other.params, other.state):
        inside = np.array(backend.to_numpy(net(batch())))
        net.forward(batch(), training=True)
    np.testing.assert_array_equal(inside, backend.to_numpy(other(batch())))
    assert all(net.params[name] is array for name, array in own.items())
    assert net.state == state
    assert all(not layer.cache and not layer.grads for _, layer in net.walk())


def test_holding_gives_back_after_an_error(backend):
    net, other = small(backend), small(backend, seed=1)
    own = net.params
    with pytest.raises(ShapeError), net.holding(other.params, other.state):
        net.forward(batch()[0])
    assert all(net.params[name] is array for name, array in own.items())
    assert all(not layer.cache for _, layer in net.walk())
