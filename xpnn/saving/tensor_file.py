"""Reading safetensors files, of which nothing is believed.

All that a header says is checked against itself and against the size of the file, before memory
for an array is asked for: arrays lie one behind the other, without gaps or overlaps, each as long
as its dtype and shape say, and end where the file ends.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from xpnn.errors import FileError
from xpnn.files import open_file
from xpnn.initializers import check_memory
from xpnn.saving.tensors import (
    BFLOAT16,
    CHUNK,
    CODES,
    MAX_HEADER,
    METADATA,
    NAMES,
    NO_SUM,
    width,
    with_sum,
)

OTHERS = {
    b"PK\x03\x04": "a zip archive, such as torch.save, numpy.savez and Keras write",
    b"\x80": "a pickle, such as older versions of torch.save wrote",
    b"\x89HDF": "an HDF5 file, such as Keras writes",
    b"\x93NUMPY": "an array of numpy.save",
    b"GGUF": "a GGUF file",
    b"{": "JSON, such as the index of weights in several files",
}
"""How files begin that may be taken for one of weights. A header that long there is not."""


@dataclass(frozen=True)
class Entry:
    """Where an array lies in the data of a file.

    Attributes:
        dtype: its name, such as "float32".
        shape: of the array.
        start, stop: of its bytes, counted from where the header ends.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """A safetensors file that is open for reading, its header checked; a context manager.

    Args:
        path: of the file.

    Attributes:
        metadata: texts by name.
        entries: what the file holds, by name; read one with ``read``.

    Raises:
        OSError: the file is not there, or cannot be read.
        FileError: it is not a whole safetensors file, or no file at all.

    >>> import tempfile
    >>> from xpnn import Dense, Network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Network([Dense(2)], input_shape=(3,)).save(f"{folder}/small.safetensors")
    ...     with TensorFile(f"{folder}/small.safetensors") as file:
    ...         sorted(file.entries), file.read("0.dense.bias").tolist()
    (['0.dense.bias', '0.dense.weight'], [0.0, 0.0])
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = open_file(self.path)
        try:
            self._header, self._data = self._read_header()
            fields = self._parsed(self._header)
            self.metadata = self._texts(fields.pop(METADATA, {}))
            size = os.fstat(self._file.fileno()).st_size - self._data
            self.entries = dict(self._laid_out(fields, size))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __repr__(self) -> str:
        return f"TensorFile({str(self.path)!r})"

    @property
    def elements(self) -> int:
        """How many numbers the file holds."""
        return sum(math.prod(entry.shape) for entry in self.entries.values())

    def read(self, name: str) -> np.ndarray:
        """A copy of an array; bfloat16 comes as float32."""
        entry = self.entries[name]
        buffer = np.empty(entry.stop - entry.start, dtype=np.uint8)
        self._file.seek(self._data + entry.start)
        if self._file.readinto(buffer.data) != buffer.nbytes:
            raise self._torn("it ends too early")
        if entry.dtype == BFLOAT16:
            wide = buffer.view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(entry.shape)
        if entry.dtype == "bool":
            return (buffer != 0).reshape(entry.shape)
        stored = buffer.view(np.dtype(entry.dtype).newbyteorder("<"))
        return stored.astype(entry.dtype, copy=False).reshape(entry.shape)

    def read_all(self) -> dict[str, np.ndarray]:
        """Copies of all arrays by name.

        Raises:
            OutOfMemory: together they are larger than the memory of this machine.
        """
        nbytes = sum(
            (entry.stop - entry.start) * (2 if entry.dtype == BFLOAT16 else 1)
            for entry in self.entries.values()
        )
        check_memory(nbytes, f"all arrays of {self.path}", "read it on a larger one")
        return {name: self.read(name) for name in self.entries}

    def check_sum(self) -> None:
        """Compare the file with its checksum.

        Others than xpnn write none: ask whether there is a ``crc32`` among the metadata.

        Raises:
            FileError: a byte has changed, or there is no checksum.
        """
        said = self.metadata.get("crc32", "")
        total = zlib.crc32(with_sum(self._header, said, NO_SUM, self.path))
        self._file.seek(self._data)
        while chunk := self._file.read(CHUNK):
            total = zlib.crc32(chunk, total)
        if f"{total:08x}" != said:
            raise FileError(
                f"{self.path} is damaged: its bytes do not give the checksum {said!r} that they "
                f"had when it was written; get or save it again"
            )

    # The header -----------------------------------------------------------------------------------

    def _torn(self, why: str) -> FileError:
        return FileError(
            f"{self.path} is not a whole safetensors file ({why}); save it again, or name a "
            f"file of a network or of weights"
        )

    def _read_header(self) -> tuple[bytes, int]:
        size, start = os.fstat(self._file.fileno()).st_size, self._file.read(8)
        if len(start) < 8:
            raise self._torn(f"it has {size} bytes")
        (length,) = struct.unpack("<Q", start)
        other = next((what for magic, what in OTHERS.items() if start.startswith(magic)), None)
        if length > MAX_HEADER and other:
            raise FileError(
                f"wanted a safetensors file, but {self.path} is {other}. What PyTorch has saved is "
                f"read by load_torch_weights(network, torch.load(path)), if it is a state_dict; "
                f"write the weights of another library with safetensors"
            )
        if length > min(MAX_HEADER, size - 8):
            raise self._torn(f"its header would be {length} bytes long")
        header = self._file.read(length)
        if len(header) != length:
            raise self._torn("its header ends too early")
        return header, 8 + length

    def _parsed(self, header: bytes) -> dict[str, Any]:
        try:
            fields = strict_json(header.decode())
        except ValueError as error:
            raise self._torn(f"its header is not JSON: {str(error)[:200]}") from None
        if not isinstance(fields, dict):
            raise self._torn("its header is not a dictionary")
        return fields

    def _texts(self, metadata: Any) -> dict[str, str]:
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._torn("its metadata are not texts by name")
        return metadata

    def _laid_out(self, fields: dict[str, Any], size: int) -> Iterator[tuple[str, Entry]]:
        """The entries in the order of the data, without gaps or overlaps, up to the file's end."""
        entries = [(name, self._entry(name, field)) for name, field in fields.items()]
        end = 0
        for name, entry in sorted(entries, key=lambda item: (item[1].start, item[1].stop)):
            if entry.start != end:
                raise self._torn(f"{name[:100]!r} lies at {entry.start}, wanted {end}")
            end = entry.stop
            yield name, entry
        if end != size:
            raise self._torn(f"its arrays take {end} bytes, and there are {size}")

    def _entry(self, name: str, field: Any) -> Entry:
        try:
            if field.keys() != {"dtype", "shape", "data_offsets"}:
                raise ValueError
            dtype, shape = NAMES.get(field["dtype"]), tuple(field["shape"])
            start, stop = field["data_offsets"]
            if not all(type(n) is int and 0 <= n < 2**60 for n in (start, stop, *shape)):
                raise ValueError
        except (AttributeError, TypeError, ValueError):
            raise self._torn(f"what it says of {name[:100]!r} makes no sense") from None
        if dtype is None:
            raise FileError(
                f"{self.path}: {name[:100]!r} is of a dtype that xpnn does not read, "
                f"{str(field['dtype'])[:20]!r}; save it as one of {', '.join(NAMES)}"
            )
        large = len(shape) > 32 or math.prod(n or 1 for n in shape) >= 2**60
        if large or math.prod(shape) * width(CODES[dtype]) != stop - start:
            raise self._torn(f"{name[:100]!r} has {stop - start} bytes, which is not its shape")
        return Entry(dtype, shape, start, stop)


def strict_json(text: str) -> Any:
    """JSON without repeated names, NaN and infinities, which the standard does not have.

    Raises:
        ValueError: it is not that, or nested too deep.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name comes twice")
        return found

    def none(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=none)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
