"""Throughput of training on one GPU: xpnn on CuPy, PyTorch and JAX arrays, and PyTorch itself.

``python -m benchmarks.gpu`` trains five networks in batches that fill a GPU. All columns take
turns, round after round; a cell is the median over the rounds. A column whose library or GPU is
missing is named and left out.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.__main__ import measure
from benchmarks.works import Run, Work, cnn, lstm, mlp, size, torch_run, transformer, xpnn_run
from xpnn.errors import BackendUnavailable

# JAX would take three quarters of the memory for itself, from all other columns.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

WORKS = {
    "MLP 784-128-10, batch 128": mlp([784, 128, 10], 128),
    "MLP 784-4096-4096-10, batch 1024": mlp([784, 4096, 4096, 10], 1024),
    "CNN 28x28, 16 and 32 filters, batch 1024": replace(cnn(), batch=1024),
    "LSTM 32 to 128, 32 steps, batch 512": replace(lstm(), batch=512),
    "Transformer, 2 blocks, width 128, 64 steps, batch 256": replace(transformer(), batch=256),
}
YARDSTICK = "PyTorch"

COLUMNS: dict[str, Callable[[Work], Run]] = {
    "xpnn on cupy": partial(xpnn_run, backend="cupy", tf32=False),
    "xpnn on cupy, TF32": partial(xpnn_run, backend="cupy", tf32=True),
    "xpnn on cupy, float16": partial(xpnn_run, backend="cupy", precision="float16"),
    "xpnn on cupy, no graph": partial(xpnn_run, backend="cupy", tf32=False, compile=False),
    "xpnn on torch": partial(xpnn_run, backend="torch:cuda", tf32=False),
    "xpnn on torch, compiled": partial(xpnn_run, backend="torch:cuda", tf32=False, compile=True),
    "xpnn on jax": partial(xpnn_run, backend="jax:gpu", tf32=False),
    "xpnn on jax, TF32": partial(xpnn_run, backend="jax:gpu", tf32=True),
    YARDSTICK: partial(torch_run, device="cuda"),
    "PyTorch, TF32": partial(torch_run, device="cuda", tf32=True),
    "PyTorch, compiled": partial(torch_run, device="cuda", compile=True),
    "PyTorch, float16": partial(torch_run, device="cuda", autocast="float16"),
}


def runs_of(work: Work, columns: dict[str, Callable[[Work], Run]]) -> dict[str, Run]:
    """The columns that work on this machine."""
    runs = {}
    for name, make in columns.items():
        try:
            run = make(work)
            run(1)  # compiles, which may fail too
            runs[name] = run
        except (BackendUnavailable, ImportError, RuntimeError, AssertionError) as error:
            print(f"no column {name}: {str(error).splitlines()[0]}")  # torch asserts on CUDA
    return runs


def table(title: str, work: Work, times: dict[str, list[float]]) -> str:
    """Samples a second, microseconds a step, and how many times as fast as PyTorch."""
    lines = [f"### {title}: {size(work)}\n", "| column | samples/s | step, us | x speed |"]
    lines.append("|---|--:|--:|--:|")
    yardstick = times.get(YARDSTICK) or next(iter(times.values()))
    for name, series in sorted(times.items(), key=lambda pair: statistics.median(pair[1])):
        step = statistics.median(series)
        speed = statistics.median(b / a for a, b in zip(series, yardstick, strict=True))
        lines.append(f"| {name} | {work.batch / step:,.0f} | {1e6 * step:,.0f} | {speed:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--columns", default="", help="only those whose name contains this")
    parser.add_argument("--works", default="", help="only those whose title contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each column and round")
    options = parser.parse_args()
    chosen = {name: make for name, make in COLUMNS.items() if options.columns in name}
    for title, work in WORKS.items():
        if options.works in title:
            runs = runs_of(work, chosen)
            if runs:
                print(
                    table(title, work, measure(runs, options.rounds, options.seconds)), flush=True
                )


if __name__ == "__main__":
    main()
