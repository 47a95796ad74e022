"""Network: names, running it, what it leaves behind, and networks that cannot be."""

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.backends import get_backend
from xpnn.errors import (
    AssignmentError,
    BackendUnavailable,
    DataError,
    NotBuiltError,
    ShapeError,
    XpnnError,
)
from xpnn.layers import (
    Add,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    Parallel,
    Recompute,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from xpnn.losses import cross_entropy
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


# Layers -------------------------------------------------------------------------------------------


def nested():
    return Network([Dense(3), Residual([Dense(3), Tanh()]), Dropout(0.5), Dense(2)], (4,), seed=1)


def test_layers_by_place_and_by_name():
    network = nested()
    assert len(network) == 4
    assert [*network] == [*network.layers]
    assert network[0] is network["0.dense"] is network.layers[0]
    assert network[-1] is network.layers[3]
    assert network[1:3] == network.layers[1:3]
    assert network["1.residual.body.0.dense"] is network[1].body.layers[0]
    with pytest.raises(IndexError):
        network[4]
    with pytest.raises(
        KeyError, match=r"no layer '1\.dense'; wanted one such as 3\.dense, 0\.dense"
    ):
        network["1.dense"]


def test_features_are_the_outputs_of_a_layer_inside(backend):
    network = small(backend)
    x = batch(6)
    found = network.features(x, "1.tanh", batch_size=3)
    assert network.backend.owns(found)
    wanted = Network([Dense(3), Tanh()], (4,), backend)
    wanted.load({name: one for name, one in network.params.items() if name in wanted.params})
    same = [
        (found, wanted.predict(x, batch_size=3)),
        (network.features(x, "3.dense"), network.predict(x)),
    ]
    for one, other in same:
        np.testing.assert_array_equal(*map(network.backend.to_numpy, (one, other)))
    assert not any(layer.cache or "forward" in vars(layer) for layer in network.all_layers)


def test_features_of_layers_at_any_depth():
    network, x = nested(), batch(3)
    hidden = network.layers[0].forward(x)
    inside = network.layers[1].body.layers
    wanted = inside[1].forward(inside[0].forward(hidden))
    np.testing.assert_array_equal(network.features(x, "1.residual.body.1.tanh"), wanted)
    assert network.features(x[:0], "1.residual").shape == (0, 3)
    with pytest.raises(KeyError, match="no layer 'tanh'"):
        network.features(x, "tanh")
    assert "forward" not in vars(network[0])


def test_features_of_a_layer_that_is_called_twice():
    dense, x = Dense(4), Input((4,))
    network, given = Network(inputs=x, outputs=Add()(dense(Tanh()(dense(x))), x)), batch(3)
    first = network.features(given, "0.dense, call 1")
    second = network.features(given, "0.dense, call 2", batch_size=2)
    np.testing.assert_allclose(first, given @ dense.params["weight"], rtol=1e-6)
    np.testing.assert_allclose(second, np.tanh(first) @ dense.params["weight"], rtol=1e-5)
    for name in ("0.dense", "0.dense, call 3", "1.tanh, call 2"):
        with pytest.raises(ValueError, match=r"wanted one call of .*; its calls are '.*, call 1'"):
            network.features(given, name)


# Names --------------------------------------------------------------------------------------------


def test_names_tell_place_and_kind():
    layers = [
        Residual([Dense(4), Dropout(0.1)], Dense(4)),
        Parallel([Dense(1), Sequential([Dense(1)])]),
    ]
    net = Network(layers, (4,))
    assert list(net.params) == [
        "0.residual.body.0.dense.weight",
        "0.residual.body.0.dense.bias",
        "0.residual.shortcut.weight",
        "0.residual.shortcut.bias",
        "1.parallel.0.dense.weight",
        "1.parallel.0.dense.bias",
        "1.parallel.1.sequential.0.dense.weight",
        "1.parallel.1.sequential.0.dense.bias",
    ]
    assert list(net.state) == ["0.residual.body.1.dropout.draw"]
    assert net.layers == tuple(layers)


def test_walk_names_containers_before_their_contents():
    inner = Dense(4)
    residual = Residual([inner])
    net = Network([residual], (4,))
    names = ["", "0.residual", "0.residual.body", "0.residual.body.0.dense"]
    assert [name for name, _ in net.walk()] == names
    assert dict(net.walk())["0.residual.body.0.dense"] is inner


def test_gradients_have_the_names_of_the_parameters(backend):
    net = small(backend)
    output = net.forward(batch(), training=True)
    assert net.grads == {}
    net.backward(output)
    assert net.grads.keys() == net.params.keys()


def test_frozen_layers_are_not_trainable_but_have_gradients(backend):
    net = small(backend)
    net.layers[0].trainable = False
    assert net.trainable() == {"3.dense.weight", "3.dense.bias"}
    net.backward(net.forward(batch(), training=True))
    assert net.grads.keys() == net.params.keys()


@pytest.mark.parametrize("value", [False, True])
def test_a_network_is_frozen_by_methods_or_layers(backend, value):
    net = small(backend)
    with pytest.raises(AssignmentError, match=r"write network\.freeze\(\), and one layer by"):
        net.trainable = value
    everything = net.trainable()
    net.root.trainable = value
    assert net.trainable() == (everything if value else set())
    with pytest.raises(TypeError, match=r"trainable is True or False, got 'no'"):
        net.layers[0].trainable = "no"


@pytest.mark.parametrize("container", [Sequential, Residual, Parallel, Recompute])
def test_layers_of_a_network_stay_what_they_are(container):
    net = Network([container([Dense(4), ReLU()]), Dense(4)], (4,))
    for layers in (net.layers, net.root.layers, net.layers[0].layers):
        with pytest.raises(TypeError, match="does not support item assignment"):
            layers[-1] = Dense(3)
        with pytest.raises(AttributeError, match="has no attribute 'pop'"):
            layers.pop()
        with pytest.raises(AssignmentError, match=r"layers of .* is fixed"):
            net.layers[0].layers = [Dense(4)]


def test_repr_names_what_matters(backend):
    assert repr(Network([Dense(3), ReLU()], (4,), backend)) == (
        f"Network([Dense(3), ReLU()], input_shape=(4,), backend={backend.spec!r})"
    )


# Running it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SPECS)
def test_inputs_may_be_of_any_library(backend, source):
    net, x = small(backend), batch()
    wanted = np.array(backend.to_numpy(net(x)))
    assert net.backend.owns(net(get_backend(source).asarray(x)))
    np.testing.assert_array_equal(backend.to_numpy(net(get_backend(source).asarray(x))), wanted)
    np.testing.assert_array_equal(backend.to_numpy(net(x.tolist())), wanted)
    np.testing.assert_array_equal(backend.to_numpy(net(x.astype(np.float64))), wanted)


BAD_INPUTS = [
    pytest.param(
        np.zeros(4), r"got \(4,\); for a single sample add the batch axis", id="one-sample"
    ),
    pytest.param(
        np.zeros((2, 5)), r"wanted inputs of shape \(batch, 4\), got \(2, 5\)", id="width"
    ),
    pytest.param(np.zeros((2, 4, 1)), r"got \(2, 4, 1\); reshape the inputs", id="axis"),
    pytest.param(1.0, r"got \(\)", id="number"),
]


@pytest.mark.parametrize(("x", "words"), BAD_INPUTS)
def test_inputs_of_a_wrong_shape_are_refused(backend, x, words):
    for run in (small(backend), small(backend).predict):
        with pytest.raises(ShapeError, match=words):
            run(x)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predict_is_the_forward_pass_in_parts(backend, batch_size):
    net, x = small(backend), batch(7)
    found = net.predict(x, batch_size)
    assert backend.owns(found)
    whole = np.array(backend.to_numpy(net(x)))
    np.testing.assert_allclose(backend.to_numpy(found), whole, rtol=1e-6, atol=1e-6)


def test_predict_leaves_nothing_behind(backend):
    net = small(backend)
    before = net.numpy_arrays()
    net.predict(batch(7), 3)
    assert all(not layer.cache and not layer.grads for _, layer in net.walk())
    assert_same(net.numpy_arrays(), before)


def test_of_nothing_nothing_is_predicted(backend):
    net = small(backend)
    some = net.predict(batch())
    for outputs in (
        net.predict(np.zeros((0, 4))),
        net.predict(np.zeros((0, 4), np.float32), probabilities=cross_entropy),
        net(np.zeros((0, 4))),
    ):
        assert tuple(outputs.shape) == (0, *some.shape[1:])
        assert outputs.dtype == some.dtype
        assert backend.owns(outputs)
    with pytest.raises(ShapeError, match=r"\(batch, 4\), got \(0, 3\)"):
        net.predict(np.zeros((0, 3)))


def test_predict_refuses_parts_of_no_size(backend):
    with pytest.raises(ValueError, match="batch_size of at least 1, got 0"):
        small(backend).predict(batch(), 0)


STACKS = [
    pytest.param(lambda: [Dense(3), Tanh(), Dense(2)], (4,), True, id="dense-first"),
    pytest.param(lambda: [Flatten(), Dropout(0.2), Dense(3)], (2, 2), True, id="flatten-first"),
    pytest.param(lambda: [Sequential([Sequential([Dense(3)]), Tanh()])], (4,), True, id="nested"),
    pytest.param(lambda: [Residual([Dense(4)]), Dense(2)], (4,), False, id="residual-first"),
    pytest.param(
        lambda: [Parallel([Dense(4), Tanh()]), Dense(2)], (4,), False, id="parallel-first"
    ),
]


@pytest.mark.parametrize(("make", "shape", "saves"), STACKS)
def test_gradients_do_not_depend_on_whether_the_input_has_one(backend, make, shape, saves):
    net = Network(make(), shape, backend)
    delta = net.forward(batch(shape=shape), training=True)
    back = net.backward(delta)
    assert tuple(back.shape) == (5, *shape)
    wanted = on_host(net, net.grads)
    assert (net.backward(delta, to_input=False) is None) == saves
    assert_same(on_host(net, net.grads), wanted)
    assert net.backward(delta) is not None
    assert all(layer.passes_back for _, layer in net.walk())


def test_backward_before_forward_is_explained():
    with pytest.raises(XpnnError, match=r"call network.forward\(x, training=True\) first"):
        small().backward(np.ones((5, 2), dtype=np.float32))


@pytest.mark.parametrize(
    "given",
    [np.ndarray.tolist, np.float64, lambda delta: delta],
    ids=["lists", "float64", "as they are"],
)
def test_a_delta_may_come_as_inputs_do(backend, given):
    net, x, delta = small(backend), batch(), batch(shape=(2,), seed=1)
    net.forward(x)
    wanted = net.backward(backend.asarray(delta))
    grads = on_host(net, net.grads)
    net.forward(x)
    back = net.backward(given(delta))
    np.testing.assert_array_equal(backend.to_numpy(back), backend.to_numpy(wanted))
    assert back.dtype == wanted.dtype
    assert_same(on_host(net, net.grads), grads)


DELTAS = {
    "features": (np.ones((5, 3)), ShapeError, r"wanted delta of .*outputs, \(5, 2\), got \(5, 3\)"),
    "samples": (np.ones((1, 2)), ShapeError, r"\(5, 2\), got \(1, 2\); give the delta of the"),
    "a number": (1.0, ShapeError, r"\(5, 2\), got \(\)"),
    "nothing": (None, DataError, "wanted an array of numbers, got a NoneType"),
    "texts": ([["a", "b"]] * 5, DataError, "wanted numbers"),
}


@pytest.mark.parametrize(("delta", "error", "text"), DELTAS.values(), ids=DELTAS)
def test_a_delta_that_does_not_fit_is_refused(backend, delta, error, text):
    net = small(backend)
    net.forward(batch())
    with pytest.raises(error, match=text):
        net.backward(delta)
    net.backward(batch(shape=(2,)))  # which the layers have kept all for


def test_of_several_outputs_one_may_be_without_a_delta(backend):
    x = Input((4,))
    net = Network(inputs=x, outputs={"a": Dense(2)(x), "b": Dense(1)(x)}, backend=backend)
    net.forward(batch())
    back = net.backward({"a": batch(shape=(2,)).tolist(), "b": None})
    assert tuple(back.shape) == (5, 4)
    net.forward(batch())
    with pytest.raises(ShapeError, match=r"wanted delta\['b'\] of the shape .* \(5, 1\)"):
        net.backward((batch(shape=(2,)), batch(shape=(3,))))


def test_an_error_in_backward_leaves_the_first_layer_as_it_was():
    class Broken(Tanh):
        def backward(self, delta):
            raise ZeroDivisionError

    net = Network([Dense(3), Broken()], (4,))
    delta = net.forward(batch())
    with pytest.raises(ZeroDivisionError):
        net.backward(delta, to_input=False)
    assert net.layers[0].passes_back


def test_calling_is_predicting(backend):
    net = small(backend)
    first, second = (np.array(backend.to_numpy(net(batch()))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert int(net.state["2.dropout.draw"]) == 0


# Wrong networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [4, [4], (np.int64(4),), np.int32(4)])
def test_input_shape_may_be_written_in_many_ways(shape):
    assert Network([Dense(3)], shape).input_shape == (4,)


@pytest.mark.parametrize("shape", [0, (4, 0), (-1,), (2.5,), ("4",), 2.5, np.array(4)])
def test_input_shapes_that_are_none(shape):
    with pytest.raises(ValueError, match="positive integers without the batch axis"):
        Network([Dense(3)], shape)


def test_layers_without_an_input_shape():
    with pytest.raises(TypeError, match="a Network of layers wants input_shape"):
        Network([Dense(3)])


def test_dtypes_are_those_of_floats():
    with pytest.raises(ValueError, match="dtype is one of float16, bfloat16, float32, float64"):
        small(dtype="int32")


@pytest.mark.parametrize("spoil", [{"backend": "nympy"}, {"dtype": "bfloat16"}])
def test_layers_of_a_network_that_could_not_be_made_are_free(spoil):
    layers = [Dense(3), Tanh()]
    with pytest.raises(BackendUnavailable):
        Network(layers, (4,), **{"backend": "numpy", **spoil})
    assert Network(layers, (4,)).params.keys() == {"0.dense.weight", "0.dense.bias"}


def test_layers_that_do_not_fit_are_free_as_well():
    layers = [Dense(4), Residual([Dense(3)])]
    with pytest.raises(ShapeError, match=r"layer 1.residual: Residual adds two ways of one shape"):
        Network(layers, (4,))
    assert all(not layer.built for layer in layers)


def test_a_layer_that_writes_no_forward_is_told_so():
    class Unfinished(Layer):
        pass

    net = Network([Unfinished()], (4,))
    with pytest.raises(NotImplementedError, match="Unfinished has to define forward"):
        net(batch())
    with pytest.raises(NotBuiltError, match=r"Unfinished\(\) has no arrays yet"):
        Unfinished().xp  # noqa: B018
