"""Files on the disk: read only where a file lies, and written whole or not at all."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from xpnn.errors import FileError, OutOfMemory

PART = ".part"
"""How the names of files end that are being written; who writes stands before it."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def file_status(path: str | Path) -> os.stat_result:
    """What the system knows of a file; of a link, of the file that it leads to.

    Raises:
        FileError: something else lies there. A pipe could be waited for without an end, and a
            device could be any part of the machine.
        OSError: nothing lies there, or it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a null character, for one
        raise FileError(f"no file can be called {str(path)!r} ({error}); change the name") from None
    except FileNotFoundError as error:
        advice = f"{error.strerror}: check the path"
        raise FileNotFoundError(error.errno, advice, str(path)) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FileError(f"wanted a file, but {path} is a link that leads to itself") from None
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise FileError(f"wanted a file, but {path} is {kind}; give the path of a file")
    return status


def open_file(path: str | Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        FileError, OSError: see ``file_status``; or it may not be read.
    """
    file_status(path)
    return Path(path).open("rb")


def out_of_memory(path: str | Path) -> OutOfMemory:
    """The error for a file that there was no memory to read."""
    return OutOfMemory(
        f"there is no room for what {path} holds; free some memory, such as that of other "
        f"programs, or make smaller files"
    )


@contextmanager
def replacement(path: str | Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when all is written, and only then.

    It is written beside its place and then moved there: whoever reads it, even after a crash in the
    middle, finds the old file or the new one, whole. Of an old file mode and owner are kept, as far
    as the system lets us; where a link lies, the file that it leads to is replaced.

    Args:
        path: of the file; folders that are missing are made.

    Raises:
        FileError: something else than a file lies there.
        OSError: the folder cannot be written to, or the disk is full; it names ``path``, whatever
            the system stumbled over, and says what to do. The old file is unharmed.
    """
    with told_of(path), _written_whole(path) as file:
        yield file
    _sync_folder(Path(os.path.realpath(path)).parent)


@contextmanager
def told_of(path: str | Path) -> Iterator[None]:
    """Inside, errors of the system say of ``path`` that it was not written, and what to do.

    Errors of other files stay as they are.
    """
    try:
        yield
    except OSError as error:
        place = Path(os.path.realpath(path))
        own = None, *map(str, (path, place, _part_of(place), *place.parents))
        if error.errno is None or error.filename not in own:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: this file was not written, and an old one is whole; make room, or "
            f"choose a folder that can be written to",
            str(path),
        ) from error


def _part_of(place: Path) -> Path:
    """The file beside a place that is written by this thread before it is moved there."""
    return place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}{PART}")


@contextmanager
def _written_whole(path: str | Path) -> Iterator[BinaryIO]:
    try:
        old = file_status(path)
    except FileNotFoundError:
        old = None
    place = Path(os.path.realpath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part_of(place)
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)  # at no moment open to more
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            if old is not None:
                _keep_owner_and_mode(temporary, old)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong is told, not that this did, too
            temporary.unlink(missing_ok=True)
        raise


def _keep_owner_and_mode(path: Path, old: os.stat_result) -> None:
    with contextlib.suppress(OSError):  # only root may give a file away
        if os.name != "nt":
            os.chown(path, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):  # some file systems know no modes
        os.chmod(path, stat.S_IMODE(old.st_mode))


def clear_away_torn(folder: Path, pattern: str) -> None:
    """Delete what processes that were killed have left of files with names like ``pattern``.

    What a process or a thread may still be writing stays.
    """
    for path in folder.glob(f"{pattern}.*.*{PART}"):
        *_, process, thread = path.name.removesuffix(PART).split(".")
        if process.isdecimal() and thread.isdecimal() and not _may_write(int(process), int(thread)):
            with contextlib.suppress(OSError):
                path.unlink()


def _may_write(process: int, thread: int) -> bool:
    """Whether that thread, of that process, may be writing; not if it is the one that asks."""
    if process == os.getpid():
        others = {one.ident for one in threading.enumerate()} - {threading.get_ident()}
        return thread in others
    if os.name == "nt":
        return False  # a file that is open cannot be deleted there
    try:
        os.kill(process, 0)  # asks only
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Let the new name outlive a crash, where folders can be opened."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some file systems do not do that to folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
