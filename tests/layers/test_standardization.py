"""Standardize: the statistics of arrays and streams, constant features, and before it knows any."""

import numpy as np
import pytest

import xpnn
from tests.layers.oracles import passes
from xpnn import SGD, Dense, Flatten, Network, Standardize, Trainer, mean_squared_error
from xpnn.errors import DataError, ShapeError, XpnnError

RNG = np.random.default_rng(0)
X = (1e3 + np.array([1.0, 50.0, 0.0]) * RNG.standard_normal((500, 4, 3))).astype(np.float32)
Y = RNG.standard_normal((500, 2)).astype(np.float32)


def standardized(x):
    """By NumPy, in float64; the last feature is constant."""
    mean, spread = (of(X.astype(np.float64), axis=(0, 1)) for of in (np.mean, np.std))
    return (x - mean) / np.where(spread > 0, spread, 1)


def batches(*sizes):
    start = 0
    for size in sizes:
        yield X[start : start + size], Y[start : start + size]
        start += size


GIVEN = {
    "an array": lambda backend: X,
    "an array of the network's": lambda backend: backend.asarray(X),
    "lists": lambda backend: X.tolist(),
    "a generator": lambda backend: batches(1, 99, 0, 400),
    "a list of batches": lambda backend: list(batches(300, 200)),
    "batches of inputs alone": lambda backend: (x for x, _ in batches(250, 250)),
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("later", [False, True])
def test_each_feature_has_mean_0_and_variance_1(backend, given, later):
    layer = Standardize()
    if later:
        network = Network([layer], (4, 3), backend)
    assert layer.adapt(GIVEN[given](backend)) is layer
    if not later:
        network = Network([layer], (4, 3), backend)
    delta = RNG.standard_normal(X.shape).astype(np.float32)
    found = passes(network, X, delta)
    # of numbers of 1000, float32 knows 6e-5, and spreads are 1
    np.testing.assert_allclose(found["output"], standardized(X), atol=2e-4)
    slope = standardized(X + 1.0)[0, 0] - standardized(X)[0, 0]
    np.testing.assert_allclose(found["input"], delta * slope, rtol=1e-4)


def test_means_far_from_zero_lose_no_digits():
    x = 1e8 + RNG.standard_normal((100_000, 2))  # more rows than are looked at in one go
    layer = Standardize().adapt(x)
    Network([layer], (2,), dtype="float64")
    np.testing.assert_allclose(layer.state["mean"], x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(layer.state["variance"], x.var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e7])
def test_constant_features_are_not_divided(backend, constant):
    x = np.full((1001, 1), constant)
    network = Network([Standardize().adapt(x)], (1,), backend)
    found = backend.to_numpy(network.predict([[constant], [constant + 2.0]]))
    np.testing.assert_allclose(found, [[0], [np.float32(constant + 2) - np.float32(constant)]])


def test_training_leaves_it_alone_and_files_keep_it(backend, tmp_path):
    network = Network([Standardize().adapt(X), Flatten(), Dense(2)], (4, 3), backend)
    before = network.numpy_arrays()
    trainer = Trainer(network, mean_squared_error, SGD(0.01))
    trainer.fit(X, Y, epochs=1, progress=False)
    for name in ("mean", "variance"):
        key = f"0.standardize.{name}"
        np.testing.assert_array_equal(network.numpy_arrays()[key], before[key])
    network.save(tmp_path / "net.safetensors")
    twin = xpnn.load(tmp_path / "net.safetensors", backend)
    found, wanted = (backend.to_numpy(one.predict(X[:5])) for one in (twin, network))
    np.testing.assert_array_equal(found, wanted)


def unadapted(backend):
    return Network([Flatten(), Standardize(), Dense(2)], (4, 3), backend)


ASKED = {
    "forward": lambda network: network.forward(X),
    "predict": lambda network: network.predict(X),
    "step": lambda network: trainer_of(network).step(X, Y),
    "fit": lambda network: fitted(network, X, Y),
    "fit on a stream": lambda network: fitted(network, list(batches(100, 400))),
    "evaluate": lambda network: trainer_of(network).evaluate(X, Y),
}


def trainer_of(network):
    return Trainer(network, mean_squared_error, SGD(0.01))


def fitted(network, *data):
    return trainer_of(network).fit(*data, progress=False)


@pytest.mark.parametrize("asked", ASKED)
def test_a_network_that_was_not_adapted_says_so(backend, asked):
    network = unadapted(backend)
    with pytest.raises(XpnnError, match=r"does not know the means .* call layer.adapt\(x\) with"):
        ASKED[asked](network)
    network.layers[1].adapt(X.reshape(500, 12))
    ASKED[asked](network)


def test_what_cannot_be_adapted_to_changes_nothing():
    layer = Standardize().adapt(X)
    network = Network([layer], (4, 3))
    before = network.numpy_arrays()
    with pytest.raises(DataError, match="wants at least one sample, got none"):
        layer.adapt(X[:0])
    with pytest.raises(DataError, match="NaN or infinities among these; leave such samples out"):
        layer.adapt(np.where(X > 1e3, np.nan, X))
    with pytest.raises(ShapeError, match=r"adapted to 2 features, .* shape \(4, 3\); adapt it to"):
        layer.adapt(X[..., :2])
    with pytest.raises(ShapeError, match="a batch of 2 features behind others of 3"):
        layer.adapt(iter([X, X[..., :2]]))
    with pytest.raises(ShapeError, match=r"samples, ..., features\), got \(3,\); .* x\[:, None\]"):
        layer.adapt(np.arange(3.0))
    with pytest.raises(TypeError, match="wants an array, or an iterable of batches, got int"):
        layer.adapt(3)
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ShapeError, match=r"layer 0\.standardize: .* adapted to 3 features"):
        Network([Standardize().adapt(X)], (4, 2))
