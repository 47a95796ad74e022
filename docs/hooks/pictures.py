"""Puts the pictures that a page's own code draws beside it, while the site is built.

A page may show a file that does not lie in ``docs/``, ``![a curve](curve.svg)``, if one of its
Python blocks writes it, into the folder where it runs. All blocks of such a page are run, and held
to what the page says they print.
"""

import contextlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from running import run_page

PICTURE = re.compile(r"!\[[^\]]*\]\(([\w-]+\.(?:svg|png))\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of all pages."""
    for page in [*files.documentation_pages()]:
        folder = Path(page.src_uri).parent
        paths = [(folder / name).as_posix() for name in PICTURE.findall(page.content_string)]
        if wanted := [path for path in paths if files.get_file_from_path(path) is None]:
            drawn = pictures(page.content_string, page.src_uri)
            for path in wanted:
                files.append(File.generated(config, path, content=drawn[Path(path).name]))
    return files


@cache
def pictures(text: str, name: str) -> dict[str, bytes]:
    """What the blocks of a page leave in their folder, by the names of the files."""
    os.environ["MPLBACKEND"] = "agg"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run_page(text, name)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
