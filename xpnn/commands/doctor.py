"""``xpnn doctor``: what works on this machine, and what to type if not."""

import argparse
import importlib.util
import time
from typing import Any

import numpy as np

from xpnn.backends import BACKENDS, get_backend
from xpnn.backends.registry import backend_class
from xpnn.commands.reports import tell


def doctor(options: argparse.Namespace) -> int:
    """One paragraph for each library; the exit status is 0, as NumPy alone is enough."""
    found: dict[str, Any] = {}
    for name in BACKENDS:
        answer = examine(name)
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


def working() -> list[str]:
    """The backends that work here."""
    return [name for name in BACKENDS if examine(name).startswith("works")]
