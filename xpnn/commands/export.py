"""``xpnn export MODEL FILE.onnx``: a network for other programs."""

import argparse
import json
from typing import Any

from xpnn.commands.options import UsageError
from xpnn.commands.reports import COLUMNS, tell
from xpnn.data.columns import Columns
from xpnn.losses import cross_entropy
from xpnn.network import load


def export(options: argparse.Namespace) -> int:
    """Write ONNX; what its inputs are of columns stands in its metadata."""
    if options.out.suffix.lower() != ".onnx":
        raise UsageError(f"wanted a file that ends in .onnx, got {options.out}")
    network = load(options.model, "numpy")
    columns = network.attachments.get(COLUMNS)
    told: dict[str, Any] = {}
    if isinstance(columns, Columns):
        told = {"features": columns.feature_names, "classes": columns.classes}
        if columns.classes is None:
            told.pop("classes")
    asks = options.probabilities
    if asks and "classes" not in told and told:
        raise UsageError(
            f"{options.model} tells numbers, which have no probabilities; leave it out"
        )
    network.to_onnx(
        options.out,
        opset=options.opset,
        probabilities=cross_entropy if asks else None,
        metadata={f"xpnn.{name}": json.dumps(one) for name, one in told.items()},
    )
    size = options.out.stat().st_size
    inputs = {name: [list(shape), kind] for shape, kind, name in network.inputs}
    record = {"file": str(options.out), "bytes": size, "inputs": inputs}

    def words() -> None:
        print(f"wrote {options.out}, {size:,} bytes")
        for name, (shape, kind) in inputs.items():
            print(f"  input {name}: {kind}, (batch, {', '.join(map(str, shape))})")
        if told:
            print("  the inputs are what network.attachments['columns'].transform gives")

    tell(options, record, words)
    return 0
