"""Memory does not grow from epoch to epoch, over twenty of them."""

import itertools
import json
import sys

import pytest

from tests.backends.process import python
from tests.reliability.tally import tell

EPOCHS, STRETCH = 20, 5  # the first stretch is there to warm up
GROWTH = 2.0  # MiB from a stretch to the next one: the weights once an epoch would be 9

TRAINING = """
    import ctypes
    import json
    import numpy as np
    import xpnn
    from xpnn import Accuracy, Adam, Dense, Dropout, Network, ReLU, StopOnNaN, Trainer

    class Trace(xpnn.Callback):
        seen, kept = [], []

        def on_epoch_end(self, trainer, logs):
            {leak}
            if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
                trim(0)  # what glibc keeps of memory that was given back swings by 10 MiB
            with open("/proc/self/status") as file:
                (line,) = (line for line in file if line.startswith("VmRSS"))
            self.seen.append(int(line.split()[1]) / 1024)

    rng = np.random.default_rng(0)
    x, y = rng.random((400, 100), dtype=np.float32), rng.integers(0, 10, 400)
    layers = [Dense(800), ReLU(), Dropout(0.2), Dense(500), ReLU(), Dense(10)]
    network = Network(layers, (100,), {spec!r})
    trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-3), metrics=[Accuracy()])
    options = {{'callbacks': [Trace(), StopOnNaN()], 'validation': 0.1, 'progress': False}}
    trainer.fit(x, y, epochs={epochs}, batch_size=100, **options)
    print(json.dumps(Trace.seen))
"""


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


def memory(spec, leak="pass"):
    """In MiB, after each epoch."""
    code = TRAINING.format(spec=spec, epochs=EPOCHS, leak=leak)
    seen = json.loads(python(code, OMP_NUM_THREADS="1"))
    assert len(seen) == EPOCHS
    return seen


def growth(seen):
    """What memory grows by from a stretch of epochs to the next one, each time at least.

    An allocator that takes a larger piece, as it does now and then on a busy machine, lifts all
    that comes after once. What is kept epoch after epoch lifts every stretch above the one before.
    """
    peaks = [max(seen[k : k + STRETCH]) for k in range(STRETCH, EPOCHS, STRETCH)]
    return min(later - earlier for earlier, later in itertools.pairwise(peaks))


@pytest.mark.fault("twenty epochs in the same memory")
@linux
def test_twenty_epochs(backend):
    if backend.name == "array-api-strict":
        pytest.skip("it runs on NumPy's arrays, without what keeps memory on NumPy")
    seen = memory(backend.spec)
    tell(
        f"Memory on {backend.spec} after the epochs 1, 5, 10, 15, {EPOCHS}: "
        + ", ".join(f"{seen[k - 1]:.0f}" for k in (1, 5, 10, 15, EPOCHS))
        + " MiB."
    )
    assert growth(seen) < GROWTH, seen


@linux
@pytest.mark.parametrize("kept", ["trainer.network.numpy_arrays()", "np.ones(100_000)"])
def test_the_watch_notices_what_is_kept(kept):
    """The weights once an epoch, and less than half of that."""
    assert growth(memory("numpy", f"self.kept.append({kept})")) > GROWTH


def test_the_watch_bears_with_an_allocator():
    """Which takes 8 MiB more, once, whenever that is."""
    for moment in range(1, EPOCHS):
        assert growth([70.0] * moment + [78.0] * (EPOCHS - moment)) < GROWTH
