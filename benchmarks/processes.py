"""Steps that several processes take together: what they cost, and what of it is their sum.

``xpnn launch -n 2 -m benchmarks.processes`` times, in each of several rounds and in turn,

    a step      of all processes, each on its rows of the batch
    alone       the same step, whose sums are left out
    the sum     of as many numbers as the step adds up, alone

and prints the medians, with the bytes that each process adds up in a step. What of the sum lies
beside other work is 1 - (step - alone) / sum. Sums of several sizes give the two constants of

    t(n, bytes) = latency + 2 (n - 1) / n bytes / bandwidth

which is what a ring takes (Patarasuk and Yuan, 2009), by least squares of relative errors. With
``--predict`` the constants of a network that one knows give the step on more processes::

    t(n) = alone(batch / n) + t(n, bytes)        n = 1, 2, 4, ... processes, each with its own cores

where alone is measured by this process.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.works import RATE, WORKS, Work
from xpnn import Adam, Network, Trainer, cross_entropy
from xpnn.backends import Communicator, get_backend
from xpnn.distributed import as_communicator

CHOSEN = [
    "MLP 784-1024-1024-10, batch 128",
    "CNN 28x28, 16 and 32 filters, batch 64",
    "LSTM 32 to 128, 32 steps, batch 32",
    "Transformer, 2 blocks, width 128, 64 steps, batch 16",
]
SIZES = [1, 1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22]  # of sums, in float32


class Counting(Communicator):
    """Hands on to another communicator and counts what it was given; once silent, to none."""

    timeout = None

    def __init__(self, inner: Communicator):
        super().__init__(inner.rank, inner.size)
        self.inner, self.silent, self.bytes = inner, False, 0
        self.overlaps = inner.overlaps

    def all_sum(self, array: Any) -> Any:
        self.bytes += array.nbytes
        return array + 0 if self.silent else self.inner.all_sum(array)

    def start_all_sum(self, array: Any) -> Callable[[], Any]:
        self.bytes += array.nbytes
        return super().start_all_sum(array) if self.silent else self.inner.start_all_sum(array)

    def broadcast(self, array: Any) -> Any:
        return self.inner.broadcast(array)


def stepping(
    work: Work, backend: str, communicator: Communicator | None, batch: int
) -> Callable[[], None]:
    """A function that takes a step of the work, and waits for it."""
    network = Network(work.layers(), work.input_shape, get_backend(backend))
    trainer = Trainer(network, cross_entropy, Adam(RATE), distributed=communicator)
    x, y = (one[:batch] for one in work.data())
    x, y = network.asarray(x), network.backend.asarray(y, "int32")

    def step() -> None:
        network.backend.to_numpy(trainer.step(x, y))

    return step


def seconds(run: Callable[[], Any], least: float) -> float:
    """Of one call, of as many as take ``least`` seconds; all processes have to make as many."""
    run()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < least or calls < 3:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


def agreed(run: Callable[[], Any], communicator: Communicator | None, least: float) -> int:
    """How many calls take so long, as process 0 has it."""
    if communicator is None:
        return max(3, int(least / seconds(run, least / 4)))
    for _ in range(3):
        run()
    start = time.perf_counter()
    for _ in range(3):
        run()
    calls = np.asarray([max(3.0, least / ((time.perf_counter() - start) / 3))])
    return int(communicator.broadcast(calls)[0])


def timed(run: Callable[[], Any], calls: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def fitted(size: int, sums: dict[int, float]) -> tuple[float, float]:
    """Latency in seconds and bandwidth in bytes a second, of sums of so many bytes."""
    moved = np.asarray([2 * (size - 1) / size * nbytes for nbytes in sums])
    taken = np.asarray([*sums.values()])
    rows = np.stack([1 / taken, moved / taken], axis=1)
    (latency, slope), *_ = np.linalg.lstsq(rows, np.ones(len(taken)), rcond=None)
    return float(latency), float(1 / slope)


def measured(
    communicator: Communicator, backend: str, works: list[str], rounds: int, least: float
) -> tuple[dict[str, dict[str, float]], dict[int, float]]:
    """Medians of each work, and of sums of each size in bytes."""
    found: dict[str, dict[str, float]] = {}
    make = get_backend(backend)
    for name in works:
        work, whole, silent = WORKS[name], Counting(communicator), Counting(communicator)
        runs = {
            "step": stepping(work, backend, whole, work.batch),
            "alone": stepping(work, backend, silent, work.batch),
        }
        for run in runs.values():
            run()
        silent.silent = True
        whole.bytes = 0
        runs["step"]()
        nbytes = whole.bytes
        flat = make.asarray(np.ones(nbytes // 4, dtype=np.float32))
        runs["sum"] = lambda flat=flat: make.to_numpy(communicator.all_sum(flat))
        calls = {key: agreed(run, communicator, least) for key, run in runs.items()}
        rows = [{key: timed(run, calls[key]) for key, run in runs.items()} for _ in range(rounds)]
        found[name] = {key: statistics.median(row[key] for row in rows) for key in runs}
        found[name]["bytes"] = nbytes
    sums = {}
    for count in SIZES:
        array = make.asarray(np.ones(count, dtype=np.float32))
        run = lambda array=array: make.to_numpy(communicator.all_sum(array))  # noqa: E731
        calls_of = agreed(run, communicator, least)
        sums[4 * count] = statistics.median(timed(run, calls_of) for _ in range(rounds))
    return found, sums


def main(given: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Steps that several processes take together.")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--works", nargs="*", default=CHOSEN)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement")
    parser.add_argument("--predict", nargs=2, type=float, metavar=("MICROSECONDS", "GIGABYTES"))
    options = parser.parse_args(given)
    communicator = as_communicator(options.engine, get_backend(options.backend))
    if communicator is None:
        alone(options)
        return
    found, sums = measured(
        *(communicator, options.backend, options.works, options.rounds, options.seconds)
    )
    if not communicator.is_first:
        return
    size = communicator.size
    latency, bandwidth = fitted(size, sums)
    print(f"{size} processes, {communicator!r}, medians of {options.rounds} rounds, in ms\n")
    print("| work | step | without sums | the sum | beside other work | MB added up |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, row in found.items():
        beside = 1 - (row["step"] - row["alone"]) / row["sum"]
        times = " | ".join(f"{1e3 * row[key]:.2f}" for key in ("step", "alone", "sum"))
        print(f"| {name} | {times} | {beside:.2f} | {row['bytes'] / 1e6:.2f} |")
    print(f"\nsums: {1e6 * latency:.0f} us and {bandwidth / 1e9:.2f} GB/s, as a ring counts them")
    for nbytes, taken in sums.items():
        fit = latency + 2 * (size - 1) / size * nbytes / bandwidth
        print(
            f"  {nbytes:>9,} bytes: {1e6 * taken:>9,.0f} us, {1e6 * fit:>9,.0f} by the two numbers"
        )


def alone(options: argparse.Namespace) -> None:
    """One process: the step on parts of the batch, and what it takes with others by the model."""
    counts = [1, 2, 4, 8, 16, 32, 64]
    print("| work |", " | ".join(f"{n} processes" for n in counts), "|")
    print("|---|" + "--:|" * len(counts))
    for name in options.works:
        work, cells = WORKS[name], []
        network = Network(work.layers(), work.input_shape)
        nbytes = 4 * sum(one.size for one in network.params.values())
        for n in counts:
            batch = work.batch // n
            if not batch:
                cells.append("")
                continue
            step = stepping(work, options.backend, None, batch)
            taken = statistics.median(seconds(step, options.seconds) for _ in range(options.rounds))
            if options.predict and n > 1:
                microseconds, gigabytes = options.predict
                taken += microseconds * 1e-6 + 2 * (n - 1) / n * nbytes / (gigabytes * 1e9)
            cells.append(f"{1e3 * taken:.2f}")
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
