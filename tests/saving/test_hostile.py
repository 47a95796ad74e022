"""Files made to do harm: an error, in little time and little memory."""

import json
import struct

import pytest

import xpnn
from tests.saving.forgery import forge, little, parts_of, refused
from xpnn.errors import FileError
from xpnn.layers import Dropout
from xpnn.network import Network
from xpnn.saving import TensorFile, making

pytestmark = pytest.mark.host_only


def model(layers, input_shape=(3,), **more):
    """A description, of layers given as (kind, arguments)."""
    described = [{"kind": kind, "arguments": arguments} for kind, arguments in layers]
    return {
        "layers": described,
        "input_shape": list(input_shape),
        "dtype": "float32",
        "seed": 0,
        "frozen": [],
        "regularizers": {},
        **more,
    }


ZEROS = {"initializer": "zeros", "arguments": {}}
EVAL = {"initializer": "eval", "arguments": {}}
LISTED = {"initializer": ["eval"], "arguments": {}}
PLAIN = {"__metadata__": {"format": "xpnn-model", "version": "1"}}


@pytest.mark.fault("model file made to do harm")
@pytest.mark.parametrize(
    "description",
    [
        model([("Dense", {"units": 10**9})]),
        model([("Dense", {"units": 10**300, "use_bias": False})]),
        model([("Dense", {"units": 10**6})], (10**6,)),
        model([("Embedding", {"vocabulary": 10**10, "features": 10**6})]),
        model([("LSTM", {"units": 10**6})], (2, 10)),
        model([("GRU", {"units": 1, "stateful": 10**12, "use_bias": False})], (2, 1)),
        model([("BatchNorm", {})], (10**12,)),
        model([("BatchNorm", {})], (10**9,)),
        model([("LayerNorm", {})], (2**62, 2**62)),
        model([("MultiHeadAttention", {"heads": 1})], (4, 10**6)),
        model([("TransformerBlock", {"features": 10**6, "heads": 1})], (4, 10**6)),
        model([("Conv2D", {"filters": 10**6, "kernel_size": 10**6, "padding": "same"})], (9, 9, 9)),
        model([("LearnedPositions", {"length": 10**12})], (3, 10**6)),
        model([("Dense", {"units": 2000})] * 500),
        model([("Dense", {"units": 10**5, "bias_init": ZEROS})]),
    ],
)
def test_more_weights_than_the_file_holds(path, description):
    forge(path, PLAIN, description)
    refused(path, "is more than there are numbers for|layers cannot be built", megabytes=32)


def test_more_memory_of_a_stateful_layer_than_the_file_holds(path):
    """Its weights are there, so that only what it carries from batch to batch is too much."""
    layers = [("GRU", {"units": 1, "stateful": 10**9})]
    Network([xpnn.GRU(1, stateful=2)], (2, 1)).save(path)
    header, _, data = parts_of(path)
    forge(path, header, model(layers, (2, 1)), data)
    refused(path, "is more than there are numbers for")


def nested(kind, depth, **arguments):
    inner = {"kind": "ReLU", "arguments": {}}
    for _ in range(depth):
        inner = {"kind": kind, "arguments": {"layers": [inner], **arguments}}
    return {**model([]), "layers": [inner]}


def makers(depth):
    inner = {"kind": "LayerNorm", "arguments": {}}
    for _ in range(depth):
        block = {"features": 4, "heads": 1, "norm": {"maker": inner}}
        inner = {"kind": "TransformerBlock", "arguments": block}
    return {**model([], (2, 4)), "layers": [inner]}


def tied(number, first=None):
    layers = [] if first is None else [{"kind": first, "arguments": {}}]
    source = {"kind": "TiedDense", "arguments": {"units": 3, "source": {"tied to": number}}}
    last = {"kind": "Dense", "arguments": {"units": 3}}
    return {**model([]), "layers": [*layers, source, last]}


def looped(what):
    """A value that is deep but short in what it says."""
    return model([("Reshape", {"shape": what})])


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def graph(layers, calls, outputs, inputs=(((3,), "floats", "x"),)):
    """A description of a graph, of layers given as (kind, arguments)."""
    described = [{"kind": kind, "arguments": arguments} for kind, arguments in layers]
    numbers = {"inputs": inputs, "calls": calls, "outputs": outputs}
    arguments = {"layers": described, **{key: as_written(one) for key, one in numbers.items()}}
    return {**model([]), "layers": {"kind": "Graph", "arguments": arguments}, "input_shape": None}


def as_written(value):
    """Tuples and dictionaries as a description has them."""
    if isinstance(value, dict):
        return {"dict": value}
    return {"tuple": list(map(as_written, value))} if isinstance(value, tuple | list) else value


