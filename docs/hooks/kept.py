"""Keeps what pages print and examples draw from one run of MkDocs to the next.

A build runs everything, and writes down what came out. ``mkdocs serve`` takes that where nothing
has changed since: not what is run, nor any file of the package, of the hooks or of the examples.
"""

import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent.parent
DRAFT = bool(os.environ.get("XPNN_DRAFT"))
"""Whether the site is made for tests alone: with pictures of hardly any training, and without
running what shows no file and needs no library, as ``tests/test_docs.py`` runs it."""
SOURCES = ("xpnn/**/*", "docs/hooks/*.py", "examples/*.py")


class Kept:
    """Results of functions, each in a file that the next one of its name replaces.

    Attributes:
        folder: of these files.
        taken: whether results of an earlier run are taken, or everything is made anew.
    """

    def __init__(self, folder: Path):
        self.folder, self.taken = folder, False

    def __call__(self, name: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """What ``make`` gives for its arguments; ``name`` tells this call from others."""
        path = self.folder / f"{name.replace('/', '-')}.pickle"
        key = (sources(), arguments)
        if self.taken and path.is_file():
            known, made = pickle.loads(path.read_bytes())
            if known == key:
                return made
        made = make(*arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(pickle.dumps((key, made)))
        unfinished.replace(path)
        return made


kept = Kept(ROOT / ".cache" / "docs")


@cache
def sources() -> str:
    """A hash of all that pages run on, as it was when MkDocs began."""
    digest = hashlib.sha256(f"{sys.version} {np.__version__}".encode())
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
