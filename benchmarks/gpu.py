"""Training on one GPU: xpnn on CuPy, PyTorch and JAX arrays, and PyTorch itself.

``python -m benchmarks.gpu`` trains five networks of sizes that fill a GPU. Each column has a
process of its own, so that its memory is its own, too: what it has taken from the device once its
first steps are done. Then all columns take turns, round after round; a cell is the median over the
rounds. A column whose library or GPU is missing is named and left out.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu_works import SMALL, WORKS
from benchmarks.works import Run, size, torch_run, xpnn_run
from xpnn.errors import BackendUnavailable

YARDSTICK = "PyTorch, TF32"
Maker = partial[Run]

_cupy = partial(partial, xpnn_run, backend="cupy")
_peer = partial(partial, torch_run, device="cuda", tf32=True, tuned=True)
COLUMNS: dict[str, Maker] = {
    "xpnn on cupy, TF32": _cupy(tf32=True),
    "xpnn on cupy, bfloat16": _cupy(tf32=True, precision="bfloat16"),
    "xpnn on cupy, float16": _cupy(tf32=True, precision="float16"),
    "xpnn on cupy, float32": _cupy(tf32=False),
    "PyTorch, TF32": _peer(),
    "PyTorch, bfloat16": _peer(autocast="bfloat16"),
    "PyTorch, compiled, TF32": _peer(compile=True),
    "PyTorch, compiled, bfloat16": _peer(compile=True, autocast="bfloat16"),
    "xpnn on jax, TF32": partial(xpnn_run, backend="jax:gpu", tf32=True),
    "xpnn on jax, bfloat16": partial(xpnn_run, backend="jax:gpu", tf32=True, precision="bfloat16"),
    "xpnn on torch, TF32": partial(xpnn_run, backend="torch:cuda", tf32=True),
    "xpnn on torch, bfloat16": partial(
        xpnn_run, backend="torch:cuda", tf32=True, precision="bfloat16"
    ),
    "xpnn on torch, compiled, TF32": partial(
        xpnn_run, backend="torch:cuda", tf32=True, compile=True
    ),
    "xpnn on cupy, TF32, no graph": _cupy(tf32=True, compile=False),
}
ON_CPU = {"torch:cuda": "torch:cpu", "jax:gpu": "jax:cpu", "cuda": "cpu"}
WARM = 4
"""Steps before anything is measured: CuPy and PyTorch capture in the third one."""


def on_cpu(make: Maker) -> Maker:
    """The same column without a GPU, where its library has a CPU: to try the script."""
    named = {
        key: ON_CPU.get(value, value) if isinstance(value, str) else value
        for key, value in make.keywords.items()
        if key != "tf32"
    }
    return partial(make.func, **named)


# In the process of a column -----------------------------------------------------------------------


def serve(pipe: Connection, title: str, name: str, cpu: bool) -> None:
    """Say how much memory the first steps have taken, then do what is asked for."""
    # JAX would take three quarters of the memory for itself, from all other columns.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    make = on_cpu(COLUMNS[name]) if cpu else COLUMNS[name]
    try:
        free = free_memory()
        run = make((WORKS | SMALL)[title])
        run(WARM)
        left = free_memory()
        pipe.send({"memory": None if free is None or left is None else free - left})
    except (BackendUnavailable, ImportError, RuntimeError, AssertionError) as error:
        pipe.send({"error": str(error).partition("\n")[0]})  # torch asserts on CUDA
        return
    asked = {"time": timed, "profile": profiled}
    while True:
        task, *given = pipe.recv()
        if task == "end":
            return
        pipe.send(asked[task](run, *given))


def free_memory() -> int | None:
    """Bytes that the first GPU has free, asked in the context that all libraries share."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("cuInit", (0,)),
        ("cuDevicePrimaryCtxRetain", (ctypes.byref(context), 0)),
        ("cuCtxSetCurrent", (context,)),
        ("cuMemGetInfo_v2", (ctypes.byref(free), ctypes.byref(total))),
    )
    failed = any(getattr(driver, name)(*given) for name, given in calls)
    return None if failed else free.value


def timed(run: Run, seconds: float) -> float:
    """Seconds a step, over about so many seconds."""
    started = time.perf_counter()
    run(2)
    count = max(2, round(2 * seconds / (time.perf_counter() - started)))
    started = time.perf_counter()
    run(count)
    return (time.perf_counter() - started) / count


def profiled(run: Run, steps: int = 3) -> list[tuple[str, float, float]] | str:
    """Name, seconds a step and launches a step of each kernel, by PyTorch's profiler.

    It asks CUPTI, which sees kernels of all libraries, those of a graph one by one.
    """
    try:
        from torch.profiler import ProfilerActivity, profile, supported_activities
    except ImportError:
        return "a profile needs PyTorch, whose profiler sees all libraries"
    if ProfilerActivity.CUDA not in supported_activities():
        return "this PyTorch knows of no GPU"
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run(steps)
    rows = [
        (one.key, 1e-6 * one.self_device_time_total / steps, one.count / steps)
        for one in seen.key_averages()
    ]
    return sorted(rows, key=lambda row: -row[1])


# In the process that asks -------------------------------------------------------------------------


