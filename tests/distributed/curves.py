"""Trains small networks of all kinds, alone or as one of several processes, and writes the curves.

``python -m tests.distributed.curves FOLDER BACKEND [ENGINE SPEC...]``; each process writes one
file, which is called by its rank. Before, several try their engine on the SPECs, see
``connected.py``.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from xpnn import (
    LSTM,
    Adam,
    BatchNorm,
    ClipByGlobalNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LearnedPositions,
    MaxPool2D,
    Network,
    ReLU,
    Tanh,
    Trainer,
    TransformerBlock,
    cross_entropy,
)

SAMPLES, BATCH, EPOCHS = 107, 16, 8  # 56 steps, the last one of an epoch on 11 samples
SHAPES: dict[str, tuple[int, ...]] = {
    "MLP": (12,),
    "CNN with BatchNorm": (8, 8, 1),
    "LSTM with Dropout": (7, 5),
    "transformer": (6, 8),
}


def layers_of(kind: str) -> list[Layer]:
    """A network of that kind, for four classes.

    In front of BatchNorm there is no bias: its gradient is nothing but rounding, which Adam would
    make steps of.
    """
    match kind:
        case "MLP":
            return [Dense(24), Tanh(), Dense(4)]
        case "CNN with BatchNorm":
            return [
                *(Conv2D(6, 3, use_bias=False), BatchNorm(), ReLU(), MaxPool2D(2)),
                *(Flatten(), Dense(4)),
            ]
        case "LSTM with Dropout":
            return [LSTM(10), Dropout(0.3), Dense(4)]
        case _:
            block = TransformerBlock(8, 2, dropout=0.1)
            return [LearnedPositions(), block, Flatten(), Dense(4)]


def trained(kind: str, backend: str, engine: str | None) -> dict[str, Any]:
    """The losses of all steps, and of all epochs, and what the parameters end as."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(SAMPLES, *SHAPES[kind])).astype(np.float32)
    y = rng.integers(0, 4, SAMPLES).astype(np.int32)
    weight = rng.uniform(0.0, 2.0, SAMPLES).astype(np.float32) if kind == "MLP" else None
    network = Network(layers_of(kind), SHAPES[kind], backend, seed=1)
    trainer = Trainer(
        network,
        cross_entropy,
        Adam(1e-2, clip=ClipByGlobalNorm(0.5)),
        metrics=["accuracy"],
        seed=2,
        distributed=engine,
    )
    history = trainer.fit(
        *(x, y),
        epochs=EPOCHS,
        batch_size=BATCH,
        sample_weight=weight,
        validation=(x[:19], y[:19]),
        progress=False,
    )
    values = {**network.params, **network.state}
    arrays = [
        np.asarray(network.backend.to_numpy(one))
        for one in values.values()
        if hasattr(one, "shape")
    ]
    bits = b"".join(one.tobytes() for one in arrays)
    return {
        "steps": trainer.steps,
        "compiled": trainer.compiled,
        **{name: history[name] for name in ("loss", "val_loss", "val_accuracy")},
        "bits": hashlib.sha256(bits).hexdigest(),
    }


def main(folder: str, backend: str, engine: str | None = None, *specs: str) -> None:
    from tests.distributed import connected
    from xpnn.backends import get_backend
    from xpnn.distributed import as_communicator

    if specs:
        connected.main(folder, engine, *specs)
    found = {kind: trained(kind, backend, engine) for kind in SHAPES}
    communicator = as_communicator(engine, get_backend(backend))
    rank = 0 if communicator is None else communicator.rank
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
