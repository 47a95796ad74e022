"""The loop never waits for the device, nor copies from it, except at log points."""

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
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
from xpnn.backends.strict.backend import StrictBackend
from xpnn.training.callbacks.shipped import Callback

array_api_strict = pytest.importorskip("array_api_strict")

SAMPLES, STEPS = 850, 54  # of 16 samples, and a last one of 2
LOGS = 3  # every 25 steps, and at the end
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


@pytest.fixture
def reads(monkeypatch):
    """The names of all reads of a value from now on."""
    seen = []
    for name in READS:
        plain = getattr(array_api_strict._array_object.Array, name)

        def watched(self, plain=plain, name=name):
            seen.append(name)
            return plain(self)

        monkeypatch.setattr(array_api_strict._array_object.Array, name, watched)
    return seen


def watched_fit(backend, reads, layers, *data, log=None, **settings):
    """Train for an epoch; returns what was copied and read up to each step since a log point.

    What is read at log points is not counted: the log comes first.
    """
    network = Network(layers(), (64,), backend)
    optimizer = AdamW(1e-3, clip=ClipByGlobalNorm(1.0))
    probe = Probe(backend, reads)
    logs = [] if log is None else [log]
    callbacks = [*logs, probe]
    trainer = Trainer(network, xpnn.cross_entropy, optimizer, callbacks=callbacks, log_every=25)
    backend.indices(10)  # a constant, which goes to the device once
    trainer.fit(*data, progress=False, **settings)
    assert len(probe.seen) == STEPS
    return [counts for _, counts in probe.seen]


def data():
    return (one[:SAMPLES] for one in xpnn.datasets.digits())


@pytest.mark.parametrize("layers", [plain, normalized, embedded])
def test_no_copies_and_no_reads_between_log_points(reads, layers):
    backend = CountingBackend()
    x, y = data()
    x = (16 * x).astype(int) if layers is embedded else x
    weight = np.ones(len(x))
    counts = watched_fit(backend, reads, layers, x, y, sample_weight=weight, batch_size=16)
    assert counts == [(0, 0, 0)] * STEPS
    # the counters do count: each of the log points reads losses and weights, in one copy each
    assert backend.copies_to_host >= 2 * LOGS


def test_norms_of_gradients_are_read_at_log_points(reads, tmp_path):
    backend, log = CountingBackend(), xpnn.JSONLines(tmp_path / "run.jsonl", gradients=True)
    x, y = data()
    counts = watched_fit(backend, reads, normalized, x, y, batch_size=16, log=log)
    assert counts == [(0, 0, 0)] * STEPS
    norms = [line for line in log.path.read_text().splitlines() if "gradient_norm" in line]
    assert len(norms) == LOGS


def batches_of_16(backend, layers, own):
    x, y = data()
    x = (16 * x).astype(int) if layers is embedded else x
    arrays = x, y, np.ones(len(x), np.float32)
    batches = [tuple(one[k : k + 16] for one in arrays) for k in range(0, len(x), 16)]
    return [tuple(map(backend.asarray, batch)) for batch in batches] if own else batches


@pytest.mark.parametrize("layers", [plain, normalized, embedded])
def test_batches_of_the_device_are_neither_copied_nor_read(reads, layers):
    backend = CountingBackend()
    counts = watched_fit(backend, reads, layers, batches_of_16(backend, layers, own=True))
    assert counts == [(0, 0, 0)] * STEPS


@pytest.mark.parametrize("source", ["a full device", "iterable"])
@pytest.mark.parametrize("layers", [plain, embedded])
def test_batches_of_the_host_are_copied_once_and_never_read(reads, layers, source):
    backend = CountingBackend()
    if source == "iterable":
        counts = watched_fit(backend, reads, layers, batches_of_16(backend, layers, own=False))
    else:
        backend.has_room_for = lambda nbytes: False
        x, y = data()
        x = (16 * x).astype(int) if layers is embedded else x
        weight = {"sample_weight": np.ones(len(x))}
        counts = watched_fit(backend, reads, layers, x, y, batch_size=16, **weight)
    assert all(to_host == values == 0 for to_host, _, values in counts)
    # x, y and weight of each batch, one batch ahead of the steps; a log point starts a new count
    sent = [3 * min(k + 2, STEPS) for k in range(STEPS)]
    ahead = [sent[k] - (sent[k - k % 25 - 1] if k >= 25 else 0) for k in range(STEPS)]
    assert [copies for _, copies, _ in counts] == ahead


