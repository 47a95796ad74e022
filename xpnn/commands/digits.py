"""``xpnn train`` without a table: a classifier for the 8x8 digits, the first thing to try."""

import argparse
import functools
import importlib.util
import time
from pathlib import Path
from typing import Any

from xpnn.commands.reports import tell
from xpnn.commands.xray import followers
from xpnn.data import datasets, split
from xpnn.layers import Dense, Dropout, ReLU
from xpnn.losses import cross_entropy
from xpnn.metrics import Accuracy
from xpnn.network import Network
from xpnn.optimizers import AdamW, Cosine, WarmUp, matrices_only
from xpnn.saving import save_weights
from xpnn.training import Checkpoint, CSVLogger, StopOnNaN, Trainer
from xpnn.training.checkpointing.resuming import numbered

SMOOTHING = 0.1  # of the labels


def train_on_digits(options: argparse.Namespace) -> int:
    """Train; curves, history, weights and the network go to a folder."""
    options.out = options.out or Path("runs/digits")
    options.batch_size = options.batch_size or 32
    say = (lambda *_: None) if options.json else print
    x, y = datasets.digits()
    x_train, x_test, y_train, y_test = split(x, y, share=0.25, seed=options.seed, stratify=y)
    checkpoints = options.out / "checkpoints"
    trainer = _trainer(options, len(x_train), checkpoints)
    network = trainer.network
    if not options.resume:  # what an earlier run has left goes when nothing is wrong with this one
        for path in filter(Path.is_file, numbered(checkpoints)):
            path.unlink()
    say(network.summary())
    say(f"losses are those of labels smoothed by {SMOOTHING}, which no answer brings to 0")
    started = time.perf_counter()
    history = trainer.fit(
        x_train,
        y_train,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=(x_test, y_test),
        progress=False if options.quiet or options.json else "auto",
        resume=checkpoints,
    )
    seconds = time.perf_counter() - started
    save_weights(network, options.out / "weights.safetensors")
    network.save(options.out / "model.safetensors")
    written = ["history.csv", "model.safetensors", "weights.safetensors"]
    if importlib.util.find_spec("matplotlib") is None:
        say("no picture of the curves: type: pip install 'xpnn[plot]'")
    else:
        history.plot(options.out / "curves.png")
        written.append("curves.png")
    accuracy = trainer.evaluate(x_test, y_test)["accuracy"]
    record: dict[str, Any] = {
        "model": str(options.out / "model.safetensors"),
        "epochs": trainer.epoch,
        "accuracy": accuracy,
        "seconds": round(seconds, 2),
    }

    def words() -> None:
        print(f"trained {options.epochs} epochs in {seconds:.1f} s on {network.backend.describe()}")
        folder = str(options.out).encode(errors="backslashreplace").decode()  # names are any bytes
        print(f"wrote {', '.join(written)} in {folder}")
        print(f"test accuracy {accuracy:.4f}")

    tell(options, record, words)
    return 0


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
            *followers(options),
        ],
    )
