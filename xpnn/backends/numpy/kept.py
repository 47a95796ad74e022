"""Folders for what can be made again, but is kept for the next process."""

import os
import stat
from pathlib import Path


def kept_folder(name: str) -> Path | None:
    """That folder in NUMBA_CACHE_DIR, in XDG_CACHE_HOME, or else in ``~/.cache``.

    What is read from there is believed, or run: so it has to belong to the user, and nobody else
    may write there. None where there is no such folder, nor can be.
    """
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where the home is
        return None
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) if hasattr(os, "getuid") else 0
    return folder if mine and not others and os.access(folder, os.W_OK) else None
