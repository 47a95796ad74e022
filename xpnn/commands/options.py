"""What options of commands are, in a command line or in a TOML file."""

import argparse
import difflib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from xpnn.files import open_file
from xpnn.layers.activated import ACTIVATIONS
from xpnn.training.names import OPTIMIZERS


class UsageError(Exception):
    """What was asked for makes no sense; the message says what to ask for instead."""


def did_you_mean(name: str, known: Iterable[str], shown: int = 20) -> str:
    """The end of an error about a name that is not among those that are known.

    >>> did_you_mean("labl", ["size", "label"])
    ", did you mean 'label'? There are size, label"
    """
    names = [*known]
    close = difflib.get_close_matches(name, names, n=1)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (
        f"{f', did you mean {close[0]!r}?' if close else '.'} There are "
        f"{', '.join(names[:shown])}{more}"
    )


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and what may have been meant."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help lists what there is\n")

    def refuse(self, unknown: Sequence[str]) -> None:
        """End with an error, if there is anything that the command does not take."""
        if not unknown:
            return
        name = next((one.partition("=")[0] for one in unknown if one.startswith("-")), None)
        if name is None:
            self.error(f"there is no use for {' '.join(unknown)!r}")
        close = difflib.get_close_matches(name, self._option_string_actions, n=1)
        self.error(f"there is no option {name}{f', did you mean {close[0]}?' if close else ''}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"there is no {value!r}{did_you_mean(value, action.choices)}"
            )


def keep_usual(parser: argparse.ArgumentParser) -> None:
    """Let the options tell, by ``refuse_unused``, which of them were given."""
    parser.set_defaults(usual=vars(parser.parse_args([])))


def refuse_unused(options: argparse.Namespace, used: Iterable[str], reason: str, do: str) -> None:
    """Refuse options that were given and have no use.

    Args:
        options: of a command whose parser has been through ``keep_usual``.
        used: names of those that have a use.
        reason, do: the end of the sentence, and what to do.
    """
    others = [name for name in options.usual if name not in (*used, "run")]
    if given := [name for name in others if getattr(options, name) != options.usual[name]]:
        places = {"model": "MODEL", "data": "DATA"}
        words = [places.get(name, f"--{name}".replace("_", "-")) for name in given]
        raise UsageError(f"there is no use for {', '.join(words)} {reason}; {do}")


# Values -------------------------------------------------------------------------------------------


def counting(least: int) -> Callable[[str], int]:
    """For whole numbers from ``least`` on."""

    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"wanted a whole number of at least {least}, got {text!r}"
            )
        return number

    return whole


