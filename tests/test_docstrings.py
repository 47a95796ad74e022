"""Every public thing has its docstring in one form, by its kind; docs/notation.md has its signs.

Layers and losses say their equations, there and back, with shapes; optimizers, schedules, metrics
and starting weights their formula; layers, losses and optimizers the paper that they are from; all
of them each argument, what they return and raise, and an example, which runs as a doctest. A sign
is explained where it stands, or is on that page, as are words of this library and abbreviations;
a name in double backticks is there for who reads it.
"""

import builtins
import inspect
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

import pytest

import xpnn
from docs.hooks.api_tables import PARTS
from tests.docstring_parts import (
    arguments_of,
    not_imported,
    parts_of,
    raised_in,
    says_what_it_is,
    signs_in,
)
from xpnn import errors
from xpnn.layers import BASES as LAYER_BASES
from xpnn.layers.regularization import Constraint, Penalty
from xpnn.optimizers import Clipping

pytestmark = pytest.mark.host_only

PUBLIC = {
    f"{part.module}.{name}": thing
    for folder, part in PARTS.items()
    if folder != "sklearn" or find_spec(folder)
    for name in part.names()
    if inspect.isclass(thing := getattr(import_module(part.module), name))
    or isinstance(thing, FunctionType)
}
BASES = {*LAYER_BASES, Penalty, Constraint, Clipping}
BASES |= {xpnn.Optimizer, xpnn.Schedule, xpnn.Metric, xpnn.Callback, xpnn.Backend}
CLASSES = {
    "layer": xpnn.Layer,
    "optimizer": xpnn.Optimizer,
    "schedule": xpnn.Schedule,
    "metric": xpnn.Metric,
    "limit": (Penalty, Constraint, Clipping),
    "error": (Exception, Warning),
}
SHAPE = re.compile(r"\((?:batch|\.\.\.|\w+,|\*)[^)]*\)|of any shape")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
FORMULA = re.compile(r" (?:[-+/*=^]|<-|>=) |\bsum_")
INLINE = re.compile(r"``([^`]+)``")

FROM_PAPERS = ("layer", "loss", "optimizer", "limit")
FROM_NO_PAPER = {
    "as old as neural networks, or older": """Dense Sigmoid Tanh Identity Conv1D Conv3D
        ConvTranspose1D ConvTranspose2D ConvTranspose3D SeparableConv1D MaxPool1D MaxPool2D
        MaxPool3D AveragePool1D AveragePool2D AveragePool3D GlobalMaxPool RandomFlip RandomShift
        mean_squared_error mean_absolute_error binary_cross_entropy poisson cosine_distance log_cosh
        ClipByValue""",
    "moves numbers, joins layers, or does what it is told": """AdaptiveAveragePool UpSampling
        ZeroPadding Cropping Flatten Reshape Permute Repeat Masked PaddingMask Sequential Parallel
        Graph Add Subtract Multiply Average Concatenate Dot Lambda""",
}
WITHOUT_EXAMPLE = {
    "needs a package or a file that not everybody has": """MLflow TensorBoard WandB TableFiles
        CsvShards ParquetShards TableShards Tokenizer mnist load_keras_weights""",
    "is made by another class, whose example shows it": "Entry",
}
WITHOUT_DERIVATIVE = {"ids have none": "PaddingMask"}


def named(table):
    """The names in a table of exceptions."""
    return {name for names in table.values() for name in names.split()}


def kind_of(thing):
    """By which rules its docstring goes."""
    if isinstance(thing, type):
        for kind, base in CLASSES.items():
            if issubclass(thing, base) and thing not in BASES:
                return kind
        return "class"
    if [*inspect.signature(thing).parameters][:2] == ["predictions", "targets"]:
        return "loss"
    is_weights = thing.__module__ == "xpnn.initializers" and thing is not xpnn.initializers.fans
    return "weights" if is_weights else "function"


def lacks_of(thing):
    """What the docstring of a public thing lacks."""
    parts, name = parts_of(thing), thing.__name__
    kind = kind_of(thing)
    if not parts.text:
        return ["a docstring"]
    found = [*OF_KIND.get(kind, no_more)(thing, parts)]
    if kind in FROM_PAPERS and not YEAR.search(parts.text) and name not in named(FROM_NO_PAPER):
        found.append("the paper that it is from, with its year")
    if not parts.examples and kind != "error" and name not in named(WITHOUT_EXAMPLE):
        found.append("an example")
    if missing := not_imported(parts.examples, {name}):
        found.append(f"imports of {missing} in its example")
    if kind != "error":
        found += wrong_arguments(thing, parts)
    return [*found, *untold_errors(thing, parts)]


