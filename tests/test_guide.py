"""The guide's layers compute what the guide means, and what a Network computes."""

import numpy as np
import pytest

from xpnn.guide import HiddenLayer, InputLayer, OutputLayer
from xpnn.layers import (
    GELU,
    Dense,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.losses import quadratic_cost
from xpnn.network import Network
from xpnn.optimizers import SGD
from xpnn.training.stepping.step import make_train_step

pytestmark = pytest.mark.width

NAND_X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
NAND_Y = np.array([[1], [1], [1], [0]])

NETS = [  # the width and the activation of each layer, the output layer last
    pytest.param([(2, Sigmoid)], id="no-hidden-layer"),
    pytest.param([(4, Sigmoid), (2, Sigmoid)], id="one-sigmoid"),
    pytest.param([(4, SiLU), (3, Softmax)], id="silu-softmax"),
    pytest.param([(5, Tanh), (4, ReLU), (2, Identity)], id="two-tanh-relu"),
    pytest.param(
        [(4, GELU), (4, LeakyReLU), (3, Softplus), (2, Sigmoid)], id="three-gelu-leaky-softplus"
    ),
]
SMOOTH_NETS = [
    *NETS[:3],
    pytest.param([(4, GELU), (3, Tanh), (2, Softplus)], id="two-gelu-tanh-softplus"),
]


def linked(x, plan, backend="numpy", *, rate=1.0, **options):
    """The net of ``plan`` as a list: input layer, hidden layers, output layer."""
    layers = [InputLayer(x, backend, **options)]
    for units, activation in plan[:-1]:
        layers.append(HiddenLayer(units, layers[-1], activation))
    units, activation = plan[-1]
    layers.append(OutputLayer(units, layers[-1], activation, learning_rate=rate))
    return layers


def feed(layers):
    for layer in layers[1:]:
        layer.feedforward()


def nand(**options):
    return linked(NAND_X, [(4, Sigmoid), (1, Sigmoid)], dtype="float64", **options)


def cost(layers, y):
    """Half the squared error, summed over outputs and batch, on the host."""
    feed(layers)
    z = layers[-1].backend.to_numpy(layers[-1].z)
    return float(np.sum((z - y) ** 2) / 2)


def slope(layers, layer, name, y, step=1e-5):
    """dcost/d(weights or bias of ``layer``) by central differences."""
    start = layer.backend.to_numpy(getattr(layer, name))
    found = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        costs = []
        for sign in (1, -1):
            moved = start.copy()
            moved[place] += sign * step
            setattr(layer, name, moved)
            costs.append(cost(layers, y))
        found[place] = (costs[0] - costs[1]) / (2 * step)
    setattr(layer, name, start)
    feed(layers)
    return found


def everything(layers):
    """All arrays that the net holds."""
    names = ("S", "z", "delta", "weights", "bias", "harp_w", "harp_b")
    return [layers[0].z, *(getattr(layer, name) for layer in layers[1:] for name in names)]


# The net of the guide is the net of the framework -------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(*net.values, id=net.id, marks=() if net is NETS[2] else pytest.mark.any_width)
        for net in NETS
    ],
)
def test_weights_equal_those_of_a_network_after_each_step(backend, plan, rng):
    batches = [rng.standard_normal((n, 3)).astype("float32") for n in (4, 6)]
    targets = [rng.random((n, plan[-1][0])).astype("float32") for n in (4, 6)]
    layers = linked(batches[0], plan, backend, rate=0.5, seed=3)
    stack = [layer for units, activation in plan for layer in (Dense(units), activation())]
    net = Network(stack, (3,), backend, seed=3)
    sgd = SGD(0.5)
    step = make_train_step(net, quadratic_cost, sgd)
    opt_state = sgd.init(net.params, backend)
    for number in range(24):
        x, y = batches[number % 2], targets[number % 2]
        layers[0].z = x
        feed(layers)
        layers[-1].backprop(y)
        with backend.on_device():
            net.params, net.state, opt_state, _ = step(
                net.params, net.state, opt_state, backend.asarray(x), backend.asarray(y)
            )
        for layer, dense in zip(layers[1:], net.layers[::2], strict=True):
            for mine, name in ((layer.weights, "weight"), (layer.bias, "bias")):
                # float32, and the one divides by mu in the end, the other in the beginning
                np.testing.assert_allclose(
                    backend.to_numpy(mine),
                    backend.to_numpy(dense.params[name]),
                    rtol=2e-5,
                    atol=2e-6,
                    err_msg=f"{name} of {layer!r} after step {number}",
                )


