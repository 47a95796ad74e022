"""Arrays into safetensors files: in their exact dtypes, and whole or not at all.

A file is eight bytes for the length of the header, the header in JSON, and the arrays one behind
the other. The header says of each array its dtype, its shape and where it lies, and has a
dictionary of texts, the metadata. No code is in it. What xpnn writes has a checksum besides.
``TensorFile`` reads such files.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import FileError
from xpnn.files import replacement

MAX_HEADER = 10_000_000
"""Bytes of a header; enough for some 80,000 arrays."""

CHUNK = 1 << 22
"""Bytes that are read or written in one go."""

METADATA = "__metadata__"
"""What the texts are called among the arrays."""

NO_SUM = "00000000"
"""What stands for the checksum while it is worked out."""

BFLOAT16 = "bfloat16"
CODES = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
    BFLOAT16: "BF16",
}
"""The dtypes that a file can hold, and how safetensors calls them."""

NAMES = {code: name for name, code in CODES.items()}


@dataclass(frozen=True)
class Tensor:
    """An array on its way into a file.

    Attributes:
        dtype: its name, such as "float32" or "bfloat16".
        values: on the host; bfloat16, which NumPy lacks, as float32, which holds it exactly.

    >>> import numpy as np
    >>> Tensor("float32", np.zeros(2, np.float32)).dtype
    'float32'
    """

    dtype: str
    values: np.ndarray


def tensor(value: Any, backend: Backend) -> Tensor:
    """An array of ``backend``, or a Python number, as a file holds it.

    Args:
        value: an array, or a number.
        backend: of the array.

    Returns:
        Its values on the host, with the name of its dtype.

    >>> import numpy as np
    >>> from xpnn import get_backend
    >>> tensor(np.ones(2, np.float32), get_backend("numpy"))
    Tensor(dtype='float32', values=array([1., 1.], dtype=float32))
    """
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
    """Write a safetensors file, whole or not at all, with a checksum over all of it.

    The checksum is that of the bytes that went into the file, also where another thread writes into
    an array meanwhile.

    Args:
        path: of the file; folders that are missing are made.
        tensors: arrays by name.
        metadata: texts by name.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; an old file is unharmed.
        FileError: a dtype that a file cannot hold, or more arrays and texts than fit into a
            header; or something else than a file lies there.

    >>> import tempfile
    >>> import numpy as np
    >>> from xpnn.saving import Tensor, TensorFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/numbers.safetensors"
    ...     x = Tensor("float32", np.ones(2, np.float32))
    ...     write_tensors(path, {"x": x}, {"made by": "hand"})
    ...     with TensorFile(path) as file:
    ...         file.read("x").tolist(), file.metadata["made by"]
    ([1.0, 1.0], 'hand')
    """
    path = Path(path)
    if METADATA in tensors:
        raise FileError(f"{path}: no array can be called {METADATA}; give it another name")
    buffers = {name: _bytes(name, one) for name, one in _aligned(tensors)}
    header = _header(tensors, buffers, {**metadata, "crc32": NO_SUM})
    if len(header) > MAX_HEADER:
        raise FileError(
            f"{path}: wanted a header of at most {MAX_HEADER:,} bytes, got {len(header):,}, of "
            f"{len(tensors)} arrays and {sum(map(len, metadata.values())):,} characters of texts; "
            f"write fewer arrays into one file, and long lists as arrays"
        )
    length, total = struct.pack("<Q", len(header)), zlib.crc32(header)
    with replacement(path) as file:
        file.write(length + header)
        for buffer in buffers.values():
            for start in range(0, len(buffer), CHUNK):
                piece = bytes(buffer[start : start + CHUNK])
                total = zlib.crc32(piece, total)
                file.write(piece)
        file.seek(len(length))
        file.write(with_sum(header, NO_SUM, f"{total:08x}", path))


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
    fields: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
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


def width(code: str | None) -> int:
    """The bytes of one number of that code."""
    return 1 if code in (None, "BOOL") else int(str(code).lstrip("BFIU")) // 8