def wrong_arguments(thing, parts):
    """That all arguments are explained, in their order, and no others are."""
    wanted = arguments_of(thing)
    if kind_of(thing) == "weights":
        wanted = [one for one in wanted if one not in ("shape", "rng")]
    told = parts.sections.get("Args", [])
    if unknown := [one for one in told if one not in wanted]:
        yield f"no {unknown} in Args, which are no arguments"
    elsewhere = parts.sections.get("Attributes", []) if isinstance(thing, type) else []
    if missing := [one for one in wanted if one not in told and one not in elsewhere]:
        yield f"{missing} in Args"
    elif (in_order := [one for one in wanted if one in told]) != told and not unknown:
        yield f"Args in the order of the signature, {in_order}"


def untold_errors(thing, parts):
    """That errors of xpnn which its own body raises are in Raises."""
    if isinstance(thing, type):
        names = ("__init__",) if thing in BASES else ("__init__", "output_shape", "build")
        own = [vars(thing).get(name) for name in names]
    else:
        own = [thing]
    raised = set().union(*(raised_in(one) for one in own if isinstance(one, FunctionType)))
    told = parts.sections.get("Raises", [])
    if missing := sorted(one for one in raised & {*vars(errors)} if one not in told):
        yield f"{missing} in Raises"


def no_more(thing, parts):
    return []


def lacks_of_layer(layer, parts):
    if not parts.block("Forward"):
        yield 'a block of equations behind "Forward ...::"'
    if not parts.block("Backward") and layer.__name__ not in named(WITHOUT_DERIVATIVE):
        yield 'a block of equations behind "Backward ...::"'
    if not SHAPE.search(parts.text):
        yield "a shape, such as (batch, features)"


def lacks_of_loss(loss, parts):
    equations = " ".join(parts.equations())
    if not re.search(r"\b[lC](?:_i)? = ", equations):
        yield "the equation of its value, l = ..."
    if not re.search(r"\bdl(?:_i)?/d\w+ = |\bdelta = ", equations):
        yield "the equation of its derivative, dl/da = ..."
    if not SHAPE.search(parts.stories.get("Args", "")):
        yield "the shapes of predictions and targets in Args"
    yield from ({"Raises", "Returns"} - {*parts.stories})


def lacks_of_optimizer(optimizer, parts):
    if not any("w <- w" in line for line in parts.equations()):
        yield "the equation of the update, w <- w - ..."


def lacks_of_formula(thing, parts):
    lines = [line for _, block in parts.blocks for line in block]
    if not any(map(FORMULA.search, [*lines, *INLINE.findall(parts.text)])):
        yield "its formula"


def lacks_of_function(function, parts):
    returns = inspect.signature(function).return_annotation
    if returns not in (None, "None") and "Returns" not in parts.stories:
        yield "Returns"


OF_KIND = {
    "layer": lacks_of_layer,
    "loss": lacks_of_loss,
    "optimizer": lacks_of_optimizer,
    **dict.fromkeys(["schedule", "metric", "weights", "limit"], lacks_of_formula),
    "function": lacks_of_function,
}


@pytest.mark.parametrize("path", PUBLIC)
def test_the_docstring_has_all_that_its_kind_wants(path):
    lacking = lacks_of(PUBLIC[path])
    assert lacking == [], f"the docstring of {path} wants " + "; ".join(lacking)


# Signs and words ----------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs" / "notation.md").read_text(encoding="utf-8")
HEADINGS = {"layer": "Layers", "optimizer": "Optimizers and schedules"}
HEADINGS["schedule"] = HEADINGS["optimizer"]
ABBREVIATION = re.compile(r"(?<![\w./])[A-Z][A-Z0-9]+(?:-[A-Z0-9]+)*(?![\w.]*\w)")
CLASS = re.compile(r"^[A-Z][a-z]\w+$|^[A-Z]+[a-z]\w+$")
OF_OTHERS = {"BatchNormalization", "LayerNormalization"}
"""Names of Keras that docstrings compare with."""
TERMS = """backend batch channel checkpoint container context delta device epoch feature head host
    item joint kernel logit mask node padding penalty position process recording sample shard slot
    spread state step unit window"""
VARIABLES = {
    "backend": xpnn.Backend,
    "columns": xpnn.data.Columns,
    "network": xpnn.Network,
    "optimizer": xpnn.Optimizer,
    "trainer": xpnn.Trainer,
    "updater": xpnn.Updater,
}
"""Of what class a thing is that is called so."""


