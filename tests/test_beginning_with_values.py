"""Networks whose layers begin with what another one has learned: with_head, and calls on nodes."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import (
    GRU,
    L2,
    Adam,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool,
    Input,
    LearnedPositions,
    Network,
    ReLU,
    Residual,
    Standardize,
    Subtract,
    TiedDense,
    Trainer,
    WeightNorm,
    mean_squared_error,
)
from xpnn.errors import ShapeError

X = np.random.default_rng(5).normal(size=(12, 4)).astype(np.float32)


def trained(network, x, epochs=2):
    y = np.random.default_rng(1).normal(size=network.predict(x).shape)
    Trainer(network, mean_squared_error, Adam(0.05)).fit(x, y, epochs=epochs, progress=False)
    return network


def stirred(network):
    """Other parameters."""
    random = np.random.default_rng(7)
    values = network.numpy_arrays()
    for name in network.params:
        values[name] = values[name] + 0.3 * random.normal(size=values[name].shape)
    network.load(values)
    return network


def chain(backend="numpy"):
    """With state, with what is made behind a layer's build, and with what is tied."""
    first = Dense(5)
    layers = [
        *(Standardize().adapt(X), first, BatchNorm(), Dropout(0.3)),
        *(Residual([WeightNorm(Dense(5)), ReLU()]), TiedDense(4, first), Dense(2)),
    ]
    return trained(Network(layers, (4,), backend, seed=3), X)


def graph(backend="numpy"):
    ids, rest = Input((3,), takes="integers", name="ids"), Input((4,), name="rest")
    words = GRU(5)(Embedding(9, 6)(ids))
    hidden = ReLU()(Add()(words, Dense(5)(rest)))
    network = Network(inputs=[ids, rest], outputs={"price": Dense(2)(hidden)}, backend=backend)
    return stirred(network)


INPUTS = (np.random.default_rng(2).integers(0, 9, (12, 3)), X)


def assert_begins_alike(network, old, kept, prefix=""):
    """All arrays of old layers, but for those whose names begin otherwise than ``kept``."""
    values, before = network.numpy_arrays(), old.numpy_arrays()
    names = [name for name in before if name.startswith(tuple(kept))]
    assert len(names) > 0
    for name in names:
        np.testing.assert_array_equal(values[prefix + name], before[name], err_msg=name)


def test_a_chain_gets_another_head_and_shares_nothing(backend):
    old = chain(backend)
    before, outputs = old.numpy_arrays(), backend.to_numpy(old.features(X, "5.tieddense"))
    new = old.with_head([Dense(3)])
    assert (new.backend, new.dtype) == (old.backend, old.dtype)
    assert_begins_alike(new, old, ["0", "1", "2", "3", "4", "5"])
    assert new.state["3.dropout.draw"] == old.state["3.dropout.draw"] > 0
    np.testing.assert_array_equal(backend.to_numpy(new.features(X, "5.tieddense")), outputs)
    assert new.predict(X).shape == (12, 3)
    trained(new, X)
    for name, value in old.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    changed = new.numpy_arrays()
    assert all(np.any(changed[n] != before[n]) for n in new.params if not n.startswith("6"))


def test_a_graph_gets_another_head(backend):
    old = graph(backend)
    new = old.with_head([Dense(4), ReLU(), Dense(1)])
    assert [name for _, _, name in new.inputs] == ["ids", "rest"]
    assert_begins_alike(new, old, ["0", "1", "2"])
    kept = backend.to_numpy(old.features(INPUTS, "4.relu"))
    np.testing.assert_array_equal(backend.to_numpy(new.features(INPUTS, "4.relu")), kept)
    assert new.predict(INPUTS).shape == (12, 1)


def test_after_says_where_the_body_ends():
    old = chain()
    assert [type(one) for one in old.with_head([Dense(1)], after="1.dense").layers] == [
        *(Standardize, Dense, Dense),
    ]
    assert len(old.with_head([ReLU()], after="6.dense")) == 8
    other = graph()
    assert len(other.with_head([Dense(1)], after="3.add")) == 5
    shared, (a, b) = Dense(3), (Input((4,)), Input((4,)))
    twins = Network(inputs=[a, b], outputs=Subtract()(shared(a), shared(b)))
    assert twins.with_head([Dense(2)], after="1.subtract").output_shape == (2,)
    for network, after, words in [
        (old, "4.residual.body", "wanted after to be one of 0.standardize, 1.dense"),
        (other, "dense", "wanted after to name a layer of one output, one of 0.embedding"),
        (other, "2.dense", "2.dense does not read ids; name another layer in after"),
        (twins, None, "name the layer that it reads in after, one of 0.dense, call 1, 0.dense, c"),
        (twins, "0.dense, call 1", "call 1 does not read input_1"),
    ]:
        with pytest.raises(ValueError, match=words):
            network.with_head([Dense(1)], after=after)
    with pytest.raises(TypeError, match=r"wants a list of layers, got Dense\(1\)"):
        old.with_head(Dense(1))
    with pytest.raises(ShapeError, match="layer 7"):
        old.with_head([Conv2D(2, 3)], after="6.dense")


