"""WeightNorm: what it starts at, by hand, around layers of all kinds; PyTorch's in saving/torch."""

import numpy as np
import pytest

from tests.layers.oracles import passes, randomized
from xpnn import (
    LSTM,
    Add,
    Dense,
    Embedding,
    Input,
    Masked,
    Network,
    ReLU,
    TiedDense,
    WeightNorm,
    generate,
)
from xpnn.errors import XpnnError
from xpnn.initializers import zeros
from xpnn.testing import check_gradients

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)


def test_at_first_the_weight_is_the_one_that_was_drawn(backend):
    network = Network([WeightNorm(Dense(3))], (4,), backend)
    v = network.numpy_arrays()["0.weightnorm.layer.weight"]
    np.testing.assert_allclose(backend.to_numpy(network.predict(X)), X @ v, atol=1e-6)


def test_one_unit_by_hand(backend):
    network = Network([WeightNorm(Dense(1, use_bias=False))], (2,), backend)
    network.load({"0.weightnorm.layer.weight": [[3.0], [4.0]], "0.weightnorm.length": [10.0]})
    x, delta = np.array([[1.0, 2.0]], np.float32), np.array([[1.0]], np.float32)
    found = passes(network, x, delta)
    # w = 10 (3, 4) / 5 = (6, 8); dL/dw = x, so dL/dg = (3 + 8) / 5, and dL/dv = 2 (x - 2.2 v / 5)
    np.testing.assert_allclose(found["output"], [[22]], rtol=1e-6)
    np.testing.assert_allclose(found["input"], [[6, 8]], rtol=1e-6)
    np.testing.assert_allclose(found["0.weightnorm.length"], [2.2], rtol=1e-6)
    np.testing.assert_allclose(found["0.weightnorm.layer.weight"], [[-0.64], [0.48]], rtol=1e-5)


def test_the_weight_of_the_layer_inside_stays_the_direction(backend):
    network = randomized(Network([WeightNorm(Dense(3))], (4,), backend))
    before = network.numpy_arrays()
    found = passes(network, X, X[:, :3])
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    slope, v = (one["0.weightnorm.layer.weight"] for one in (found, before))
    np.testing.assert_allclose(np.sum(slope * v, axis=0), 0, atol=1e-5)  # section 2.1


def test_weights_of_nothing_stay_nothing(backend):
    network = Network([WeightNorm(Dense(3, weight_init=zeros))], (4,), backend)
    for value in passes(network, X, X[:, :3]).values():
        assert np.all(np.isfinite(value))


def test_around_a_layer_that_a_graph_calls_twice():
    left, right = Input((4,), name="left"), Input((4,), name="right")
    shared = WeightNorm(Dense(3))
    network = Network(inputs=[left, right], outputs=Add()(shared(left), shared(right)))
    check_gradients(network)


def test_masks_and_texts_reach_what_is_inside(backend):
    ids = Embedding(5, 4)
    layers = [Masked([ids, WeightNorm(LSTM(4, return_sequences=True))], padding=0)]
    network = Network([*layers, TiedDense(5, ids)], (6,), backend)
    padded, cut = [[0, 1, 2, 3, 0, 0]], [[0, 1, 2, 3, 4, 4]]
    scores = [backend.to_numpy(network.predict(x))[0] for x in (padded, cut)]
    np.testing.assert_array_equal(scores[0][:4], scores[1][:4])
    assert not np.array_equal(scores[0][4:], scores[1][4:])
    written = generate(network, [1, 2], 3, temperature=0)
    for length in (2, 3, 4):  # as it would be written by reading all of it anew
        text = np.zeros((1, 6), int)
        text[0, :length] = written[:length]
        scores = backend.to_numpy(network.predict(text))[0, length - 1]
        assert np.argmax(scores) == written[length]


def test_what_has_no_weight_is_refused():
    ids = Embedding(5, 4)
    for layers in ([WeightNorm(ReLU())], [ids, WeightNorm(TiedDense(5, ids))]):
        with pytest.raises(
            XpnnError, match=r"wants a layer with a weight of .* leave WeightNorm o"
        ):
            Network(layers, (6,))
    with pytest.raises(TypeError, match="WeightNorm is made of layers, got 'dense'"):
        WeightNorm("dense")
