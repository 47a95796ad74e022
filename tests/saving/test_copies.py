"""Copies of a network: deepcopy and pickle; tests/reliability has other processes."""

import copy
import pickle

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.table import draw, each_layer
from tests.saving.conftest import same_values
from xpnn import SGD, Trainer, get_backend, mean_squared_error
from xpnn.layers import L2, BatchNorm, Dense, Embedding, Tanh, TiedDense
from xpnn.network import Network

pytestmark = pytest.mark.host_only


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))


each_way = pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle], ids=["deepcopy", "pickle"])


@each_layer
@each_way
def test_a_copy_says_the_same_and_shares_nothing(backend, copied, make, input_shape):
    if backend.name == "array-api-strict":
        pytest.skip(
            "its arrays are NumPy's in a shell, and copied as these; the next test copies some"
        )
    network = Network([make()], input_shape, backend, seed=3)
    x = draw(input_shape)
    for layer in network.all_layers:
        layer.seed += 1  # which is not the one that building gives
    network.forward(x, training=True)
    twin = copied(network)
    assert twin.backend is backend
    assert (twin.seed, twin.dtype, repr(twin)) == (3, "float32", repr(network))
    same_values(twin, network)
    for training in (False, True):
        found, wanted = (
            backend.to_numpy(one.forward(x, training)).copy() for one in (twin, network)
        )
        np.testing.assert_array_equal(found, wanted)
    before = network.numpy_arrays()
    twin.load({name: np.asarray(value) * 0 + 7 for name, value in before.items()})
    for name, array in twin.params.items():
        twin.params[name] = array + 1
    after = network.numpy_arrays()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert not {id(one) for one in twin.all_layers} & {id(one) for one in network.all_layers}


@each_way
def test_choices_and_attributes_come_along(backend, copied):
    ids = Embedding(5, 3).regularize(L2(0.5))
    network = Network([ids, Tanh(), TiedDense(5, ids)], (4,), backend)
    network.layers[2].trainable = False
    network.title = ["mine"]
    twin = copied(network)
    same_values(twin, network)
    assert twin.layers[2].source is twin.layers[0]
    assert twin.trainable() == network.trainable()
    assert repr(twin.regularizers()) == repr(network.regularizers())
    assert twin.title == ["mine"]
    assert twin.title is not network.title


@each_way
def test_a_layer_beside_its_network(copied):
    network = Network([Dense(2)], (3,))
    twin, layer = copied((network, network.layers[0]))
    if copied is copy.deepcopy:
        assert layer is twin.layers[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@needs("torch")
@each_way
def test_half_precision_is_kept(copied, dtype):
    network = Network([Dense(3), BatchNorm()], (4,), "torch", dtype=dtype)
    twin = copied(network)
    assert {str(p.dtype) for p in twin.params.values()} == {f"torch.{dtype}"}
    assert all(twin.params[name].equal(p) for name, p in network.params.items())


@each_way
def test_backends_stay_what_they_are(backend, copied):
    assert copied(backend) is backend
    switched = get_backend(backend.spec, deterministic=True)
    assert copied(switched) is switched


def test_what_cannot_be_pickled_is_named():
    network = Network([Dense(3, weight_init=lambda shape, rng: np.ones(shape))], (2,))
    same_values(copy.deepcopy(network), network)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(network)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_trainer_says_what_to_do_instead(copied):
    trainer = Trainer(Network([Dense(3)], (2,)), mean_squared_error, SGD(0.1))
    with pytest.raises(TypeError, match=r"save it with trainer\.save\(path\), or make a second"):
        copied(trainer)


class Named(Network):
    """A network of a user's own class."""

    def __init__(self, title):
        super().__init__([Dense(3)], (4,))
        self.title = title
        assert self.all_layers


@each_way
def test_a_subclass_stays_one(copied):
    twin = copied(Named("mine"))
    assert (type(twin), twin.title) == (Named, "mine")
    assert twin.all_layers[1] is twin.layers[0]
