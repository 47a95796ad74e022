"""``xpnn bench``: what a training step takes here, on each backend."""

import argparse
import statistics
import time
from typing import Any

import numpy as np

from xpnn.commands.doctor import working
from xpnn.commands.reports import tell
from xpnn.layers import Dense
from xpnn.network import Network
from xpnn.training import Trainer


def bench(options: argparse.Namespace) -> int:
    """Time steps of a network of ``options.layers``, each waited for, after some to warm up."""
    found = {name: _timed(name, options) for name in options.backends or working()}
    shape = f"{options.features} inputs, layers {','.join(map(str, options.layers))}, 10 classes"
    record = {"network": shape, "batch_size": options.batch_size, "backends": found}

    def words() -> None:
        print(f"{shape}, batches of {options.batch_size}, {options.steps} steps each:")
        print(f"{'':18s} {'median ms':>10s} {'fastest ms':>10s} {'samples/s':>12s}")
        for name, one in found.items():
            print(
                f"{name:18s} {one['median_ms']:10.3f} {one['fastest_ms']:10.3f} "
                f"{one['samples_per_second']:12,.0f}"
            )

    tell(options, record, words)
    return 0


def _timed(backend: str, options: argparse.Namespace) -> dict[str, Any]:
    layers = [*(Dense(width, activation="relu") for width in options.layers), Dense(10)]
    network = Network(layers, (options.features,), backend=backend, seed=0)
    trainer = Trainer(network, "cross_entropy", "adam")
    rng = np.random.default_rng(0)
    x = network.asarray(rng.standard_normal((options.batch_size, options.features), np.float32))
    y = network.backend.asarray(rng.integers(0, 10, options.batch_size))
    times = []
    for step in range(options.steps + 5):
        started = time.perf_counter()
        trainer.step(x, y)
        network.backend.synchronize()
        if step >= 5:
            times.append(time.perf_counter() - started)
    median = statistics.median(times)
    return {
        "median_ms": median * 1e3,
        "fastest_ms": min(times) * 1e3,
        "samples_per_second": options.batch_size / median,
    }
