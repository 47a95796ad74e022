"""Which of several ways is fastest at something: tried once, and kept for all later processes."""

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Clock = Callable[[], float]
Ways = Mapping[str, Callable[[], Any]]

ROUNDS = 5
LEAST_TIME = 2e-4  # seconds of one way in a round: a look at the clock takes up to a microsecond
CLEARLY = 0.95  # of the time of the first way has another to take, at most, to be chosen


class Fastest:
    """Chooses among ways, each time among those of some kind, and keeps to it.

    What is chosen is a file. Of processes that choose at once, the first to write it has chosen for
    all, and none chooses what it cannot write: so a training that goes on in another process goes
    on by the same ways.

    Args:
        folder: for the files.
        machine: what has to be the same for a choice to hold.
        clock: tells the seconds that this thread has computed, so that what else runs on its core
            meanwhile does not count.
    """

    def __init__(self, folder: Path, machine: Any, clock: Clock = time.thread_time):
        self.folder, self.clock, self.machine = folder, clock, _short(machine)
        self._chosen: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def of(self, kind: str, ways: Callable[[], Ways]) -> str | None:
        """The name of the fastest way; None, for the usual one, if no choice could be written.

        Args:
            kind: of what they do.
            ways: makes them, the usual one first; only called if they have to be tried.
        """
        with self._lock:
            if kind not in self._chosen:
                path = self.folder / f"{self.machine}-{_short(kind)}.txt"
                if not path.exists():
                    _write_first(path, f"{kind}\n{fastest(ways(), self.clock)}\n")
                self._chosen[kind] = _read(path)
            return self._chosen[kind]

    def all_chosen(self) -> list[str]:
        """The ways that were chosen for this machine, by whatever process."""
        found = map(_read, self.folder.glob(f"{self.machine}-*.txt"))
        return [name for name in found if name is not None]


def _short(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _write_first(path: Path, text: str) -> None:
    """Write a file, as a whole, unless there is one; where that cannot be, there is none."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            file.write(text)
            file.flush()
            os.link(file.name, path)
    except OSError:  # another process was first, or the disk is full
        pass


def _read(path: Path) -> str | None:
    try:
        _, name = path.read_text().splitlines()
    except (OSError, ValueError):  # not there, or not ours
        return None
    return name


def fastest(ways: Ways, clock: Clock) -> str:
    """The way with the least median over some rounds, in which all take turns."""
    repeats = {}
    for name, way in ways.items():
        way()  # what is made at the first call is not counted
        repeats[name] = _repeats(way, clock)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = clock()
            for _ in range(repeats[name]):
                way()
            times[name].append((clock() - started) / repeats[name])
    medians = {name: statistics.median(some) for name, some in times.items()}
    usual = next(iter(ways))
    best = min(medians, key=lambda name: medians[name])
    return best if medians[best] < CLEARLY * medians[usual] else usual


def _repeats(way: Callable[[], Any], clock: Clock) -> int:
    """How often a way fits into ``LEAST_TIME``, found by doing it ever more often."""
    count = 1
    while True:
        started = clock()
        for _ in range(count):
            way()
        took = clock() - started
        if took >= LEAST_TIME / 2 or count >= 1024:
            return max(1, round(count * LEAST_TIME / took)) if took > 0 else count
        count *= 4
