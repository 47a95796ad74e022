"""Time training steps of the same networks on each backend, and in the peers that are installed.

All columns take turns, round after round, so that noise on the machine hits all of them alike. A
cell is the median over the rounds of the step's time; a ratio is the median of the rounds' ratios
to PyTorch without compilation, or to the first column where PyTorch is not installed.
"""

import argparse
import statistics
import time
from functools import partial

from benchmarks.works import WORKS, Run, Work, size, sklearn_run, torch_run, xpnn_run
from xpnn.errors import BackendUnavailable

BACKENDS = ["numpy", "numpy:numba", "torch", "jax"]
PEERS = {"PyTorch": torch_run, "scikit-learn": sklearn_run}
YARDSTICK = "PyTorch"


def columns(work: Work, backends: list[str]) -> dict[str, Run]:
    """The columns that work on this machine: xpnn on each backend, then the peers."""
    makers = {f"xpnn on {name}": partial(xpnn_run, backend=name) for name in backends}
    makers |= {
        f"xpnn on {name}, compiled": partial(xpnn_run, backend=name, compile=True)
        for name in backends
        if name.partition(":")[0] == "torch"
    }
    runs = {}
    for name, make in (*makers.items(), *PEERS.items()):
        try:
            runs[name] = make(work)
        except BackendUnavailable as error:
            print(f"no column {name}: {error}")
        except (ImportError, NotImplementedError):
            continue  # a peer that is not installed, or that has no such network
    return runs


def measure(runs: dict[str, Run], rounds: int, seconds: float) -> dict[str, list[float]]:
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


def show(title: str, times: dict[str, list[float]]) -> None:
    """Print a table, the fastest column first."""
    yardstick = YARDSTICK if YARDSTICK in times else next(iter(times))
    print(f"\n### {title}\n\n| column | step, us | x {yardstick} |\n|---|--:|--:|")
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        series = times[name]
        ratio = statistics.median(a / b for a, b in zip(series, times[yardstick], strict=True))
        print(f"| {name} | {1e6 * statistics.median(series):,.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backends", default=",".join(BACKENDS), help="with commas")
    parser.add_argument("--works", default="", help="only those whose title contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.25, help="for each column and round")
    options = parser.parse_args()
    for title, work in WORKS.items():
        if options.works in title:
            runs = columns(work, options.backends.split(","))
            show(f"{title}: {size(work)}", measure(runs, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
