"""``xpnn inspect FILE``: what a file of a network, of weights or of a training holds."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from xpnn.commands.reports import tell
from xpnn.files import file_status
from xpnn.network import load
from xpnn.saving import TensorFile
from xpnn.saving.folder import MODEL_FILE, is_model_folder
from xpnn.saving.tensor_file import strict_json
from xpnn.saving.versions import CHECKPOINT, MODEL, format_of

SHOWN = 40
"""Arrays that are listed unless all are asked for."""


def inspect_file(options: argparse.Namespace) -> int:
    """Print what it is, whether it is whole, and its arrays."""
    path: Path = options.file
    if is_model_folder(path):
        path = path / MODEL_FILE
    record: dict[str, Any] = {"file": str(path), "bytes": file_status(path).st_size}
    with TensorFile(path) as file:
        kind = format_of(file)
        record |= {"format": kind, "version": file.metadata.get("version")}
        if "crc32" in file.metadata:
            file.check_sum()
        record["checksum"] = "right" if "crc32" in file.metadata else None
        record["arrays"] = {
            name: {"dtype": one.dtype, "shape": list(one.shape)}
            for name, one in file.entries.items()
        }
        record["numbers"] = sum(math.prod(one.shape) for one in file.entries.values())
        if kind == CHECKPOINT:
            record |= _of_training(file)
    summary = ""
    if kind == MODEL:
        network = load(path)
        summary = str(network.summary())
        record["layers"] = [[name, repr(layer)] for name, layer in network.walk() if name]
        record["attachments"] = {name: repr(one) for name, one in network.attachments.items()}
    tell(options, record, lambda: _words(record, summary, options.all))
    return 0


def _of_training(file: TensorFile) -> dict[str, Any]:
    """Where a checkpoint stands."""
    contents = strict_json(file.metadata.get("contents", "{}"))
    trainer, run = contents.get("trainer", {}), contents.get("run", {})
    return {
        "training": {
            "epochs": trainer.get("epoch"),
            "steps": trainer.get("steps"),
            "stopped": run.get("stop_reason"),
            "callbacks": [one.get("kind") for one in contents.get("callbacks", [])],
            "attachments": [*json.loads(contents.get("attachments") or "{}")],
        }
    }


def _words(record: dict[str, Any], summary: str, every: bool) -> None:
    version = f", version {record['version']}" if record["version"] else ""
    print(f"{record['file']}: {record['bytes']:,} bytes, format {record['format']}{version}")
    print(
        "its checksum is right"
        if record["checksum"]
        else "it has no checksum, as files of other programs"
    )
    for name, value in record.get("training", {}).items():
        if value not in (None, []):
            print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    for name, value in record.get("attachments", {}).items():
        print(f"attachment {name}: {value}")
    if summary:
        print(summary)
        return
    arrays = record["arrays"]
    print(f"{len(arrays)} arrays, {record['numbers']:,} numbers:")
    for name, one in [*arrays.items()][: None if every else SHOWN]:
        print(f"  {name}  {one['dtype']} ({', '.join(map(str, one['shape']))})")
    if len(arrays) > SHOWN and not every:
        print(f"  and {len(arrays) - SHOWN} more; --all lists them")
