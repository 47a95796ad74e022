"""Whole networks in files: every kind of layer comes back, on every backend, in its dtype."""

import contextlib

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS, needs
from tests.layers.table import LAYERS, draw, each_layer_that_is_saved
from tests.saving.conftest import description_in, same_values
from xpnn.errors import BackendUnavailable, FileError, XpnnError
from xpnn.initializers import constant
from xpnn.layers import (
    BASES,
    GRU,
    KINDS,
    L1,
    L2,
    LSTM,
    BatchNorm,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Lambda,
    Layer,
    LayerNorm,
    Masked,
    MaxNorm,
    Residual,
    Tanh,
    TiedDense,
    TransformerBlock,
)
from xpnn.network import Network
from xpnn.saving import TensorFile, versions

# Every layer --------------------------------------------------------------------------------------


def test_every_kind_of_layer_is_in_the_table():
    inside = {type(layer) for row in LAYERS for _, layer in row.values[0]().walk()}
    layers = {kind for kind in KINDS.values() if issubclass(kind, Layer)}
    of_xpnn = {kind for kind in layers if kind.__module__.startswith("xpnn.")}
    assert of_xpnn - inside == set()
    assert Lambda not in of_xpnn  # which no file can hold
    public = {value for value in vars(xpnn.layers).values() if isinstance(value, type)}
    assert {k for k in public if issubclass(k, Layer)} - {*BASES, Lambda} == of_xpnn


@pytest.mark.slow_to_compile  # a network of many kinds is read on every backend below
@each_layer_that_is_saved
def test_a_layer_comes_back(backend, make, input_shape, path):
    if backend.name == "array-api-strict":
        pytest.skip("NumPy's arrays go into the same files; networks of many kinds do below")
    network = Network([make()], input_shape, backend, seed=3)
    network.forward(draw(input_shape), training=True)  # counters, memories and statistics move
    network.save(path)
    twin = xpnn.load(path, backend)
    assert repr(twin) == repr(network)
    assert (twin.seed, twin.dtype) == (3, "float32")
    same_values(twin, network)
    for training in (False, True):  # the second time with the same masks
        found, wanted = (
            one.backend.to_numpy(one.forward(draw(input_shape), training)).copy()
            for one in (twin, network)
        )
        np.testing.assert_array_equal(found, wanted)
    twin.save(path)  # what was loaded can be saved again, and is the same
    again = description_in(path)
    network.save(path)
    assert description_in(path) == again


def many():
    ids = Embedding(9, 4, weight_init=constant(0.5))
    block = TransformerBlock(4, 2, dropout=0.3, norm=lambda: LayerNorm(epsilon=0.1))
    walk = Bidirectional(GRU(4, return_sequences=True, stateful=None))
    return [Masked([ids, block, walk, Dense(4), BatchNorm()]), Dropout(0.4), TiedDense(9, ids)]


