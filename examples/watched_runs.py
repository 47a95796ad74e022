"""Train with several rates, write each run down, break one off and go on, and read the logs.

    python examples/watched_runs.py --rates 3e-4 1e-3 3e-2
    tensorboard --logdir runs

Each run is a file of JSON lines, with its losses, norms of gradients and metrics of training
batches, and a folder for TensorBoard where that is installed (pip install 'xpnn[tensorboard]').
"""

import argparse
import importlib.util
import json
from pathlib import Path

import xpnn
from xpnn import Adam, Checkpoint, Dense, JSONLines, Network, ReLU, TensorBoard, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rates", nargs="+", type=float, default=[3e-4, 3e-3, 3e-1])
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--backend", default="numpy")
parser.add_argument("--folder", type=Path, default=Path("runs"))
options = parser.parse_args()

x, y = xpnn.datasets.digits()


def train(rate, epochs):
    """Train up to an epoch, from the newest checkpoint of that run, if it has one."""
    name, saved = options.folder / f"rate-{rate:g}", options.folder / "saved" / f"rate-{rate:g}"
    about = {"gradients": True, "batch_metrics": True, "hyperparameters": {"width": 64}}
    logs = [JSONLines(name.with_name(f"{name.name}.jsonl"), **about), Checkpoint(saved)]
    if importlib.util.find_spec("tensorboard"):
        logs.append(TensorBoard(name, weights=True, **about))
    layers = [Dense(64), ReLU(), Dense(64), ReLU(), Dense(10)]
    network = Network(layers, input_shape=(64,), backend=options.backend, seed=0)
    trainer = Trainer(network, "cross_entropy", Adam(rate), metrics=["accuracy"], log_every=20)
    settings = {"validation": 0.2, "progress": False, "resume": saved}
    return trainer.fit(x, y, epochs=epochs, callbacks=logs, **settings)


def lines(rate, event):
    text = (options.folder / f"rate-{rate:g}.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]


for rate in options.rates:
    train(rate, max(options.epochs // 2, 1))  # broken off here, say
    train(rate, options.epochs)
    steps, epochs = lines(rate, "steps"), lines(rate, "epoch")
    assert [one["epoch"] for one in epochs] == [*range(1, options.epochs + 1)]
    assert len({one["step"] for one in steps}) == len(steps)  # nothing twice
    first, last = steps[0], steps[-1]
    print(
        f"rate {rate:g}: on training batches, accuracy {first['accuracy']:.2f} at first, "
        f"{last['accuracy']:.2f} at the end, norm of gradients {first['gradient_norm']:.2g} and "
        f"{last['gradient_norm']:.2g}; on new digits, accuracy {epochs[-1]['val_accuracy']:.4f}"
    )
