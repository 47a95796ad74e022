"""The command ``xpnn``: trains on tables, predicts, measures, exports, and looks at files."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from xpnn import __version__
from xpnn.commands.bench import bench
from xpnn.commands.completion import HOW, SHELLS, completion
from xpnn.commands.digits import train_on_digits
from xpnn.commands.doctor import doctor
from xpnn.commands.evaluate import evaluate
from xpnn.commands.export import export
from xpnn.commands.inspect_file import inspect_file
from xpnn.commands.launch import ENGINES, launch
from xpnn.commands.options import (
    Parser,
    UsageError,
    above_zero,
    add_backend,
    add_json,
    add_reading,
    add_training,
    arguments_of_toml,
    counting,
    keep_usual,
    names,
    path,
    refuse_unused,
    widths,
)
from xpnn.commands.parity import parity
from xpnn.commands.predict import predict
from xpnn.commands.train import train
from xpnn.commands.xray import xray
from xpnn.errors import XpnnError
from xpnn.training.names import LOSSES, OPTIMIZERS

HELP = {
    "train": "train on a table, CSV, Parquet, npz or npy; without one, on the 8x8 digits",
    "evaluate": "measure a trained network on a table",
    "predict": "tell a trained network's answer for each row of a table",
    "export": "write a network as ONNX",
    "inspect": "what a file of a network, of weights or a checkpoint holds",
    "xray": "a page that looks into one training step, or that follows a run",
    "launch": "run a program in several processes of this machine, which train together",
    "bench": "time training steps on the backends of this machine",
    "parity": "train one network on each backend of this machine, and compare",
    "doctor": "what works on this machine, and what to type if not",
    "completion": "print what lets a shell complete xpnn",
}

EPILOG = """exit status: 0 done; 1 it failed, or backends differ; 2 wrong usage; 130 interrupted"""

USED_ON_DIGITS = (
    *("config", "backend", "epochs", "batch_size", "seed", "out", "quiet", "xray", "resume"),
    "json",
)

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    parser, commands = parsers()
    options = _parsed(parser, commands, given)
    try:
        options = _with_config(parser, commands, options, given)
        return int(options.run(options))
    except UsageError as error:
        print(f"xpnn: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has seen enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (XpnnError, OSError, ModuleNotFoundError) as error:
        print(f"xpnn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ()):
            print(f"xpnn: {note}", file=sys.stderr)
        hint = "; the same command with --resume goes on" if options.command == "train" else ""
        print(f"xpnn: interrupted{hint}", file=sys.stderr)
        return 130


def _parsed(
    parser: Parser, commands: dict[str, Parser], given: Sequence[str]
) -> argparse.Namespace:
    options, unknown = parser.parse_known_args(given)
    commands[options.command].refuse(unknown)
    return options


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """That of the whole command line, and those of the commands by name."""
    parser = Parser(prog="xpnn", description=__doc__, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"xpnn {__version__}")
    adding = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    commands: dict[str, Parser] = {}

    def command(name: str, run: Run) -> Parser:
        made = adding.add_parser(name, help=HELP[name], description=HELP[name], epilog=EPILOG)
        made.set_defaults(run=run)
        commands[name] = made
        return made

    _add_train(command("train", _train))
    for name, run in {"evaluate": evaluate, "predict": predict}.items():
        one = command(name, run)
        one.add_argument("model", type=path, metavar="MODEL", help="a file of xpnn train")
        one.add_argument("data", metavar="TABLE", help="a table, or - for CSV that comes in")
        add_backend(one)
        add_reading(one)
    add_json(commands["evaluate"])
    _add_predict(commands["predict"])
    one = command("export", export)
    one.add_argument("model", type=path, metavar="MODEL", help="a file of a network")
    one.add_argument("out", type=path, metavar="FILE", help="that ends in .onnx")
    one.add_argument("--opset", type=counting(1), metavar="N", help="version of ONNX's operators")
    one.add_argument("--probabilities", action="store_true", help="of classes, in place of logits")
    add_json(one)
    one = command("inspect", inspect_file)
    one.add_argument("file", type=path, metavar="FILE", help="a file, or a folder of a network")
    one.add_argument("--all", action="store_true", help="list all arrays")
    add_json(one)
    _add_xray(command("xray", xray))
    _add_launch(command("launch", launch))
    _add_machine(command)
    one = command("completion", lambda given: _completion(given, commands))
    one.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return parser, commands


def _add_train(parser: Parser) -> None:
    add = parser.add_argument
    add("data", nargs="?", metavar="TABLE", help="a table, or - for CSV that comes in")
    add("--config", type=path, metavar="FILE", help="a TOML file of these options; others go first")
    add_training(parser)
    add_backend(parser)
    add("--epochs", type=counting(1), metavar="N", help="10, or 40 on the digits, unless given")
    add("--batch-size", type=counting(1), metavar="ROWS", help="by the number of rows unless given")
    add("--seed", type=counting(0), default=0, metavar="N", help="of weights, orders and the split")
    add("--out", type=path, metavar="FOLDER", help="for results; runs/NAME unless given")
    add("--quiet", action="store_true", help="no progress")
    add(
        "--xray",
        type=counting(1),
        metavar="STEPS",
        help="look into every so many-th, for xpnn xray",
    )
    add("--resume", action="store_true", help="go on from where the same command was interrupted")
    add_reading(parser)
    add_json(parser)
    keep_usual(parser)


def _add_predict(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "-o",
        "--out",
        type=path,
        metavar="FILE",
        help=".csv, .jsonl or .parquet; else CSV is printed",
    )
    add("--keep", type=names, default=[], metavar="COLUMNS", help="to write besides: a,b, or all")
    add("--probabilities", action="store_true", help="of all classes besides")


def _add_xray(parser: Parser) -> None:
    add = parser.add_argument
    add("model", nargs="?", type=path, metavar="MODEL", help="a file of a network")
    add("data", nargs="?", metavar="DATA", help=".npz of x and y; or a table, for xpnn train's")
    add("--watch", type=path, metavar="FOLDER", help="serve a page that follows a run, here alone")
    add("--port", type=counting(0), default=0, metavar="N", help="of it; any that is free")
    add(
        "-o",
        "--out",
        type=path,
        default=Path("xray.html"),
        metavar="FILE",
        help="xray.html; or .svg",
    )
    add("--rows", type=counting(1), default=32, metavar="N", help="of the batch; 32")
    add(
        "--loss",
        choices=sorted(LOSSES),
        metavar="NAME",
        help="cross_entropy for classes, mse for numbers, unless given",
    )
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adam", help="what takes the step")
    add("--rate", type=above_zero, default=1e-3, metavar="RATE", help="the learning rate")
    add_backend(parser)
    add_reading(parser)
    add_json(parser)
    keep_usual(parser)


def _add_launch(parser: Parser) -> None:
    add = parser.add_argument
    add("-n", "--processes", type=counting(1), required=True, metavar="N", help="how many to start")
    add(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="of the sums; MPI, where it is, unless given",
    )
    add("-m", "--module", action="store_true", help="PROGRAM is the name of a module")
    add("--quiet", action="store_true", help="of processes behind the first show errors alone")
    add("--timeout", type=above_zero, metavar="SECONDS", help="that one may wait for another; 600")
    add(
        "program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="and all that it is to be told"
    )


def _add_machine(command: Callable[[str, Run], Parser]) -> None:
    one = command("bench", bench)
    one.add_argument("--layers", type=widths, default=(256, 256), metavar="WIDTHS", help="256,256")
    one.add_argument("--features", type=counting(1), default=64, metavar="N", help="inputs; 64")
    one.add_argument("--batch-size", type=counting(1), default=128, metavar="N", help="128")
    one.add_argument(
        "--steps", type=counting(1), default=50, metavar="N", help="that are timed; 50"
    )
    other = command("parity", parity)
    other.add_argument("--epochs", type=counting(1), default=3, metavar="N", help="3 unless given")
    other.add_argument("--seed", type=counting(0), default=0, metavar="N", help="of the weights")
    other.add_argument(
        "--tolerance", type=above_zero, default=1e-3, metavar="SHARE", help="of a loss; 0.001"
    )
    for parser in (one, other):
        parser.add_argument(
            "--backends", type=names, metavar="NAMES", help="such as numpy,torch; all that work"
        )
        add_json(parser)
    add_json(command("doctor", doctor))


def _train(options: argparse.Namespace) -> int:
    on_table = options.data is not None
    if not on_table:
        refuse_unused(
            options,
            USED_ON_DIGITS,
            "without a table",
            "name one, as in xpnn train table.csv, or leave them out to train on the digits",
        )
    options.epochs = options.epochs or (10 if on_table else 40)
    return train(options) if on_table else train_on_digits(options)


def _with_config(
    parser: Parser,
    commands: dict[str, Parser],
    options: argparse.Namespace,
    given: list[str],
) -> argparse.Namespace:
    """The options with those of a TOML file, where one is named; the command line goes first."""
    file: Path | None = getattr(options, "config", None)
    if file is None:
        return options
    before, data = options, options.data
    said = arguments_of_toml(file, commands[before.command])
    table = [one for one in said if not one.startswith("--")]
    place = given.index(before.command) + 1
    others = [one for one in said if one.startswith("--")]
    options = _parsed(parser, commands, [*given[:place], *others, *given[place:]])
    if data is None and table:
        options.data = table[0]
    return options


def _completion(options: argparse.Namespace, commands: dict[str, Parser]) -> int:
    print(completion(options.shell, commands, HELP), end="")
    print(f"# write into what {options.shell} reads when it begins: {HOW[options.shell]}")
    return 0
