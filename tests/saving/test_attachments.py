"""What belongs with a network, in its files, in checkpoints and in copies."""

import copy
import json
import pickle

import numpy as np
import pytest

import xpnn
from xpnn import SGD, Dense, Network, Trainer
from xpnn.data import Bucketed, Columns, Embedded
from xpnn.errors import FileError, XpnnError
from xpnn.saving import Attachment
from xpnn.saving.attachments import MAX_TEXT, attachments_text, read_attachments

TABLE = {
    "a": [1.0, None, 4.0],
    "w": ["é\n", "v", None],
    "n": [7, 8, 9],
    "c": [0.1, 0.2, 0.3],
    "d": np.asarray(["2024-02-29", "NaT", "2024-03-01"], "datetime64[D]"),
    "empty": [None] * 3,
    "y": [True, False, True],
}


def columns():
    return Columns({"w": Embedded(3), "n": Bucketed(2, features=2)}, target="y").fit(TABLE)


def network(backend="numpy"):
    made = columns()
    inputs, features = made.inputs()
    network = Network(inputs=inputs, outputs=Dense(made.outputs)(features), backend=backend)
    network.attachments.update(columns=made, notes={"author": "me", "sizes": [1, 2.5, None]})
    return network


def same(found):
    assert found.attachments["columns"] == columns()
    assert found.attachments["notes"] == {"author": "me", "sizes": [1, 2.5, None]}
    assert list(found.attachments) == ["columns", "notes"]


def test_files_have_them(tmp_path, backend):
    one = network(backend)
    one.save(tmp_path / "n.safetensors")
    again = xpnn.load(tmp_path / "n.safetensors", backend)
    same(again)
    x = again.attachments["columns"].transform(TABLE)
    np.testing.assert_array_equal(*(n.backend.to_numpy(n.predict(x)) for n in (one, again)))


def test_a_file_without_has_none(tmp_path):
    Network([Dense(1)], (2,)).save(tmp_path / "n.safetensors")
    assert xpnn.load(tmp_path / "n.safetensors").attachments == {}


def test_copies_have_them():
    one = network()
    for other in (
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
        one.to("array-api-strict"),
        one.with_head([Dense(2)]),
    ):
        same(other)
        del other.attachments["notes"]
    same(one)


def test_checkpoints_have_them(tmp_path):
    one = network()
    x, y = columns().transform(TABLE), columns().targets(TABLE)
    trainer = Trainer(one, xpnn.cross_entropy, SGD(0.1))
    trainer.fit(x, y, progress=False)
    trainer.save(tmp_path / "c.safetensors")
    other = network()
    other.attachments.clear()
    Trainer(other, xpnn.cross_entropy, SGD(0.1)).load(tmp_path / "c.safetensors")
    same(other)


class Names(Attachment, kind="tests.Names"):
    """One of the user's own."""

    def __init__(self, names):
        self.names = names

    def as_plain(self):
        return self.names

    @classmethod
    def from_plain(cls, plain):
        if not isinstance(plain, list):
            raise ValueError("wanted a list")
        return cls(plain)


def test_attachments_of_ones_own(tmp_path):
    one = Network([Dense(1)], (2,))
    one.attachments["names"] = Names(["a", "b"])
    one.save(tmp_path / "n.safetensors")
    assert xpnn.load(tmp_path / "n.safetensors").attachments["names"].names == ["a", "b"]
    with pytest.raises(ValueError, match="already"):
        type("Others", (Attachment,), {}, kind="tests.Names")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "cannot be put into a file"),
        (float("nan"), "cannot be put into a file"),
        ({1: "a"}, "be texts"),
        (np.ones(2), "cannot be put into a file"),
        ("x" * MAX_TEXT, "keep the largest one in a file of its own"),
        (type("Nameless", (Names,), {"kind": ""})([]), "no name in files"),
    ],
)
def test_what_no_file_can_hold_is_said(tmp_path, value, said):
    one = Network([Dense(1)], (2,))
    one.attachments["it"] = value
    with pytest.raises(XpnnError, match=said):
        one.save(tmp_path / "n.safetensors")
    assert not (tmp_path / "n.safetensors").exists()


FORGED = {
    "no JSON": "{",
    "a list": "[]",
    "no field": '{"a": 1}',
    "unknown": '{"a": {"kind": "elsewhere.Thing", "content": 1}}',
    "a kind that is a list": '{"a": {"kind": [], "content": 1}}',
    "long": " " * (MAX_TEXT + 1),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_texts_are_refused(case):
    with pytest.raises(FileError):
        read_attachments(FORGED[case])


def changes(plain):
    """Copies of a nesting, each with something else in one place."""
    for key in plain if isinstance(plain, dict) else range(len(plain)):
        for value in (None, -1, 1e400, "x", [], {}, [["x"]], True, 10**400):
            if value != plain[key]:
                other = copy.deepcopy(plain)
                other[key] = value
                yield other
        if isinstance(plain, dict):
            yield {name: one for name, one in plain.items() if name != key}
        if isinstance(plain[key], dict | list):
            for inside in changes(plain[key]):
                other = copy.deepcopy(plain)
                other[key] = inside
                yield other


def test_forged_columns_are_refused_or_work():
    """Whatever one changes, what is read can be asked, or it is a FileError."""
    refused = 0
    for plain in changes(columns().as_plain()):
        text = json.dumps({"c": {"kind": "Columns", "content": plain}})
        try:
            found = read_attachments(text)["c"]
        except FileError:
            refused += 1
            continue
        assert attachments_text({"c": found})
        try:
            found.transform(TABLE)
            if found.target is not None:
                found.targets(TABLE)
        except XpnnError:
            continue
    assert refused > 200
