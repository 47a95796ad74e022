"""What is shown of an object says what it is, and is short."""

import importlib

import numpy as np
import pytest

import xpnn
from xpnn import SGD, Callback, Dense, Input, Network, Trainer, get_backend
from xpnn.data import Batches, NpzShards, Prefetch
from xpnn.data.batches import Samples
from xpnn.data.stream import Stream
from xpnn.optimizers import ClipByGlobalNorm, ClipByValue
from xpnn.saving.tensor_file import TensorFile
from xpnn.training import (
    EMA,
    SWA,
    BestWeights,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    ProgressBar,
    StopOnNaN,
)

pytestmark = pytest.mark.host_only

PACKAGES = (
    *("backends", "data", "errors", "guide", "initializers", "layers", "losses", "metrics"),
    *("optimizers", "saving", "testing", "training", "xray"),
)
X, Y = np.ones((7, 3), np.float32), np.zeros(7, int)


class Own(Callback):
    def __init__(self, bound, *, steps=10):
        self.bound, self.steps = bound, steps


def public_classes():
    modules = [xpnn, *(importlib.import_module(f"xpnn.{name}") for name in PACKAGES)]
    found = [
        getattr(module, name)
        for module in modules
        for name in getattr(module, "__all__", vars(module))
        if not name.startswith("_")
    ]
    classes = (one for one in found if isinstance(one, type))
    return {one for one in classes if one.__module__.startswith("xpnn.")}


def test_every_public_class_shows_more_than_an_address():
    assert len(public_classes()) > 150
    assert not [one for one in public_classes() if one.__repr__ is object.__repr__]


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: EarlyStopping(patience=3), "EarlyStopping(patience=3)"),
        (lambda: BestWeights("val_accuracy"), "BestWeights(monitor='val_accuracy')"),
        (lambda: Checkpoint("runs/a", keep=5), "Checkpoint('runs/a', keep=5)"),
        (lambda: CSVLogger("log.csv"), "CSVLogger('log.csv')"),
        (ProgressBar, "ProgressBar()"),
        (StopOnNaN, "StopOnNaN()"),
        (lambda: EMA(0.99), "EMA(decay=0.99)"),
        (lambda: SWA(4), "SWA(4)"),
        (lambda: Own(0.5), "Own(0.5)"),
        (lambda: ClipByGlobalNorm(1), "ClipByGlobalNorm(1.0)"),
        (lambda: ClipByValue(0.5), "ClipByValue(0.5)"),
        (lambda: Dense(2)(Input((3,))), r"<Dense(2) at node "),
        (
            lambda: Batches((X, Y), 3, get_backend("numpy")),
            "<3 batches of 7 samples, 3 at a time>",
        ),
        (lambda: Samples((X, Y), get_backend("numpy")), "<7 samples for numpy>"),
        (lambda: Prefetch([(X, Y)]), "<Prefetch of a list, 2 batches ahead>"),
        (lambda: Stream([(X, Y)], get_backend("numpy"), print), "<Stream of a list>"),
    ],
)
def test_what_is_shown(make, shown):
    assert repr(make()).startswith(shown)


def test_files_are_shown_by_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    assert repr(NpzShards(tmp_path / "*.npz")) == "<NpzShards of 1 files, batches of 32>"
    Network([Dense(2)], (3,)).save(tmp_path / "net.safetensors")
    with TensorFile(tmp_path / "net.safetensors") as file:
        assert repr(file) == f"TensorFile({str(tmp_path / 'net.safetensors')!r})"


def test_a_training_shows_where_it_stands():
    trainer = Trainer(Network([Dense(2)], (3,)), "cross_entropy", SGD())
    history = trainer.fit(X, Y, epochs=2, progress=False)
    assert repr(history).startswith("<history of 2 epochs: epoch=2, loss=")
    assert repr(trainer.state) == (
        "<training of Network([Dense(2)], input_shape=(3,), backend='numpy') after 2 epochs, 2 "
        "steps>"
    )
