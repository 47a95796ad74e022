"""Pictures of networks: every layer and line is there, nothing overlaps, and files are whole."""

import itertools
from xml.etree import ElementTree

import pytest

from xpnn import (
    Add,
    Concatenate,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Graph,
    Input,
    MaxPool2D,
    Network,
    ReLU,
    Sequential,
    Tanh,
    UpSampling,
)
from xpnn.drawing import boxes_of, lay_out

pytestmark = pytest.mark.host_only

SVG = "{http://www.w3.org/2000/svg}"


def drawn(network, folder):
    """Lines of text by the name of each box, what holds it, and the lines between as pairs."""
    network.draw(folder / "network.svg")
    root = ElementTree.parse(folder / "network.svg").getroot()
    boxes = {}
    for group in root.iter(f"{SVG}g"):
        name, *rest = (text.text for text in group.iter(f"{SVG}text"))
        rect = {key: float(group.find(f"{SVG}rect").get(key)) for key in ("x", "y")}
        size = [float(group.find(f"{SVG}rect").get(key)) for key in ("width", "height")]
        boxes[name] = group.get("class"), rest, (*rect.values(), *size)
    lines = [tuple(path.find(f"{SVG}title").text.split(" to ")) for path in root.iter(f"{SVG}path")]
    width, height = float(root.get("width")), float(root.get("height"))
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations([b[2] for b in boxes.values()], 2):
        assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y
    assert all(
        x > 0 and y > 0 and x + w < width and y + h < height for *_, (x, y, w, h) in boxes.values()
    )
    return boxes, lines


def test_a_chain(tmp_path):
    network = Network([Dense(8), Sequential([Dense(8), ReLU()]), Dense(3)], (5,))
    boxes, lines = drawn(network, tmp_path)
    assert {name: (kind, rest) for name, (kind, rest, _) in boxes.items()} == {
        "x": ("input", ["(5,)"]),
        "0.dense": ("layer", ["Dense(8)", "(8,)"]),
        "1.sequential": ("layer", ["Sequential([Dense(8), ReLU()])", "(8,)"]),
        "2.dense": ("layer", ["Dense(3)", "(3,)"]),
        "output_0": ("output", ["(3,)"]),
    }
    assert lines == list(itertools.pairwise(boxes))


def test_a_graph(tmp_path):
    price, words = Input((3,), name="price"), Input((2,), takes="integers", name="words")
    shared = Dense(4)
    once = shared(Concatenate()(price, Flatten()(Embedding(7, 2)(words))))
    inner = Input((4,))
    both = Graph.of(inner, [Tanh()(inner), ReLU()(inner)])
    first, second = both(Dense(4)(once))
    outputs = {"sum": Add()(first, second, once), "other": Dense(1)(second)}
    boxes, lines = drawn(Network(inputs=[price, words], outputs=outputs), tmp_path)
    assert boxes["words"][:2] == ("input", ["(2,) integers"])
    assert boxes["5.graph"][1][1] == "((4,), (4,))"
    assert sorted(lines) == [
        ("0.embedding", "1.flatten"),
        ("1.flatten", "2.concatenate"),
        ("2.concatenate", "3.dense"),
        ("3.dense", "4.dense"),
        ("3.dense", "6.add"),
        ("4.dense", "5.graph"),
        ("5.graph", "6.add"),
        ("5.graph", "7.dense"),
        ("6.add", "sum"),
        ("7.dense", "other"),
        ("price", "2.concatenate"),
        ("words", "0.embedding"),
    ]


def test_calls_of_one_layer_have_boxes_of_their_own(tmp_path):
    x, dense = Input((4,)), Dense(4)
    boxes, lines = drawn(Network(inputs=x, outputs=dense(Tanh()(dense(x)))), tmp_path)
    assert lines[-2:] == [("1.tanh", "0.dense, call 2"), ("0.dense, call 2", "output_0")]
    assert "0.dense, call 1" in boxes


def u_net():
    at, skips = Input((16, 16, 1)), []
    start = at
    for channels in (2, 4):
        skips.append(ReLU()(Conv2D(channels, 3, padding="same")(at)))
        at = MaxPool2D(2)(skips[-1])
    for skip in reversed(skips):
        at = Conv2D(2, 3, padding="same")(Concatenate()(UpSampling(2)(at), skip))
    return Network(inputs=start, outputs=at)


def test_skips_pass_beside_the_boxes(tmp_path):
    """Neither a crossing, nor a passage inside of a box."""
    drawn(u_net(), tmp_path)
    boxes = list(boxes_of(u_net()))
    lines = lay_out(boxes)
    passages = [passage for line in lines for passage in line.passages]
    assert len(passages) == 10
    for passage, box in itertools.product(passages, boxes):
        assert passage.row != box.row or abs(passage.x - box.x) > box.width / 2
    ways = [
        (one, other)
        for line in lines
        for one, other in itertools.pairwise([line.source, *line.passages, line.box])
    ]
    for (a, b), (c, d) in itertools.combinations(ways, 2):
        assert a.row != c.row or (a.x - c.x) * (b.x - d.x) >= 0


def test_lines_cross_no_more_than_they_must(tmp_path):
    """Two inputs that are written in the other order than what reads them."""
    one, two = Input((2,), name="one"), Input((2,), name="two")
    outputs = [Dense(1)(two), Dense(1)(two), Dense(1)(one), Dense(1)(one)]
    boxes, _ = drawn(Network(inputs=[one, two], outputs=outputs), tmp_path)
    left = {name: place[0] for name, (_, _, place) in boxes.items()}
    assert (left["one"] < left["two"]) == (left["2.dense"] < left["0.dense"])
    assert (left["one"] < left["two"]) == (left["3.dense"] < left["1.dense"])


def test_names_are_escaped_and_long_ones_cut(tmp_path):
    name = "<&\x00" + "l" * 100
    x = Input((2,), name=name)
    boxes, _ = drawn(Network(inputs=x, outputs=Dense(1)(x)), tmp_path)
    first, *_ = boxes
    assert first == "<&\ufffd" + "l" * 36 + "\u2026"
    assert "l" * 100 in (tmp_path / "network.svg").read_text()


def test_a_long_chain_is_as_many_boxes_at_full_size(tmp_path):
    boxes, lines = drawn(Network([Dense(2) for _ in range(60)], (2,)), tmp_path)
    assert (len(boxes), len(lines)) == (62, 61)
    assert {place[3] for kind, _, place in boxes.values() if kind == "layer"} == {63.0}


def test_only_an_svg_is_written(tmp_path):
    network = Network([], (3,))
    with pytest.raises(
        ValueError, match=r"wanted a file for an SVG picture, got .*net\.png.*\.svg"
    ):
        network.draw(tmp_path / "net.png")
    (tmp_path / "net.svg").write_text("old")
    network.draw(tmp_path / "net.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["net.svg"]
    assert ElementTree.parse(tmp_path / "net.svg").getroot().tag == f"{SVG}svg"
