"""A log of lines in a file, which a run that is resumed finds as it was."""

import os
from contextlib import suppress
from pathlib import Path

from xpnn.files import file_status, replacement, told_of


class LineFile:
    """A file that lines are written behind, each at once, so that a crash loses nothing.

    Args:
        path: of the file; folders are made.
        end: of a line.
    """

    def __init__(self, path: Path, end: bytes):
        self.path, self.end = path, end

    def check(self) -> None:
        """Raise now, rather than after an epoch, if it cannot be written; what it has stays.

        Raises:
            OSError: it cannot.
            FileError: something else than a file lies there.
        """
        with told_of(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                file_status(self.path)
            self.path.open("ab").close()

    def clear(self) -> None:
        """Let it be empty."""
        self.path.write_bytes(b"")

    def content(self) -> bytes:
        """All that it has."""
        return self.path.read_bytes() if self.path.exists() else b""

    def write(self, content: bytes) -> None:
        """Put this in place of what it has, whole or not at all."""
        with replacement(self.path) as file:
            file.write(content)

    def put_back(self, content: bytes) -> None:
        """Let it have no more and no less than this, such as what it had at a checkpoint."""
        if self.content().startswith(content):
            os.truncate(self.path, len(content))  # takes no room, so a full disk costs no line
        else:
            self.write(content)

    def append(self, line: bytes) -> None:
        """Write a line, with its end, behind all others, the last of which may be torn."""
        with self.path.open("ab+") as file:
            torn = False
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read() != b"\n"
            file.write((self.end if torn else b"") + line)
