"""Short runs whose checkpoints the code of version 1 of the format wrote, and what became of them.

In a tree of that code, in which Adam kept its means divided by 1 - beta::

    PYTHONPATH=. python path/to/write.py

writes, beside this file, a checkpoint of each run after two of its four epochs, and in
``curves.json`` the losses and the weights that the whole run ended with.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from xpnn import Checkpoint, Dense, Network, ReLU, Trainer, cross_entropy
from xpnn.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    Cosine,
    Linear,
    NAdam,
    ReduceOnPlateau,
    RMSprop,
    WarmUp,
    matrices_only,
)

HERE = Path(__file__).parent
EPOCHS, SAVED = 4, 2

RUNS = {
    "adam": lambda: Adam(0.05),
    "adam-float16": lambda: Adam(0.05),
    "adamw": lambda: AdamW(
        WarmUp(3, Cosine(0.05, steps=40)),
        beta1=Linear(0.8, end=0.95, steps=20),
        beta2=Linear(0.9, end=0.99, steps=20),
        weight_decay=0.1,
        decays=matrices_only,
        clip=ClipByGlobalNorm(1.0),
    ),
    "nadam": lambda: NAdam(ReduceOnPlateau(0.05, patience=0, threshold=0.5)),
    "sgd": lambda: SGD(0.1, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: Adagrad(0.1),
}


def samples():
    rng = np.random.default_rng(3)
    return rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 3, 20)


def trainer_of(name, backend="numpy", **options):
    network = Network([Dense(4), ReLU(), Dense(3)], (5,), backend, seed=1)
    precision = "float16" if name.endswith("float16") else None
    return Trainer(network, cross_entropy, RUNS[name](), precision=precision, **options)


def fit(trainer, epochs, **options):
    x, y = samples()
    return trainer.fit(x, y, epochs=epochs, batch_size=4, progress=False, **options)


def main():
    curves = {}
    for name in RUNS:
        trainer = trainer_of(name)
        with tempfile.TemporaryDirectory() as folder:
            history = fit(trainer, EPOCHS, callbacks=[Checkpoint(folder, keep=None)])
            saved = sorted(Path(folder).iterdir())[SAVED - 1]  # one an epoch
            (HERE / f"{name}.safetensors").write_bytes(saved.read_bytes())
        weights = trainer.network.numpy_arrays()
        curves[name] = {
            "loss": history["loss"],
            "weights": {key: array.tolist() for key, array in weights.items()},
        }
    lines = [f"{json.dumps(name)}: {json.dumps(curve)}" for name, curve in curves.items()]
    (HERE / "curves.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    sys.exit(main())
