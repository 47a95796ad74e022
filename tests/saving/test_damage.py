"""Files that are torn or damaged, by accident or at will: an error, in little time and memory."""

import copy
import random
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xpnn
from tests.layers.table import LAYERS, NOT_SAVED
from tests.reliability.conduct import TIMES
from tests.reliability.tally import attempt
from tests.saving.forgery import forge, little, loaded_or_refused, parts_of, refused
from xpnn.errors import FileError, XpnnError
from xpnn.layers import BatchNorm, Dense, Dropout, Flatten, Residual, TiedDense, TransformerBlock
from xpnn.network import Network
from xpnn.saving import Tensor, write_tensors

pytestmark = pytest.mark.host_only

quick = settings(
    max_examples=100 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def small():
    first = Dense(4)
    layers = [first, Residual([Dropout(0.2), BatchNorm()]), TransformerBlock(4, 2), Flatten()]
    return Network([*layers, Dense(4), TiedDense(3, first, use_bias=False)], (2, 3))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A file with a bit of everything; its bytes, header, description and data."""
    path = tmp_path_factory.mktemp("hostile") / "net.safetensors"
    small().save(path)
    return path.read_bytes(), *parts_of(path)


@pytest.fixture(scope="module")
def small_one():
    """A network to load weights into."""
    return small()


# Accidents ----------------------------------------------------------------------------------------


def tiny(path):
    Network([Dense(1, use_bias=False)], (1,)).save(path)
    return path.read_bytes()


@pytest.mark.fault("truncated model file")
def test_every_truncation_is_found(path):
    content = tiny(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with attempt(), pytest.raises(FileError, match="is not a whole safetensors file"):
            xpnn.load(path)


@pytest.mark.fault("flipped bits in a model file")
def test_every_flipped_bit_is_found(path):
    content = tiny(path)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(damaged)
        with attempt(), pytest.raises(FileError):
            xpnn.load(path)


@pytest.mark.fault("flipped bits in a model file")
@quick
@given(data=st.data())
def test_flipped_bits_of_a_larger_file(original, path, data):
    content = bytearray(original[0])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(content) != original[0]:
        path.write_bytes(content)
        with attempt(), pytest.raises(FileError):
            xpnn.load(path)


@pytest.mark.parametrize("more", [b"\0", b"x" * 100])
def test_a_longer_file_is_found(path, more):
    path.write_bytes(tiny(path) + more)
    refused(path, r"its arrays take 4 bytes, and there are \d+")


def test_no_file_at_all(path):
    with pytest.raises(FileNotFoundError):
        xpnn.load(path)


@pytest.mark.fault("flipped bits in a model file")
def test_weights_are_held_against_their_checksum(path):
    network = Network([Dense(3)], (2,))
    xpnn.save_weights(network, path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    before = network.numpy_arrays()
    with pytest.raises(FileError, match="is damaged: its bytes do not give the checksum"):
        xpnn.load_weights(network, path)
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(1, dtype=np.int64), r"draw (is a single number|has the shape)"),
        (np.asarray(np.nan), r"draw counts, and so holds integers, got float64"),
    ],
)
def test_counters_that_are_none(backend, path, values, message):
    network = Network([Dropout(0.5)], (2,), backend)
    write_tensors(path, {"0.dropout.draw": Tensor(values.dtype.name, values)}, {})
    with pytest.raises(XpnnError, match=message):
        xpnn.load_weights(network, path)


# Anything in the place of anything ----------------------------------------------------------------

HUGE = st.sampled_from([10**9, 10**12, 2**63, 10**40, -1, 0, 2, 1e300, 1e999, -0.5])
VALUES = st.recursive(
    st.none() | st.booleans() | HUGE | st.integers(-3, 9) | st.text(max_size=4),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
        | st.fixed_dictionaries({"kind": st.sampled_from(["Dense", "L2"]), "arguments": inside})
        | st.sampled_from(["tuple", "dict", "number", "tied to", "maker", "initializer"]).flatmap(
            lambda key: st.fixed_dictionaries({key: inside})
        )
    ),
    max_leaves=6,
)


def places(value, path=()):
    """The way to every value inside."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutate(data, value):
    """A copy with something else in one or two places."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(list(places(value))))
        if not way:
            return data.draw(VALUES)
        parent = value
        for key in way[:-1]:
            parent = parent[key]
        what = data.draw(st.sampled_from(["replace", "remove", "wrap", "copy", "rename"]))
        if what == "replace":
            parent[way[-1]] = data.draw(VALUES)
        elif what == "remove":
            del parent[way[-1]]
        elif what == "wrap":
            parent[way[-1]] = [parent[way[-1]]]
        elif what == "copy":
            parent[way[-1]] = copy.deepcopy(value)
        elif isinstance(parent, dict):
            parent[data.draw(st.text(max_size=5))] = parent.pop(way[-1])
    return value


@pytest.fixture(scope="module")
def models(original, tmp_path_factory):
    """Files with each kind of layer, as header, description and data."""
    path, found = tmp_path_factory.mktemp("models") / "net.safetensors", [original[1:]]
    for row in LAYERS:
        if row is NOT_SAVED:
            continue
        make, input_shape = row.values
        Network([make()], input_shape).save(path)
        found.append(parts_of(path))
    return found


@pytest.mark.fault("model file of any description")
@quick
@given(data=st.data())
def test_any_description(models, path, data):
    header, description, stored = data.draw(st.sampled_from(models))
    forge(path, header, mutate(data, description), stored)
    with attempt(), little():
        loaded_or_refused(path)


@pytest.mark.fault("model file of any header")
@quick
@given(data=st.data())
def test_any_header(original, small_one, path, data):
    _, header, _, stored = original
    forge(path, mutate(data, header), data=stored)
    with attempt(), little():
        loaded_or_refused(path)
        with suppress(XpnnError):
            xpnn.load_weights(small_one, path)


@pytest.mark.fault("model file of any bytes")
@quick
@given(content=st.binary(max_size=300), length=st.integers(0, 2**64 - 1) | st.integers(0, 300))
def test_any_bytes(path, content, length):
    path.write_bytes(struct.pack("<Q", length) + content)
    with attempt(), little(), pytest.raises(FileError):
        xpnn.load(path)
