"""Files as somebody hostile would make them: any header and any data, with a checksum that fits."""

import json
import struct
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import pytest

import xpnn
from xpnn.errors import FileError

MEGABYTE = 1 << 20


def parts_of(path):
    """The header of a file as a dictionary, the description in it, and the data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"].get("network", "null")), content[8 + length :]


def forge(path, header, description=None, data=b""):
    """Write a file of that header; a description, an object or text, goes into its metadata."""
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        header = {**header, "__metadata__": {**header["__metadata__"], "network": text}}
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        metadata = {**header["__metadata__"], "crc32": "00000000"}
        header = {**header, "__metadata__": metadata}
    text = (
        header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    )
    total = zlib.crc32(data, zlib.crc32(text))
    text = text.replace(b'"crc32":"00000000"', f'"crc32":"{total:08x}"'.encode())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@contextmanager
def little(seconds=5.0, megabytes=64):
    """Fails where what is inside takes more memory, even if never touched, or more work."""
    tracemalloc.start()
    begun = time.process_time()  # the clock also counts what other processes do
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"
    assert time.process_time() - begun < seconds


def refused(path, message="", **bounds):
    with little(**bounds), pytest.raises(FileError, match=message) as caught:
        xpnn.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000


def loaded_or_refused(path):
    """Any other error goes through."""
    message = str(path)
    try:
        xpnn.load(path)
    except FileError as error:
        message = str(error)
    assert str(path) in message
