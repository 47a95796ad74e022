"""Equations of docstrings: none is lost, both ways are told apart, and all are set in type."""

import inspect
import re
from types import FunctionType
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn import layers, losses
from xpnn.layers import BASES
from xpnn.xray.equations import equations_of, statements_in
from xpnn.xray.mathml import GREEK, as_mathml

pytestmark = pytest.mark.host_only

MINUS, PRIME, TRANSPOSED = "\N{MINUS SIGN}", "\N{PRIME}", "\N{DOWN TACK}"
NO_BACKWARD = {layers.PaddingMask}
"""Layers that hand nothing back."""

LAYERS = [
    one
    for one in (getattr(layers, name) for name in layers.__all__)
    if isinstance(one, type) and issubclass(one, xpnn.Layer) and one not in BASES
]
LOSSES = [
    one
    for one in (getattr(losses, name) for name in losses.__all__)
    if isinstance(one, FunctionType) and hasattr(one, "outputs")
]
each = pytest.mark.parametrize("made", [*LAYERS, *LOSSES], ids=lambda one: one.__name__)


def test_there_are_many():
    assert len(LAYERS) > 70
    assert len(LOSSES) > 15


@each
def test_there_are_equations_for_both_ways(made):
    forward, backward = equations_of(made)
    assert forward
    assert backward or made in NO_BACKWARD
    for line in forward:
        assert not re.search(r"\bdelta\b|d[Ll]\w*/d", line)
    assert any(" = " in line or "<-" in line for line in forward)
    assert made in NO_BACKWARD or any(re.search(r"d[Ll]\w*/d|delta", line) for line in backward)


@each
def test_no_equation_is_lost(made):
    """All that is indented in front of the sections, or inline code with a sign, is in a line."""
    lines = [one.text for one in statements_in(made.__doc__ or "")]
    kept = ["".join(line.split()) for line in lines]
    sections = re.compile(r"^(?:Args|Attributes|Parameters|Raises|Returns):|^>>>", re.M)
    head = sections.split(inspect.cleandoc(made.__doc__ or ""))
    code = [one for one in re.findall(r"``([^`]+)``", head[0]) if re.search(r" (=|<-) ", one)]
    blocks = [line for line in head[0].splitlines() if line.startswith("    ")]
    parts = [part for line in blocks for part in re.split(r" {4,}", line.replace("``", ""))]
    for part in [*code, *parts]:
        bare = "".join(part.split())
        assert any(bare in line for line in kept), part


@each
def test_each_line_is_mathml_in_which_all_symbols_are(made):
    for line in (one for lines in equations_of(made) for one in lines):
        root = ElementTree.fromstring(as_mathml(line))
        assert root.tag == "{http://www.w3.org/1998/Math/MathML}math"
        assert [*root.iter("{http://www.w3.org/1998/Math/MathML}merror")] == []
        assert len(root) > 1 or not root[0].tag.endswith("mtext"), f"not read: {line}"
        content = "".join(root.itertext())
        signs = {"sum": "∑", "T": TRANSPOSED if "^T" in line else "T", **GREEK}
        for name in re.findall(r"(?<!dL/)(?<!dl/)[A-Za-z]+|\d+", line):
            shown = signs.get(name, name)
            is_sign = name in ("sqrt", "floor", "ceil", "of", "sum")
            if not is_sign and shown not in content:
                assert all(letter in content for letter in name.removeprefix("d")), (name, line)


def test_equations_of_a_dense_layer():
    assert equations_of(xpnn.Dense) == (
        ("S = Z W + b", "W (inputs, units)   b (units,)   S (..., units)"),
        (
            "dL/dW = Z^T delta",
            "dL/db = sum of delta over the batch",
            "dL/dZ = delta W^T   (returned: the delta of the layer before)",
        ),
    )


def test_a_line_goes_on_below():
    assert equations_of(xpnn.Conv2D)[1][-1] == (
        "dL/dZ[n, u, v] = sum of delta[n, r, c] W[i, j]^T "
        "over all r, c, i, j with r s + i d - p = u and c s + j d - p = v"
    )


def test_what_stands_side_by_side_is_told_apart():
    forward, backward = equations_of(xpnn.BatchNorm)
    assert forward == (
        "r = 1 / sqrt(v + epsilon)",
        "X = (Z - m) r",
        "S = X scale + shift",
        "running_mean <- running_mean + momentum (m - running_mean)",
        "running_variance <- running_variance + momentum (v n / (n - 1) - running_variance)",
    )
    assert backward[-1] == "dL/dshift = sum of delta   (over all but the last axis)"  # of its base


class Scale(xpnn.Layer):
    """Each feature times a factor of its own.

    Forward, for inputs Z of shape (batch, features)::

        S = Z a                     a (features,)

    Backward, given delta = dL/dS::

        dL/da = sum of Z delta over the batch          dL/dZ = delta a
    """


class Silent(xpnn.Layer):
    pass


class Broken(xpnn.Layer):
    """Says ``S = Z @ W`` with a sign that is none of those that are read."""


def test_blanks_at_the_ends_of_lines_do_not_matter():
    block = (
        "Forward::\n{0}\n    S = Z a{0}\n{0}\n    T = S b\n{0}\nBackward::\n\n    dL/dZ = delta a"
    )
    for blanks in ("  ", "    ", "      "):
        assert statements_in(block.format(blanks)) == statements_in(block.format("")), blanks
    assert len(statements_in(block.format("    "))) == 3