@pytest.mark.parametrize("target", SPECS)
def test_any_backend_reads_what_any_has_written(backend, target, path):
    network = Network(many(), (6,), backend, seed=5)
    x = np.random.default_rng(0).integers(0, 9, (3, 6))
    network.forward(x, training=True)
    network.save(path)
    twin = xpnn.load(path, target)
    same_values(twin, network)
    for training in (False, True):
        found, wanted = (
            one.backend.to_numpy(one.forward(x, training=training)) for one in (twin, network)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_are_exact(backend, dtype, path):
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        try:
            network = Network([Dense(3), BatchNorm()], (2,), backend, dtype=dtype)
        except BackendUnavailable:
            pytest.skip(f"{backend.name} has no {dtype}")
        x = np.random.default_rng(0).random((5, 2))
        network.forward(x, training=True)
        network.save(path)
        twin = xpnn.load(path, backend)
        for kind in ("params", "state"):
            for name, value in getattr(network, kind).items():
                assert getattr(twin, kind)[name].dtype == value.dtype, name
        same_values(twin, network)
    with TensorFile(path) as file:
        assert file.entries["0.dense.weight"].dtype == dtype
        assert file.entries["0.dense.weight"].stop - file.entries["0.dense.weight"].start == (
            6 * {"float32": 4, "float64": 8}.get(dtype, 2)
        )


@needs("torch")
def test_half_precision_for_a_backend_without_it(path):
    network = Network([Dense(3)], (4,), "torch", dtype="bfloat16")
    network.save(path)
    with pytest.raises(BackendUnavailable, match="numpy has no dtype 'bfloat16'"):
        xpnn.load(path, "numpy")
    twin = xpnn.load(path, "numpy", dtype="float32")
    assert twin.dtype == "float32"
    same_values(twin, network)
    with pytest.raises(ValueError, match=r"dtype is one of float16, .*, got 'int8'"):
        xpnn.load(path, "numpy", dtype="int8")


# Choices ------------------------------------------------------------------------------------------


def test_frozen_layers_and_regularizers(path):
    network = Network([Residual([Dense(4), Tanh()]), Dense(2), TransformerBlock(2, 1)], (3, 4))
    network.layers[0].body.layers[0].regularize(L2(1e-3), MaxNorm(2.0, axis=0))
    network.layers[2].regularize(L1(0.1))
    network.layers[1].trainable = False
    network.layers[2].layers[0].trainable = False  # inside of a layer that is described as one
    network.save(path)
    twin = xpnn.load(path)
    assert twin.trainable() == network.trainable()
    for (_, one), (_, other) in zip(network.walk(), twin.walk(), strict=True):
        assert repr(one.regularizers) == repr(other.regularizers)
    network.root.trainable = False
    network.save(path)
    assert xpnn.load(path).trainable() == set()


def test_hyperparameters_that_were_changed_stay_changed(path):
    network = Network([Dense(3), Dropout(0.5)], (4,))
    network.layers[1].rate = 0.25
    network.save(path)
    assert xpnn.load(path).layers[1].rate == 0.25


def test_training_goes_on_as_if_nothing_had_been(backend, path):
    def trained(network, epochs):
        x = np.random.default_rng(0).random((24, 4)).astype(np.float32)
        trainer = xpnn.Trainer(network, xpnn.mean_squared_error, xpnn.SGD(0.1))
        trainer.fit(x, x[:, :2], epochs=epochs, batch_size=8, progress=False)
        return network

    network = trained(Network([Dense(6), BatchNorm(), Dropout(0.3), Dense(2)], (4,), backend), 1)
    network.save(path)
    for one, other in zip(
        trained(network, 1).numpy_arrays().items(),
        trained(xpnn.load(path, backend), 1).numpy_arrays().items(),
        strict=True,
    ):
        np.testing.assert_array_equal(one[1], other[1], err_msg=one[0])
        assert one[0] == other[0]


def test_nothing_is_drawn_for_weights_that_are_loaded(path, monkeypatch):
    Network([Dense(3), LSTM(2)], (5, 4)).save(path)

    def drawn(*_):
        raise AssertionError("a number was drawn")

    monkeypatch.setattr("xpnn.initializers.fans", drawn)
    xpnn.load(path)
    with pytest.raises(AssertionError, match="a number was drawn"):
        Network([Dense(3)], (2,))


# Versions -----------------------------------------------------------------------------------------


def test_an_older_version_is_upgraded(path, monkeypatch):
    """As if a version called the layers "stack", and the next one wrote the seed otherwise."""
    network = Network([Dense(3), Tanh()], (2,), seed=4)
    network.save(path)

    def to_3(description):
        layers = description.pop("layers")
        return {**description, "stack": layers, "to": [3]}

    def to_4(description):
        assert description.pop("to") == [3]
        layers = description.pop("stack")
        return {**description, "layers": layers, "seed": description["seed"] + 1}

    monkeypatch.setattr("xpnn.saving.model.MODEL_VERSION", 4)
    monkeypatch.setattr("xpnn.saving.model.MODEL_UPGRADES", {2: to_3, 3: to_4})
    twin = xpnn.load(path)
    assert twin.seed == 5
    same_values(twin, network)
    monkeypatch.setattr("xpnn.saving.model.MODEL_UPGRADES", {3: to_4})
    with pytest.raises(FileError, match="version 2 of the format is not read any more"):
        xpnn.load(path)


@pytest.mark.fault("file of a newer version")
def test_a_newer_version_asks_for_an_update(path, monkeypatch):
    monkeypatch.setattr("xpnn.saving.model.MODEL_VERSION", versions.MODEL_VERSION + 1)
    Network([Dense(3)], (2,)).save(path)
    monkeypatch.undo()
    with pytest.raises(FileError, match=r"of version 3 .* reads up to 2; update xpnn"):
        xpnn.load(path)


@pytest.mark.fault("file of another format")
def test_a_file_of_another_format(path):
    xpnn.save_weights(Network([Dense(3)], (2,)), path)
    with pytest.raises(FileError, match=r"net.safetensors is of the format 'xpnn-weights', wanted"):
        xpnn.load(path)


def test_weights_are_read_out_of_a_model_file(path):
    network = Network([Dense(3)], (2,), seed=4)
    network.save(path)
    other = Network([Dense(3)], (2,))
    xpnn.load_weights(other, path)
    same_values(other, network)


def test_a_model_is_replaced_whole(path):
    Network([Dense(3)], (2,)).save(path)
    old = path.read_bytes()
    with pytest.raises(XpnnError, match="has no name in files"):
        Network([type("Nameless", (Tanh,), {})()], (2,)).save(path)
    assert path.read_bytes() == old
    assert [one.name for one in path.parent.iterdir()] == [path.name]