def test_one_seed_starts_with_the_weights_of_a_network(backend):
    layers = linked(NAND_X, [(4, Tanh), (3, ReLU), (1, Sigmoid)], backend, seed=7)
    stack = [Dense(4), Tanh(), Dense(3), ReLU(), Dense(1), Sigmoid()]
    net = Network(stack, (2,), backend, seed=7)
    for layer, dense in zip(layers[1:], net.layers[::2], strict=True):
        np.testing.assert_array_equal(
            backend.to_numpy(layer.weights), backend.to_numpy(dense.params["weight"])
        )


def test_a_layer_may_have_a_seed_of_its_own():
    i = InputLayer(NAND_X)
    same, other = HiddenLayer(4, i, seed=0), HiddenLayer(4, i, seed=1)
    np.testing.assert_array_equal(HiddenLayer(4, i).weights, same.weights)
    assert np.all(other.weights != same.weights)


def test_it_learns_nand(backend):
    i, h, o = layers = linked(NAND_X, [(4, Sigmoid), (1, Sigmoid)], backend, rate=5.0)
    for _ in range(300):
        feed(layers)
        o.backprop(NAND_Y)
    np.testing.assert_array_equal(backend.to_numpy(o.z) > 0.5, NAND_Y == 1)
    assert all(backend.owns(array) for array in everything(layers))
    assert all(array.dtype == backend.xp.float32 for array in everything(layers))
    assert h.backend is o.backend is i.backend is backend


# What the attributes hold -------------------------------------------------------------------------


def test_every_attribute_holds_what_one_works_out_by_hand(backend):
    i = InputLayer([[1], [2]], backend)
    h = HiddenLayer(2, upper_layer=i, activation=ReLU)
    o = OutputLayer(1, upper_layer=h, activation=Identity(), learning_rate=1.0)
    h.weights, h.bias = [[0.5, -1.0]], [0.0, 1.5]
    o.weights, o.bias = [[2.0], [1.0]], [0.5]
    h.feedforward()
    o.feedforward()
    o.backprop([[1], [3]])
    worked_out = {
        (h, "S"): [[0.5, 0.5], [1.0, -0.5]],
        (h, "z"): [[0.5, 0.5], [1.0, 0.0]],
        (o, "S"): [[2.0], [2.5]],
        (o, "z"): [[2.0], [2.5]],
        (o, "delta"): [[1.0], [-0.5]],
        (o, "harp_w"): [[0.0], [0.5]],
        (o, "harp_b"): [0.5],
        (h, "delta"): [[2.0, 1.0], [-1.0, 0.0]],
        (h, "harp_w"): [[0.0, 1.0]],
        (h, "harp_b"): [1.0, 1.0],
        (o, "weights"): [[2.0], [0.75]],
        (o, "bias"): [0.25],
        (h, "weights"): [[0.5, -1.5]],
        (h, "bias"): [-0.5, 1.0],
    }
    for (layer, name), value in worked_out.items():
        found = backend.to_numpy(getattr(layer, name))
        np.testing.assert_array_equal(found, value, err_msg=f"{name} of {layer!r}")


def test_a_sigmoid_at_zero_by_hand(backend):
    o = OutputLayer(1, upper_layer=InputLayer([[3]], backend), learning_rate=8.0)
    o.weights = [[0.0]]
    o.feedforward()
    o.backprop([[1]])
    assert backend.to_numpy(o.delta) == -0.5 * 0.25
    assert backend.to_numpy(o.harp_w) == 3 * -0.125
    assert backend.to_numpy(o.weights) == 8 * 0.375


@pytest.mark.parametrize("plan", SMOOTH_NETS)
def test_gradients_match_finite_differences(backend, plan, rng):
    x, y = rng.standard_normal((5, 3)), rng.random((5, plan[-1][0]))
    with backend.allow_float64():
        layers = linked(x, plan, backend, rate=0.0, dtype="float64")
        for layer in layers[1:]:
            layer.bias = rng.standard_normal(layer.units)
        feed(layers)
        layers[-1].backprop(y)
        for layer in layers[1:]:
            for name, harp in (("weights", layer.harp_w), ("bias", layer.harp_b)):
                assert harp.dtype == backend.xp.float64
                np.testing.assert_allclose(
                    backend.to_numpy(harp),
                    slope(layers, layer, name, y),
                    rtol=1e-6,
                    atol=1e-9,
                    err_msg=f"gradient of the {name} of {layer!r}",
                )


