"""The page of an explanation is one file that holds all of it, and lets nothing else in."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from xpnn import GRU, LSTM, Dense, Network, ReLU, explain
from xpnn.xray.health import health
from xpnn.xray.page import SCRIPTS, as_json, page

pytestmark = pytest.mark.host_only


@pytest.fixture(scope="module")
def seen():
    net = Network([Dense(4), ReLU(), Dense(2)], (3,), seed=0)
    x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    return explain(net, x, np.asarray([0, 1, 0, 1, 1]), "cross_entropy")


class Parts(HTMLParser):
    """The tags of a page with their attributes, and the texts of its elements by tag and id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._now = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._now = (tag, dict(attributes).get("id"))

    def handle_data(self, data):
        self.texts[self._now] = self.texts.get(self._now, "") + data

    def handle_endtag(self, tag):
        self._now = None


def test_it_holds_the_numbers_of_each_array(seen):
    held = json.loads(Parts(page(seen.data())).texts["script", "xray"])
    for name, view in seen.steps[0].layers.items():
        data = held["steps"][0]["layers"][name]
        pairs = [
            (data["inputs"][0], view.inputs[0]),
            (data["output"], view.output),
            (data["delta"], view.delta),
            *((data["grads"][key], one) for key, one in view.grads.items()),
            *((data["updates"][key], one) for key, one in view.updates.items()),
        ]
        for one, array in pairs:
            found = np.frombuffer(base64.b64decode(held["numbers"][one["data"]]), "<f4")
            np.testing.assert_array_equal(found.reshape(one["shown"]), array)


def test_arrays_of_the_same_numbers_are_held_once(seen):
    held = json.loads(as_json(seen.data()))
    layers = held["steps"][0]["layers"]
    assert layers["0.dense"]["output"]["data"] == layers["1.relu"]["inputs"][0]["data"]
    assert len(held["numbers"]) == len({*held["numbers"]})


def test_nothing_is_loaded_from_elsewhere(seen):
    parts = Parts(page(seen.data()))
    for tag, attributes in parts.tags:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert not {"src", "href", "style"} & attributes.keys(), (tag, attributes)
    policy = next(one["content"] for _, one in parts.tags if "http-equiv" in one)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    for tag in ("style", "script"):
        digest = hashlib.sha256(parts.texts[tag, None].encode()).digest()
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert "eval(" not in parts.texts["script", None]
    assert "innerHTML" not in parts.texts["script", None]


def test_names_are_no_markup(seen):
    hostile = "</script><img src=x onerror=alert(1)><!--<script>"
    data = json.loads(json.dumps(seen.data()).replace("1.relu", hostile)) | {"title": hostile}
    parts = Parts(page(data))
    assert [tag for tag, _ in parts.tags if tag == "img"] == []
    held = json.loads(parts.texts["script", "xray"])
    assert held["layers"][1]["name"] == hostile
    assert parts.texts["h1", "title"] == hostile


def test_every_script_is_part_of_the_page_and_all_of_it_is_small():
    assets = {one.name: one.read_bytes() for one in files("xpnn.xray").joinpath("assets").iterdir()}
    assert {*assets} == {"page.html", "page.css", *(f"{name}.js" for name in SCRIPTS)}
    assert sum(map(len, assets.values())) < 81_000


def test_the_file_is_written_whole(seen, tmp_path):
    seen.to_html(tmp_path / "folder" / "page.html")
    assert (tmp_path / "folder" / "page.html").read_text("utf8") == page(seen.data())
    with pytest.raises(ValueError, match=r"wanted a file for a page, got 'page.png'"):
        seen.to_html("page.png")


def test_a_notebook_shows_the_same_page(seen):
    ((tag, attributes),) = Parts(seen._repr_html_()).tags
    assert tag == "iframe"
    assert attributes["srcdoc"] == page(seen.data())
    assert attributes["title"]


def test_a_page_that_follows_asks_only_who_serves_it():
    parts = Parts(page({}, source="data.json"))
    assert ("html", {"lang": "en", "data-source": "data.json"}) in parts.tags
    policy = next(one["content"] for _, one in parts.tags if "http-equiv" in one)
    assert re.findall(r"connect-src ([^;]*)", policy) == ["'self'"]


# Health -------------------------------------------------------------------------------------------


def test_a_unit_is_dead_that_is_0_for_the_whole_batch():
    output = np.ones((4, 5, 5, 3), np.float32)
    output[..., 1] = 0
    output[0, ..., 2] = 0
    assert health(output, "ReLU") == {"dead": 1, "units": 3, "saturated": None, "gates": {}}


@pytest.mark.parametrize(
    ("kind", "values", "share"),
    [
        ("Sigmoid", [0.5, 0.0099, 0.9901, 0.989], 0.5),
        ("Tanh", [0.0, -0.9801, 0.9801, 0.97], 0.5),
        ("ReLU", [0.5, 1.0, 2.0, 3.0], None),
    ],
)
def test_outputs_near_their_ends_are_saturated(kind, values, share):
    assert health(np.asarray([values], np.float32), kind)["saturated"] == share


def test_of_softmax_a_sample_is_saturated_that_is_sure():
    output = np.asarray([[0.995, 0.003, 0.002], [0.6, 0.4, 0.0]], np.float32)
    assert health(output, "Softmax")["saturated"] == 0.5


def test_ids_have_no_health():
    nothing = {"dead": None, "units": None, "saturated": None, "gates": {}}
    assert health(np.zeros((3, 4), np.int64), "Layer") == nothing
    assert health((), "Layer") == nothing


def test_a_layer_that_ends_in_an_activation_has_its_ends():
    net = Network([Dense(2, activation="sigmoid")], (1,))
    net.load({"0.dense.weight": [[100.0, 0.0]], "0.dense.bias": [0.0, 0.0]})
    layers = explain(net, [[1.0]], [[0.0, 0.0]], "mse").data()["steps"][0]["layers"]
    assert layers["0.dense"]["health"] == layers["0.dense.activation"]["health"]
    assert layers["0.dense"]["health"]["saturated"] == 0.5


@pytest.mark.parametrize(
    ("layer", "gates"),
    [(LSTM(2), {"i": 1.0, "f": 0.5, "g": 0.5, "o": 0.0}), (GRU(2), {"r": 1.0, "z": 0.5, "n": 0.5})],
    ids=repr,
)
def test_gates_are_told_one_by_one(layer, gates):
    """Of the two units the first has a bias that drives the gate to an end, by the list above."""
    net = Network([layer], (3, 1))
    bias = [way for share in gates.values() for way in (9.0 * (share > 0), 9.0 * (share > 0.5))]
    values = {name: np.zeros_like(one) for name, one in net.numpy_arrays().items()}
    net.load(values | {"0." + type(layer).__name__.lower() + ".bias": bias})
    seen = explain(net, np.zeros((4, 3, 1)), np.zeros((4, 2)), "mse")
    (layer_data,) = seen.data()["steps"][0]["layers"].values()
    assert layer_data["health"]["gates"] == gates
    told = ", ".join(f"{100 * share:.3g} % of {name}" for name, share in gates.items())
    assert f"saturated: {told}" in str(seen)
