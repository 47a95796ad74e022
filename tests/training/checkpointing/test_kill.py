"""A run that is killed, at any moment, loses nothing but the steps since its last checkpoint.

``XPNN_KILLS`` says how many times a run on NumPy is killed at a random moment, 6 unless given; on
other backends, whose runs take longer to start, it is a tenth of that or less, but at least 2.
Besides, each chosen instant of a writing is hit.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.backends.process import PYTHON_PATH
from tests.reliability.tally import attempt
from xpnn.training.checkpointing.contents import read_contents
from xpnn.training.checkpointing.resuming import number_of, numbered

KILLS = int(os.environ.get("XPNN_KILLS", "6"))
EVERY, STEPS = 2, 30  # of mortal_run.py

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are started by os.fork")


class Nursery:
    """A process that has the library imported, and forks the runs."""

    def __init__(self, spec):
        self.spec, library = spec, spec.partition(":")[0].replace("-", "_")
        # a run that is killed may leave half an entry in a cache, and each one compiles anew so
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mortal_run.py")), library],
            env={**environment, "PYTHONPATH": PYTHON_PATH, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, folder, background=False, instant="", count=0):
        """Fork a run; returns its process id."""
        order = {"spec": self.spec, "folder": str(folder), "background": background}
        print(
            json.dumps({**order, "instant": instant, "count": count}),
            file=self.process.stdin,
            flush=True,
        )
        return int(self._line())

    def status(self):
        """Wait for the run to end; below zero, the signal that killed it."""
        status = int(self._line())
        print("bury it", file=self.process.stdin, flush=True)
        return status

    def _line(self):
        line = self.process.stdout.readline()
        return line or pytest.fail(self.process.stderr.read())

    def close(self):
        _, errors = self.process.communicate()
        return errors


@pytest.fixture
def nursery(backend, on_numpy):
    if backend.name == "array-api-strict":
        pytest.skip("the same process, files and steps as on NumPy, only slower")
    nursery = on_numpy if backend.spec == "numpy" else Nursery(backend.spec)
    yield nursery
    if nursery is not on_numpy:
        nursery.close()


@pytest.fixture(scope="module")
def on_numpy():
    """One for all tests: a run that is killed is a process of its own."""
    nursery = Nursery("numpy")
    yield nursery
    nursery.close()


def run_to_the_end(nursery, folder, background=False):
    folder.mkdir()
    nursery.start(folder, background)
    start = time.perf_counter()
    if nursery.status() != 0:
        pytest.fail(nursery.close())
    return time.perf_counter() - start


def journal(folder):
    path = folder / "journal"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def check_after_death(folder, steps, background):
    """All files are whole, and no more is lost than the steps since the last checkpoint."""
    run = folder / "run"
    found = [number_of(path) for path in numbered(run)]
    for path in [*numbered(run), *run.glob("best.safetensors")]:
        read_contents(path)  # raises if it is not whole
    done = steps[-1] if steps else 0
    # one more step may be done while its checkpoint is written; the thread is one writing behind
    assert max(found, default=0) >= done - (2 if background else 1) * EVERY
    return max(found, default=0)


def assert_same_end(folder, whole):
    assert (folder / "history.json").read_text() == (whole / "history.json").read_text()
    with np.load(folder / "values.npz") as found, np.load(whole / "values.npz") as wanted:
        assert sorted(found) == sorted(wanted)
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    for name in ("best.safetensors", numbered(whole / "run")[-1].name):
        one, other = (read_contents(place / "run" / name) for place in (folder, whole))
        np.testing.assert_equal(one, other)
    assert not list((folder / "run").glob("*.part"))


def killed_once(nursery, folder, background, wait):
    """Start a run, and kill it after ``wait``; whether it died of that, and had not ended."""
    before, had = journal(folder), len(numbered(folder / "run"))
    newest = number_of(numbered(folder / "run")[-1]) if had else 0
    child = nursery.start(folder, background)
    wait(lambda: len(journal(folder)) - len(before))
    os.kill(child, signal.SIGKILL)  # it may have ended, but still has its number
    status = nursery.status()
    assert status in (0, -signal.SIGKILL), nursery.close()
    steps = journal(folder)
    if len(steps) > len(before):
        assert steps[len(before)] == newest + 1, "the run did not go on behind its last checkpoint"
    check_after_death(folder, steps, background)
    return status != 0


@pytest.mark.slow_to_compile  # anew in each process; what it writes is made on the host
@pytest.mark.fault("run killed at a random moment")
def test_killed_at_random_moments(nursery, backend, tmp_path):
    fast, slow = backend.spec == "numpy", backend.name == "jax"
    kills = KILLS if backend.spec == "numpy" else max(2, KILLS // (20 if slow else 10))
    rng = np.random.default_rng(KILLS)
    seconds = run_to_the_end(nursery, tmp_path / "whole")
    done, number = 0, 0
    while done < kills:
        number += 1
        folder, background, finished = tmp_path / f"run {number}", bool(number % 2), False
        folder.mkdir()
        while not finished and done < kills:
            wanted, pause = (0, 0.8 * seconds) if fast else (int(rng.integers(1, STEPS // 2)), 0.01)
            wait = functools.partial(wait_for, wanted, rng.uniform(0, pause), folder / "values.npz")
            with attempt():
                died = killed_once(nursery, folder, background, wait)
            done, finished = done + died, not died
        if not finished:
            nursery.start(folder, background)
            if nursery.status() != 0:
                pytest.fail(nursery.close())
        assert_same_end(folder, tmp_path / "whole")
    print(f"{done} kills in {number} runs on {backend.spec}")


def wait_for(wanted, pause, end, steps):
    """Wait until a run has done so many steps, or has reached its end, and a moment more."""
    deadline = time.monotonic() + 60
    while steps() < wanted and not end.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(pause)


INSTANTS = [
    *("before fsync", "after fsync", "before replace", "after replace", "after unlink"),
    "half written",
]


@pytest.mark.fault("run killed while it writes a checkpoint")
@pytest.mark.parametrize("background", [False, True])
def test_killed_while_it_writes(on_numpy, tmp_path, background):
    nursery = on_numpy  # files are written in the same way on all backends
    run_to_the_end(nursery, tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    for instant in INSTANTS:
        nursery.start(folder, background, instant, count=5)
        with attempt():
            assert nursery.status() == -signal.SIGKILL, (instant, nursery.close())
            check_after_death(folder, journal(folder), background)
            if instant in ("half written", "before fsync", "before replace"):
                assert list((folder / "run").glob("*.part")), "it did not die while it was writing"
    nursery.start(folder, background)
    assert nursery.status() == 0, nursery.close()
    assert_same_end(folder, tmp_path / "whole")
