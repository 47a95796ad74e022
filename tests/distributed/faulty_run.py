"""A run of several processes in which something happens to one of them.

``python faulty_run.py FOLDER FAULT ENGINE``, where FAULT may be "none"; each process leaves its id
and its losses in the folder.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from xpnn import Adam, Callback, Checkpoint, Dense, Network, Tanh, Trainer, cross_entropy

AT, WHO = 8, 1  # the step behind which it happens, and to which process


def trained(folder, fault, distributed, pause=0.0):
    """The history of the run, which goes on from what the folder has."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(43, 6)).astype(np.float32)
    y = rng.integers(0, 3, 43).astype(np.int32)
    network = Network([Dense(8), Tanh(), Dense(3)], (6,), seed=1)
    trainer = Trainer(network, cross_entropy, Adam(1e-2), distributed=distributed)
    communicator = trainer.state.communicator
    rank = 0 if communicator is None else communicator.rank
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    callbacks = [Checkpoint(folder / "runs", every_steps=3), Happens(folder, fault, rank, pause)]
    return trainer.fit(
        *(x, y),
        epochs=4,
        batch_size=10,
        callbacks=callbacks,
        resume=folder / "runs",
        progress=False,
    )


class Happens(Callback):
    steers = False

    def __init__(self, folder, fault, rank, pause):
        self.folder, self.fault, self.rank, self.pause = folder, fault, rank, pause

    def on_step_end(self, state, step):
        if self.rank == 0:
            (self.folder / "steps").write_text(str(state.steps))
        time.sleep(self.pause)
        if state.steps != AT or self.rank != WHO:
            return
        (self.folder / "when").write_text(str(time.time()))
        match self.fault:
            case "raise":
                raise ZeroDivisionError("it had to be")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                sys.exit(3)
            case "freeze":
                state.network.freeze("0.*")
            case "sleep":
                time.sleep(600)


def main(folder, fault, engine):
    history = trained(folder, fault, engine, pause=0.2 if fault == "slow" else 0.0)
    (folder / "losses").write_text(json.dumps(history["loss"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