def doubling(levels):
    """Graphs that each call the one inside of them twice."""
    found = graph([("Tanh", {})], [(0, (0,))], 1)
    for _ in range(levels):
        inner = found["layers"]
        found = graph([(inner["kind"], inner["arguments"])], [(0, (0,)), (0, (1,))], 2)
    return found


@pytest.mark.fault("model file made to do harm")
@pytest.mark.parametrize(
    ("description", "message"),
    [
        (nested("Sequential", 300), "nested more than 50 deep"),
        (nested("Masked", 100), "nested more than 50 deep"),
        (looped(deep(60)), "nested more than 50 deep"),
        ("[" * 100_000, "description is not JSON: it is nested too deep"),
        ("[" * 3_000_000, "description has 3,000,000 characters, too many"),
        (makers(9), "a maker of layers inside of another one"),
        (tied(0), "tied to number 0, which is not before it"),
        (tied(1), "tied to number 1, which is not before it"),
        (tied(-1), "tied to number -1, which is not before it"),
        (tied(-2, first="Identity"), "tied to number -2, which is not before it"),
        (model([("os.system", {"command": "true"})]), "'os.system', which is not known here"),
        (model([("../../evil", {})]), "which is not known here"),
        (model([("Layer", {})]), "'Layer', which is not known here"),
        (model([("Container", {"layers": []})]), "which is not known here"),
        (model([("L2", {"strength": 1})]), "it has a 'L2' where a layer belongs"),
        (model([(["Dense"], {})]), "'kind' is a str, got"),
        (model([("Dense", {"unit": 3})]), "Dense has no argument 'unit'"),
        (model([("Dense", {"self": 3})]), "Dense has no argument 'self'"),
        (model([("Dense", {})]), "no Dense can be made of what it says: TypeError"),
        (model([("Dense", {"units": -3})]), "no Dense can be made .* at least one unit"),
        (model([("Dense", {"units": "3"})]), "argument 'units' of Dense cannot be '3'"),
        (model([("Dense", {"units": True})]), "argument 'units' of Dense cannot be True"),
        (model([("Dense", {"units": 2.5})]), "argument 'units' of Dense cannot be 2.5"),
        (model([("Dense", {"units": 3, "weight_init": 3})]), "'weight_init' of Dense cannot be 3"),
        (model([("Dense", {"units": 3, "weight_init": EVAL})]), "an initializer .* 'eval'"),
        (model([("Dense", {"units": 3, "weight_init": LISTED})]), "'initializer' is a str"),
        (model([("Dropout", {"rate": {"number": "nan"}})]), "no Dropout can be made"),
        (model([("Dropout", {"rate": {"number": "many"}})]), "a number that is none, 'many'"),
        (model([("LeakyReLU", {"negative_slope": 10**400})]), "no LeakyReLU can be made"),
        (model([("Sequential", {"layers": "ReLU"})]), "'layers' of Sequential cannot be 'ReLU'"),
        (model([("Sequential", {"layers": [3]})]), "'layers' of Sequential cannot be"),
        (model([("ReLU", {})], (0,)), "list of positive integers"),
        (model([("ReLU", {})], (True,)), "list of positive integers"),
        (model([("ReLU", {})], seed=-1), "seed is below 0"),
        (model([("ReLU", {})], seed=1.5), "'seed' is a int, got 1.5"),
        (model([("ReLU", {})], dtype="object"), "dtype is one of"),
        (model([("ReLU", {})], frozen=["7.dense"]), "layer '7.dense', which is not there"),
        (model([("ReLU", {})], regularizers={"0.relu": [3]}), "wanted a dictionary of kind"),
        (
            model([("ReLU", {})], regularizers={"0.relu": [{"kind": "ReLU", "arguments": {}}]}),
            "it has a 'ReLU' where a regularizer belongs",
        ),
        (model([("Dense", {"units": 3})], (2, 2, 0.5)), "list of positive integers"),
        (graph([("Tanh", {})], [(0, (1,))], 1), "of which some are not there"),  # itself
        (graph([("Add", {}), ("Tanh", {})], [(0, (0, 2)), (1, (1,))], 2), "are not there"),
        (graph([("Tanh", {})], [(0, (-1,))], 1), "of which some are not there"),
        (graph([("Tanh", {})], [(7, (0,))], 1), "wanted calls of layers 0 to 0"),
        (graph([("Tanh", {})], [(0, (0,))], 2), "the outputs are values"),
        (graph([("Tanh", {})], [(0, (0,))], {"a": {"dict": {"b": 1}}}), "no Graph can be made"),
        (graph([("Tanh", {})], [0], 1), "argument 'calls' of Graph cannot be"),
        (
            graph([("Tanh", {})], [(0, (0,))], 1, [((3,), "evil", "x")]),
            "'inputs' of Graph cannot be",
        ),
        (graph([("Tanh", {})], [(0, (0,))], 1, [((10**400,), "floats", "x")]), "no Graph can be"),
        (graph([("Concatenate", {})], [(0, (k, k)) for k in range(99)], 99), "OutOfMemory"),
        (doubling(17), "at most 100,000 calls"),
        (model([("Conv2D", {"filters": 1, "kernel_size": 9})], (3, 3, 1)), "ShapeError: layer 0"),
        ({"layers": []}, "wanted a dictionary of layers, input_shape"),
        ("null", "wanted a dictionary of layers"),
        ('{"layers": NaN}', "description is not JSON: NaN is no number"),
        ('{"a": 1, "a": 2}', "description is not JSON: a name comes twice"),
        ("1" * 5000, "description is not JSON"),
        ("", "description is not JSON"),
    ],
)
def test_descriptions_that_say_what_cannot_be(path, description, message):
    forge(path, PLAIN, description)
    refused(path, message)


