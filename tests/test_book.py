"""The book quotes the source as it stands, and has its numbers from the code that it shows.

A ``py`` block is a quotation: its title says which function or class of which file holds the lines,
and a line ``...`` in it stands for lines that are left out.
"""

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "docs" / "book").glob("*.md"))
QUOTATION = re.compile(
    r'^(?P<indent> *)```py title="(?P<name>[\w.]+) in (?P<path>[\w/]+\.py)"\n'
    r"(?P<lines>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
TAG = re.compile(r"<[^<>]*>")  # of a drawing, whose places are no results
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+")

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)


def definition(path, name):
    """The source of a function or a class, such as ``Dense.backward``."""
    source = (ROOT / path).read_text(encoding="utf-8")
    node = ast.parse(source)
    for part in name.split("."):
        kinds = ast.FunctionDef | ast.ClassDef
        node = next(one for one in node.body if isinstance(one, kinds) and one.name == part)
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines))


def stands_in(quoted, source):
    """Whether the pieces of a quotation stand in the source, one behind the other."""
    source, place = f"\n{source}\n", 0
    for piece in re.split(r"^\.\.\.\n", quoted, flags=re.MULTILINE):
        forms = [f"\n{textwrap.indent(piece, ' ' * width)}" for width in range(0, 24, 4)]
        found = [(source.find(one, place), len(one)) for one in forms if one in source[place:]]
        if not found:
            return False
        place = sum(min(found)) - 1
    return True


@each_chapter
def test_quoted_lines_stand_in_the_source(chapter):
    text = chapter.read_text(encoding="utf-8")
    quotations = list(QUOTATION.finditer(text))
    assert len(quotations) == len(re.findall(r"^ *```py\b", text, re.MULTILINE))
    for one in quotations:
        quoted = textwrap.dedent(one["lines"])
        assert stands_in(quoted, definition(one["path"], one["name"])), one[0]


def test_a_quotation_that_has_gone_stale_is_found():
    source = "def f(x):\n    y = x + 1\n    if y:\n        y = 2\n    return y\n"
    assert stands_in("y = x + 1\nif y:\n    y = 2\n", source)
    assert stands_in("y = x + 1\n...\nreturn y\n", source)
    assert not stands_in("y = x + 2\n", source)
    assert not stands_in("return y\n...\ny = x + 1\n", source)
    assert not stands_in("y = x + 1\nreturn y\n", source)
    assert not stands_in("if y:\ny = 2\n", source)


@each_chapter
def test_numbers_of_the_text_are_printed_by_the_code(chapter):
    text = chapter.read_text(encoding="utf-8")
    shown = "\n".join(block[0] for block in FENCED.finditer(text))
    known = set(DECIMAL.findall(shown))
    words = TAG.sub("", FENCED.sub("", text))
    assert [one for one in DECIMAL.findall(words) if one not in known] == []
