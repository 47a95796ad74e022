"""Lets the pages show docstrings as their authors wrote them.

xpnn's docstrings are written for a terminal, and some of their habits mean something else, or
nothing, to Markdown and to the reader of ``Args:``. They are put in other words while the pages are
built: a line that ends in ``::`` opens an indented block, which is set as formulas where it holds
equations; ``>>>`` opens an example; and an argument may share its line with another:
``beta1, beta2: how much survives``.
"""

import re
from textwrap import dedent
from typing import Any

from griffe import Extension, Object

from xpnn.xray.mathml import as_mathml

EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n\1\S.*)*", re.MULTILINE)
SECTION = re.compile(r"^(?:Args|Attributes|Raises):\n(?:[ ]+.*\n?|\n)*", re.MULTILINE)
SHARED = re.compile(r"^([ ]+)(\w+(?:, \w+)+):(.*(?:\n\1[ ]+.*)*)", re.MULTILINE)
BLOCK = re.compile(r"^((?:.*\S)?)::\n\n((?:[ ]{4}.*(?:\n|\Z)|\n(?=\n*[ ]{4}))+)", re.MULTILINE)
EQUATION = re.compile(r"\S (?:=|<-|/) \S")
PROGRAM = re.compile(r"^(?:import|from|def|class|net|x, y|trainer) |\w\([^()\n]*\w=", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Return a docstring with its blocks, examples and shared lines in Markdown."""
    text = BLOCK.sub(_block, text)
    text = SECTION.sub(lambda section: SHARED.sub(_line_for_each, section[0]), text)
    text = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text)
    text = re.sub(r"^[ ]*::\n", "", text, flags=re.MULTILINE)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _block(block: re.Match[str]) -> str:
    """One that is opened by ``::`` at the margin: as formulas, or as it is."""
    before, content = block.groups()
    lines = dedent(content).strip("\n")
    if PROGRAM.search(lines) or not EQUATION.search(lines):
        return block[0]
    opened = f"{before}:\n\n" if before else ""
    return f"{opened}{equations(lines)}\n\n"


def equations(lines: str) -> str:
    """Lines of equations, in which three blanks or more stand between what may be apart."""
    rows = "".join(
        "<p>" + "".join(map(_set_in_type, re.split(r" {3,}", line))) + "</p>"
        for line in lines.split("\n")
        if line
    )
    return f'<div class="equations">{rows}</div>'


def _set_in_type(equation: str) -> str:
    return f"<span>{as_mathml(equation.strip())}</span>"


def _line_for_each(shared: re.Match[str]) -> str:
    indent, names, story = shared.groups()
    return "\n".join(f"{indent}{name}:{story}" for name in names.split(", "))


class PlainDocstrings(Extension):
    """Rewrites every docstring that Griffe finds."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
