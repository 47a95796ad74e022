"""Time one training step of the same networks on each backend that is installed.

All columns take turns, round after round, so that noise on the machine hits all of them alike. A
cell is the median over the rounds of the step's time; a ratio is the median of the rounds' ratios
to the first column. With PyTorch installed, a column "torch eager" is the same network written in
torch.nn, as its users write it.
"""

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np

import xpnn
from xpnn import Adam, Dense, Network, ReLU, Trainer
from xpnn.errors import BackendUnavailable

NETWORKS = {  # name: layer sizes, batch size
    "64-32-10, batch 32": ([64, 32, 10], 32),
    "784-128-10, batch 32": ([784, 128, 10], 32),
    "784-1024-1024-10, batch 128": ([784, 1024, 1024, 10], 128),
}


def xpnn_step(backend: str, sizes: list[int], batch: int) -> Callable[[int], None]:
    """``run(n)``: n steps of xpnn's Trainer on one batch, then wait for the device."""
    layers = [layer for units in sizes[1:-1] for layer in (Dense(units), ReLU())]
    network = Network([*layers, Dense(sizes[-1])], (sizes[0],), backend)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-4))
    x, y = made_up(sizes, batch)
    x, y = network.asarray(x), network.backend.asarray(y, "int32")

    def run(count: int) -> None:
        for _ in range(count):
            value = trainer.step(x, y)
        network.backend.to_numpy(value)

    return run


def torch_step(sizes: list[int], batch: int) -> Callable[[int], None]:
    """The same in torch.nn with torch.optim.Adam."""
    import torch

    modules: list[torch.nn.Module] = []
    for inputs, units in itertools.pairwise(sizes[:-1]):
        modules += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules, torch.nn.Linear(*sizes[-2:]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x, y = (torch.from_numpy(array) for array in made_up(sizes, batch))

    def run(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        loss.item()

    return run


def made_up(sizes: list[int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise with labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, sizes[0]), dtype=np.float32)
    return x, rng.integers(0, sizes[-1], batch)


def columns(backends: list[str], sizes: list[int], batch: int) -> dict[str, Callable[[int], None]]:
    """The columns that work on this machine."""
    found = {}
    for name in backends:
        try:
            found[name] = xpnn_step(name, sizes, batch)
        except BackendUnavailable as error:
            print(f"no column {name}: {error}")
    with contextlib.suppress(ModuleNotFoundError):  # a peer: measured where it is installed
        found["torch eager"] = torch_step(sizes, batch)
    return found


def measure(
    runs: dict[str, Callable[[int], None]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds a step of each column in each round; the columns take turns."""
    counts = {}
    for name, run in runs.items():
        run(3)  # compiles, and fills caches
        started = time.perf_counter()
        run(3)
        counts[name] = max(1, round(seconds / (time.perf_counter() - started) * 3))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(counts[name])
            times[name].append((time.perf_counter() - started) / counts[name])
    return times


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backends", default="numpy,torch,jax", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.25, help="for each column and round")
    options = parser.parse_args()
    for title, (sizes, batch) in NETWORKS.items():
        times = measure(
            columns(options.backends.split(","), sizes, batch), options.rounds, options.seconds
        )
        first = next(iter(times.values()))
        print(f"\n{title}, Adam\n")
        print("| column | step, us | ratio |\n|---|--:|--:|")
        for name, series in times.items():
            ratio = statistics.median(a / b for a, b in zip(series, first, strict=True))
            print(f"| {name} | {1e6 * statistics.median(series):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
