"""Arrays in files: what safetensors itself reads and writes, in every dtype, whole or not."""

import os

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import needs
from xpnn.errors import FileError
from xpnn.saving import Tensor, TensorFile, tensor, write_tensors
from xpnn.saving.tensors import BFLOAT16, CODES

PLAIN = [name for name in CODES if name != BFLOAT16]
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arrays.safetensors"


def arrays():
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    one = st.tuples(st.sampled_from(PLAIN), shapes, st.integers(0, 99))
    drawn = one.map(lambda a: (np.random.default_rng(a[2]).normal(0, 50, a[1])).astype(a[0]))
    return st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), drawn)


def equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)


@quick
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@given(values=arrays().filter(lambda v: "__metadata__" not in v))
def test_there_and_back(path, values):
    write_tensors(path, {k: Tensor(v.dtype.name, v) for k, v in values.items()}, {"a": 'b"\\'})
    with TensorFile(path) as file:
        file.check_sum()
        assert file.metadata["a"] == 'b"\\'
        equal({name: file.read(name) for name in file.entries}, values)
        assert file.elements == sum(value.size for value in values.values())
    equal(safetensors.numpy.load_file(path), values)


@quick
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@given(values=arrays().filter(lambda v: "__metadata__" not in v))
def test_what_safetensors_writes_is_read(path, values):
    path.write_bytes(safetensors.numpy.save(values, metadata={"by": "them"}))
    with TensorFile(path) as file:
        equal({name: file.read(name) for name in file.entries}, values)
        assert file.metadata == {"by": "them"}


def test_arrays_that_lie_otherwise_in_memory(path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    values = {"t": base.T, "step": base[::2, ::-3], "big": base.astype(">f4"), "one": base[1, 1]}
    write_tensors(path, {name: Tensor("float32", v) for name, v in values.items()}, {})
    with TensorFile(path) as file:
        for name, value in values.items():
            np.testing.assert_array_equal(file.read(name), value)


@needs("torch")
def test_bfloat16_is_exact(path):
    import safetensors.torch
    import torch

    from xpnn import get_backend

    values = torch.tensor([1.0, -0.0, 3e38, 1e-40, float("inf"), float("nan")]).bfloat16()
    write_tensors(path, {"x": tensor(values, get_backend("torch"))}, {})
    theirs = safetensors.torch.load_file(path)["x"]
    assert theirs.view(torch.int16).equal(values.view(torch.int16))
    with TensorFile(path) as file:
        assert file.entries["x"].dtype == BFLOAT16
        assert file.entries["x"].stop == 12
        np.testing.assert_array_equal(file.read("x"), values.float().numpy())


def test_dtypes_that_a_file_does_not_hold(path):
    with pytest.raises(FileError, match="x is of dtype complex64, which a file cannot hold"):
        write_tensors(path, {"x": Tensor("complex64", np.zeros(1, "complex64"))}, {})
    with pytest.raises(FileError, match="x is said to be bfloat16, but its numbers need more"):
        write_tensors(path, {"x": Tensor(BFLOAT16, np.asarray([0.1], "float32"))}, {})
    assert not path.exists()


def test_every_array_lies_at_a_multiple_of_its_width(path):
    kinds = {name: Tensor(name, np.ones(3, name)) for name in PLAIN}
    write_tensors(path, kinds, {})
    start = path.stat().st_size - sum(3 * np.dtype(name).itemsize for name in PLAIN)
    assert start % 8 == 0
    with TensorFile(path) as file:
        for name, entry in file.entries.items():
            assert entry.start % np.dtype(name).itemsize == 0


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    write_tensors(path, {}, {"which": "old"})
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as broken:
            broken.setattr(f"os.{name}", full)
            with pytest.raises(OSError, match="No space left"):
                write_tensors(path, {}, {"which": "new"})
        assert path.read_bytes() == old
        assert os.listdir(path.parent) == [path.name]


def test_the_name_of_the_file_is_on_the_disk_too(path, monkeypatch):
    """The folder is synchronised after the file has its name, and only then."""
    seen = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda d: seen.append(path.exists()) or real(d))
    write_tensors(path, {}, {})
    assert seen == [False, True]
