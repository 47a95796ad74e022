"""The picture of a step is SVG with each layer's numbers in it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from xpnn import SGD, Conv2D, Dense, Flatten, Identity, Input, Network, Residual, explain
from xpnn.layers import Concatenate

pytestmark = pytest.mark.host_only

SVG = "{http://www.w3.org/2000/svg}"


def nand():
    net = Network([Dense(2, activation="sigmoid"), Dense(1, activation="sigmoid")], (2,), seed=1)
    x = np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    return explain(net, x, np.asarray([[1], [1], [1], [0]], np.float32), "mse", SGD(0.5))


def drawn(seen, tmp_path, **options):
    """The boxes of a picture by name: their lines of text, and their numbers."""
    seen.to_svg(tmp_path / "picture.svg", **options)
    root = ElementTree.parse(tmp_path / "picture.svg").getroot()
    boxes = {}
    for group in root.findall(f"{SVG}g"):
        lines = [one.text for one in group.findall(f"{SVG}text")]
        maps = group.findall(f"{SVG}g/{SVG}g")
        boxes[lines[0]] = lines, [[one.text for one in part.findall(f"{SVG}text")] for part in maps]
    return boxes


def test_small_arrays_have_their_numbers_in_their_cells(tmp_path):
    seen = nand()
    boxes = drawn(seen, tmp_path)
    assert [*boxes] == ["x", "0.dense", "1.dense", f"loss {seen.steps[0].loss:.3g}, step 1"]
    for name, view in seen.steps[0].layers.items():
        if name not in boxes:
            continue
        for (label, *numbers), array in zip(boxes[name][1], (view.output, view.delta), strict=True):
            assert label.endswith("x".join(map(str, array.shape)))
            np.testing.assert_allclose([*map(float, numbers)], array.ravel(), rtol=5e-3)


def test_blue_is_below_0_and_orange_above(tmp_path):
    seen = nand()
    seen.to_svg(tmp_path / "picture.svg")
    deltas = seen.steps[0].layers["1.dense"].delta.ravel()
    box = (tmp_path / "picture.svg").read_text("utf8").partition("<title>1.dense: ")[2]
    cells = box.partition(">delta 4x1</text>")[2].partition("</g>")[0]
    painted = re.findall(r'fill:#(..)..(..);stroke:none" d="([^"]*)"', cells)
    rows = {
        float(y): int(red, 16) < int(blue, 16)
        for red, blue, path in painted
        for y in re.findall(r"M\S+ ([\d.]+)h", path)
    }
    assert [rows[y] for y in sorted(rows)] == [*(deltas < 0)]


def test_norms_and_the_size_of_the_update_are_told(tmp_path):
    seen = nand()
    view = seen.steps[0].layers["1.dense"]
    lines = drawn(seen, tmp_path)["1.dense"][0]
    grad = np.sqrt(sum(np.sum(one**2) for one in view.grads.values()))
    weight = np.sqrt(sum(np.sum(one**2) for one in view.params.values()))
    assert lines[2:] == [f"|dL/dW| {grad:.3g}", f"update / weight {0.5 * grad / weight:.3g}"]


def test_images_are_drawn_as_channels_and_nan_has_a_colour_of_its_own(tmp_path):
    net = Network([Conv2D(3, 3), Flatten(), Dense(2)], (9, 9, 1), seed=0)
    x = np.ones((2, 9, 9, 1), np.float32)
    x[0, 8, 8] = np.nan
    drawn(explain(net, x, np.asarray([0, 1]), "cross_entropy"), tmp_path)
    text = (tmp_path / "picture.svg").read_text("utf8")
    box = text.partition("<title>0.conv2d: ")[2]
    cells = re.findall(r'fill:#c8008c;stroke:none" d="([^"]*)"', box)[0]
    assert cells.count("M") == 3  # the last place of each channel


def test_lines_go_where_values_go(tmp_path):
    left, right = Input((2,), name="left"), Input((2,), name="right")
    net = Network(inputs=[left, right], outputs=Dense(1)(Concatenate()([left, right])))
    ones = np.ones((2, 2), np.float32)
    explain(net, (ones, ones), np.ones((2, 1)), "mse").to_svg(tmp_path / "graph.svg")
    text = (tmp_path / "graph.svg").read_text("utf8")
    ways = re.findall(r"<title>(\S+) to ([^<]+)</title>", text)
    assert [*ways[:3]] == [
        ("left", "0.concatenate"),
        ("right", "0.concatenate"),
        ("0.concatenate", "1.dense"),
    ]


def test_what_is_inside_of_a_layer_is_drawn_alone(tmp_path):
    net = Network([Residual([Dense(2), Dense(2)])], (2,))
    seen = explain(net, np.ones((2, 2), np.float32), np.ones((2, 2)), "mse")
    assert [*drawn(seen, tmp_path, inside="0.residual.body")] == ["0.dense", "1.dense"]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("a.png", {}, r"wanted a file for a picture, got 'a.png'; let its name end in .svg"),
        ("a.svg", {"step": 1}, r"wanted a step from 0 to 0, got 1"),
        ("a.svg", {"inside": "2.dense"}, r"got inside='2.dense'; choose from 0.dense, 1.dense"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name, options, told):
    with pytest.raises(ValueError, match=told):
        nand().to_svg(name, **options)


def test_an_input_may_have_the_name_of_a_layer(tmp_path):
    first, second = Input((3,), name="1.dense"), Input((3,), name="input 1.dense")
    both = Concatenate()([Dense(2)(first), Dense(2)(second)])
    net = Network(inputs=[first, second], outputs=both, seed=0)
    x = np.ones((2, 3), np.float32)
    seen = explain(net, (x, x), np.zeros((2, 4)), "mse")
    assert seen.inputs == ("input 1.dense", "input input 1.dense")
    feeds = {one.name: one.feeds_from for one in seen.layers}
    assert feeds == {
        "0.dense": ("input 1.dense",),
        "1.dense": ("input input 1.dense",),
        "2.concatenate": ("0.dense", "1.dense"),
    }
    boxes = drawn(seen, tmp_path)
    assert {*seen.inputs, *feeds} < {*boxes}


def test_a_network_without_layers_is_its_input_and_the_loss(tmp_path):
    seen = explain(Network([], (2,)), [[1.0, 2.0]], [[1.0, 2.0]], "mse")
    assert [*drawn(seen, tmp_path)] == ["x", "loss 0, step 1"]
    assert seen.title == "no layers"
    seen.to_html(tmp_path / "page.html")


def test_long_names_are_shortened_and_told_where_the_mouse_rests(tmp_path):
    made = type("L" + "o" * 200 + "ng", (Identity,), {})
    x = Input((2,), name="n" * 200)
    net = Network(inputs=x, outputs=made()(x))
    seen = explain(net, [[1.0, 2.0]], [[1.0, 2.0]], "mse")
    boxes = drawn(seen, tmp_path)
    assert max(len(line) for lines, _ in boxes.values() for line in lines) == 40
    text = (tmp_path / "picture.svg").read_text("utf8")
    assert f"<title>input {x.name}</title>" in text
    assert f"<title>{seen.layers[0].name}: " in text


def test_numbers_whose_squares_overflow_are_drawn(tmp_path):
    net = Network([Dense(2)], (2,), dtype="float64")
    with np.errstate(over="ignore", invalid="ignore"):
        seen = explain(net, np.full((1, 2), 1e300), [[0.0, 0.0]], "mse")
    assert "|dL/dW| inf" in drawn(seen, tmp_path)["0.dense"][0]


@pytest.mark.parametrize("step", ["last", 0.5, None])
def test_a_step_is_a_whole_number(tmp_path, step):
    with pytest.raises((TypeError, ValueError), match="step"):
        nand().to_svg(tmp_path / "picture.svg", step=step)
