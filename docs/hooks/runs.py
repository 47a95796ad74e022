"""Runs first page, tutorials, recipes and book while the site is built, and shows what came out.

What a block has printed takes the place of what the page promises, where ``...`` may stand for
digits that differ between machines. A page may show a picture that one of its blocks writes into
the folder where it runs, ``![a curve](curve.svg)``, or lead to a page, ``[a step](step.html)``.
"""

import contextlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import matplotlib
from kept import DRAFT, kept
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from running import NEEDS, run_page, with_output

RUN = ("index.md", "tutorials/", "how-to/", "book/")
"""What the paths of such pages begin with."""
SHOWN = (".svg", ".png", ".html")
"""What blocks write to be shown."""
SHOWS = re.compile(r"\]\([\w-]+(?:\.svg|\.png|\.html)\)")


def on_startup(command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Serve at once what has not changed, and run the rest alike on every machine."""
    kept.taken = command == "serve"
    os.environ["MPLBACKEND"] = "agg"
    os.environ["XPNN_MKL"] = "0"  # or summaries tell what could be faster on this machine


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures and the pages that the pages make."""
    for page in [*files.documentation_pages()]:
        if is_run(page):
            folder = Path(page.src_uri).parent
            for name, content in outcome(page)[1].items():
                path = (folder / name).as_posix()
                files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what was printed where it was promised."""
    return with_output(text, outcome(page.file)[0]) if is_run(page.file) else text


def is_run(page: File) -> bool:
    """Whether a page is to run."""
    if not page.src_uri.startswith(RUN):
        return False
    text = page.content_string
    return not DRAFT or bool(SHOWS.search(text) or NEEDS.search(text))


@cache
def outcome(page: File) -> tuple[dict[int, str], dict[str, bytes]]:
    """What ``run`` gives for a page, now or, where MkDocs serves it unchanged, the last time."""
    return kept(page.src_uri, run, page.content_string, page.src_uri)


def run(text: str, name: str) -> tuple[dict[int, str], dict[str, bytes]]:
    """What the blocks of a page print, by their numbers, and what they draw, by file names."""
    matplotlib.rcParams["savefig.transparent"] = True  # on light pages and on dark ones
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = run_page(text, name)
        drawn = [path for path in Path(folder).iterdir() if path.suffix in SHOWN]
        return printed, {path.name: path.read_bytes() for path in drawn}
