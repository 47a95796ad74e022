"""Memory does not grow from epoch to epoch, over twenty of them."""

import json
import sys

import pytest

from tests.backends.process import python
from tests.reliability.tally import tell

EPOCHS, WARM_UP = 20, 5
GROWTH = 4.0  # MiB in ten epochs: the weights once an epoch would be 280, and pools swing by 8

TRAINING = """
    import json
    import numpy as np
    import xpnn
    from xpnn import Accuracy, Adam, Dense, Dropout, Network, ReLU, StopOnNaN, Trainer

    class Trace(xpnn.Callback):
        seen = []

        def on_epoch_end(self, trainer, logs):
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


@pytest.mark.fault("twenty epochs in the same memory")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_twenty_epochs(backend):
    if backend.name == "array-api-strict":
        pytest.skip("it runs on NumPy's arrays, without what keeps memory on NumPy")
    seen = json.loads(python(TRAINING.format(spec=backend.spec, epochs=EPOCHS)))
    assert len(seen) == EPOCHS
    tell(
        f"Memory on {backend.spec} after the epochs 1, {WARM_UP}, 10, 15, {EPOCHS}: "
        + ", ".join(f"{seen[k - 1]:.0f}" for k in (1, WARM_UP, 10, 15, EPOCHS))
        + " MiB."
    )
    assert max(seen[-5:]) - max(seen[WARM_UP:10]) < GROWTH, seen
