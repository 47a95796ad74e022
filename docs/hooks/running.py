"""Runs the Python blocks of a page, and holds them to what the page says they print.

The blocks of a page run in order, in one namespace; so do those that are indented, as solutions of
exercises are. A ``text`` block right behind a ``python`` block is what the latter prints, where
``...`` stands for anything. A block whose first line is ``# not run: REASON`` cannot run here, and
says so to the reader; one that begins with ``# needs: torch, onnx`` runs where these are installed.
"""

import contextlib
import doctest
import io
import re
import textwrap
from importlib.util import find_spec

BLOCK = re.compile(
    r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```$"
    r"(?:\n+(?P=indent)```text\n(?P<promised>.*?)^(?P=indent)```$)?",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"# not run: \w+")
NEEDS = re.compile(r"# needs: (\w+(?:, \w+)*)$", re.MULTILINE)
COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class OutputError(AssertionError):
    """A block prints something else than its page promises."""


def runs_here(code: str) -> bool:
    """Whether a block is to run, by its first line."""
    needs = NEEDS.match(code)
    wanted = needs[1].split(", ") if needs else []
    return not NOT_RUN.match(code) and all(find_spec(one) for one in wanted)


def run_page(text: str, name: str) -> dict[int, str]:
    """Run the blocks of a page; what each that ran has printed, by its number among all blocks."""
    namespace, printed = {"__name__": "__main__"}, {}
    for number, block in enumerate(BLOCK.finditer(text)):
        code, promised = textwrap.dedent(block["code"]), block["promised"]
        if not runs_here(code):
            continue
        lines_before = text.count("\n", 0, block.start("code"))  # errors name the page's line
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile("\n" * lines_before + code, name, "exec"), namespace)
        printed[number] = output.getvalue()
        if promised is not None:
            place = f"{name}, line {lines_before + 1}"
            check_output(textwrap.dedent(promised), printed[number], place)
    return printed


def with_output(text: str, printed: dict[int, str]) -> str:
    """The page with what its blocks have printed in place of what they are to print."""
    parts, last = [], 0
    for number, block in enumerate(BLOCK.finditer(text)):
        if block["promised"] is not None and number in printed:
            parts += [
                text[last : block.start("promised")],
                textwrap.indent(printed[number], block["indent"]),
            ]
            last = block.end("promised")
    return "".join([*parts, text[last:]])


def check_output(promised: str, printed: str, place: str) -> None:
    """Raise OutputError unless a block prints what is promised."""
    if not doctest.OutputChecker().check_output(promised, printed, COMPARED):
        raise OutputError(
            f"{place}: the page promises\n{promised}\nbut the block prints\n{printed}"
        )
