"""The formats that xpnn writes, their versions, and the way from old ones to the current one."""

from collections.abc import Callable, Mapping
from typing import Any

from xpnn.errors import FileError
from xpnn.saving.tensor_file import TensorFile

MODEL, MODEL_VERSION = "xpnn-model", 2  # 1 had no graphs
WEIGHTS, WEIGHTS_VERSION = "xpnn-weights", 2  # 1 had no checksum
CHECKPOINT, CHECKPOINT_VERSION = "xpnn-checkpoint", 3
TORCH = "pt"  # as safetensors.torch calls its own

READ_BY = {
    MODEL: "xpnn.load(path)",
    WEIGHTS: "xpnn.load_weights(network, path)",
    CHECKPOINT: "trainer.load(path) or trainer.fit(..., resume=path)",
    TORCH: "xpnn.saving.load_torch_weights(network, path)",
}
"""What reads each format, for those who have called something else."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

MODEL_UPGRADES: dict[int, Upgrade] = {1: lambda description: description}
"""What turns the description of a network of one version into that of the next."""


def format_of(file: TensorFile) -> str:
    """What a file says that it is."""
    return file.metadata.get("format", "none")


def other_format(file: TensorFile, wanted: str) -> FileError:
    """The error for a file of another format than the one that is read here."""
    found = format_of(file)
    reader = READ_BY.get(found, f"{READ_BY[WEIGHTS]} or {READ_BY[TORCH]}")
    return FileError(
        f"{file.path} is of the format {found[:40]!r}, wanted {wanted!r}; read it by {reader}"
    )


def version_of(file: TensorFile, kind: str, current: int) -> int:
    """The version of a file of the format ``kind``, ``current`` at most.

    Raises:
        FileError: the file is of another format, or newer than this xpnn.
    """
    found, number = format_of(file), file.metadata.get("version", "")
    if found != kind:
        raise other_format(file, kind)
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
