"""Files of every kind, read and written, held to one conduct.

What is no whole file of its kind, or no file at all, is a ``FileError`` that names it, in little
time and memory, whatever is wrong inside. What is written goes where the user said, with the mode
that was there, or is refused. A new kind of file is a row in ``KINDS``.
"""

import errno
import functools
import gzip
import json
import os
import random
import re
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest

import xpnn
from tests.reliability.conduct import TIMES, in_time
from tests.reliability.tally import attempt
from tests.saving.forgery import forge, little, parts_of
from xpnn import Adam, Checkpoint, CSVLogger, Dense, Identity, Network, Sequential, Trainer, explain
from xpnn.data import NpzShards, datasets
from xpnn.errors import DataError, FileError, XpnnError
from xpnn.files import open_file, replacement
from xpnn.initializers import memory_of_machine
from xpnn.saving import Tensor, load_torch_weights, save_torch_weights, write_tensors

pytestmark = [
    pytest.mark.host_only,
    pytest.mark.skipif(os.name == "nt", reason="pipes, sockets and modes as Unix has them"),
]

X, Y = np.random.default_rng(0).random((8, 2), dtype=np.float32), np.arange(8) % 3


def network(seed=0):
    return Network([Dense(3)], (2,), seed=seed)


def trainer():
    return Trainer(network(), xpnn.cross_entropy, Adam(0.1))


def write_checkpoint(path):
    one = trainer()
    one.fit(X, Y, progress=False)
    one.save(path)


def go_on(path, one):
    one.fit(X, Y, epochs=2, resume=path, progress=False)


def idx(content):
    return struct.pack(">HBBII", 0, 8, 2, 8, 2) + content


def write_table(kind, path):
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    from pyarrow import csv, parquet, table

    write = csv.write_csv if kind == "csv" else parquet.write_table
    write(table({"a": X[:, 0], "b": X[:, 1], "y": Y}), path)


def read_table(kind, path):
    shards = xpnn.data.CsvShards if kind == "csv" else xpnn.data.ParquetShards
    return list(shards(path, x=["a", "b"], y="y"))


def values_of(load, one):
    """What a network, or that of a trainer, holds when ``load`` has filled it."""
    load(one)
    return list(getattr(one, "network", one).numpy_arrays().items())


# What is claimed of sizes and nestings, in the bytes of a whole file: none of it is there.


def claiming_length(content, length):
    return struct.pack("<Q", length) + content[8:]


TENSORS = {
    "a long header": functools.partial(claiming_length, length=2**63),
    "a large array": lambda content: content.replace(
        b'"data_offsets":[0,', b'"data_offsets":[0,99999999'
    ),
    "a large shape": lambda content: content.replace(b"[2,3]", b"[2000000000000,3]"),
    "lists in lists": lambda content: struct.pack("<Q", 100_000) + b"[" * 100_000,
}
IDX = {
    "a long axis": lambda content: content[:4] + b"\xff" * 8 + content[12:],
    "many axes": lambda content: content[:3] + b"\x20" + b"\xff" * 200,
}


def as_gzip(change):
    return lambda content: gzip.compress(change(gzip.decompress(content)))


def npz_of(header, data=b"", way=zipfile.ZIP_STORED):
    """An archive in which x has that header; y is whole."""
    text = header.encode("latin1")
    x = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data
    path = Path("claims.npz")
    np.savez(path, y=Y)
    with zipfile.ZipFile(path, "a", way) as archive:
        archive.writestr("x.npy", x)
    return path.read_bytes()


def large_npz():
    """An archive that says in all places that 1 GiB is there."""
    content = npz_of(SHAPED % f"({2**28},)", bytes(64), zipfile.ZIP_DEFLATED)
    header = 10 + len(SHAPED % f"({2**28},)")
    return content.replace(struct.pack("<I", header + 64), struct.pack("<I", header + 2**30))