def test_layers_of_ones_own():
    assert equations_of(Scale) == (
        ("S = Z a", "a (features,)"),
        ("dL/da = sum of Z delta over the batch", "dL/dZ = delta a"),
    )
    assert equations_of(Silent) == ((), ())
    assert equations_of(Broken) == (("S = Z @ W",), ())
    assert as_mathml("S = Z @ W < b").endswith(
        "<mtext>S\xa0=\xa0Z\xa0@\xa0W\xa0&lt;\xa0b</mtext></math>"
    )


def i(name):
    return f"<mi>{name}</mi>"


def o(sign):
    return f"<mo>{sign}</mo>"


SPACE = '<mspace width="0.2em"/>'
L_BY_W = f"<mfrac><mrow>{o('∂')}{i('L')}</mrow><mrow>{o('∂')}{i('W')}</mrow></mfrac>"


@pytest.mark.parametrize(
    ("line", "inside"),
    [
        ("S = Z W + b", f"{i('S')}{o('=')}{i('Z')}{SPACE}{i('W')}{o('+')}{i('b')}"),
        (
            "dL/dW = Z^T delta",
            f"{L_BY_W}{o('=')}<msup>{i('Z')}{i(TRANSPOSED)}</msup>{SPACE}{i('δ')}",
        ),
        (
            "1 / (1 + exp(-S))",
            f"<mfrac><mn>1</mn><mrow><mn>1</mn>{o('+')}{i('exp')}"
            f"<mrow>{o('(')}{o(MINUS)}{i('S')}{o(')')}</mrow></mrow></mfrac>",
        ),
        (
            "a b / c d",
            f"<mfrac><mrow>{i('a')}{SPACE}{i('b')}</mrow>{i('c')}</mfrac>{SPACE}{i('d')}",
        ),
        (
            "(a) (b) / 2",
            f"<mfrac><mrow><mrow>{o('(')}{i('a')}{o(')')}</mrow>{SPACE}"
            f"<mrow>{o('(')}{i('b')}{o(')')}</mrow></mrow><mn>2</mn></mfrac>",
        ),
        ("h_(t-1)", f"<msub>{i('h')}<mrow>{i('t')}{o(MINUS)}<mn>1</mn></mrow></msub>"),
        (
            "sum_ij S_ij",
            f"<mrow><munder>{o('∑')}<mrow>{i('i')}{i('j')}</mrow></munder>"
            f"<msub>{i('S')}<mrow>{i('i')}{i('j')}</mrow></msub></mrow>",
        ),
        ("sqrt 2", "<msqrt><mn>2</mn></msqrt>"),
        ("Z[n, t]", f"<msub>{i('Z')}<mrow>{i('n')}{o(',')}{i('t')}</mrow></msub>"),
        ("f_1'", f"<msup><msub>{i('f')}<mn>1</mn></msub>{o(PRIME)}</msup>"),
        ("W (a, b)", f"{i('W')}<mtext>\xa0(a,\xa0b)</mtext>"),
        ("running_mean", i("running_mean")),
    ],
)
def test_mathematical_type(line, inside):
    assert as_mathml(line) == (
        f'<math xmlns="http://www.w3.org/1998/Math/MathML" displaystyle="true">{inside}</math>'
    )


def test_losses_that_come_and_go_are_not_kept():
    """A closure may hold a data set."""

    def made(scale):
        return lambda predictions, targets, weight=None: scale

    for scale in range(1000):
        equations_of(made(scale))
    assert equations_of.cache_info().currsize <= 256


# Whatever a docstring says ------------------------------------------------------------------------


SIGNS = "()[]|^_/*.,:;=<>+-' \"&@\x00\t\ud800"
NAMES = (
    "Z",
    "sum",
    "sum_ij",
    "sqrt",
    "exp",
    "max",
    "dL/d",
    "delta",
    "of",
    "the",
    "T",
    "0.5",
    "...",
    "<-",
)


def is_text(math):
    return [one.tag.rpartition("}")[2] for one in math] == ["mtext"]


@given(st.lists(st.sampled_from([*SIGNS, *NAMES]) | st.text(max_size=3), max_size=40))
def test_any_line_is_well_formed_mathml_of_few_levels(parts):
    root = ElementTree.fromstring(as_mathml("".join(parts)))
    assert {one.tag.partition("}")[0] for one in root.iter()} == {
        "{http://www.w3.org/1998/Math/MathML"
    }
    levels, row = 0, [root]
    while row:
        levels, row = levels + 1, [inner for one in row for inner in one]
    assert levels < 100


@pytest.mark.parametrize("count", [1, 5, 1000, 10_000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        *[
            ("(", ")"),
            ("[", "]"),
            ("|(", ")|"),
            ("sqrt(", ")"),
            ("a_(", ")"),
            ("a^(", ")"),
            ("a[", "]"),
        ],
        *[
            ("sqrt ", ""),
            ("exp ", ""),
            ("sum ", ""),
            ("a / ", ""),
            ("", "[i]"),
            ("", "^2"),
            ("(", ""),
        ],
    ],
)
def test_what_is_nested_deeply_stays_text(opening, closing, count):
    root = ElementTree.fromstring(as_mathml(opening * count + "Z" + closing * count))
    is_whole = count <= 5 and (opening, closing) != ("(", "")
    assert is_text(root) is not is_whole


def test_what_stands_side_by_side_is_not_nested():
    line = " + ".join(["(a (b c) / d)^2 f(g)"] * 200)
    assert not is_text(ElementTree.fromstring(as_mathml(line)))