def test_hyperparameters_rules_and_what_is_frozen_come_along():
    old = chain()
    old["3.dropout"].rate = 0.1
    old["1.dense"].regularize(L2(1e-3))
    old.freeze("1.*", "2.*")
    new = old.with_head([Dense(3)])
    assert new["3.dropout"].rate == 0.1
    assert repr(new["1.dense"].regularizers) == "(L2(0.001),)"
    assert new.trainable() == {n for n in new.params if n[0] in "456"}
    old.root.trainable = False
    for network in (old.with_head([Dense(3)]), old.with_head([Dense(3)], seed=8)):
        assert network.trainable() == {"6.dense.weight", "6.dense.bias"}
    first, second = (old.with_head([Dense(3)], seed=k).params["6.dense.weight"] for k in (1, 2))
    assert np.any(first != second)


def test_a_network_is_a_layer_in_another(backend):
    """On both sides of a siamese net with the same weights, which are those that it has then."""
    old = chain()
    a, b = Input((4,), name="a"), Input((4,), name="b")
    outputs = Subtract()(old(a), old(b))
    trained(old, X)
    new = Network(inputs=[a, b], outputs=outputs, backend=backend, seed=4)
    assert len(new.params) == len(old.params)
    assert_begins_alike(new, old, old.params, prefix="0.sequential.")
    expected = old.predict(X) - old.predict(2 * X)
    found = backend.to_numpy(new.predict((X, 2 * X)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    before = old.numpy_arrays()
    stirred(new)
    for name, value in old.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_another_graph_gets_another_copy():
    old = chain()
    one = Network(inputs=(x := Input((4,))), outputs=old(x))
    trained(old, X)
    other = Network(inputs=(z := Input((4,))), outputs=Dense(1)(old(z)))
    assert_begins_alike(other, old, old.params, prefix="0.sequential.")
    assert np.any(one.params["0.sequential.1.dense.weight"] != old.params["1.dense.weight"])
    node = old(x)
    assert old(z).call.layer is node.call.layer
    for twin in (copy.deepcopy(old), pickle.loads(pickle.dumps(old)), old.to("numpy")):
        assert twin(z).call.layer is not node.call.layer
    layer = weakref.ref(node.call.layer)
    del node
    gc.collect()
    assert layer() is None  # a graph that was given up leaves nothing behind


def test_several_inputs_and_outputs_go_in_order_or_by_name():
    old = graph()
    ids, rest = Input((3,), takes="integers"), Input((4,))
    for given in ((ids, rest), ((ids, rest),), ({"rest": rest, "ids": ids},)):
        nodes = old(*given)
        assert list(nodes) == ["price"]
        new = Network(inputs=[ids, rest], outputs=nodes["price"])
        np.testing.assert_array_equal(new.predict(INPUTS), old.predict(INPUTS)["price"])
    np.testing.assert_array_equal(old(*INPUTS)["price"], old.forward(INPUTS)["price"])


def test_it_is_saved_and_loaded_like_any_other(tmp_path):
    old, x = chain(), Input((4,))
    for network in (
        old.with_head([Dense(3)]),
        Network(inputs=x, outputs=Dense(3)(old(x))),
        old.with_head([Dense(3)]).with_head([Dense(2)]),
    ):
        network.save(tmp_path / "network.safetensors")
        again = xpnn.load(tmp_path / "network.safetensors")
        np.testing.assert_array_equal(again.predict(X), network.predict(X))
        np.testing.assert_array_equal(network.to("numpy").predict(X), network.predict(X))


def test_other_sizes_fit_where_weights_do():
    images = Network([Conv2D(3, 3, padding=1), GlobalAveragePool()], (8, 8, 1), seed=1)
    large = Input((12, 12, 1))
    new = Network(inputs=large, outputs=Dense(2)(images(large)))
    assert_begins_alike(new, images, images.params, prefix="0.sequential.")
    flat = Network([LearnedPositions(5), Flatten(), Dense(2)], (5, 3))
    shape = r"layer 0.sequential.2.dense has the weights of .* of shape \(15,\), .* \(12,\) here"
    with pytest.raises(ShapeError, match=shape):
        Network(inputs=(x := Input((4, 3))), outputs=flat(x))


@needs("torch")
@needs("jax")
def test_values_go_from_library_to_library():
    old = Network([Dense(3), BatchNorm()], (4,), "torch", dtype="bfloat16", seed=1)
    x = Input((4,))
    new = Network(inputs=x, outputs=old(x), backend="jax")
    assert_begins_alike(new, old, old.params, prefix="0.sequential.")