SHAPED = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
HEADERS = {
    "text without an end": "{'descr': '<f4",
    "brackets in brackets": "(" * 5000,
    "minus of minus": "-" * 5000 + "1",
    "a list as a key": "{[]: 1}",
    "no dictionary": "3",
    "a large shape": SHAPED % "(1000000000000000, 2)",
    "a shape beyond all integers": SHAPED % f"({10**30}, 0)",
    "a negative shape": SHAPED % "(-8, 2)",
    "a shape of truth": SHAPED % "(True, 2)",
    "many axes": SHAPED % f"({'1, ' * 70})",
    "another dtype": SHAPED.replace("<f4", "<q9") % "(8, 2)",
    "a dtype of dtypes": SHAPED.replace("'<f4'", "()") % "(8, 2)",
    "objects": SHAPED.replace("<f4", "|O") % "(8,)",
    "a long header": SHAPED % "(8, 2)" + " " * 20_000,
}
NPZ = {
    **{name: lambda content, header=header: npz_of(header) for name, header in HEADERS.items()},
    "a large shape, and a size that fits it": lambda content: large_npz(),
    "LZMA": lambda content: npz_of(SHAPED % "(8, 2)", bytes(64), zipfile.ZIP_LZMA),
    "members that are longer": lambda content: content.replace(b"\xc0\0\0\0", b"\xff\xff\xff\x7f"),
}


class Kind(NamedTuple):
    """A kind of file: how a whole one is written and read, and what one may claim.

    ``summed``: whether a changed bit is found, or changes none of the values that are read.
    """

    write: Callable
    read: Callable
    claims: Mapping = MappingProxyType({})
    summed: bool = True


KINDS = {
    "model": Kind(
        lambda path: network().save(path),
        lambda path: values_of(lambda one: None, xpnn.load(path)),
        TENSORS,
    ),
    "weights": Kind(
        lambda path: xpnn.save_weights(network(), path),
        lambda path: values_of(lambda one: xpnn.load_weights(one, path), network(1)),
        TENSORS,
    ),
    "checkpoint": Kind(
        write_checkpoint, lambda path: values_of(lambda one: one.load(path), trainer()), TENSORS
    ),
    "checkpoint to go on from": Kind(
        write_checkpoint, lambda path: values_of(functools.partial(go_on, path), trainer()), TENSORS
    ),
    "weights of PyTorch": Kind(
        lambda path: save_torch_weights(network(), path),
        lambda path: values_of(lambda one: load_torch_weights(one, path), network(1)),
        {**TENSORS, "a large shape": lambda content: content.replace(b"[3,2]", b"[3000000000,2]")},
    ),
    "IDX": Kind(lambda path: path.write_bytes(idx(bytes(16))), datasets.read_idx, IDX, False),
    "gzip": Kind(
        lambda path: path.write_bytes(gzip.compress(idx(bytes(16)), mtime=0)),
        datasets.read_idx,
        {name: as_gzip(change) for name, change in IDX.items()},
    ),
    "npz": Kind(lambda path: np.savez(path, x=X, y=Y), lambda path: list(NpzShards(path)), NPZ),
    "compressed npz": Kind(
        lambda path: np.savez_compressed(path, x=X, y=Y), lambda path: list(NpzShards(path))
    ),
    "CSV": Kind(
        functools.partial(write_table, "csv"), functools.partial(read_table, "csv"), summed=False
    ),
    "Parquet": Kind(
        functools.partial(write_table, "parquet"),
        functools.partial(read_table, "parquet"),
        summed=False,
    ),
}
PLAIN_TEXT, TABLES = {"CSV"}, {"CSV", "Parquet"}
"""Of these, the beginning is a whole file, too."""

each_kind = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "this one.npz"  # the name that numpy.savez leaves as it is


