"""``xpnn xray MODEL DATA``: a page that looks into a training step, or one that follows a run."""

import argparse
import errno
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.commands.options import UsageError, refuse_unused
from xpnn.commands.reports import COLUMNS, tell
from xpnn.commands.sources import opened, read_arrays
from xpnn.data.columns import Columns
from xpnn.network import Network, load
from xpnn.training import Callback
from xpnn.training.names import OPTIMIZERS
from xpnn.xray import XRay, explain
from xpnn.xray.serving import Server

LAST_PORT = 65535
MOST = 20
"""Steps of a run that are kept, evenly over all of it."""

Batch = tuple[Any, Any, Any]
"""Inputs, targets, and the name of the loss, or a dict of such for several outputs."""


def xray(options: argparse.Namespace) -> int:
    """Look into one step on the first rows, and write a page or picture; or serve that of a run."""
    if options.watch is not None:
        return _watch(options)
    if options.port:
        raise UsageError(
            "--port is of a page that follows a run; add --watch FOLDER, or leave it out"
        )
    if options.model is None or options.data is None:
        raise UsageError("name a model and data to look into a step, or a run by --watch FOLDER")
    ending = options.out.suffix.lower()
    if ending not in (".html", ".svg"):
        raise UsageError(
            f"wanted a page, that ends in .html, or a picture, that ends in .svg, got {options.out}"
        )
    network = load(options.model, options.backend)
    columns = network.attachments.get(COLUMNS)
    if isinstance(columns, Columns):
        x, y, loss = _of_table(options, columns)
    else:
        x, y, loss = _of_arrays(options, network)
    optimizer: Any = OPTIMIZERS[options.optimizer]
    seen = explain(network, x, y, loss, optimizer(options.rate))
    (seen.to_html if ending == ".html" else seen.to_svg)(options.out)
    record = {
        "file": str(options.out),
        "layers": len(seen.layers),
        "rows": len(next(iter(x.values())) if isinstance(x, dict) else x),
        "loss": seen.steps[0].loss,
        "loss_name": seen.loss_name,
        "bytes": options.out.stat().st_size,
    }

    def words() -> None:
        print(
            f"one step on {record['rows']} rows: {record['loss_name']} {record['loss']:.6g}, "
            f"{record['layers']} layers"
        )
        print(f"wrote {options.out}, {record['bytes']:,} bytes; open it in a browser")

    tell(options, record, words)
    return 0


def followers(options: argparse.Namespace) -> list[Callback]:
    """What ``--xray`` asks of a training: to write what ``xpnn xray --watch`` serves."""
    return [XRay(options.xray, most=MOST, folder=options.out)] if options.xray else []


def _of_table(options: argparse.Namespace, columns: Columns) -> Batch:
    """The first rows of a table, for a network that knows its columns."""
    with opened(options, columns.texts) as tables:
        table = next(iter(tables))
        x, y = columns.transform(table), columns.targets(table)
    rows = options.rows
    cut = {name: one[:rows] for name, one in x.items()} if isinstance(x, dict) else x[:rows]
    fitting = "cross_entropy" if columns.classes is not None else "mse"
    return cut, y[:rows], options.loss or fitting


def _of_arrays(options: argparse.Namespace, network: Network) -> Batch:
    """The first samples of arrays, which are called as inputs and outputs of the network are."""
    if not options.data.lower().endswith(".npz"):
        raise UsageError(
            f"wanted a file that ends in .npz, got {options.data}; tables are for networks of "
            f"xpnn train, which know their columns"
        )
    arrays = read_arrays(Path(options.data))
    inputs = [name for *_, name in network.inputs]
    outputs = list(network.output_names) if len(network.output_names) > 1 else ["y"]
    for name in itertools.chain(inputs, outputs):
        if name not in arrays:
            raise UsageError(
                f"wanted arrays {', '.join([*inputs, *outputs])} in {options.data}, got "
                f"{', '.join(arrays) or 'none'}; name them so by numpy.savez"
            )
        if not arrays[name].ndim:
            raise UsageError(
                f"wanted a row for each sample in {options.data}, got one number, {name}; save a "
                f"batch of it"
            )
    x, y = ({name: arrays[name][: options.rows] for name in names} for names in (inputs, outputs))
    losses = {name: options.loss or _fitting(one) for name, one in y.items()}
    return _one_or_all(x), _one_or_all(y), _one_or_all(losses)


def _one_or_all(by_name: dict[str, Any]) -> Any:
    return by_name if len(by_name) > 1 else next(iter(by_name.values()))


def _fitting(targets: np.ndarray) -> str:
    return "cross_entropy" if targets.dtype.kind in "iub" else "mse"


def _watch(options: argparse.Namespace) -> int:
    refuse_unused(
        options,
        ("watch", "port"),
        "beside --watch, which follows a run",
        "leave out the one or the other: they are for one step",
    )
    if options.port > LAST_PORT:
        raise UsageError(f"wanted a port of at most {LAST_PORT}, got {options.port}")
    with _server(options.watch, options.port) as server:
        print(f"{server.url} follows {options.watch}; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _server(folder: Path, port: int) -> Server:
    try:
        return Server(folder, port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        reason = "is taken" if error.errno == errno.EADDRINUSE else "is for administrators"
        raise UsageError(f"port {port} {reason}; write another one, or --port 0 for any") from None
