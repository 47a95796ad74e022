"""Weights in files: whole or not at all, and the same on every backend."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from tests.conftest import needs
from xpnn import Dense, Dropout, Network, load_weights, save_weights
from xpnn.errors import DataError, FileError, ShapeError


def network(backend="numpy", seed=0, units=3):
    return Network([Dense(4), Dropout(0.5), Dense(units)], (2,), backend, seed=seed)


def test_weights_come_back_on_any_backend(backend, tmp_path):
    saved, loaded = network(backend), network("numpy", seed=9)
    saved.forward(np.ones((5, 2)), training=True)  # moves the draw counter
    save_weights(saved, tmp_path / "deep" / "w.safetensors")
    load_weights(loaded, tmp_path / "deep" / "w.safetensors")
    for name, value in saved.numpy_arrays().items():
        np.testing.assert_array_equal(value, loaded.numpy_arrays()[name])
    assert loaded.state["1.dropout.draw"] == 1
    other = network(backend, seed=5)
    load_weights(other, tmp_path / "deep" / "w.safetensors")
    x = np.random.default_rng(0).random((6, 2))
    np.testing.assert_array_equal(
        backend.to_numpy(saved.predict(x)), backend.to_numpy(other.predict(x))
    )


def test_the_file_is_plain_safetensors(tmp_path):
    save_weights(network(), tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["0.dense.weight"]["shape"] == [2, 4]
    assert header["0.dense.weight"]["dtype"] == "F32"
    crc32 = header["__metadata__"].pop("crc32")
    assert len(crc32) == 8
    assert header["__metadata__"] == {"format": "xpnn-weights", "version": "2"}


@pytest.mark.parametrize("metadata", [None, {"format": "xpnn-weights", "version": "1"}])
def test_files_of_version_1_and_of_others_are_read(backend, tmp_path, metadata):
    """They have no checksum."""
    saved, loaded = network(), network(backend, seed=3)
    saved.state = {"1.dropout.draw": 7}
    arrays = {name: np.asarray(value) for name, value in saved.numpy_arrays().items()}
    (tmp_path / "w").write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    load_weights(loaded, tmp_path / "w")
    for name, value in arrays.items():
        np.testing.assert_array_equal(loaded.numpy_arrays()[name], value)


@pytest.mark.fault("file of a newer version")
def test_a_newer_version_asks_for_an_update(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.saving.weights.WEIGHTS_VERSION", 3)
    save_weights(network(), tmp_path / "w")
    monkeypatch.undo()
    with pytest.raises(FileError, match=r"is of version 3 .* reads up to 2; update xpnn"):
        load_weights(network(), tmp_path / "w")


@needs("torch")
def test_half_precision_keeps_its_dtype(tmp_path):
    import safetensors.torch

    saved = Network([Dense(4)], (2,), "torch", dtype="bfloat16")
    save_weights(saved, tmp_path / "w")
    theirs = safetensors.torch.load_file(tmp_path / "w")
    assert str(theirs["0.dense.weight"].dtype) == "torch.bfloat16"
    assert theirs["0.dense.weight"].equal(saved.params["0.dense.weight"])
    loaded = Network([Dense(4)], (2,), "torch", dtype="bfloat16", seed=5)
    load_weights(loaded, tmp_path / "w")
    assert loaded.params["0.dense.weight"].equal(saved.params["0.dense.weight"])


@pytest.mark.fault("truncated weights file")
@pytest.mark.parametrize("length", [0, 7, 20, 100, -1])
def test_a_torn_file_is_refused_and_nothing_changes(tmp_path, length):
    path, net = tmp_path / "w", network(seed=4)
    save_weights(network(), path)
    path.write_bytes(path.read_bytes()[:length])
    before = net.numpy_arrays()
    with pytest.raises(DataError, match=r"is not a whole safetensors file .*; save it again"):
        load_weights(net, path)
    for name, value in net.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_weights(network(units=7), tmp_path / "w")
    with pytest.raises(ShapeError, match=r"2.dense.* has the shape .*, got .*; nothing was loaded"):
        load_weights(network(), tmp_path / "w")
    save_weights(Network([Dense(3)], (2,)), tmp_path / "w")
    with pytest.raises(ShapeError, match=r"no values came for .*2.dense.weight; nothing was"):
        load_weights(network(), tmp_path / "w")


@pytest.mark.fault("disk full while a file is saved")
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w"
    save_weights(network(), path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(network(seed=1), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_what_fits_is_taken_and_the_rest_is_told(backend, tmp_path):
    saved, loaded = network(seed=1), network(backend, seed=2, units=5)
    saved.forward(np.ones((5, 2)), training=True)
    save_weights(saved, tmp_path / "w")
    before = loaded.numpy_arrays()
    found = load_weights(loaded, tmp_path / "w", partial=True)
    assert found.taken == ("0.dense.weight", "0.dense.bias", "1.dropout.draw")
    assert found.other_shapes == {"2.dense.weight": ((4, 3), (4, 5)), "2.dense.bias": ((3,), (5,))}
    assert repr(found) == (
        "taken: 0.dense.weight, 0.dense.bias, 1.dropout.draw\n"
        "of another shape: 2.dense.weight (4, 3) for (4, 5), 2.dense.bias (3,) for (5,)"
    )
    expected = {**before, **{name: saved.numpy_arrays()[name] for name in found.taken}}
    for name, value in loaded.numpy_arrays().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.host_only
def test_names_of_one_side_alone_are_told(tmp_path):
    save_weights(Network([Dense(4), Dense(3), Dense(2)], (2,)), tmp_path / "w")
    deeper = Network([Dense(4), Dropout(0.5), Dense(2)], (2,))
    found = load_weights(deeper, tmp_path / "w", partial=True)
    assert str(found) == (
        "taken: 0.dense.weight, 0.dense.bias, 2.dense.bias\n"
        "missing: 1.dropout.draw\n"
        "unknown: 1.dense.bias, 1.dense.weight\n"
        "of another shape: 2.dense.weight (3, 2) for (4, 2)"
    )
    same = load_weights(network(), written(network(), tmp_path / "same"))
    assert str(same) == f"taken: {', '.join({**network().params, **network().state})}"


@pytest.mark.host_only
def test_where_nothing_fits_nothing_is_loaded(tmp_path):
    path = written(Network([Dense(7)], (2,)), tmp_path / "w")
    with pytest.raises(ShapeError, match=r"(?s)nothing was loaded, as nothing in .*missing: 2\.de"):
        load_weights(network(), path, partial=True)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError):
        load_weights(network(), path, partial=True)


def written(network, path):
    save_weights(network, path)
    return path
