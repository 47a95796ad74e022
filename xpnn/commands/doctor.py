"""``xpnn doctor``: what works on this machine, and what to type if not."""

import argparse
import importlib.util
import subprocess
import sys
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import BACKENDS, get_backend
from xpnn.backends.cupy.communicator import INSTALL as NCCL_INSTALL
from xpnn.backends.numpy.mpi import INSTALL as MPI_INSTALL
from xpnn.backends.registry import backend_class
from xpnn.commands.reports import tell

SECONDS = 60  # in which an engine has to be loaded


def doctor(options: argparse.Namespace) -> int:
    """One paragraph for each library and engine; the exit status is 0, as NumPy alone is enough."""
    found: dict[str, Any] = {}
    looks = {name: partial(examine, name) for name in BACKENDS}
    looks |= {engine.name: partial(examine_engine, engine) for engine in ENGINES}
    for name, look in looks.items():
        answer = look()
        found[name] = {"works": answer.startswith("works"), "found": answer}
        if not options.json:
            print(f"{name:17s} {answer}", flush=True)
    tell(options, found, lambda: None)
    return 0


def examine(name: str) -> str:
    """Whether a library is installed, its version and devices, and whether a kernel ran on it."""
    kind = backend_class(name)
    if importlib.util.find_spec(kind.library.replace("-", "_")) is None:
        return f"not installed; type: {kind.install}"
    started = time.perf_counter()
    try:
        backend = get_backend(name)
        numbers = backend.to_numpy(backend.asarray(np.arange(4, dtype=np.float32)) * 2.0 + 1.0)
        if numbers.tolist() != [1.0, 3.0, 5.0, 7.0]:
            return (
                f"WRONG RESULT: 2 x + 1 gave {numbers.tolist()} for x = 0, 1, 2, 3; do not use it"
            )
    except Exception as error:  # whatever a broken installation raises, the doctor reports it
        return f"does not work: {error}"
    devices = ", ".join(backend.describe_devices())
    seconds = time.perf_counter() - started
    answer = f"works: {backend.describe()}; devices: {devices}; first kernel after {seconds:.2f} s"
    missing = backend.missing()
    return answer if missing is None else f"{answer}; {missing}"


class Engine(NamedTuple):
    """What adds up over several processes, beside XLA, which comes with JAX.

    Attributes:
        name: of the engine.
        package: that brings it.
        program: tells its version.
        install: what to type where it is missing.
    """

    name: str
    package: str
    program: str
    install: str


ENGINES = (
    Engine(
        "mpi",
        "mpi4py",
        "from mpi4py import MPI; print(MPI.Get_library_version().split(',')[0].strip())",
        MPI_INSTALL,
    ),
    Engine(
        "nccl",
        "cupy",
        "import sys; from cupy.cuda import nccl; nccl.available or sys.exit('CuPy finds no NCCL');"
        " print('NCCL', nccl.get_version())",
        NCCL_INSTALL,
    ),
    Engine(
        "torch.distributed",
        "torch",
        "from torch import distributed as found; print(*(name for name in ('gloo', 'nccl')"
        " if found.is_available() and getattr(found, f'is_{name}_available')()))",
        backend_class("torch").install,
    ),
)


def examine_engine(engine: Engine) -> str:
    """Whether an engine is installed and can be loaded; in a process of its own.

    MPI is begun when it is loaded, which can end a process.
    """
    if importlib.util.find_spec(engine.package) is None:
        return f"not installed; type: {engine.install}"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", engine.program],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not work: it was not loaded in {SECONDS} seconds"
    if done.returncode or not done.stdout.strip():
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return f"does not work: {told[-1] if told else 'it says nothing'}; type: {engine.install}"
    return f"works: {done.stdout.strip()}"


def working() -> list[str]:
    """The backends that work here."""
    return [name for name in BACKENDS if examine(name).startswith("works")]
