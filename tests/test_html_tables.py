"""What notebooks show of networks and summaries: whole, escaped, of no colours of its own."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from xpnn import BatchNorm, Dense, Input, Network, ReLU, Residual
from xpnn.html_tables import MOST_POINTS, curve, table

pytestmark = pytest.mark.host_only


def cells(text):
    """The texts in the rows of the table, the headings first."""
    return [
        ["".join(cell.itertext()) for cell in row]
        for row in ElementTree.fromstring(text).iter("tr")
    ]


def chain():
    net = Network([Dense(8), Residual([Dense(8), ReLU()]), BatchNorm(), Dense(2)], (4,))
    net.freeze("0.*")
    return net


def graph():
    x = Input((4,), name="size")
    return Network(inputs=x, outputs={"price": Dense(2)(ReLU()(Dense(3)(x)))})


def test_a_network_shows_what_its_summary_prints():
    net = chain()
    headings, *rows = cells(net._repr_html_())
    assert headings == ["layer", "output shape", "parameters", "multiply-adds"]
    printed = str(net.summary()).splitlines()[2 : 2 + len(rows)]
    for row, line in zip(rows, printed, strict=True):
        assert " ".join(row).split() == line.split()
    assert "numpy, float32: (4,) to (2,)" in net._repr_html_()
    assert "parameters: 146, of which 106 are trained" in net._repr_html_()


def test_a_summary_has_its_totals_below():
    summary = chain().summary(batch=32)
    text = "".join(ElementTree.fromstring(summary._repr_html_()).itertext())
    for line in str(summary).splitlines():
        if "memory" in line or "peak" in line:
            assert line.split()[-1] in text
    assert "peak of forward and backward: " in text
    assert cells(summary._repr_html_())[1:] == cells(chain()._repr_html_())[1:]


def test_a_graph_says_who_feeds_whom():
    found = cells(graph()._repr_html_())
    assert found[0] == ["layer", "output shape", "reads", "parameters", "multiply-adds"]
    assert found[2][2] == found[1][0] == "size"
    assert "output price: from 2.dense" in graph()._repr_html_()
    assert cells(graph().summary()._repr_html_()) == found


def test_names_are_text_and_nothing_else():
    summary = graph().summary()
    rows = tuple(replace(row, name="<i>size & weight</i>") for row in summary.rows)
    shown = replace(summary, rows=rows, missing="a < b")._repr_html_()
    assert "&lt;i&gt;size &amp; weight&lt;/i&gt;" in shown
    assert "could be faster: a &lt; b" in shown
    assert "<i>" not in shown
    assert cells(shown)[1][0] == "<i>size & weight</i>"


def test_it_needs_nothing_else_and_no_light_page():
    shown = chain()._repr_html_() + curve([1.0, 2.0], "loss")
    assert not re.findall(r"<script|<link|<style|https?:|src=|url\(|class=|id=", shown)
    colors = {*re.findall(r"(?:color|stroke|fill|background)[:=][\"']?([^;\"']+)", shown)}
    assert colors <= {"inherit", "none", "currentColor"}


def test_nothing_runs_through_the_network(monkeypatch):
    net = chain()

    def refused(*arguments, **options):
        raise AssertionError("it ran")

    for _, layer in net.walk():
        monkeypatch.setitem(vars(layer), "forward", refused)
    assert "residual" in net._repr_html_()


def points(text):
    return [
        np.array([list(map(float, one.split(","))) for one in line.get("points").split()])
        for line in ElementTree.fromstring(text).iter("polyline")
    ]


def test_a_curve_goes_by_its_numbers():
    (found,) = points(curve([3.0, 1.0, 2.0], "x"))
    assert found[:, 1].tolist() == [3.0, 25.0, 14.0]
    assert np.diff(found[:, 0]).tolist() == [77.0, 77.0]


def test_numbers_that_are_not_finite_are_gaps():
    first, second = points(curve([1.0, 2.0, float("nan"), float("inf"), 4.0, 3.0], "x"))
    assert len(first) == len(second) == 2
    assert "nan" not in curve([float("nan")], "x")
    alone = ElementTree.fromstring(curve([1.0], "x"))
    assert [float(dot.get("cy")) for dot in alone.iter("circle")] == [14.0]


def test_a_long_curve_is_thinned_out_to_its_last_number():
    (found,) = points(curve([float(k) for k in range(10_001)], "x"))
    assert len(found) <= MOST_POINTS + 1
    assert found[-1].tolist() == [157.0, 3.0]


def test_a_table_escapes_all_but_markup():
    shown = table("a<b", ["<u>"], [["<&>"]], ["x>y"])
    assert cells(shown) == [["<u>"], ["<&>"]]
    assert shown.count("&lt;") == 3
