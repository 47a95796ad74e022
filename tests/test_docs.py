"""Every Python block of every page runs, and prints what the page says it prints.

``docs/hooks/running.py`` says how; each page runs in an empty folder.
"""

import re
import textwrap
from pathlib import Path

import pytest

from docs.hooks.running import BLOCK, OutputError, run_page, runs_here, with_output

ROOT = Path(__file__).parent.parent
BEGINNING = re.compile(r"^ *```python", re.MULTILINE)
DRAWS = re.compile(r"^ *(?:[\w.]+\.plot\(|from matplotlib)", re.MULTILINE)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
EXTRAS = {  # what a page does, and the extra without which it cannot
    "plot": DRAWS,
    "onnx": re.compile(r"^ *# needs: .*\bonnx\b|\.to_onnx\(", re.MULTILINE),
    "sklearn": re.compile(r"^ *# needs: .*\bsklearn\b", re.MULTILINE),
    "torch": re.compile(r"^ *# needs: .*\btorch\b", re.MULTILINE),
    "data": re.compile(r"\b(CsvShards|TableFiles)\(|\bxpnn (train|evaluate|predict) .*\.csv\b"),
}
PAGES = [
    path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if BLOCK.search(path.read_text(encoding="utf-8"))
]


def test_each_page_stands_in_the_menu_once():
    made_with_the_site = ["api/index.md", "changelog.md", "gallery.md"]
    menu = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).as_posix() for path in docs.glob("**/*.md")]
    assert sorted(menu) == sorted([*pages, *made_with_the_site])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = page.read_text(encoding="utf-8")
    if DRAWS.search(text):
        pytest.importorskip("matplotlib", reason=f"{page.name} draws")
    codes = (textwrap.dedent(block["code"]) for block in BLOCK.finditer(text))
    skipped = sum(not runs_here(code) for code in codes)
    assert len(run_page(text, str(page))) == len(BEGINNING.findall(text)) - skipped


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_to_install_for_what_it_does(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"pip install ['\"](?:xpnn|\.)\[(\w+)\]", text))
    needed = {extra for extra, what in EXTRAS.items() if what.search(text)}
    assert needed <= named, f"say: pip install 'xpnn[{', '.join(needed - named)}]'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_exist(page):
    for path, test in TEST_NAME.findall(page.read_text(encoding="utf-8")):
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"


def test_blocks_share_names_and_are_held_to_their_output():
    page = (
        "```python\nx = 2\n```\n\nwords\n\n"
        "```python\nprint(x, 'and more')\n```\n\n```text\n2 ...\n```\n"
    )
    assert len(run_page(page, "page")) == 2
    with pytest.raises(OutputError, match="line 8: the page promises\n3"):
        run_page(page.replace("2 ...", "3 ..."), "page")


def test_blocks_that_are_indented_run_too():
    page = (
        '??? note "Solution"\n\n'
        "    ```python\n    for k in range(2):\n        print(k)\n    ```\n\n"
        "    ```text\n    0\n    1\n    ```\n"
    )
    assert len(run_page(page, "page")) == 1
    with pytest.raises(OutputError, match="line 4: the page promises\n0\n2"):
        run_page(page.replace("    1\n", "    2\n"), "page")


def test_what_was_printed_takes_the_place_of_what_was_promised():
    page = "```python\nprint(0.25)\n```\n\n```text\n0.2...\n```\n\nwords\n"
    assert with_output(page, run_page(page, "page")) == page.replace("0.2...", "0.25")
    indented = '??? note "More"\n\n' + textwrap.indent(page, "    ")
    shown = with_output(indented, run_page(indented, "page"))
    assert shown == indented.replace("0.2...", "0.25")
    unrun = page.replace("print", "# not run: no\nprint")
    assert with_output(unrun, run_page(unrun, "page")) == unrun


def test_a_broken_block_fails_at_its_line():
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("words\n```python\n\n1 / 0\n```\n", "page")
    assert caught.traceback[-1].lineno == 3  # counted from 0


def test_only_a_reason_keeps_a_block_from_running():
    assert len(run_page("```python\n# not run: needs a GPU\n1 / 0\n```\n", "page")) == 0
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n# not run:\n1 / 0\n```\n", "page")


def test_a_block_runs_where_what_it_needs_is_installed():
    assert len(run_page("```python\n# needs: numpy, json\n```\n", "page")) == 1
    assert len(run_page("```python\n# needs: numpy, no_such_library\n1 / 0\n```\n", "page")) == 0
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n# needs: a word from the reader\n1 / 0\n```\n", "page")