def read_or_refused(read, path):
    """What was read, or None; any error but one of xpnn's own that names the file goes through."""
    with in_time(20), little():  # which looks at what was taken only where no error goes through it
        try:
            return read(path)
        except DataError as error:
            said = str(error)
    assert path.name in said
    assert len(said) < 2000
    return None


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.fault("file of any kind that is cut short")
@each_kind
def test_a_file_that_is_cut_short(name, path):
    kind = KINDS[name]
    kind.write(path)
    content = path.read_bytes()
    lengths = {0, 1, 7, 8, 9, *range(0, len(content), len(content) // 8 + 1), len(content) - 1}
    for length in lengths:
        path.write_bytes(content[:length])
        with attempt():
            assert read_or_refused(kind.read, path) is None or name in PLAIN_TEXT, length


@pytest.mark.fault("file of any kind with flipped bits")
@each_kind
def test_a_file_with_flipped_bits(name, path):
    kind = KINDS[name]
    kind.write(path)
    wanted, content, draw = kind.read(path), path.read_bytes(), random.Random(name)
    for _ in range(30 * TIMES):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with attempt():
            found = read_or_refused(kind.read, path)
            if found is not None and kind.summed:
                assert repr(found) == repr(wanted)


@pytest.mark.fault("file of any kind that claims what is not there")
@pytest.mark.parametrize(
    ("name", "claim"), [(name, claim) for name, kind in KINDS.items() for claim in kind.claims]
)
def test_a_file_that_claims_what_is_not_there(name, claim, path):
    kind = KINDS[name]
    kind.write(path)
    content = path.read_bytes()
    changed = kind.claims[claim](content)
    assert changed != content
    path.write_bytes(changed)
    assert read_or_refused(kind.read, path) is None


@pytest.mark.fault("file of another kind")
@each_kind
def test_a_file_of_another_kind(name, path):
    if name in TABLES:
        pytest.importorskip("pyarrow", reason="tables need pyarrow")
    for other in set(KINDS) - (set() if find_spec("pyarrow") else TABLES):
        KINDS[other].write(path)
        same = KINDS[other].read == KINDS[name].read or {name, other} <= {
            *("model", "weights", "checkpoint", "checkpoint to go on from"),
            *("npz", "compressed npz"),
        }
        if not same:
            with attempt(), in_time(20), little(), suppress(XpnnError):
                KINDS[name].read(path)
                assert name in PLAIN_TEXT or other == "weights", other


@pytest.mark.fault("file of any kind with flipped bits")
def test_weights_that_say_they_are_others_are_held_to_their_checksum(path):
    KINDS["weights"].write(path)
    content = bytearray(path.read_bytes().replace(b"xpnn-weights", b"xpnn-weightz"))
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="is damaged"):
        xpnn.load_weights(network(), path)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    os.chdir(path.parent)  # as the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


THINGS = {
    "a folder": Path.mkdir,
    "a pipe": make_pipe,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "nothing": lambda path: None,
}


@pytest.mark.fault("something else where a file should be")
@pytest.mark.parametrize("thing", THINGS)
@each_kind
def test_something_else_than_a_file(name, thing, path):
    if name in TABLES:
        pytest.importorskip("pyarrow", reason="tables need pyarrow")
    THINGS[thing](path)
    absent = thing in ("a link to itself", "a link to nothing", "nothing")
    if name == "checkpoint to go on from" and (thing == "a folder" or absent):
        pytest.skip("there, training begins")
    with in_time(20), pytest.raises((DataError, OSError) if absent else DataError) as caught:
        KINDS[name].read(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b.npz", "a" * 300 + ".npz"])
def test_names_that_no_file_has(name):
    for one in ("model", "weights", "checkpoint", "weights of PyTorch", "IDX", "npz"):
        with pytest.raises((FileError, DataError, OSError)):
            KINDS[one].read(Path(name))
    with pytest.raises((FileError, OSError)):
        network().save(name)


# Writing ------------------------------------------------------------------------------------------


def log_into(path):
    trainer().fit(X, Y, callbacks=[CSVLogger(path)], progress=False)


def draw_into(path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    trainer().fit(X, Y, progress=False).plot(path)


WRITERS = {
    "model": KINDS["model"].write,
    "weights": KINDS["weights"].write,
    "checkpoint": write_checkpoint,
    "weights of PyTorch": KINDS["weights of PyTorch"].write,
    "CSV log": log_into,
    "picture": draw_into,
}
each_writer = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place.png"


@each_writer
def test_a_new_file_is_as_the_umask_has_it(name, place):
    before = os.umask(0o027)
    try:
        WRITERS[name](place)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


@each_writer
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_keeps_its_mode(name, mode, place):
    place.write_bytes(b"old")
    place.chmod(mode)
    WRITERS[name](place)
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert place.read_bytes() != b"old"


@each_writer
def test_a_file_keeps_its_owner(name, place):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    place.write_bytes(b"old")
    os.chown(place, 12345, 54321)
    WRITERS[name](place)
    assert (place.stat().st_uid, place.stat().st_gid) == (12345, 54321)


@each_writer
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to no file yet"])
def test_a_link_stays_and_its_file_is_written(name, there, place):
    real = place.with_name("real.png")
    if there:
        real.write_bytes(b"old")
    (place.parent / "between").symlink_to("real.png")
    place.symlink_to("between")
    WRITERS[name](place)
    assert place.is_symlink()
    assert (place.parent / "between").is_symlink()
    assert real.read_bytes() not in (b"", b"old")
    assert sorted(os.listdir(place.parent)) == ["between", "place.png", "real.png"]


@pytest.mark.fault("something else where a file is to be written")
@each_writer
@pytest.mark.parametrize("thing", ["a folder", "a pipe", "a socket", "a device"])
def test_something_else_is_not_written_to(name, thing, place):
    if thing == "a device":
        place.symlink_to("/dev/full")
    else:
        THINGS[thing](place)
    before = place.lstat()
    with in_time(20), pytest.raises(FileError, match=f"wanted a file, but .*place.png is {thing}"):
        WRITERS[name](place)
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_a_link_to_itself_stays(place):
    place.symlink_to(place.name)
    with pytest.raises(FileError, match=r"place\.png is a link that leads to itself"):
        network().save(place)
    assert os.readlink(place) == place.name


ENDINGS = {
    "page": (".html", lambda seen, path: seen.to_html(path)),
    "step": (".svg", lambda seen, path: seen.to_svg(path)),
    "drawing": (".svg", lambda _, path: network().draw(path)),
}


@pytest.mark.parametrize("name", [*WRITERS, *ENDINGS])
def test_where_nothing_can_be_written_it_is_said_of_what_and_what_to_do(name, place):
    place.write_bytes(b"a file")
    ending, draw = ENDINGS.get(name, (".png", None))
    path = place / f"inside{ending}"
    message = rf"this file was not written, .*choose a folder.*inside{re.escape(ending)}'"
    write = draw and functools.partial(draw, explain(network(), X[:2], Y[:2], "cross_entropy"))
    with pytest.raises((NotADirectoryError, FileExistsError), match=message):
        (write or WRITERS[name])(path)
    assert place.read_bytes() == b"a file"


@pytest.mark.fault("disk full at a file")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(call, place, monkeypatch):
    place.write_bytes(b"old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left.*not written.*place\.png") as error:
        network().save(place)
    assert error.value.errno == errno.ENOSPC
    assert place.read_bytes() == b"old"
    assert os.listdir(place.parent) == [place.name]


def test_what_goes_wrong_beside_the_file_is_told_as_it_is(place):
    elsewhere = place.with_name("elsewhere")
    with pytest.raises(FileNotFoundError, match="No such file") as error, replacement(place):
        elsewhere.read_bytes()
    assert "not written" not in str(error.value)


def test_a_file_that_fails_half_way_leaves_the_old_one(place):
    place.write_bytes(b"old")
    with pytest.raises(TypeError), replacement(place) as file:
        file.write(b"new" + None)
    assert place.read_bytes() == b"old"
    assert os.listdir(place.parent) == [place.name]


def test_a_private_file_is_at_no_moment_open_to_others(place, monkeypatch):
    place.write_bytes(b"old")
    place.chmod(0o600)
    monkeypatch.setattr("xpnn.files._keep_owner_and_mode", lambda *_: None)  # which comes later
    with replacement(place):
        (new,) = (path for path in place.parent.iterdir() if path != place)
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
    with open_file(place) as file:
        assert file.read() == b""


# Folders of checkpoints ---------------------------------------------------------------------------


def run(folder, epochs, **more):
    callbacks = [Checkpoint(folder, **more)]
    one = trainer()
    one.fit(X, Y, epochs=epochs, callbacks=callbacks, resume=folder, progress=False)
    return one


@pytest.mark.fault("something else where a checkpoint should be")
@pytest.mark.parametrize("thing", [one for one in THINGS if one != "nothing"])
def test_what_is_no_checkpoint_is_passed_over_and_left(thing, tmp_path):
    run(tmp_path, 1)
    for number in (0, 99):
        THINGS[thing](tmp_path / f"checkpoint-{number:09d}.safetensors")
    with in_time(20):
        assert run(tmp_path, 4, keep=1).epoch == 4
    assert len(list(tmp_path.iterdir())) == 3


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path):
    one = trainer()
    one.steps = 10**9 - 2
    kept = Checkpoint(tmp_path, every_steps=1, keep=2)
    one.fit(X, Y, epochs=4, callbacks=[kept], progress=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"checkpoint-{10**9 + k}.safetensors" for k in (1, 2)}
    other = trainer()
    other.fit(X, Y, epochs=4, resume=tmp_path, progress=False)
    assert other.steps == 10**9 + 2


# Files that cost more than they are worth ---------------------------------------------------------


@pytest.mark.fault("checkpoint made to do harm")
def test_an_array_is_read_once_however_often_it_is_named(path):
    write_checkpoint(path)
    header, _, data = parts_of(path)
    tree = json.loads(header["__metadata__"]["contents"])
    weight = tree["network"]["0.dense.weight"]
    tree["callbacks"] = [["Nobody", {"a": [weight] * 10_000}]]
    header["__metadata__"]["contents"] = json.dumps(tree)
    forge(path, header, data=data)
    with little(megabytes=16), pytest.raises(FileError, match="is not there, or again"):
        trainer().load(path)


def shared(levels):
    """A layer that holds itself twice at each level."""
    inner = Identity()
    for _ in range(levels):
        inner = Sequential([Sequential([inner]), Sequential([inner])])
    return inner


@pytest.mark.fault("model file made to do harm")
def test_ties_of_ties_are_no_layers(path):
    Network([Identity()], (2,)).save(path)
    header, description, data = parts_of(path)
    number, before = 1, 0
    for _ in range(40):
        tied = {"kind": "Sequential", "arguments": {"layers": [{"tied to": before}]}}
        both = {"kind": "Sequential", "arguments": {"layers": [tied, tied]}}
        description["layers"].append(both)
        before, number = number, number + 3
    # whose error would show all that is inside of what it was given
    wrong = {"kind": "Bidirectional", "arguments": {"layer": {"tied to": before}}}
    description["layers"].append(wrong)
    forge(path, header, description, data)
    with in_time(20), little(), pytest.raises(FileError, match="a layer has one place"):
        xpnn.load(path)


def test_layers_that_share_layers_are_refused_at_once():
    with (
        in_time(20),
        pytest.raises(XpnnError, match=r"at '0\..*already part .* one place, so make"),
    ):
        Network([shared(40)], (2,))


def test_arrays_larger_than_the_memory_are_not_asked_for(path):
    """A file with a hole, which takes no room on the disk."""
    Network([Dense(3)], (2,)).save(path)
    size = 4 * memory_of_machine()
    field = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    text = json.dumps({"0.dense.weight": field}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        try:
            file.truncate(8 + len(text) + size)
        except OSError:
            pytest.skip("this file system has no files as large")
    for read in (
        lambda: xpnn.load_weights(network(), path),
        lambda: load_torch_weights(network(), path),
    ):
        with in_time(20), little(), pytest.raises(XpnnError, match=r"no values came|GiB"):
            read()


# Files of others ----------------------------------------------------------------------------------

READERS = {
    "xpnn.load": (xpnn.load, "model"),
    "load_weights": (lambda path: xpnn.load_weights(network(), path), "weights"),
    "trainer.load": (lambda path: trainer().load(path), "checkpoint"),
    "resume": (functools.partial(go_on, one=trainer()), "checkpoint"),
    "load_torch_weights": (
        lambda path: load_torch_weights(network(), path),
        "weights of PyTorch",
    ),
}


@pytest.mark.parametrize("other", ["model", "weights", "checkpoint", "weights of PyTorch"])
@pytest.mark.parametrize("name", READERS)
def test_what_another_call_reads_is_named(name, other, path):
    """And that call reads it."""
    read, own = READERS[name]
    if other == own or (name == "load_weights" and other in ("model", "weights of PyTorch")):
        pytest.skip("it is read")
    KINDS[other].write(path)
    with pytest.raises(FileError) as caught:
        read(path)
    named = [one for one in READERS if f"{one}(" in str(caught.value)]
    assert named
    assert "resume=path" in str(caught.value) or other != "checkpoint"
    for one in named:
        READERS[one][0](path)


BEGINNINGS = {
    "torch.save": (b"PK\x03\x04", "zip archive, such as torch.save.*state_dict"),
    "an old torch.save": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9", "pickle.*state_dict"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
    "an index": (b'{"metadata": {}}', "JSON, such as the index"),
}


@pytest.mark.parametrize("other", BEGINNINGS)
def test_weights_in_other_formats_are_told_by_their_beginning(other, path):
    begins, message = BEGINNINGS[other]
    path.write_bytes(begins + bytes(100))
    for read, _ in READERS.values():
        with pytest.raises(FileError, match=message):
            read(path)


@pytest.mark.parametrize("source", [Network([Dense(3)], (2,)), 3, None, [1]])
def test_what_is_no_state_dict_is_refused_in_words(source):
    with pytest.raises(TypeError, match=r"a state_dict, got a .*module\.state_dict\(\)"):
        load_torch_weights(network(), source)


# What messages say --------------------------------------------------------------------------------

NASTY = "\x1b[2J\ud800\u202e\x07"


def test_names_in_messages_do_nothing_to_a_terminal(path):
    """Whatever they are names of: arrays, layers, files."""
    values = {NASTY: Tensor("float32", np.zeros(2, "float32"))}
    write_tensors(path, values, {})
    nasty_folder = path.with_name("\x1b[2J\udcff")  # a byte that is not in UTF-8
    nasty_folder.mkdir()
    said = []
    for read in (
        lambda: xpnn.load_weights(network(), path),
        lambda: load_torch_weights(network(), path),
        lambda: network().load({**network().numpy_arrays(), NASTY: 1}),
        lambda: xpnn.load(nasty_folder),
        lambda: NpzShards(NASTY.encode("utf-8", "surrogatepass").decode(errors="surrogateescape")),
    ):
        with pytest.raises(XpnnError) as caught:
            read()
        said.append(str(caught.value))
    for text in said:
        assert text.encode().decode("utf-8").replace("\n", "").isprintable(), ascii(text)
    assert "\\x1b[2J\\ud800\\u202e\\x07" in "".join(said)


def test_no_array_is_called_as_the_metadata_are(path):
    with pytest.raises(FileError, match="__metadata__"):
        write_tensors(path, {"__metadata__": Tensor("float32", np.zeros(2, "float32"))}, {})
