"""The formats that xpnn writes, their versions, and the way from old ones to the current one."""

from collections.abc import Callable, Mapping
from typing import Any

from xpnn.errors import FileError
from xpnn.saving.tensor_file import TensorFile

MODEL, MODEL_VERSION = "xpnn-model", 1
WEIGHTS, WEIGHTS_VERSION = "xpnn-weights", 2  # 1 had no checksum

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

MODEL_UPGRADES: dict[int, Upgrade] = {}
"""What turns the description of a network of one version into that of the next."""


def version_of(file: TensorFile, kind: str, current: int) -> int:
    """The version of a file of the format ``kind``, ``current`` at most.

    Raises:
        FileError: the file is of another format, or newer than this xpnn.
    """
    found, number = file.metadata.get("format", "none"), file.metadata.get("version", "")
    if found != kind:
        raise FileError(f"{file.path} is of the format {found[:40]!r}, wanted {kind!r}")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise FileError(f"{file.path} says that its version is {number[:40]!r}, wanted a number")
    if int(number) > current:
        raise FileError(
            f"{file.path} is of version {number} of the format {kind!r}, and this xpnn reads up to "
            f"{current}; update xpnn"
        )
    return int(number)


def upgraded(
    description: dict[str, Any], version: int, current: int, upgrades: Mapping[int, Upgrade]
) -> dict[str, Any]:
    """A description as the current version has it, by way of all versions in between.

    Raises:
        FileError: there is no way from that version.
    """
    for number in range(version, current):
        if number not in upgrades:
            raise FileError(f"version {number} of the format is not read any more")
        description = upgrades[number](description)
    return description
