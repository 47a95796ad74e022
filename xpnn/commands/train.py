"""``xpnn train TABLE``: a network that tells one column of a table by the others."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from xpnn.commands.options import UsageError, did_you_mean, toml_of
from xpnn.commands.reports import BATCH, COLUMNS, peak_memory, report, show, tell
from xpnn.commands.sources import Tables, check_columns, names_in, opened
from xpnn.commands.xray import followers
from xpnn.data.columns import Columns
from xpnn.data.columns.written import ENCODINGS
from xpnn.files import replacement
from xpnn.layers import Dense, Dropout
from xpnn.network import Network
from xpnn.training import (
    BestWeights,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    StopOnNaN,
    Trainer,
)
from xpnn.training.checkpointing.resuming import numbered
from xpnn.training.names import OPTIMIZERS

MODEL, HISTORY, REPORT, SETTINGS = "model.safetensors", "history.csv", "report.json", "run.toml"

KEPT = (
    *("data", "target", "task", "layers", "activation", "dropout", "optimizer", "rate", "hold_out"),
    *("patience", "window", "drop", "dtype", "backend", "epochs", "batch_size", "seed", "out"),
    *("xray", "delimiter", "decimal_point", "encoding", "encode"),
)
"""Options that ``run.toml`` holds; tables come last."""

FEW_ROWS, LARGE = 20_000, 1024


def train(options: argparse.Namespace) -> int:
    """Learn the columns, train, hold out, report; all goes into the folder ``options.out``."""
    started = time.perf_counter()
    out = options.out or Path("runs") / _stem(str(options.data))
    options.out = out
    say = (lambda *_: None) if options.json else print
    with opened(options) as tables:
        _check(options, names_in(tables))
        training, held = tables.split(options.hold_out or 0.2, options.seed)
        if not options.hold_out:
            training = tables
        columns, rows = _learned(options, training)
        options.batch_size = options.batch_size or _batch_size(rows)
        network = _network(options, columns)
        trainer = _trainer(options, network, measured=bool(options.hold_out))
        checkpoints = out / "checkpoints"
        if not options.resume:  # what an earlier run has left goes when nothing is wrong with this
            for path in filter(Path.is_file, numbered(checkpoints)):
                path.unlink()
        _show_start(say, options, columns, rows, network)
        batches = columns.batches(
            training, batch_size=options.batch_size, window=options.window, seed=options.seed
        )
        measured_on: Any = columns.batches(held, batch_size=BATCH) if options.hold_out else None
        trainer.fit(
            batches,
            epochs=options.epochs,
            validation=measured_on,
            progress=False if options.quiet or options.json else "auto",
            resume=checkpoints,
        )
        network.save(out / MODEL)
        found = report(network, columns, held if options.hold_out else training)
    record = {
        "model": str(out / MODEL),
        "target": options.target,
        "task": "classes" if columns.classes is not None else "numbers",
        "rows_trained_on": rows,
        "epochs": trainer.epoch,
        "held_out" if options.hold_out else "trained_on": found,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_bytes": peak_memory(),
    }
    for name, text in ((SETTINGS, toml_of(options, KEPT)), (REPORT, json.dumps(record, indent=2))):
        with replacement(out / name) as file:
            file.write(text.encode())
    tell(options, record, lambda: _show_end(out, record, found))
    return 0


def _stem(data: str) -> str:
    name = Path(data).name
    return "standard-input" if data == "-" else name.partition(".")[0].replace("*", "") or "table"


def _check(options: argparse.Namespace, known: tuple[str, ...]) -> None:
    if options.target is None and "y" in known and str(options.data).endswith((".npz", ".npy")):
        options.target = "y"
    if options.target is None:
        raise UsageError(
            f"name the column to predict, --target COLUMN; there are {', '.join(known[:20])}"
        )
    if options.target not in known and _is_place(options.target, len(known)):
        options.target = known[int(options.target)]
    check_columns([options.target, *options.drop, *dict(options.encode)], known, options.data)
    for column, encoding in options.encode:
        if encoding not in ENCODINGS:
            raise UsageError(
                f"there is no encoding {encoding!r} for column {column!r}"
                f"{did_you_mean(encoding, ENCODINGS)}"
            )
    if options.target in (*options.drop, *dict(options.encode)):
        raise UsageError(f"{options.target!r} is the target; leave it out of --drop and --encode")


def _is_place(text: str, columns: int) -> bool:
    """Whether it counts columns from the end, as -1 does."""
    return text.startswith("-") and text[1:].isdecimal() and 1 <= int(text[1:]) <= columns


def _learned(options: argparse.Namespace, tables: Tables) -> tuple[Columns, int]:
    """The columns, and of how many rows they have learned; numbers to tell are standardized."""
    encodings: dict[str, Any] = {**dict(options.encode), **dict.fromkeys(options.drop)}
    task: Any = {"auto": None, "classes": "classes", "numbers": "standardized"}[options.task]
    counted = _Counted(tables)
    columns = Columns(encodings, target=options.target, target_as=task)
    columns.fit(counted)
    if columns.classes is None and task is None:
        columns = Columns(encodings, target=options.target, target_as="standardized")
        columns.fit(tables)
    return columns, counted.rows


class _Counted:
    """Tables whose rows are counted while somebody goes through them."""

    def __init__(self, tables: Tables):
        self.tables, self.rows = tables, 0

    def __iter__(self) -> Any:
        for table in self.tables:
            self.rows += table.rows
            yield table


def _batch_size(rows: int) -> int:
    """32, and from some thousands of rows on more: so that an epoch has about 600 to 1200 steps."""
    size = 32
    while size < LARGE and rows > FEW_ROWS * size // 32:
        size *= 2
    return size


def _network(options: argparse.Namespace, columns: Columns) -> Network:
    inputs, node = columns.inputs()
    for width in options.layers:
        node = Dense(width, activation=options.activation)(node)
        if options.dropout:
            node = Dropout(options.dropout)(node)
    network = Network(
        inputs=inputs,
        outputs=Dense(columns.outputs)(node),
        backend=options.backend,
        seed=options.seed,
        dtype=options.dtype,
    )
    network.attachments[COLUMNS] = columns
    return network


def _trainer(options: argparse.Namespace, network: Network, measured: bool) -> Trainer:
    classes = network.attachments[COLUMNS].classes is not None
    callbacks: list[Callback] = [
        CSVLogger(options.out / HISTORY),
        StopOnNaN(),
        *([BestWeights()] if measured else []),
        *([EarlyStopping(patience=options.patience)] if measured and options.patience else []),
        Checkpoint(options.out / "checkpoints", keep=2),
        *followers(options),
    ]
    optimizer: Any = OPTIMIZERS[options.optimizer]
    return Trainer(
        network,
        "cross_entropy" if classes else "mse",
        optimizer(options.rate),
        metrics=["accuracy"] if classes else [],
        callbacks=callbacks,
    )


# Words --------------------------------------------------------------------------------------------


def _show_start(
    say: Any, options: argparse.Namespace, columns: Columns, rows: int, network: Network
) -> None:
    target = columns.classes
    what = "a number" if target is None else f"{len(target)} classes"
    used = {name: one for name, one in columns.encodings.items() if one is not None}
    out = [name for name, one in columns.encodings.items() if one is None]
    parameters = sum(int(one.size) for one in network.numpy_arrays().values())
    say(f"{options.target!r}, {what}, predicted from {len(used)} columns, by {rows:,} rows:")
    for kind in dict.fromkeys(one.kind for one in used.values()):
        say(f"  {kind}: {_listed([name for name, one in used.items() if one.kind == kind])}")
    if out:
        say(f"  left out: {_listed(out)}")
    say(f"{parameters:,} parameters, batches of {options.batch_size}, {options.backend}")


def _listed(names: list[str], shown: int = 12) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _show_end(out: Path, record: dict[str, Any], found: dict[str, Any]) -> None:
    held = "held_out" in record
    print(f"on {found['rows']:,} rows that were {'held out' if held else 'trained on'}:")
    show(found)
    peak = record["peak_memory_bytes"]
    memory = "" if peak is None else f", at most {peak / 1e6:,.0f} MB of memory"
    epochs = "1 epoch" if record["epochs"] == 1 else f"{record['epochs']} epochs"
    print(f"{epochs} in {record['seconds']:.1f} s{memory}")
    folder = str(out).encode(errors="backslashreplace").decode()  # names are any bytes
    print(f"wrote {MODEL}, {HISTORY}, {REPORT}, {SETTINGS} in {folder}")
