"""Embeddings and positions: looked up, added, turned, and their ids looked at only once."""

import numpy as np
import pytest

import xpnn
from tests.conftest import needs, on_device_of
from tests.layers.oracles import (
    assert_close,
    by_differences,
    host,
    jax_passes,
    passes,
    randomized,
    torch_passes,
)
from xpnn import (
    Adam,
    Dense,
    Embedding,
    Flatten,
    LearnedPositions,
    Network,
    Parallel,
    ReLU,
    Residual,
    Sequential,
    SinusoidalPositions,
    Trainer,
)
from xpnn.errors import DataError, GradientError
from xpnn.testing import check_gradients

IDS = np.array([[3, 0, 3], [3, 1, 4]])  # an id that comes again, in a row and in another; 2 never


def vectors(backend, vocabulary=5, features=4, **keywords):
    network = Network([Embedding(vocabulary, features)], IDS.shape[1:], backend, **keywords)
    return randomized(network)


# Looking up --------------------------------------------------------------------------------------


def test_a_lookup_is_the_product_of_one_hot_rows(backend, rng):
    network, delta = vectors(backend), rng.standard_normal((2, 3, 4)).astype(np.float32)
    found = passes(network, IDS, delta)
    one_hot = np.eye(5)[IDS]
    weight = network.numpy_arrays()["0.embedding.weight"]
    assert_close(
        found,
        {
            "output": one_hot @ weight,
            "0.embedding.weight": np.tensordot(one_hot, delta, axes=((0, 1), (0, 1))),
        },
        1e-6,
    )
    assert "input" not in found  # ids have no gradient


@needs("torch")
def test_embedding_equals_torch(backend, rng):
    import torch

    network, module = vectors(backend, 50, 8), torch.nn.Embedding(50, 8)
    module.weight.data = torch.tensor(network.numpy_arrays()["0.embedding.weight"])
    ids = rng.integers(0, 50, (16, 3))
    delta = rng.standard_normal((16, 3, 8)).astype(np.float32)
    oracle = torch_passes(module, ids, delta)
    assert_close(
        passes(network, ids, delta),
        {
            "output": oracle["output"],
            "0.embedding.weight": oracle["weight"],
        },
    )


@needs("jax")
def test_embedding_equals_jax_grad(rng):
    found, oracle = jax_passes(
        lambda: [Embedding(5, 4), LearnedPositions(4), SinusoidalPositions(), Dense(2)],
        (3,),
        IDS,
        rng.standard_normal((2, 3, 2)),
    )
    assert_close(found, oracle)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Embedding(5, 4),
        lambda: Sequential([Embedding(5, 4), LearnedPositions(), Flatten(), Dense(2)]),
        lambda: Parallel([Embedding(5, 2), Embedding(5, 3)]),
        lambda: Residual([Embedding(5, 2)], shortcut=Embedding(5, 2)),
    ],
    ids=["embedding", "sequential", "parallel", "residual"],
)
@by_differences
def test_backward_matches_finite_differences(backend, make):
    report = check_gradients(make(), backend=backend, x=IDS)
    assert len(report.rows) >= 1
    assert report.error < 1e-6


class AveragesRepeats(Embedding):
    def backward(self, delta):
        super().backward(delta)
        xp, ids, total = self.xp, self.cache["ids"], self.grads["weight"]
        rows = xp.ones((ids.shape[0], self.features), dtype=total.dtype, device=self.backend.device)
        counts = self.backend.scatter_add(xp.zeros_like(total), ids, rows)
        self.grads["weight"] = total / xp.maximum(counts, 1.0)


def test_a_planted_mistake_is_caught(backend):
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients(AveragesRepeats(5, 4), backend=backend, x=IDS)


def test_many_small_gradients_add_up_in_half_precision(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    network = Network([Embedding(2, 1)], (4096,), backend, dtype="float16")
    ids, delta = np.zeros((1, 4096), dtype=int), np.ones((1, 4096, 1))
    found = passes(network, ids, delta)["0.embedding.weight"]  # float16 cannot count beyond 2048
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, [[4096], [0]])


# Which ids will do -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "uint32"])
def test_ids_of_any_integer_dtype(backend, dtype):
    network = vectors(backend)
    expected = backend.to_numpy(network.predict(IDS))
    np.testing.assert_array_equal(backend.to_numpy(network.predict(IDS.astype(dtype))), expected)
    np.testing.assert_array_equal(backend.to_numpy(network.predict(IDS.tolist())), expected)


@pytest.mark.parametrize("number", [2**32 + 1, 2**64 - 2**32 + 1])  # 32 bits would make 1 of both
def test_ids_of_64_bits_are_checked_before_they_are_cut(backend, number):
    if backend.name == "jax":
        pytest.skip("JAX cuts integers to 32 bits where they enter, before a layer sees them")
    with pytest.raises(DataError, match="wanted ids from 0 to 4"):
        vectors(backend).predict(np.array([[3, 0, number]], dtype="uint64"))


