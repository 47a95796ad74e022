"""A network in a folder: weights, description and card."""

import json

import numpy as np
import pytest

import xpnn
from xpnn import Dense, Dropout, Input, Network, ReLU
from xpnn.errors import FileError, XpnnError
from xpnn.saving import save_folder

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def network():
    return Network([Dense(4), ReLU(), Dropout(0.5), Dense(2)], (3,), seed=1)


def test_a_folder_comes_back(backend, tmp_path):
    before = Network([Dense(4), ReLU(), Dense(2)], (3,), backend, seed=1)
    save_folder(before, tmp_path / "model")
    after = xpnn.load(tmp_path / "model", backend)
    assert repr(after.layers) == repr(before.layers)
    np.testing.assert_array_equal(*(backend.to_numpy(one.predict(X)) for one in (before, after)))


def test_the_card_says_what_was_measured(tmp_path):
    save_folder(
        network(),
        tmp_path / "digits: small",
        text="Tells *two* kinds apart.",
        metrics={"accuracy": 0.98765, "loss": float("nan")},
        license="mit",
    )
    card = (tmp_path / "digits: small" / "README.md").read_text()
    yaml = pytest.importorskip("yaml", reason="the header of the card is read by PyYAML")
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {"library_name": "xpnn", "tags": ["xpnn"], "license": "mit"}
    assert "# digits: small\n\nTells *two* kinds apart.\n" in body
    assert "| accuracy | 0.9877 |\n| loss | nan |\n" in body
    assert str(network().summary()) in body
    config = json.loads((tmp_path / "digits: small" / "config.json").read_text())
    assert [one["kind"] for one in config["network"]["layers"]] == [
        *("Dense", "ReLU", "Dropout", "Dense"),
    ]


def test_a_card_that_is_there_stays_and_all_else_is_replaced(tmp_path):
    save_folder(network(), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    x = Input((3,))
    save_folder(Network(inputs=x, outputs=Dense(1)(x)), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert xpnn.load(tmp_path).predict(X).shape == (4, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json describes other layers than model\.safetensors"),
        (b"{}", r"config\.json does not describe a network"),
        (b"[" * 10**6, r"config\.json does not describe a network"),
        (b"\xff", r"config\.json does not describe a network"),
    ],
)
def test_a_description_of_something_else_is_refused(content, message, tmp_path):
    save_folder(network(), tmp_path / "one")
    save_folder(Network([Dense(9)], (3,)), tmp_path / "other")
    changed = tmp_path / "one" / "config.json"
    changed.write_bytes(content or (tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(FileError, match=message):
        xpnn.load(tmp_path / "one")
    xpnn.load(tmp_path / "one" / "model.safetensors")


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    class Own(xpnn.Layer):
        def forward(self, Z, training=False):  # noqa: N803 - the guide's name
            return Z

    with pytest.raises(XpnnError, match="has no name in files"):
        save_folder(Network([Own()], (3,)), tmp_path / "own")
    assert not (tmp_path / "own").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"wanted a folder, but .* is something else"):
        save_folder(network(), tmp_path / "file")
    with pytest.raises(FileError, match="is a folder; give the path of a file"):
        xpnn.load(tmp_path)
