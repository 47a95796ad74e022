"""``xpnn parity``: this machine's backends train the same network; their curves side by side."""

import argparse
from typing import Any

from xpnn.commands.doctor import working
from xpnn.commands.options import UsageError
from xpnn.commands.reports import tell
from xpnn.data import datasets
from xpnn.layers import Dense
from xpnn.network import Network
from xpnn.training import Trainer

KEYS = ("loss", "val_loss", "val_accuracy")


def parity(options: argparse.Namespace) -> int:
    """Train on the digits, on each backend from the same weights by the same batches.

    The exit status is 1 if a loss differs from that of the first backend by more than
    ``options.tolerance`` times it: rounding alone makes some millionths.
    """
    backends = options.backends or working()
    if len(backends) < 2:
        raise UsageError(
            f"wanted two backends that work here, got {', '.join(backends) or 'none'}; xpnn doctor "
            f"says what to install, and --backends numpy,array-api-strict which to take"
        )
    curves = {name: _curves(name, options) for name in backends}
    first = curves[backends[0]]
    apart = {
        name: max(
            abs(one - wanted) / abs(wanted)
            for key in ("loss", "val_loss")
            for one, wanted in zip(found[key], first[key], strict=True)
        )
        for name, found in curves.items()
    }
    agree = max(apart.values()) <= options.tolerance
    record = {"agree": agree, "largest_difference": apart, "curves": curves}
    tell(options, record, lambda: _words(curves, apart, agree, options.tolerance))
    return 0 if agree else 1


def _curves(backend: str, options: argparse.Namespace) -> dict[str, list[float]]:
    x, y = datasets.digits()
    network = Network(
        [Dense(64, activation="relu"), Dense(10)], (64,), backend=backend, seed=options.seed
    )
    trainer = Trainer(network, "cross_entropy", "adam", metrics=["accuracy"])
    history = trainer.fit(x, y, epochs=options.epochs, validation=0.25, progress=False)
    return {key: [float(one) for one in history[key]] for key in KEYS}


def _words(
    curves: dict[str, dict[str, list[float]]], apart: dict[str, float], agree: bool, bound: float
) -> None:
    width = max(10, *map(len, curves))
    for key in KEYS:
        print(f"{key:12s} " + " ".join(f"{name:>{width}s}" for name in curves))
        rows: Any = zip(*(found[key] for found in curves.values()), strict=True)
        for epoch, row in enumerate(rows, start=1):
            print(f"  epoch {epoch:<4d} " + " ".join(f"{one:{width}.6f}" for one in row))
    print("apart        " + " ".join(f"{one:{width}.1e}" for one in apart.values()))
    print(f"they {'agree' if agree else 'DIFFER'}, by the bound {bound:g} for relative differences")
