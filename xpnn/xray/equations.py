"""The equations of a class, as its docstring has them: line by line, those of forward and backward.

They are in blocks behind ``::``, several in a row with wide gaps between them, or inline in double
backticks. What names delta or a derivative is of backward, and so is all that stands in a block of
which the docstring says "Backward", but for S and Z; all else is of forward.
"""

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

SECTIONS = ("Args:", "Attributes:", "Parameters:", "Raises:", "Returns:", ">>>")
"""Behind the first line that begins so there are no equations."""

GAP = re.compile(r" {4,}")
ALIGNMENT = re.compile(r" +(?=(?:=|<-|\+|-) )")
INLINE = re.compile(r"``([^`]+)``")
SIGN = re.compile(r" (?:=|<-) ")
PASS = re.compile(r"\b(?:For|Back)ward\b")
DERIVATIVE = re.compile(r"\bdelta\b|\bd[Ll](?:_\w)?/d|^d[A-Z](?:_\w+)? =")
OUTPUT = re.compile(r"[SZ] = ")
SHAPES = re.compile(r"[A-Za-z](?:_\w+)? \(")
OPERATORS = ("= ", "<- ", "+ ", "- ")


class Statement(NamedTuple):
    """What is said in one place: an equation, or the shapes of what is in it.

    Attributes:
        text: with single spaces, and three in front of a remark, or between shapes.
        is_backward: whether it is of backward.
    """

    text: str
    is_backward: bool


@functools.lru_cache(maxsize=256)  # losses made as closures come and go
def equations_of(made: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The equations of forward and of backward of a class, or of a function such as a loss.

    Of a class each are those of the nearest base that has some.

    >>> from xpnn import Tanh
    >>> equations_of(Tanh)
    (('Z = tanh(S)',), ('dL/dS = delta (1 - Z^2)',))
    """
    forward: tuple[str, ...] = ()
    backward: tuple[str, ...] = ()
    for one in made.__mro__[:-1] if isinstance(made, type) else [made]:
        found = statements_in(one.__doc__ or "")
        forward = forward or tuple(one.text for one in found if not one.is_backward)
        backward = backward or tuple(one.text for one in found if one.is_backward)
    return forward, backward


def is_of_shapes(line: str) -> bool:
    """Whether a line says of what shapes things are, as in ``W (inputs, units)``."""
    return SHAPES.match(line) is not None


def statements_in(docstring: str) -> list[Statement]:
    """All that a docstring says in equations, in order.

    >>> [one.text for one in statements_in("``S = 2 Z`` and ``dL/dZ = 2 delta``.")]
    ['S = 2 Z', 'dL/dZ = 2 delta']
    """
    found: list[Statement] = []
    for prose, block in _parts(inspect.cleandoc(docstring)):
        for code in INLINE.findall(" ".join(prose)):
            if SIGN.search(code):
                found.append(Statement(code, bool(DERIVATIVE.search(code))))
        said = PASS.findall(" ".join(prose))
        found += _of_block(block, said[-1:] == ["Backward"])
    return list(dict.fromkeys(found))


def _parts(docstring: str) -> Iterator[tuple[list[str], list[str]]]:
    """The lines of each stretch of prose, with those of the block behind it."""
    prose: list[str] = []
    block: list[str] = []
    for line in map(str.rstrip, docstring.splitlines()):
        if line.startswith(SECTIONS):
            break
        is_inside = line.startswith("    ") or not line
        if prose and prose[-1].endswith("::") and is_inside:
            block.append(line)
            continue
        if block:
            yield prose, block
            prose, block = [], []
        if line:
            prose.append(line)
    yield prose, block


def _of_block(block: list[str], of_backward: bool) -> list[Statement]:
    """The statements of a block, of which the prose before it may say that it is of backward."""
    found: list[Statement] = []
    margin = min((len(one) - len(one.lstrip()) for one in block if one), default=0)
    for line in filter(None, block):
        parts = _joined(GAP.split(line.strip()))
        if line[margin] == " " and found:  # it goes on with the line above
            found[-1] = Statement(f"{found[-1].text} {parts.pop(0)}", found[-1].is_backward)
        beside: bool | None = None  # what stands before it in the line
        for part in parts:
            is_backward = bool(DERIVATIVE.search(part))
            if not is_backward and not OUTPUT.match(part):
                is_backward = of_backward if beside is None else beside
            if beside is not None and not SIGN.search(part) and not is_of_shapes(part):
                found[-1] = Statement(f"{found[-1].text}   {part}", beside)
                continue
            found.append(Statement(part, is_backward))
            beside = is_backward
    return found


def _joined(parts: list[str]) -> list[str]:
    """The parts of a line between gaps, of which some are there to align what is below."""
    found: list[str] = []
    for part in parts:
        text = ALIGNMENT.sub(" ", part).replace("``", "")
        is_open = found and found[-1].count("(") > found[-1].count(")")
        if found and (is_open or text.startswith(OPERATORS)):
            found[-1] += f" {text}"
        else:
            found.append(text)
    return found
