"""Steps that several processes take together: what they cost, and what of it is their sum.

``xpnn launch -n 2 -m benchmarks.processes`` times, in each of several rounds and in turn,

    a step      of all processes, each on its rows of the batch
    alone       the same step, whose sums are left out
    the sum     of as many numbers as the step adds up, alone

and prints the medians, with the bytes that each process adds up in a step. What of the sum lies
beside other work is 1 - (step - alone) / sum. Sums of several sizes give the two constants of

    sum(n, bytes) = 2 (n - 1) (latency + bytes / n / bandwidth)

which is what a ring takes, by 2 (n - 1) messages of an n-th each (Patarasuk and Yuan, 2009), by
least squares of relative errors. ``--predict MICROSECONDS GIGABYTES``, in one process, gives what
more of them are to take over a network whose two constants one knows::

    step(n) = alone(batch / n) + sum(n, bytes)            the same batch, cut into n
    efficiency(n) = alone(batch) / (alone(batch) + sum(n, bytes))      a whole batch in each

where alone is measured by this process, and nothing lies beside other work. Where all processes
share ``--cores`` that are fewer, each computes for n / cores as long.
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
    """Hands on to another communicator and counts what it was given; once silent, to none.

    What processes tell each other beside the steps is handed on in any case: they compare it.
    """

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

    def small_sum(self, array: np.ndarray) -> np.ndarray:
        return self.inner.small_sum(array)

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


def predicted(size: int, nbytes: float, latency: float, bandwidth: float) -> float:
    """Seconds of a sum of so many bytes over a ring of so many processes."""
    return 2 * (size - 1) * (latency + nbytes / size / bandwidth)


def fitted(size: int, sums: dict[int, float]) -> tuple[float, float]:
    """Latency in seconds and bandwidth in bytes a second, of sums of so many bytes."""
    taken = np.asarray([*sums.values()])
    moved = np.asarray([[1.0, nbytes / size] for nbytes in sums]) * 2 * (size - 1)
    (latency, slope), *_ = np.linalg.lstsq(moved / taken[:, None], np.ones(len(taken)), rcond=None)
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
    parser.add_argument(
        *("--predict",),
        nargs=2,
        type=float,
        metavar=("MICROSECONDS", "GIGABYTES"),
        help="what a message takes, and how many gigabytes a second are sent",
    )
    parser.add_argument(
        "--cores", type=int, help="that all processes share; otherwise each its own"
    )
    options = parser.parse_args(given)
    if options.predict:
        predict(options)
        return
    communicator = as_communicator(options.engine, get_backend(options.backend))
    if communicator is None:
        parser.error("one process alone adds up nothing: start several, or ask to --predict")
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
    print(f"\na message: {1e6 * latency:.1f} us and {bandwidth / 1e9:.2f} GB/s")
    for nbytes, taken in sums.items():
        fit = predicted(size, nbytes, latency, bandwidth)
        print(
            f"  {nbytes:>9,} bytes: {1e6 * taken:>9,.0f} us, {1e6 * fit:>9,.0f} by the two numbers"
        )


def predict(options: argparse.Namespace) -> None:
    """What a step takes on parts of the batch, and with others by the model."""
    counts = [1, 2, 4, 8, 16, 32, 64]
    latency, bandwidth = options.predict[0] * 1e-6, options.predict[1] * 1e9
    print("| processes |", " | ".join(map(str, counts)), "|")
    print("|---|" + "--:|" * len(counts))
    for name in options.works:
        work, steps, efficiencies = WORKS[name], [], []
        network = Network(work.layers(), work.input_shape)
        nbytes = 4 * sum(one.size for one in network.params.values())
        whole = 0.0
        for n in counts:
            rows, adding = work.batch // n, predicted(n, nbytes, latency, bandwidth)
            crowded = max(1.0, n / options.cores) if options.cores else 1.0
            if rows:
                run = stepping(work, options.backend, None, rows)
                taken = [seconds(run, options.seconds) for _ in range(options.rounds)]
                own = statistics.median(taken) * crowded
                steps.append(f"{1e3 * (own + adding):.2f}")
                whole = whole or own
            else:
                steps.append("")
            efficiencies.append(f"{whole / (whole * crowded + adding):.0%}")
        print(f"| {name}, ms a step |", " | ".join(steps), "|")
        print("| a batch in each |", " | ".join(efficiencies), "|")


if __name__ == "__main__":
    main()
