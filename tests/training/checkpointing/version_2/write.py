"""A run whose checkpoint the code of version 2 of the format wrote, and what became of it.

In a tree of that code, which wrote kinds and states of callbacks in pairs, and of functions and
arrays no more than what they are::

    PYTHONPATH=. python path/to/write.py

writes, beside this file, a checkpoint after two of its six epochs, and in ``curve.json`` the losses
and the weights that the whole run ended with.
"""

import functools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import xpnn
from xpnn import (
    AdamW,
    BestWeights,
    Checkpoint,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    Network,
    ReLU,
    Trainer,
    matrices_only,
)

HERE = Path(__file__).parent
EPOCHS, SAVED = 6, 2


class Temperature:
    """A loss of one's own: cross-entropy of logits that are divided by a number."""

    def __init__(self, weight):
        self.loss = functools.partial(xpnn.cross_entropy, class_weight=weight)
        self.powers, self.scale = [1, 2], np.float32(0.5)

    def __call__(self, predictions, targets, *, sample_weight=None, backend=None):
        return self.loss(predictions, targets, sample_weight=sample_weight, backend=backend)


def trainer_of(weight=(1.0, 1.0, 1.0)):
    network = Network([Dense(4), ReLU(), Dropout(0.2), Dense(3)], (5,), seed=1)
    optimizer = AdamW(0.05, weight_decay=0.1, decays=matrices_only)
    return Trainer(network, Temperature(np.asarray(weight)), optimizer, metrics=[xpnn.Accuracy()])


def fit(trainer, epochs, folder, *others, **options):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    watching = [EarlyStopping("val_loss", patience=9), EarlyStopping("val_accuracy", patience=8)]
    callbacks = [*watching, BestWeights(), CSVLogger(folder / "log.csv"), *others]
    settings = {"batch_size": 4, "validation": 0.25, "progress": False, "callbacks": callbacks}
    return trainer.fit(x, y, epochs=epochs, **settings, **options), callbacks


def main():
    trainer = trainer_of()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keeping = Checkpoint(folder, keep=None)
        history, callbacks = fit(trainer, EPOCHS, folder, keeping)
        saved = sorted(folder.glob("*.safetensors"))[SAVED - 1]
        (HERE / "run.safetensors").write_bytes(saved.read_bytes())
    weights = trainer.network.numpy_arrays()
    curve = {
        "loss": history["loss"],
        "best": [one.best for one in callbacks[:3]],
        "waited": [one.waited for one in callbacks[:2]],
        "weights": {key: np.asarray(array).tolist() for key, array in weights.items()},
    }
    (HERE / "curve.json").write_text(json.dumps(curve) + "\n")


if __name__ == "__main__":
    sys.exit(main())
