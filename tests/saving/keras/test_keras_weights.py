"""Weights of Keras' models: the same predictions, by files that Keras has written."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xpnn import Network
from xpnn.errors import FileError, ShapeError, XpnnError
from xpnn.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    LayerNorm,
    MaxPool2D,
    MultiHeadAttention,
    ReLU,
    Residual,
    RMSNorm,
    SeparableConv2D,
    Sequential,
    SimpleRNN,
    WeightNorm,
)
from xpnn.saving import load_keras_weights

h5py = pytest.importorskip("h5py", reason="files of Keras are read by h5py")

FILES = Path(__file__).parent / "files"  # by make_files.py
ANSWERS = np.load(FILES / "answers.npz")


def images():
    return [
        *(Conv2D(4, 3), BatchNorm(epsilon=1e-3), ReLU(), SeparableConv2D(3, 2, activation="relu")),
        *(ConvTranspose2D(2, 3, stride=2), Conv2D(4, 2, groups=2), MaxPool2D(2), Flatten()),
        *(Dense(5, activation="prelu"), Dropout(0.5), Dense(2, use_bias=False)),
    ]


def sequences():
    gru = GRU(3, return_sequences=True)
    return [
        *(Embedding(10, 4), LSTM(3, return_sequences=True), Bidirectional(gru)),
        *(SimpleRNN(4, return_sequences=True), LayerNorm(epsilon=1e-3), GroupNorm(2, epsilon=1e-3)),
        *(Dense(4), Dense(4), RMSNorm(epsilon=1e-6), GRU(2)),
    ]


def attention():
    seen = Residual([MultiHeadAttention(2), MultiHeadAttention(2, kv_heads=1)])
    return [seen, Sequential([Dense(4), Dense(4)]), Dense(3), Dense(2)]


MODELS = {"images": images, "sequences": sequences, "attention": attention}


def network_for(name, backend="numpy"):
    return Network(MODELS[name](), ANSWERS[f"{name}_x"].shape[1:], backend)


def weights_alone(name, folder):
    with zipfile.ZipFile(FILES / f"{name}.keras") as archive:
        archive.extract("model.weights.h5", folder)
    return folder / "model.weights.h5"


def assert_predicts_as_keras(network, name):
    found = network.backend.to_numpy(network.predict(ANSWERS[f"{name}_x"]))
    np.testing.assert_allclose(found, ANSWERS[f"{name}_y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_keras(backend, name):
    network = network_for(name, backend)
    found = load_keras_weights(network, FILES / f"{name}.keras")
    assert {*found.taken} >= {*network.params}
    assert (found.missing, found.unknown, found.other_shapes) == ((), (), {})
    assert_predicts_as_keras(network, name)


def test_a_file_of_weights_alone(tmp_path):
    network = network_for("images")
    load_keras_weights(network, weights_alone("images", tmp_path))
    assert_predicts_as_keras(network, "images")


@pytest.mark.parametrize("name", ["sequences", "attention"])
def test_weights_alone_that_do_not_tell_their_order_are_refused(name, tmp_path):
    path = weights_alone(name, tmp_path)
    with pytest.raises(ShapeError, match=r"a dense in 'layers' and one in .* say which goes where"):
        load_keras_weights(network_for(name), path)


def test_names_say_which_goes_where(tmp_path):
    network = network_for("attention")
    names = {
        "multi_head_attention": "0.body.0",  # what Keras calls it
        "grouped_query_attention": "0.residual.body.1.multiheadattention",
        "layers/sequential/layers/dense": "1.0",  # its place in the file
        "x": "1.1",
        "layers/dense": "2.dense",
        "a": "3",
    }
    path = weights_alone("attention", tmp_path)
    load_keras_weights(network, path, names)
    assert_predicts_as_keras(network, "attention")
    for wrong, message in (
        ({"b": "3"}, r"names has 'b', but the file has arrays in layers/dense, "),
        ({"a": "9"}, r"sends 'a' to '9', but the layers with arrays are 0\.residual"),
    ):
        with pytest.raises(ShapeError, match=message):
            load_keras_weights(network, path, wrong)


def test_part_of_a_model():
    network = Network(
        [*images()[:-1], Dense(9, use_bias=False), WeightNorm(Dense(3))], (8, 6, 2), seed=1
    )
    path, before = FILES / "images.keras", network.numpy_arrays()
    with pytest.raises(
        XpnnError, match=r"'11\.weightnorm'.* has no counterpart in Keras; pass partial"
    ):
        load_keras_weights(network, path)
    found = load_keras_weights(network, path, partial=True)
    assert found.other_shapes == {"layers/dense_1 for 10.dense.weight": ((5, 2), (5, 9))}
    assert "10.dense.weight" in found.missing
    np.testing.assert_array_equal(before["10.dense.weight"], network.params["10.dense.weight"])
    assert "0.conv2d.weight" in found.taken
    assert np.abs(before["0.conv2d.weight"] - network.params["0.conv2d.weight"]).max() > 0.1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([*images()[:-1], Dense(3, use_bias=False)], r"wants \(5, 3\) for .* gives \(5, 2\)"),
        ([*images()[:-1], Dense(2)], r"'10\.dense' cannot take layers/dense_1: .* no array 1"),
        ([*images()[:-1]], r"no layer takes layers/dense_1; say which goes where"),
        ([*images(), Dense(2)], r"nothing goes into 11\.dense; say which"),
        (
            [Conv2D(4, 3, use_bias=False), *images()[1:]],
            r"layers/conv2d holds 76 numbers, of which layer '0\.conv2d' would take 72",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(layers, message):
    network = Network(layers, (8, 6, 2))
    before = network.numpy_arrays()
    with pytest.raises(ShapeError, match=message):
        load_keras_weights(network, FILES / "images.keras")
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def of_old_gru(path):
    with h5py.File(path, "w") as file:
        for number, shape in enumerate([(3, 6), (2, 6), (6,)]):
            file[f"layers/gru/cell/vars/{number}"] = np.ones(shape)


def of_keras_2(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["dense"]


def huge(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (10**7, 10**6), "f4", chunks=True)


def elsewhere(path):
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink("other.h5", "/kernel")


def strings(path):
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.array([b"one"])


def archive_of_others(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"")


def torn(path):
    content = (FILES / "images.keras").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def torn_inside(path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.ones((50, 50))
    path.write_bytes(buffer.getvalue()[:900])


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (of_old_gru, ShapeError, "reset_after=False"),
        (of_keras_2, FileError, "before version 3; load it there"),
        (huge, FileError, "arrays are larger than the file"),
        (elsewhere, (FileError, ShapeError), "no array|nothing goes|not a whole file"),
        (strings, FileError, "wanted numbers"),
        (archive_of_others, FileError, "holds data.pkl; in Keras write"),
        (torn, FileError, "not a whole file of Keras"),
        (torn_inside, FileError, "not a whole file of Keras"),
        (lambda path: path.write_bytes(b"nothing"), FileError, "begins with b'nothing'"),
    ],
)
def test_files_that_are_something_else(write, error, message, tmp_path):
    write(tmp_path / "file")
    layers = [GRU(2)] if write is of_old_gru else [Dense(2)]
    with pytest.raises(error, match=message):
        load_keras_weights(Network(layers, (4, 3)), tmp_path / "file")
    (tmp_path / "file").unlink()  # closed