def test_layers_are_linked_both_ways():
    i, h, o = nand()
    assert o.upper_layer is o.previous_layer is h
    assert h.upper_layer is h.previous_layer is i
    assert (i.next_layer, h.next_layer, o.next_layer) == (h, o, None)


def test_nothing_is_there_before_it_is_computed():
    _, h, o = nand()
    assert (h.S, h.z, o.delta, o.harp_w, o.harp_b) == (None,) * 5


# Learning rates -----------------------------------------------------------------------------------


def test_the_learning_rate_is_the_output_layers():
    i = InputLayer(NAND_X)
    h = HiddenLayer(3, upper_layer=HiddenLayer(4, upper_layer=i))
    assert h.learning_rate == 1.0
    OutputLayer(1, upper_layer=h, learning_rate=0.25)
    assert h.learning_rate == h.upper_layer.learning_rate == 0.25


def test_a_layer_may_have_a_learning_rate_of_its_own():
    i = InputLayer(NAND_X, dtype="float64")
    h = HiddenLayer(4, upper_layer=i, learning_rate=0.5)
    o = OutputLayer(1, upper_layer=h, learning_rate=2.0)
    before = [(layer.weights, layer.bias) for layer in (h, o)]
    feed([i, h, o])
    o.backprop(NAND_Y)
    for layer, rate, (weights, bias) in zip((h, o), (0.5, 2.0), before, strict=True):
        np.testing.assert_allclose(layer.weights, weights - rate / 4 * layer.harp_w, rtol=1e-12)
        np.testing.assert_allclose(layer.bias, bias - rate / 4 * layer.harp_b, rtol=1e-12)
    h.learning_rate = None
    assert h.learning_rate == 2.0


def test_a_learning_rate_of_its_own_is_not_passed_up():
    i = InputLayer(NAND_X, dtype="float64")
    first = HiddenLayer(4, upper_layer=i)
    second = HiddenLayer(3, upper_layer=first, learning_rate=0.1)
    assert (first.learning_rate, second.learning_rate) == (1.0, 0.1)
    o = OutputLayer(1, upper_layer=second, learning_rate=2.0)
    assert (first.learning_rate, second.learning_rate) == (2.0, 0.1)
    before = first.weights
    feed([i, first, second, o])
    o.backprop(NAND_Y)
    np.testing.assert_allclose(first.weights, before - 2.0 / 4 * first.harp_w, rtol=1e-12)


def test_of_two_output_layers_each_passes_its_own_learning_rate_up():
    i = InputLayer(NAND_X, dtype="float64")
    h = HiddenLayer(4, upper_layer=i)
    first = OutputLayer(1, upper_layer=h, learning_rate=3.0)
    OutputLayer(2, upper_layer=h, learning_rate=0.0)
    before = h.weights
    feed([i, h, first])
    first.backprop(NAND_Y)
    np.testing.assert_allclose(h.weights, before - 3.0 / 4 * h.harp_w, rtol=1e-12)


# Input as it comes --------------------------------------------------------------------------------


def test_arrays_of_another_library_are_taken(backend):
    own = linked(NAND_X, [(3, Tanh), (1, Sigmoid)], "numpy")
    other = linked(backend.asarray(NAND_X), [(3, Tanh), (1, Sigmoid)], "numpy")
    for layers, y in ((own, NAND_Y), (other, backend.asarray(NAND_Y))):
        feed(layers)
        layers[-1].backprop(y)
    np.testing.assert_array_equal(own[-1].weights, other[-1].weights)


def test_input_and_targets_are_never_written_to():
    x, y = NAND_X.astype("float32"), NAND_Y.astype("float32")
    x.flags.writeable = y.flags.writeable = False
    layers = linked(x, [(4, ReLU), (1, Identity)])
    feed(layers)
    layers[-1].backprop(y)
    np.testing.assert_array_equal(x, NAND_X)
    np.testing.assert_array_equal(y, NAND_Y)


def test_minibatches_of_any_size_may_follow_each_other(backend):
    layers = linked(NAND_X, [(3, Tanh), (1, Sigmoid)], backend)
    for rows in (slice(0, 4), slice(0, 1), slice(1, 4)):
        layers[0].z = NAND_X[rows]
        feed(layers)
        layers[-1].backprop(NAND_Y[rows])
        assert layers[-1].delta.shape == (len(NAND_Y[rows]), 1)