def column(heading):
    """The first column of the table under a heading of docs/notation.md, as words."""
    section = re.split(rf"^#+ {heading}$", PAGE, flags=re.M)[1].split("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")][2:]
    return {word for row in rows for word in row.replace("`", "").strip().split(", ")}


def has(kind, member):
    """Whether a class has a member, or its docstring or that of a base describes one."""
    described = (parts_of(base).sections.get("Attributes", []) for base in kind.__mro__)
    return hasattr(kind, member) or any(member in names for names in described)


def unexplained(thing):
    """The signs in the equations of a docstring that neither it nor docs/notation.md explains."""
    parts, kind = parts_of(thing), kind_of(thing)
    kind = "layer" if thing in LAYER_BASES else kind
    known = column("Everywhere") | (column(HEADINGS[kind]) if kind in HEADINGS else set())
    signs = {sign for line in parts.equations() for sign in signs_in(line)}
    return sorted(one for one in signs - known if not says_what_it_is(one, parts))


def words_of(thing):
    """What a docstring says in words, without code."""
    parts = parts_of(thing)
    text = " ".join([*parts.prose, *parts.stories.values()])
    return re.sub(r"``[^`]*``|\"[^\"]*\"", "", text)


def names_not_there(thing):
    """Classes, and members of classes, that a docstring names in backticks and that are not."""
    public = {path.rpartition(".")[2]: one for path, one in PUBLIC.items()}
    for code in INLINE.findall(parts_of(thing).text):
        name = re.split(r"[^\w.]", code)[0]
        owner, _, member = name.rpartition(".")
        if owner in public or owner in VARIABLES:
            kind = public.get(owner) or VARIABLES[owner]
            if isinstance(kind, type) and not has(kind, member):
                yield name
        elif CLASS.match(name) and name not in {*public, *OF_OTHERS, *vars(builtins)}:
            yield name


@pytest.mark.parametrize("path", PUBLIC)
def test_signs_are_explained(path):
    assert unexplained(PUBLIC[path]) == []


@pytest.mark.parametrize("path", PUBLIC)
def test_names_in_backticks_are_there(path):
    assert [*names_not_there(PUBLIC[path])] == []


def test_abbreviations_are_spelled_out():
    names = {path.rpartition(".")[2] for path in PUBLIC}
    found = {one for thing in PUBLIC.values() for one in ABBREVIATION.findall(words_of(thing))}
    assert sorted(found - names - {*" ".join(column("Abbreviations")).split()}) == []


def test_words_of_this_library_are_on_the_page():
    assert sorted({*TERMS.split()} - column("Words")) == []


def test_the_page_has_no_words_that_nobody_uses():
    said = " ".join(parts_of(thing).text for thing in PUBLIC.values()).lower()
    forms = ("", "s", "es", "d", "ed", "ing")
    listed = column("Words") | column("Abbreviations")
    for word in sorted(listed):
        used = any(re.search(rf"\b{re.escape(word.lower())}{form}\b", said) for form in forms)
        assert used, f"no docstring says {word!r}, which docs/notation.md explains"


# Planted ------------------------------------------------------------------------------------------


class Mirror(xpnn.Layer):
    """The input with its sign turned (Nobody, 2020).

    Forward, for inputs Z of shape (batch, features)::

        S = -Z Q

    Args:
        axis: nothing.
    """

    def output_shape(self, input_shape):
        raise errors.ShapeError("there is none")


def halved(x, y):
    """Half of ``Halver`` and of ``network.halves``, by the ABC.

    Args:
        y: the second.
        x: the first.

    >>> PAGE[0]
    '#'
    """
    if x is None:
        raise errors.DataError("wanted x, got None; give one")
    return x / 2, y / 2


def test_what_a_docstring_lacks_is_told():
    assert lacks_of(Mirror) == [
        'a block of equations behind "Backward ...::"',
        "an example",
        "no ['axis'] in Args, which are no arguments",
        "['ShapeError'] in Raises",
    ]
    assert lacks_of(halved) == [
        "Returns",
        "imports of ['PAGE'] in its example",
        "Args in the order of the signature, ['x', 'y']",
        "['DataError'] in Raises",
    ]


def test_signs_and_names_that_nobody_knows_are_told():
    assert unexplained(Mirror) == ["Q"]
    assert [*names_not_there(halved)] == ["Halver", "network.halves"]
    assert ABBREVIATION.findall(words_of(halved)) == ["ABC"]
