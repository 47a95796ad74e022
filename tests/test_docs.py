"""Every Python block of every page runs, and prints what the page says it prints.

The blocks of a page run in order, in one namespace and in an empty folder; so do those that are
indented, as solutions of exercises are. A ``text`` block right behind a ``python`` block is what
the latter prints, where ``...`` stands for anything. A block that cannot run here says so to the
reader, with the reason: its first line is ``# not run: REASON``.
"""

import contextlib
import doctest
import io
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```$"
    r"(?:\n+(?P=indent)```text\n(?P<promised>.*?)^(?P=indent)```$)?",
    re.MULTILINE | re.DOTALL,
)
BEGINNING = re.compile(r"^ *```python", re.MULTILINE)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NOT_RUN = re.compile(r"# not run: \w+")
PAGES = [
    path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if BLOCK.search(path.read_text(encoding="utf-8"))
]


def run_page(text, name):
    """Run the blocks of a page; returns how many there were."""
    namespace, count = {"__name__": "__main__"}, 0
    for block in BLOCK.finditer(text):
        code, promised = textwrap.dedent(block["code"]), block["promised"]
        if NOT_RUN.match(code):
            continue
        lines_before = text.count(
            "\n", 0, block.start("code")
        )  # so that errors name the page's line
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * lines_before + code, name, "exec"), namespace)
        if promised is not None:
            promised = textwrap.dedent(promised)
            check_output(promised, printed.getvalue(), f"{name}, line {lines_before + 1}")
        count += 1
    return count


def check_output(promised, printed, place):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(promised, printed, options):
        pytest.fail(f"{place}: the page promises\n{promised}\nbut the block prints\n{printed}")


def test_each_page_stands_in_the_menu_once():
    menu = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).as_posix() for path in docs.glob("**/*.md")]
    assert sorted(menu) == sorted([*pages, "api/index.md"])  # which is made with the site


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = page.read_text(encoding="utf-8")
    codes = (block["code"].lstrip() for block in BLOCK.finditer(text))
    skipped = sum(bool(NOT_RUN.match(code)) for code in codes)
    assert run_page(text, str(page)) == len(BEGINNING.findall(text)) - skipped


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_exist(page):
    for path, test in TEST_NAME.findall(page.read_text(encoding="utf-8")):
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"


def test_blocks_share_names_and_are_held_to_their_output():
    page = (
        "```python\nx = 2\n```\n\nwords\n\n"
        "```python\nprint(x, 'and more')\n```\n\n```text\n2 ...\n```\n"
    )
    assert run_page(page, "page") == 2
    with pytest.raises(pytest.fail.Exception, match="line 8: the page promises\n3"):
        run_page(page.replace("2 ...", "3 ..."), "page")


def test_blocks_that_are_indented_run_too():
    page = (
        '??? note "Solution"\n\n'
        "    ```python\n    for k in range(2):\n        print(k)\n    ```\n\n"
        "    ```text\n    0\n    1\n    ```\n"
    )
    assert run_page(page, "page") == 1
    with pytest.raises(pytest.fail.Exception, match="line 4: the page promises\n0\n2"):
        run_page(page.replace("    1\n", "    2\n"), "page")


def test_a_broken_block_fails_at_its_line():
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("words\n```python\n\n1 / 0\n```\n", "page")
    assert caught.traceback[-1].lineno == 3  # counted from 0


def test_only_a_reason_keeps_a_block_from_running():
    assert run_page("```python\n# not run: needs a GPU\n1 / 0\n```\n", "page") == 0
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n# not run:\n1 / 0\n```\n", "page")