@pytest.mark.fault("model file made to do harm")
@pytest.mark.parametrize("kinds", [("Masked",), ("Masked", "Sequential"), ("Residual",)])
def test_depth_costs_little_time(path, kinds):
    """As deep as is allowed; a shape that is worked out twice at each level would never be done."""
    inner = {"kind": "ReLU", "arguments": {}}
    for k in range(22):
        inner = {"kind": kinds[k % len(kinds)], "arguments": {"layers": [inner]}}
    forge(path, PLAIN, {**model([]), "layers": [inner]})
    with little(seconds=4):
        xpnn.load(path)


@pytest.mark.fault("model file made to do harm")
def test_as_many_layers_as_are_allowed(path, monkeypatch):
    """A tenth of them: that work grows as their number does is shown by tests/test_growth.py."""
    assert making.MAX_LAYERS == 10_000
    monkeypatch.setattr(making, "MAX_LAYERS", 1000)
    forge(path, PLAIN, model([("ReLU", {})] * 1000))
    with little(seconds=2, megabytes=20):
        assert len(xpnn.load(path).layers) == 1000
    forge(path, PLAIN, model([("ReLU", {})] * 1001))
    refused(path, "more than 1000 layers")


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
BIAS = {"dtype": "F32", "shape": [3], "data_offsets": [24, 36]}
DENSE = model([("Dense", {"units": 3})], (2,))


def entries(**changes):
    return {**PLAIN, "0.dense.weight": {**ENTRY, **changes}, "0.dense.bias": BIAS}


def test_the_entries_below_are_right_where_nothing_is_changed(path):
    forge(path, entries(), DENSE, bytes(36))
    assert xpnn.load(path).params["0.dense.weight"].shape == (2, 3)