def between(low: float, high: float) -> Callable[[str], float]:
    """For numbers from ``low`` on that are below ``high``; ``low`` itself only where it is 0."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not low <= found < high:
            end = "" if high == math.inf else f" and below {high:g}"
            raise argparse.ArgumentTypeError(f"wanted a number from {low:g} on{end}, got {text!r}")
        return found

    return number


def above_zero(text: str) -> float:
    """For rates."""
    number = between(0, math.inf)(text)
    if not number:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got {text!r}")
    return number


def widths(text: str) -> tuple[int, ...]:
    """For ``64,32``; "" or "none" for no layer between inputs and outputs.

    >>> widths("64,32"), widths("none")
    ((64, 32), ())
    """
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        return tuple(counting(1)(one.strip()) for one in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"wanted the widths of layers, such as 64,32, or none, got {text!r}"
        ) from None


def names(text: str) -> list[str]:
    """For ``a,b``."""
    return [one.strip() for one in text.split(",") if one.strip()]


def pair(text: str) -> tuple[str, str]:
    """For ``shop=embedded``; the last = counts, as names may have one."""
    name, is_one, value = text.rpartition("=")
    if not (is_one and name and value):
        raise argparse.ArgumentTypeError(
            f"wanted COLUMN=ENCODING, such as shop=embedded, got {text!r}"
        )
    return name, value


def path(text: str) -> Path:
    """For files."""
    if "\0" in text:
        raise argparse.ArgumentTypeError("wanted a path without null characters")
    return Path(text)


# Options that commands share ----------------------------------------------------------------------


def add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", default="numpy", metavar="NAME", help="such as numpy, cupy, torch, jax"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How CSV files are written."""
    parser.add_argument(
        "--delimiter", metavar="TEXT", help="between values; a comma, or a tab in .tsv"
    )
    parser.add_argument(
        "--decimal-point", default=".", metavar="TEXT", help="in numbers of CSV files"
    )
    parser.add_argument(
        "--encoding", default="utf8", metavar="NAME", help="of the text in CSV files"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """How a network is made and trained on a table."""
    add = parser.add_argument
    add("--target", metavar="COLUMN", help="the column to predict")
    add(
        "--task",
        choices=("auto", "classes", "numbers"),
        default="auto",
        help="what the target holds",
    )
    add("--layers", type=widths, default=(64, 32), metavar="WIDTHS", help="such as 64,32, or none")
    add("--activation", choices=sorted(ACTIVATIONS), default="relu", help="behind each layer")
    add("--dropout", type=between(0, 1), default=0.0, metavar="SHARE", help="behind each layer")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adam", help="what takes the steps")
    add("--rate", type=above_zero, default=1e-3, metavar="RATE", help="the learning rate")
    add(
        "--hold-out", type=between(0, 1), default=0.2, metavar="SHARE", help="of rows to measure on"
    )
    add("--patience", type=counting(1), metavar="EPOCHS", help="end after so many without a gain")
    add("--window", type=counting(1), default=50_000, metavar="ROWS", help="rows shuffled together")
    add(
        "--drop",
        type=names,
        action="extend",
        default=[],
        metavar="COLUMNS",
        help="to leave out: a,b",
    )
    add(
        "--encode", type=pair, action="append", default=[], metavar="COLUMN=ENCODING",
        help="standardized, numbers, one-hot, embedded, bucketed or dates",
    )  # fmt: skip
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the network")


# A TOML file --------------------------------------------------------------------------------------


def arguments_of_toml(file: Path, parser: argparse.ArgumentParser) -> list[str]:
    """What a TOML file says, as a command line would have it.

    Its keys are the long options without dashes in front; lists, tables and true stand for what
    a command line spells out.

    Raises:
        UsageError: it is no TOML file, or has a key that is no option.
    """
    with open_file(file) as opened:
        content = opened.read()
    try:
        settings = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no TOML file: {error}") from None
    known = {
        one.dest.replace("_", "-"): one
        for one in parser._actions  # there is no public way to ask for them
        if one.dest not in ("help", "config", "resume")
    }
    arguments: list[str] = []
    for key, value in settings.items():
        if key.replace("_", "-") not in known:
            raise UsageError(f"{file}: there is no option {key!r}{did_you_mean(key, known)}")
        arguments += _arguments(file, known[key.replace("_", "-")], key, value)
    return arguments


def _arguments(file: Path, action: argparse.Action, key: str, value: Any) -> list[str]:
    if not action.option_strings:
        return [str(value)]
    option = action.option_strings[-1]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{file}: wanted true or false for {key}, got {value!r}")
        return [option] if value else []
    if isinstance(value, dict):
        return [f"{option}={name}={one}" for name, one in value.items()]
    if isinstance(value, list):
        return [f"{option}={','.join(map(str, value))}"]
    return [f"{option}={value}"]


def toml_of(options: argparse.Namespace, keys: Sequence[str]) -> str:
    """A TOML file of these options, but for those that are None; ``arguments_of_toml`` reads it."""
    lines, tables = [], []
    for key in keys:
        value = getattr(options, key)
        if value is None:
            continue
        name = key.replace("_", "-")
        if key == "encode":
            tables = [f"{json.dumps(column)} = {json.dumps(one)}" for column, one in value]
        else:
            plain = str(value) if isinstance(value, Path) else value
            lines.append(f"{name} = {json.dumps(plain, ensure_ascii=False)}")
    return "\n".join([*lines, *(["", "[encode]", *tables] if tables else [])]) + "\n"