@needs("torch")
def test_ids_of_another_library(backend):
    import torch

    network = vectors(backend)
    ids = on_device_of(backend, torch.tensor(IDS))
    np.testing.assert_array_equal(
        backend.to_numpy(network.predict(ids)), backend.to_numpy(network.predict(IDS))
    )


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (
            IDS + 1,
            r"wanted ids from 0 to 4, as Embedding\(5, 4\) has 5 vectors, got ids from 1 to 5",
        ),
        (IDS - 1, r"got ids from -1 to 3; count from 0"),
        (IDS * 1.0, r"wanted integers, such as the ids.*got .*float64; write x.astype\('int64'\)"),
        (IDS > 1, "wanted integers.*got .*bool"),
    ],
    ids=["too-large", "negative", "floats", "booleans"],
)
def test_other_ids_are_refused_and_nothing_changes(ids, words):
    network = Network([Embedding(5, 4), Flatten(), Dense(2)], (3,))
    trainer = Trainer(network, xpnn.cross_entropy, Adam(), seed=0)
    before, labels = network.numpy_arrays(), np.array([0, 1])
    for call in (
        lambda: trainer.fit(ids, labels, progress=False),
        lambda: trainer.fit(IDS, labels, validation=(ids, labels), progress=False),
        lambda: trainer.evaluate(ids, labels),
        lambda: network.predict(ids),
    ):
        with pytest.raises(DataError, match=words):
            call()
    assert trainer.steps == 0
    for name, array in network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_ids_deeper_in_a_network_are_checked_too(backend):
    branches = Parallel([Sequential([Embedding(9, 2), ReLU()]), Embedding(4, 2)])
    network = Network([Sequential([branches])], (3,), backend)
    with pytest.raises(DataError, match=r"from 0 to 3, as Embedding\(4, 2\).*from 0 to 4"):
        network.predict(IDS)


def test_an_embedding_of_floats_is_explained(backend):
    with pytest.raises(DataError, match=r"looks up integer ids.*np\.eye\(5\)\[ids\]"):
        Network([Dense(3), Embedding(5, 2)], (3,), backend).forward(np.ones((2, 3)))
    ids = np.array([[3], [0], [4], [3]])  # what it says to write instead is the same
    table = Network([Embedding(5, 2), Flatten()], (1,), backend)
    dense = Network([Dense(2, use_bias=False)], (5,), backend)
    dense.load({"0.dense.weight": table.numpy_arrays()["0.embedding.weight"]})
    found, expected = (
        backend.to_numpy(n.predict(x)) for n, x in ((dense, np.eye(5)[ids[:, 0]]), (table, ids))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="some of these take floats and some integers"):
        Parallel([Dense(3), Embedding(5, 3)])


def test_ids_are_read_once_a_fit_and_never_in_a_step(backend, monkeypatch):
    network = Network([Embedding(5, 4), Flatten(), Dense(2)], (3,), backend)
    reads, plain = [], type(backend).to_numpy
    monkeypatch.setattr(
        type(backend), "to_numpy", lambda self, array: reads.append(1) or plain(self, array)
    )
    trainer = Trainer(network, xpnn.cross_entropy, Adam(), log_every=1000)
    ids, labels = np.tile(IDS, (50, 1)), np.tile([0, 1], 50)

    def reads_of(**keywords):
        reads.clear()
        trainer.fit(ids, labels, progress=False, **keywords)
        return len(reads)

    assert reads_of(batch_size=1) == reads_of(batch_size=100)
    one, three = reads_of(epochs=1), reads_of(epochs=3)
    assert (three - one) % 2 == 0  # what an epoch reads is its loss; the ids were read before


def test_summary_of_a_network_of_ids(backend):
    summary = Network([Embedding(50, 8), LearnedPositions(), Dense(3)], (6,), backend).summary()
    assert summary.params == 50 * 8 + 6 * 8 + 8 * 3 + 3
    assert summary.multiply_adds == 6 * 8 * 3
    assert summary.rows[0].output_shape == (6, 8)


def test_training_on_ids_follows_numpy(backend, rng):
    ids = rng.integers(0, 5, (64, 3))
    labels = (np.sum(ids, axis=1) > 6).astype(int)

    def curve(place):
        network = Network([Embedding(5, 8), LearnedPositions(), Flatten(), Dense(2)], (3,), place)
        trainer = Trainer(network, xpnn.cross_entropy, Adam(0.05))
        return trainer.fit(ids, labels, epochs=10, progress=False)["loss"]

    reference = curve("numpy")
    assert reference[-1] < 0.8 * reference[0]
    np.testing.assert_allclose(curve(backend), reference, rtol=1e-4)


def test_an_embedding_of_nothing_is_refused():
    with pytest.raises(ValueError, match="vocabulary=0"):
        Embedding(0, 3)


def test_one_seed_gives_the_same_vectors_on_every_backend(backend):
    here, there = (Network([Embedding(9, 4)], (3,), place, seed=2) for place in (backend, "numpy"))
    for name, array in host(here, here.params).items():
        np.testing.assert_array_equal(array, there.params[name])
        assert 0.01 < array.std() < 0.03