class Column:
    """A process that trains one network in one way.

    Every answer is waited for so many seconds only, so that no library can take all the time.
    """

    def __init__(self, title: str, name: str, cpu: bool = False):
        start = multiprocessing.get_context("spawn")
        self.pipe, other = start.Pipe()
        self.process = start.Process(target=serve, args=(other, title, name, cpu), daemon=True)
        self.process.start()
        other.close()

    def answer(self, seconds: float) -> Any:
        """What it says next; ``{"error": ...}`` where it says nothing in that time, or has died."""
        try:
            if self.pipe.poll(max(seconds, 0.0)):
                return self.pipe.recv()
        except (EOFError, OSError):
            return {"error": f"its process has ended with status {self.process.exitcode}"}
        self.process.kill()
        return {"error": "it took too long"}

    def ask(self, *task: Any, seconds: float) -> Any:
        """The answer to a task."""
        try:
            self.pipe.send(task)
        except OSError:
            return {"error": "its process has ended"}
        return self.answer(seconds)

    def end(self) -> None:
        """Give its memory back."""
        if self.process.is_alive():
            self.pipe.send(("end",))
            self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def started(
    title: str, names: list[str], cpu: bool, left: Callable[[], float]
) -> tuple[dict[str, Column], dict[str, dict[str, Any]]]:
    """The columns that work on this machine, one started after the other, and what each takes."""
    columns, results = {}, {}
    for name in names:
        if left() <= 0:
            print(f"no column {name}: out of time", flush=True)
            continue
        column = Column(title, name, cpu)
        first = column.answer(left())
        if "error" in first:
            column.end()
            print(f"no column {name}: {first['error']}", flush=True)
        else:
            columns[name], results[name] = column, {"memory": first["memory"], "step": []}
    return columns, results


def measured(
    columns: dict[str, Column],
    results: dict[str, dict[str, Any]],
    rounds: int,
    seconds: float,
    left: Callable[[], float],
) -> None:
    """Add seconds a step of each column in each round; the columns take turns."""
    for _ in range(rounds):
        for name in list(columns):
            answer = columns[name].ask("time", seconds, seconds=left())
            if isinstance(answer, dict):
                print(f"column {name} ends here: {answer['error']}", flush=True)
                columns.pop(name).end()
            else:
                results[name]["step"].append(answer)


def table(title: str, results: dict[str, dict[str, Any]]) -> str:
    """Milliseconds a step, how many times as fast as PyTorch, and memory, the fastest first."""
    times = {name: one["step"] for name, one in results.items() if one["step"]}
    yardstick = times.get(YARDSTICK) or next(iter(times.values()), [])
    lines = [f"### {title}: {size((WORKS | SMALL)[title])}\n"]
    lines += ["| column | step, ms | x speed | memory, GB |", "|---|--:|--:|--:|"]
    for name, series in sorted(times.items(), key=lambda pair: statistics.median(pair[1])):
        speed = statistics.median(b / a for a, b in zip(series, yardstick, strict=False))
        memory = results[name]["memory"]
        taken = "" if memory is None else f"{memory / 1e9:.2f}"
        lines.append(f"| {name} | {1e3 * statistics.median(series):.3f} | {speed:.2f} | {taken} |")
    return "\n".join(lines) + "\n"


def profile_table(name: str, kernels: list[tuple[str, float, float]], count: int) -> str:
    """The kernels that take longest."""
    total, launches = (sum(row[k] for row in kernels) for k in (1, 2))
    lines = [f"{name}: {1e3 * total:.3f} ms a step in {launches:,.0f} launches"]
    lines += [
        f"  {1e3 * seconds:9.3f} ms {number:6.0f} x  {kernel[:100]}"
        for kernel, seconds, number in kernels[:count]
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    of = "only those whose name contains one of these"
    parser.add_argument("--columns", nargs="*", default=[""], help=of)
    parser.add_argument("--works", nargs="*", default=[""], help=of)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each column and round")
    parser.add_argument("--limit", type=float, default=840.0, help="seconds for all of it")
    parser.add_argument("--profile", type=int, default=0, help="print so many kernels of each")
    parser.add_argument("--json", type=Path, help="a file for all numbers, written work by work")
    parser.add_argument("--small", action="store_true", help="networks with few units")
    parser.add_argument("--cpu", action="store_true", help="PyTorch and JAX without a GPU")
    options = parser.parse_args(arguments)
    end = time.monotonic() + options.limit

    def left() -> float:
        return end - time.monotonic()

    found = {}
    names = [name for name in COLUMNS if any(one in name for one in options.columns)]
    for title in SMALL if options.small else WORKS:
        if not any(one in title for one in options.works):
            continue
        columns, results = started(title, names, options.cpu, left)
        try:
            measured(columns, results, options.rounds, options.seconds, left)
            print(table(title, results), flush=True)
            for name, column in columns.items() if options.profile else ():
                kernels = column.ask("profile", seconds=left())
                if isinstance(kernels, list):
                    results[name]["kernels"] = kernels
                    print(profile_table(name, kernels, options.profile), flush=True)
                else:
                    print(f"no profile of {name}: {kernels}", flush=True)
        finally:
            for column in columns.values():
                column.end()
        found[title] = results
        if options.json:
            options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
