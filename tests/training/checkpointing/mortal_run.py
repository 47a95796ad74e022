"""A run that is killed and started again; ``test_kill.py`` drives it.

As a program it is a nursery: it imports the library once and, for each line of JSON on its standard
input, forks a child that trains as the line says, prints the child's process id, and, once the
child has died, its exit status. A forked child starts in milliseconds.
"""

import builtins
import importlib
import json
import os
import pathlib
import signal
import sys
import traceback

import numpy as np

import xpnn
from xpnn import (
    Accuracy,
    AdamW,
    BatchNorm,
    BestWeights,
    Callback,
    Checkpoint,
    Dense,
    Dropout,
    EarlyStopping,
    Network,
    ReLU,
    Trainer,
    WarmUp,
)

EPOCHS, EVERY = 6, 2


class Journal(Callback):
    """Writes down each step that is done, so that nothing can be lost in a buffer."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def on_step_end(self, trainer, step):
        os.write(self.file, f"{trainer.steps}\n".encode())


def train(spec, folder, background):
    """Train in ``folder`` to the end, from the newest checkpoint in it if there is one."""
    folder = pathlib.Path(folder)
    layers = [Dense(16), BatchNorm(), ReLU(), Dropout(0.3), Dense(10)]
    network = Network(layers, (64,), spec, seed=2)
    checkpoint = Checkpoint(
        folder / "run", every_steps=EVERY, keep=2, best="val_loss", background=background
    )
    trainer = Trainer(
        network,
        xpnn.cross_entropy,
        AdamW(WarmUp(3, 1e-2)),
        metrics=[Accuracy()],
        callbacks=[EarlyStopping(patience=3), BestWeights("val_accuracy"), checkpoint],
        log_every=3,
    )
    x, y = (one[:100] for one in xpnn.datasets.digits())
    history = trainer.fit(
        x,
        y,
        epochs=EPOCHS,
        batch_size=16,
        validation=0.2,
        callbacks=[Journal(folder / "journal")],
        progress=False,
        resume=folder / "run",
    )
    values = trainer.network.numpy_arrays()
    values |= {
        f"{slot}.{name}": network.backend.to_numpy(array)
        for slot in trainer.optimizer.slots
        for name, array in trainer.opt_state[slot].items()
    }
    np.savez(folder / "values.part.npz", **values)
    (folder / "history.part").write_text(json.dumps(history.epochs))
    os.replace(folder / "history.part", folder / "history.json")
    os.replace(folder / "values.part.npz", folder / "values.npz")


# Dying at a chosen instant ------------------------------------------------------------------------


def die_at(instant, count):
    """Kill this process at the count-th time that it comes to ``instant``.

    Args:
        instant: "before fsync", "after fsync", "before replace", "after replace", "after unlink" or
            "half written".
        count: from 1.
    """
    left = [count]

    def come_there():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    when, name = instant.split()
    if name == "written":
        plain_open = open

        def opened(path, *arguments, **options):
            file = plain_open(path, *arguments, **options)
            return HalfWritten(file, come_there) if str(path).endswith(".part") else file

        builtins.open = opened
        return
    plain = getattr(os, name)

    def called(*arguments, **options):
        if when == "before":
            come_there()
        result = plain(*arguments, **options)
        if when == "after":
            come_there()
        return result

    setattr(os, name, called)


class HalfWritten:
    """A file that stands half written on the disk for a moment."""

    def __init__(self, file, come_there):
        self.file, self.come_there = file, come_there

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        self.come_there()
        self.file.write(content[half:])

    def __getattr__(self, name):
        return getattr(self.file, name)


def nurse():
    """Fork a child for each line that comes in."""
    for name in filter(None, sys.argv[1].split(",")):
        importlib.import_module(name)
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                if order["instant"]:
                    die_at(order["instant"], order["count"])
                train(order["spec"], order["folder"], order["background"])
                status = 0
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(child, flush=True)
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)
        # only now, so that no other process can have its number while the test may send a signal
        sys.stdin.readline()
        os.waitpid(child, 0)


if __name__ == "__main__":
    nurse()