@pytest.mark.parametrize("name", READS)
def test_the_watch_notices_a_read(name):
    # what the test above relies on: strict arrays are read through these methods
    backend = CountingBackend()
    value = backend.xp.asarray(1, device=backend.device)
    assert getattr(value, name)() is not None


# On CuPy ------------------------------------------------------------------------------------------


class CupyProbe(Callback):
    """How many calls so far waited for the GPU or copied between it and the host."""

    def __init__(self, calls):
        self.calls, self.seen = calls, []

    def on_step_end(self, trainer, step):
        self.seen.append(len(self.calls))


@pytest.fixture
def cupy_calls(monkeypatch):
    """The names of all calls of CuPy's that wait or copy, from now on."""
    import cupy

    seen = []

    def watch(owner, name):
        plain = getattr(owner, name)

        def watched(*arguments, **options):
            from_host = name not in ("array", "asarray") or not isinstance(
                arguments[0], cupy.ndarray
            )
            if from_host:
                seen.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    for name in {*READS, "get", "set", "item", "tolist", "__array__"} & set(dir(cupy.ndarray)):
        watch(cupy.ndarray, name)
    for owner, names in {
        cupy: ("array", "asarray", "asnumpy"),
        cupy.cuda.Stream: ("synchronize",),
        cupy.cuda.runtime: ("memcpy", "memcpyAsync", "deviceSynchronize", "streamSynchronize"),
    }.items():
        for name in names:
            watch(owner, name)
    return seen


@needs("cupy")
@pytest.mark.parametrize("compiled", [None, False], ids=["graph", "kernels"])
@pytest.mark.parametrize("layers", [plain, normalized, embedded])
def test_a_hundred_steps_on_cupy_neither_wait_nor_copy(cupy_calls, layers, compiled):
    x, y = xpnn.datasets.digits()
    x = (16 * x).astype(int) if layers is embedded else x
    network = Network(layers(), (64,), "cupy")
    probe = CupyProbe(cupy_calls)
    optimizer = AdamW(1e-3, clip=ClipByGlobalNorm(1.0))
    trainer = Trainer(
        network, xpnn.cross_entropy, optimizer, callbacks=[probe], log_every=500, compile=compiled
    )
    data = (network.asarray(x), network.backend.asarray(y, "int32"))
    trainer.fit(*data, batch_size=16, progress=False)
    assert len(probe.seen) == 113
    assert probe.seen[-1] == probe.seen[2]  # constants are made in the first step
    assert len(cupy_calls) > probe.seen[-1]  # the end of the epoch reads the loss, and is seen


@needs("cupy")
def test_norms_of_gradients_on_cupy_neither_wait_nor_copy(cupy_calls, tmp_path):
    x, y = xpnn.datasets.digits()
    network = Network(normalized(), (64,), "cupy")
    log, probe = xpnn.JSONLines(tmp_path / "run.jsonl", gradients=True), CupyProbe(cupy_calls)
    callbacks = [log, probe]
    trainer = Trainer(network, xpnn.cross_entropy, AdamW(1e-3), callbacks=callbacks, log_every=50)
    data = (network.asarray(x), network.backend.asarray(y, "int32"))
    trainer.fit(*data, batch_size=16, progress=False)
    assert probe.seen[99] == probe.seen[98]  # the step that a log point comes behind
    assert log.path.read_text().count("gradient_norm/0.dense.weight") == 3


def test_a_step_by_itself_looks_at_no_targets_on_a_device():
    backend = CountingBackend()
    net = Network([Dense(3)], (4,), backend)
    trainer = Trainer(net, xpnn.cross_entropy, xpnn.SGD(0.1))
    x, far = np.ones((2, 4), "f4"), np.asarray([0, 3])
    on_device = backend.asarray(x), backend.asarray(far)
    trainer.step(*on_device)  # the first looks at what the network promises
    before = backend.copies_to_host
    trainer.step(*on_device)
    assert backend.copies_to_host == before
    trainer = Trainer(net, xpnn.cross_entropy, xpnn.SGD(0.1))
    for targets in (far, far.tolist()):
        with pytest.raises(xpnn.errors.DataError, match="wanted class numbers from 0 to 2"):
            trainer.step(on_device[0], targets)
    with pytest.raises(xpnn.errors.DataError, match="wanted class numbers from 0 to 2"):
        xpnn.explain(net, *on_device, xpnn.cross_entropy)
