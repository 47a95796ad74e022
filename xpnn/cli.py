"""The command ``xpnn``: ``doctor`` looks at the machine, ``train`` runs the main job."""

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xpnn.backends import BACKENDS, get_backend
from xpnn.backends.registry import backend_class
from xpnn.data import datasets, split
from xpnn.errors import XpnnError
from xpnn.layers import Dense, Dropout, ReLU
from xpnn.losses import cross_entropy
from xpnn.metrics import Accuracy
from xpnn.network import Network
from xpnn.optimizers import AdamW, Cosine, WarmUp, matrices_only
from xpnn.saving import save_weights
from xpnn.training import Checkpoint, CSVLogger, StopOnNaN, Trainer
from xpnn.training.checkpointing.resuming import numbered

SMOOTHING = 0.1  # of the labels that ``xpnn train`` trains on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (XpnnError, OSError) as error:
        print(f"xpnn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ()):
            print(f"xpnn: {note}", file=sys.stderr)
        hint = "; the same command with --resume goes on" if options.run is _train else ""
        print(f"xpnn: interrupted{hint}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xpnn", description=__doc__)
    parser.add_argument("--version", action="version", version=f"xpnn {version('xpnn')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor", help="what works on this machine, and what to type if not"
    )
    doctor.set_defaults(run=_doctor)
    train = commands.add_parser("train", help="train a classifier on the 8x8 digits")
    train.add_argument("--backend", default="numpy", help="such as numpy, cupy, torch, jax")
    train.add_argument("--epochs", type=_positive, default=40)
    train.add_argument("--batch-size", type=_positive, default=32)
    train.add_argument("--seed", type=_natural, default=0)
    train.add_argument("--out", type=_path, default=Path("runs/digits"), help="folder for results")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    train.add_argument(
        "--resume", action="store_true", help="go on from where the same command was interrupted"
    )
    train.set_defaults(run=_train)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 1, got {text}")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 0, got {text}")
    return number


def _path(text: str) -> Path:
    if "\0" in text:
        raise argparse.ArgumentTypeError("wanted a path without null characters")
    return Path(text)


# doctor -----------------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    """One paragraph for each library; the exit status is 0, as NumPy alone is enough."""
    for name in BACKENDS:
        print(f"{name:17s} {examine(name)}")
    return 0


def examine(name: str) -> str:
    """Whether a library is installed, its version and devices, and whether a kernel ran on it."""
    kind = backend_class(name)
    if importlib.util.find_spec(kind.library.replace("-", "_")) is None:
        return f"not installed; type: {kind.install}"
    started = time.perf_counter()
    try:
        backend = get_backend(name)
        numbers = backend.to_numpy(backend.asarray(np.arange(4, dtype=np.float32)) * 2.0 + 1.0)
        if numbers.tolist() != [1.0, 3.0, 5.0, 7.0]:
            return (
                f"WRONG RESULT: 2 x + 1 gave {numbers.tolist()} for x = 0, 1, 2, 3; do not use it"
            )
    except Exception as error:  # whatever a broken installation raises, the doctor reports it
        return f"does not work: {error}"
    devices = ", ".join(backend.describe_devices())
    seconds = time.perf_counter() - started
    answer = f"works: {backend.describe()}; devices: {devices}; first kernel after {seconds:.2f} s"
    missing = backend.missing()
    return answer if missing is None else f"{answer}; {missing}"


# train ------------------------------------------------------------------------------------------


def _trainer(options: argparse.Namespace, samples: int, checkpoints: Path) -> Trainer:
    """The network that is trained on the digits, and how."""
    network = Network(
        [Dense(256), ReLU(), Dropout(0.4), Dense(10)],
        input_shape=(64,),
        backend=options.backend,
        seed=options.seed,
    )
    steps = options.epochs * -(-samples // options.batch_size)
    rate = WarmUp(steps // 20 + 1, Cosine(3e-3, steps=steps))
    return Trainer(
        network,
        functools.partial(cross_entropy, label_smoothing=SMOOTHING),
        AdamW(rate, weight_decay=1e-2, decays=matrices_only),
        metrics=[Accuracy()],
        callbacks=[
            CSVLogger(options.out / "history.csv"),
            StopOnNaN(),
            Checkpoint(checkpoints, keep=2),
        ],
    )


def _train(options: argparse.Namespace) -> int:
    """Train on the digits; curves, history and weights go to a folder."""
    x, y = datasets.digits()
    x_train, x_test, y_train, y_test = split(x, y, share=0.25, seed=options.seed, stratify=y)
    checkpoints = options.out / "checkpoints"
    trainer = _trainer(options, len(x_train), checkpoints)
    network = trainer.network
    if not options.resume:  # what an earlier run has left goes when nothing is wrong with this one
        for path in filter(Path.is_file, numbered(checkpoints)):
            path.unlink()
    print(network.summary())
    print(f"losses are those of labels smoothed by {SMOOTHING}, which no answer brings to 0")
    started = time.perf_counter()
    history = trainer.fit(
        x_train,
        y_train,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=(x_test, y_test),
        progress=not options.quiet,
        resume=checkpoints,
    )
    seconds = time.perf_counter() - started
    save_weights(network, options.out / "weights.safetensors")
    written = ["history.csv", "weights.safetensors"]
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture of the curves: type: pip install 'xpnn[plot]'")
    else:
        history.plot(options.out / "curves.png")
        written.append("curves.png")
    print(f"trained {options.epochs} epochs in {seconds:.1f} s on {network.backend.describe()}")
    folder = str(options.out).encode(errors="backslashreplace").decode()  # names are any bytes
    print(f"wrote {', '.join(written)} in {folder}")
    print(f"test accuracy {trainer.evaluate(x_test, y_test)['accuracy']:.4f}")
    return 0
