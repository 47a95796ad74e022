"""Arrays into safetensors files: in their exact dtypes, and whole or not at all.

A file is eight bytes for the length of the header, the header in JSON, and the arrays one behind
the other. The header says of each array its dtype, its shape and where it lies, and has a
dictionary of texts, the metadata. No code is in it. What xpnn writes has a checksum besides.
``TensorFile`` reads such files.
"""

import contextlib
import json
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import FileError

MAX_HEADER = 10_000_000
"""Bytes of a header; enough for some 80,000 arrays."""

BFLOAT16 = "bfloat16"
CODES = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
    BFLOAT16: "BF16",
}
"""The dtypes that a file can hold, and how safetensors calls them."""

PART = ".part"
"""How the names of files end that are being written; who writes stands before it."""

NAMES = {code: name for name, code in CODES.items()}


@dataclass(frozen=True)
class Tensor:
    """An array on its way into a file.

    Attributes:
        dtype: its name, such as "float32" or "bfloat16".
        values: on the host; bfloat16, which NumPy lacks, as float32, which holds it exactly.
    """

    dtype: str
    values: np.ndarray


def tensor(value: Any, backend: Backend) -> Tensor:
    """An array of ``backend``, or a Python number, as a file holds it."""
    if isinstance(value, int | float):
        value = np.asarray(value)
        return Tensor(value.dtype.name, value)
    return Tensor(dtype_name(value), backend.to_numpy(value))


def dtype_name(array: Any) -> str:
    """The name of the dtype of an array of any library, or of a Python number."""
    dtype = np.asarray(array).dtype if isinstance(array, int | float) else array.dtype
    return str(dtype).rpartition(".")[2]


# Writing ------------------------------------------------------------------------------------------


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, with a checksum over all of it in its metadata.

    It is written beside its place and then moved there: whoever reads it, even after a crash in
    the middle, finds the old file or the new one, whole.

    Args:
        path: of the file; folders that are missing are made.
        tensors: arrays by name.
        metadata: texts by name.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; an old file is unharmed.
        FileError: a dtype that a file cannot hold, or more arrays and texts than fit into a
            header.
    """
    path = Path(path)
    buffers = {name: _bytes(name, one) for name, one in _aligned(tensors)}
    header = _header(tensors, buffers, {**metadata, "crc32": "00000000"})
    if len(header) > MAX_HEADER:
        raise FileError(
            f"{path}: wanted a header of at most {MAX_HEADER:,} bytes, got {len(header):,}, of "
            f"{len(tensors)} arrays and {sum(map(len, metadata.values())):,} characters of texts; "
            f"write fewer arrays into one file, and long lists as arrays"
        )
    total = zlib.crc32(header)
    for buffer in buffers.values():
        total = zlib.crc32(buffer, total)
    header = with_sum(header, "00000000", f"{total:08x}", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}.{threading.get_ident()}"
    temporary = path.with_name(f"{path.name}.{writer}{PART}")
    try:
        with temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for buffer in buffers.values():
                file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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


def _aligned(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Wide dtypes first, so that every array lies at a multiple of its own width."""
    return sorted(tensors.items(), key=lambda item: (-width(CODES.get(item[1].dtype)), item[0]))


def _bytes(name: str, one: Tensor) -> memoryview:
    if one.dtype not in CODES:
        raise FileError(
            f"{name} is of dtype {one.dtype}, which a file cannot hold; it holds {', '.join(CODES)}"
        )
    values = one.values
    if one.dtype == BFLOAT16:
        bits = np.asarray(values, dtype=np.float32, order="C").view(np.uint32)
        if np.any(bits & 0xFFFF):
            raise FileError(f"{name} is said to be bfloat16, but its numbers need more bits")
        values = (bits >> 16).astype(np.uint16)
    wanted = np.dtype("uint16" if one.dtype == BFLOAT16 else one.dtype).newbyteorder("<")
    values = np.asarray(values, dtype=wanted, order="C")
    return values.reshape(-1).view(np.uint8).data


def _header(
    tensors: Mapping[str, Tensor], buffers: Mapping[str, memoryview], metadata: Mapping[str, str]
) -> bytes:
    fields: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, buffer in buffers.items():
        one = tensors[name]
        fields[name] = {
            "dtype": CODES[one.dtype],
            "shape": list(one.values.shape),
            "data_offsets": [start, start + buffer.nbytes],
        }
        start += buffer.nbytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def with_sum(header: bytes, old: str, new: str, path: Path) -> bytes:
    """The header with another checksum; a quote in a text has a backslash before it."""
    before, after = (f'"crc32":"{value}"'.encode() for value in (old, new))
    if header.count(before) != 1:
        raise FileError(f"{path} has no checksum where it should be; save it again")
    return header.replace(before, after)


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


def width(code: str | None) -> int:
    """The bytes of one number of that code."""
    return 1 if code in (None, "BOOL") else int(str(code).lstrip("BFIU")) // 8
