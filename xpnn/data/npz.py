"""Samples in NumPy's own archives of arrays."""

import ast
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnn.data.shards import Paths, Shards
from xpnn.data.windows import Block
from xpnn.errors import FileError
from xpnn.files import open_file, out_of_memory
from xpnn.initializers import check_memory

if TYPE_CHECKING:
    from zipfile import ZipFile

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes; that of an array of 64 axes has fewer than 2,000."""
CHUNK = 1 << 18


class NpzShards(Shards):
    """Samples in ``.npz`` files, as ``numpy.savez`` and ``savez_compressed`` write them.

    Each file holds an array of inputs and one of targets, of as many rows, and has the shapes and
    dtypes of the others. Batches keep the dtype of the file: bytes take a quarter of the room of
    float32, on the disk and in the window, and training converts them. A file is read as a whole,
    which finds out whether it is damaged before one of its samples is used.

    Args:
        paths: the files, see ``Shards``.
        x, y: the names of the arrays in the files.
        sample_weight: the name of the weights, where there are such.
        batch_size, window, seed: see ``Shards``.

    Raises:
        FileError: a file is not there.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k in range(2):
    ...         np.savez(f"{folder}/{k}.npz", x=np.full((3, 1), k), y=np.arange(3))
    ...     for x, y in NpzShards(f"{folder}/*.npz", batch_size=4):
    ...         print(x[:, 0].tolist(), y.tolist())
    [0, 0, 0, 1] [0, 1, 2, 0]
    [1, 1] [1, 2]
    """

    def __init__(
        self,
        paths: Paths,
        *,
        x: str = "x",
        y: str = "y",
        sample_weight: str | None = None,
        batch_size: int = 32,
        window: int | None = None,
        seed: int = 0,
    ):
        super().__init__(paths, batch_size=batch_size, window=window, seed=seed)
        self.names = [name for name in (x, y, sample_weight) if name is not None]

    def read(self, shard: Path) -> Iterator[Block]:
        """The whole file, in one block."""
        yield self._load(shard)

    def _load(self, path: Path) -> Block:
        with _opened(path) as archive:
            _check_names(self.names, archive, path)
            return tuple(read_array(archive, name) for name in self.names)

    def rows(self, shard: Path) -> int:
        """How many rows ``x`` has, from the few bytes before its numbers."""
        with _opened(shard) as archive:
            _check_names(self.names[:1], archive, shard)
            with _checked(archive, self.names[0]) as (file, size):
                shape = read_header(file, size).shape
        return shape[0] if shape else 0


def _member(archive: "ZipFile", name: str) -> str:
    """What an array is called in the archive: as itself, or with an ending, as NumPy has it."""
    return name if name in archive.namelist() else f"{name}.npy"


def _check_names(names: list[str], archive: "ZipFile", path: Path) -> None:
    found = archive.namelist()
    missing = [name for name in names if _member(archive, name) not in found]
    if missing:
        known = ", ".join(name.removesuffix(".npy") for name in found)[:300]
        raise FileError(
            f"wanted an array {missing[0]!r} in {path}, which holds {known or 'none'}; "
            f"say what the arrays are called: NpzShards(..., x=..., y=...)"
        )


@contextmanager
def _opened(path: Path) -> Iterator["ZipFile"]:
    """The archive; what goes wrong inside says which file it was."""
    from zipfile import BadZipFile, ZipFile  # whose import takes as long as a third of xpnn's own

    try:
        with open_file(path) as file, ZipFile(file) as archive:
            yield archive
    except MemoryError as error:
        raise out_of_memory(path) from error
    except FileError as error:
        said = str(error)
        raise FileError(said) if str(path) in said else _unreadable(path, error) from error
    except (
        BadZipFile,
        EOFError,
        NotImplementedError,  # a version or a way of compression that zipfile does not know
        OSError,
        OverflowError,
        RuntimeError,  # it is encrypted
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FileError:
    return FileError(
        f"wanted a whole .npz file of plain arrays, but {path} cannot be read: {error}; write it "
        f"anew, or leave it out"
    )


# Arrays -------------------------------------------------------------------------------------------


class Header(NamedTuple):
    """What an array in NumPy's format says of itself."""

    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """How long its numbers are."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(archive: "ZipFile", name: str) -> np.ndarray:
    """An array of an archive.

    Memory is asked for only where the file is large enough to fill it.

    Raises:
        FileError: it is none, or not as long as it says.
        OutOfMemory: it is larger than the memory of this machine.
    """
    with _checked(archive, name) as (file, size):
        header = read_header(file, size)
        what = f"{name!r} in {archive.filename}"
        check_memory(header.nbytes, what, "write fewer rows into one file")
        content, filled = np.empty(header.nbytes, np.uint8), 0
        while chunk := file.read(CHUNK):
            content[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)
    if filled < header.nbytes:
        raise FileError(f"{name!r} ends after {filled:,} of {header.nbytes:,} bytes")
    array = content.view(header.dtype)
    if header.fortran_order:
        return array.reshape(header.shape[::-1]).T
    return array.reshape(header.shape)


@contextmanager
def _checked(archive: "ZipFile", name: str) -> Iterator[tuple[IO[bytes], int]]:
    """What an archive holds of an array, and how long it is, which the archive's own size allows.

    Raises:
        FileError: it claims to hold more.
    """
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    member = archive.getinfo(_member(archive, name))
    most = {ZIP_STORED: 1, ZIP_DEFLATED: 1032}.get(member.compress_type)
    if most is None:
        raise FileError("an array in it is compressed in a way that those of NumPy are not")
    there = min(member.compress_size, os.stat(str(archive.filename)).st_size)
    if member.file_size > most * there:
        raise FileError(f"it says that {there:,} bytes of it hold {member.file_size:,}")
    with archive.open(member) as file:
        yield file, member.file_size


def read_header(file: IO[bytes], size: int) -> Header:
    """What stands before the numbers of an array, and is ``size`` bytes long with them.

    Raises:
        FileError: it makes no sense, or what it says does not fit.
    """
    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise FileError("an array in it is not in the format of numpy.save")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_HEADER:
        raise FileError(f"the header of an array would be {length:,} bytes long")
    header = _parsed(file.read(length))
    claimed, rest = header.nbytes, size - 8 - width - length
    if claimed != rest:
        raise FileError(
            f"an array of shape {header.shape} of {header.dtype} takes {claimed:,} bytes, and "
            f"there are {rest:,}"
        )
    return header


def _parsed(text: bytes) -> Header:
    plain = re.sub(r"(?<=\d)L", "", text.decode("latin1"))  # how Python 2 wrote long integers
    try:
        fields = ast.literal_eval(plain)
        names = fields.keys() == {"descr", "fortran_order", "shape"}
    except (AttributeError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        names = False  # MemoryError is what Python's parser calls brackets that are too deep
    if not names:
        raise FileError("the header of an array makes no sense")
    descr, fortran_order, shape = (fields[key] for key in ("descr", "fortran_order", "shape"))
    try:
        dtype = np.dtype(descr if isinstance(descr, str) else "O")
    except (SyntaxError, TypeError, ValueError):
        raise FileError(f"an array is of a dtype that there is not, {descr!r:.50}") from None
    if dtype.kind in "OV":
        raise FileError("Object arrays cannot be loaded, nor arrays of records")
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > 32 or math.prod(n or 1 for n in shape) >= 2**60:
        raise FileError(f"an array cannot be of the shape {shape!r:.100}")
    if type(fortran_order) is not bool:
        raise FileError("an array says nothing of the order of its numbers")
    return Header(dtype, fortran_order, shape)