@pytest.mark.fault("model file made to do harm")
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (entries(data_offsets=[0, 20]), "has 20 bytes, which is not its shape"),
        (entries(data_offsets=[12, 36]), "'0.dense.weight' lies at 12, wanted 0"),
        (entries(data_offsets=[24, 0]), "which is not its shape"),
        (entries(data_offsets=[-24, 0]), "makes no sense"),
        (entries(data_offsets=[0, 24, 36]), "makes no sense"),
        (entries(data_offsets=[0, 10**30]), "makes no sense"),
        (entries(data_offsets=None), "makes no sense"),
        (entries(shape=[3, 2]), r"0.dense.weight has the shape \(3, 2\), and its layer wants"),
        (entries(shape=[6]), r"0.dense.weight has the shape \(6,\)"),
        (entries(shape=[-2, -3]), "makes no sense"),
        (entries(shape=[2.0, 3]), "makes no sense"),
        (entries(shape=[True, 6]), "makes no sense"),
        (entries(shape=[2**59, 2**59, 0]), "which is not its shape"),
        (entries(shape=[1] * 60 + [6]), "which is not its shape"),
        (entries(dtype="I32"), "of dtype int32, and its layer wants float32"),
        (entries(dtype="F16", shape=[2, 6]), r"has the shape \(2, 6\)"),
        (entries(dtype="F8_E4M3", shape=[24]), "a dtype that xpnn does not read, 'F8_E4M3'"),
        (entries(dtype=["F32"]), "makes no sense"),
        (entries(extra=1), "makes no sense"),
        ({**entries(), "0.dense.more": {**BIAS, "data_offsets": [36, 48]}}, "take 48 bytes"),
        ({**entries(), "0.dense.bias": {**BIAS, "data_offsets": [12, 24]}}, "lies at"),
        ({**entries(), "0.dense.bias": {**ENTRY}}, "'0.dense.bias' lies at 0, wanted 24|lies at"),
        ({**PLAIN, "0.dense.weight": {**ENTRY, "shape": [3, 3], "data_offsets": [0, 36]}}, "lacks"),
        (
            {**entries(), "__metadata__": {"format": "xpnn-model", "version": 1}},
            "not texts by name",
        ),
        ({**entries(), "__metadata__": []}, "not texts by name"),
        ({**entries(), "__metadata__": {"format": "xpnn-model", "version": "1.5"}}, "wanted a num"),
        ({**entries(), "__metadata__": {"format": "xpnn-model", "version": "²"}}, "wanted a num"),
        ({**entries(), "__metadata__": {"format": "xpnn-model", "version": "9" * 99}}, "wanted a"),
        ({**entries(), "__metadata__": {"format": "xpnn-model", "version": "0"}}, "not read any"),
        ({**entries(), "__metadata__": {}}, "of the format 'none', wanted 'xpnn-model'"),
        (b"[]", "its header is not a dictionary"),
        (b'{},"__metadata__":{"by":"safetensors 0.4.3"}}', "its header is not JSON"),
        (b'{"a": 1, "a": 1}', "a name comes twice"),
        (b"\xff\xfe", "its header is not JSON"),
        (b"[" * 100_000, "its header is not JSON: it is nested too deep"),
        (b"", "its header is not JSON"),
    ],
)
def test_headers_that_lie(path, header, message):
    described = isinstance(header, dict) and isinstance(header["__metadata__"], dict)
    forge(path, header, DENSE if described else None, bytes(36))
    refused(path, message)


def test_a_name_for_too_little(path):
    """More arrays than there are parameters, the right ones among them."""
    more = {"dtype": "F32", "shape": [1], "data_offsets": [36, 40]}
    forge(path, {**entries(), "0.dense.more": more}, DENSE, bytes(40))
    refused(path, "has 0.dense.more besides; nothing was loaded")


@pytest.mark.fault("model file made to do harm")
@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 10_000_001, 1000])
def test_a_header_that_would_be_long(path, length):
    path.write_bytes(struct.pack("<Q", length) + bytes(100))
    refused(path, f"its header would be {length} bytes long")


@pytest.mark.fault("model file made to do harm")
def test_a_large_file_with_a_large_header(path):
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**33))
        file.truncate(2**34)  # takes no room on the disk
    refused(path, "its header would be")


@pytest.mark.fault("model file made to do harm")
def test_a_checksum_may_not_be_left_out(path):
    forge(path, entries(), DENSE, bytes(36))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]["crc32"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(36))
    refused(path, "has no checksum where it should be")


def test_counters_beyond_their_range(backend, path):
    network = Network([Dropout(0.5)], (2,))
    network.state = {"0.dropout.draw": 2**40}
    network.save(path)
    if backend.counters_on_device:
        with pytest.raises(FileError, match=r"0\.dropout\.draw does not fit into int32"):
            xpnn.load(path, backend)
    else:
        assert int(xpnn.load(path, backend).state["0.dropout.draw"]) == 2**40


def test_what_was_refused_leaves_the_file_closed(path):
    """So that Windows can remove it, and no descriptors run out."""
    path.write_bytes(b"nonsense")
    with pytest.raises(FileError) as caught:
        TensorFile(path)
    frames = [caught.value.__traceback__]
    while frames[-1].tb_next:
        frames.append(frames[-1].tb_next)
    inside = next(f.tb_frame.f_locals["self"] for f in frames if "self" in f.tb_frame.f_locals)
    assert inside._file.closed


@pytest.mark.fault("model file made to do harm")
def test_layers_are_never_looked_up_by_path(path, tmp_path, monkeypatch):
    """What a file names is not imported; Python's own modules import while a file is read."""
    asked = []
    forge(path, PLAIN, model([("xpnn.cli:main", {})]))
    import builtins
    import importlib

    def watched(given):
        def watch(name, *more, **options):
            asked.append(name)
            return given(name, *more, **options)

        return watch

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", watched(builtins.__import__))
        patch.setattr(importlib, "import_module", watched(importlib.import_module))
        with pytest.raises(FileError, match="which is not known here"):
            xpnn.load(path)
    assert not [name for name in asked if name.startswith("xpnn.cli")]
