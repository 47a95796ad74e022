"""The loop never waits for the device, nor copies from it, except at log points."""

import numpy as np
import pytest

import xpnn
from xpnn import (
    GELU,
    L1,
    L2,
    AdamW,
    AlphaDropout,
    BatchNorm,
    ClipByGlobalNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    LearnedPositions,
    MaxNorm,
    Network,
    SinusoidalPositions,
    Trainer,
)
from xpnn.backends.strict import StrictBackend
from xpnn.training.callbacks import Callback

array_api_strict = pytest.importorskip("array_api_strict")

READS = ("__bool__", "__float__", "__int__", "__complex__", "__index__")


class CountingBackend(StrictBackend):
    """array-api-strict on device1, where a hidden copy is an error, counting the open ones."""

    def __init__(self):
        super().__init__("device1")
        self.copies_to_host = self.copies_to_device = 0

    def to_numpy(self, array):
        self.copies_to_host += 1
        return super().to_numpy(array)

    def from_numpy(self, array):
        self.copies_to_device += 1
        return super().from_numpy(array)

    def synchronize(self):
        self.copies_to_host += 1


class Probe(Callback):
    """What was copied or read on the host, between the log points."""

    def __init__(self, backend, reads):
        self.backend, self.reads, self.seen = backend, reads, []

    def count(self):
        return (self.backend.copies_to_host, self.backend.copies_to_device, len(self.reads))

    def on_epoch_begin(self, trainer, steps):
        self.start = self.count()

    def on_step_end(self, trainer, step):
        self.seen.append((step, tuple(np.subtract(self.count(), self.start))))

    def on_log(self, trainer, step, logs):
        self.start = self.count()


def plain():
    return [Dense(16), GELU(), Dropout(0.3), Dense(10)]


def normalized():
    first = Dense(16).regularize(L1(1e-4), L2(1e-4), MaxNorm(3.0))
    return [first, BatchNorm(), AlphaDropout(), GroupNorm(4), GaussianNoise(), Dense(10)]


def embedded():
    positions = [LearnedPositions(), SinusoidalPositions()]
    return [Embedding(17, 4), *positions, LayerNorm(), Flatten(), Dense(10)]


@pytest.mark.parametrize("layers", [plain, normalized, embedded])
def test_no_copies_and_no_reads_between_log_points(monkeypatch, layers):
    reads = []
    for name in READS:
        plain = getattr(array_api_strict._array_object.Array, name)

        def watched(self, plain=plain, name=name):
            reads.append(name)
            return plain(self)

        monkeypatch.setattr(array_api_strict._array_object.Array, name, watched)
    backend = CountingBackend()
    network = Network(layers(), (64,), backend)
    optimizer = AdamW(1e-3, clip=ClipByGlobalNorm(1.0))
    probe = Probe(backend, reads)
    trainer = Trainer(network, xpnn.cross_entropy, optimizer, callbacks=[probe], log_every=25)
    x, y = xpnn.datasets.digits()
    x = (16 * x).astype(int) if layers is embedded else x
    weight = np.ones(len(x))
    trainer.fit(x, y, sample_weight=weight, batch_size=16, progress=False)
    assert len(probe.seen) == 113
    assert [counts for _, counts in probe.seen] == [(0, 0, 0)] * 113
    # the counters do count: each of the 5 log points reads losses and weights, in one copy each
    assert backend.copies_to_host >= 10


@pytest.mark.parametrize("name", READS)
def test_the_watch_notices_a_read(name):
    # what the test above relies on: strict arrays are read through these methods
    backend = CountingBackend()
    value = backend.xp.asarray(1, device=backend.device)
    assert getattr(value, name)() is not None
