"""Layers that end in an activation: the same as with the activation behind them."""

import copy

import numpy as np
import pytest

import xpnn
from tests.layers.table import draw, on_host, run
from xpnn import SGD, Network, Trainer, get_backend
from xpnn.layers import (
    Activation,
    Add,
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Dense,
    Dropout,
    Input,
    LeakyReLU,
    PReLU,
    ReLU,
    SeparableConv1D,
    SeparableConv2D,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from xpnn.layers.activated import ACTIVATIONS
from xpnn.training.callbacks.diagnosis import first_bad_layer

pytestmark = pytest.mark.host_only

LAYERS = {
    Dense: ((3,), (4,), "relu"),
    Conv1D: ((3, 2), (5, 2), Tanh),
    Conv2D: ((3, 2), (4, 3, 2), LeakyReLU(0.3)),
    Conv3D: ((2, 2), (3, 2, 2, 2), "gelu"),
    ConvTranspose1D: ((3, 2), (5, 2), "prelu"),
    ConvTranspose2D: ((3, 2), (4, 3, 2), "softmax"),
    ConvTranspose3D: ((2, 2), (3, 2, 2, 2), SiLU()),
    SeparableConv1D: ((3, 2), (5, 2), "mish"),
    SeparableConv2D: ((3, 2), (4, 3, 2), PReLU(shared=True)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_same_as_a_layer_behind_it(kind):
    given, shape, activation = LAYERS[kind]
    layer = kind(*given, activation=copy.deepcopy(activation))
    apart = Network([kind(*given), copy.deepcopy(layer.activation)], shape)
    joined, x = Network([layer], shape), draw(shape)
    name = kind.__name__.lower()
    behind = type(layer.activation).__name__.lower()
    at_home = {f"1.{behind}.slope": f"0.{name}.activation.slope"}
    assert {*joined.params} == {at_home.get(one, one) for one in apart.params}
    found, wanted = run(joined, x), run(apart, x)
    for one, array in wanted.items():
        np.testing.assert_array_equal(found[at_home.get(one, one)], array, err_msg=one)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_name(name):
    assert type(Dense(3, activation=name).activation) is ACTIVATIONS[name]


def test_every_activation_has_a_name():
    assert {*ACTIVATIONS.values()} >= {
        one
        for one in vars(xpnn.layers).values()
        if isinstance(one, type) and issubclass(one, Activation) and one is not Activation
    }


def test_what_is_no_activation():
    with pytest.raises(ValueError, match=r"no activation 'Relu', did you mean 'relu'\? .*, tanh$"):
        Dense(3, activation="Relu")
    for wrong in (Dropout(0.1), Dense, np.tanh, 3):
        with pytest.raises(TypeError, match="wanted activation to be a name such as 'relu', or a"):
            Conv1D(3, 2, activation=wrong)
    with pytest.raises(xpnn.AssignmentError, match="activation of Dense is fixed"):
        Dense(3).activation = ReLU()


def test_an_activation_has_one_place():
    shared = ReLU()
    with pytest.raises(xpnn.XpnnError, match="already part of this network"):
        Network([Dense(3, activation=shared), Dense(3, activation=shared)], (4,))


def test_names_and_what_is_shown():
    network = Network([Dense(3, activation="relu"), Dense(2)], (4,))
    assert repr(network[0]) == "Dense(3, activation=ReLU())"
    assert list(network.params)[:2] == ["0.dense.weight", "0.dense.bias"]
    assert isinstance(network["0.dense.activation"], ReLU)
    assert network.features(draw((4,)), "0.dense").min() == 0.0


def test_ranges_are_those_of_the_activation():
    assert Dense(1, activation=Sigmoid).output_range(None) == (0.0, 1.0)
    assert Dense(1).output_range(None) == (-np.inf, np.inf)
    network = Network([Dense(3, activation=Softmax)], (4,))
    with pytest.raises(ValueError, match=r"leave Softmax\(\) out"):
        Trainer(network, xpnn.cross_entropy, SGD()).fit(draw((4,)), np.zeros(3, int))


def test_files_copies_and_other_backends(tmp_path):
    layers = [Conv1D(3, 2, activation=LeakyReLU(0.3)), Dense(2, activation=PReLU), Dense(1)]
    network, x = Network(layers, (5, 2)), draw((5, 2))
    network.params = {name: one + 0.5 for name, one in network.params.items()}
    network.save(tmp_path / "net.safetensors")
    wanted = network.predict(x)
    for other in (
        xpnn.load(tmp_path / "net.safetensors"),
        copy.deepcopy(network),
        network.to("array-api-strict"),
    ):
        assert repr(other.layers) == repr(network.layers)
        found = on_host(other.backend, {"y": other.predict(x)})["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_layer_that_is_called_twice():
    def graph(apart):
        dense, x = Dense(4, activation=None if apart else "tanh"), Input((4,))
        once = Tanh()(dense(x)) if apart else dense(x)
        again = Tanh()(dense(once)) if apart else dense(once)
        return Network(inputs=x, outputs=Add()(again, x))

    x = draw((4,))
    found, wanted = run(graph(False), x), run(graph(True), x)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_step_forgets_what_an_activation_kept():
    seen = []

    class Spy(Tanh):
        def forget(self):
            seen.append(dict(self.cache))
            super().forget()

    network = Network([Dense(2, activation=Spy())], (4,))
    Trainer(network, xpnn.mean_squared_error, SGD(), compile=False).step(draw((4,)), draw((2,)))
    assert [*seen[0]] == ["output"]


def test_the_layer_whose_sums_are_bad_is_named():
    network = Network([Dense(2, activation="relu"), Dense(1)], (4,))
    network.params["0.dense.weight"][0, 0] = np.nan
    backend = get_backend("numpy")
    x, y = (backend.asarray(draw(shape)) for shape in ((4,), (1,)))
    bad = first_bad_layer(network, xpnn.mean_squared_error, x, y)
    assert bad == "the output of layer 0.dense"
