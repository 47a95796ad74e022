"""``xpnn launch -n 4 program.py``: one program in several processes of this machine."""

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from xpnn.commands import rank as of_mpirun
from xpnn.commands.options import UsageError
from xpnn.errors import BackendUnavailable

ENGINES = ("auto", "mpi", "torch", "nccl")
KEPT = 2000  # lines of what a process has written to standard error
PERIOD = 0.05  # seconds between two looks at the processes
AFTER_FAILURE = 5.0  # seconds that the others have to end when one has failed
MOMENTS = 5.0  # seconds in which one that raises makes others fail, which may end before it does
AFTER_SIGNAL = 30.0  # and after Ctrl-C, as they may have a checkpoint to write
TRACEBACK = b"Traceback (most recent call last):"  # behind a name of the process, of PyTorch's
CHAINED = b"During handling of the above exception", b"The above exception was the direct cause"
OF_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
"""More processes than cores may be wanted, and threads go where they like; other MPIs ignore it."""


def launch(options: argparse.Namespace) -> int:
    """Start the processes, hand on what they write, and end with the first that fails."""
    if os.name != "posix":
        raise UsageError("xpnn launch starts processes on Linux and macOS; start them by mpiexec")
    if not options.program:
        raise UsageError("wanted a program to start, such as xpnn launch -n 2 program.py, got none")
    if not options.module and not Path(options.program[0]).is_file():
        raise UsageError(
            f"there is no file {options.program[0]}; of a module: xpnn launch -n 2 -m MODULE"
        )
    command = [sys.executable, *(["-m"] if options.module else []), *options.program]
    environment = _environment(options)
    mpirun = _mpirun(options.engine)
    with tempfile.TemporaryDirectory(prefix="xpnn-launch-") as folder, _signals() as signals:
        screen = Screen(options.quiet)
        if mpirun is None:
            job: Job = Direct(options.processes, command, environment, screen)
        else:
            job = ByMPI(options.processes, command, environment, screen, mpirun, Path(folder))
        try:
            return _until_over(job, signals)
        finally:
            job.kill()


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """What all processes are given, whatever starts them."""
    threads = max(1, _cores() // options.processes)
    found = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONUNBUFFERED": "1"}
    if options.timeout is not None:
        found["XPNN_TIMEOUT"] = str(options.timeout)
    return found


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _mpirun(engine: str) -> str | None:
    """What starts them, if that is MPI; None to start them as ``torchrun`` does.

    Raises:
        BackendUnavailable: MPI was asked for, and is not there.
    """
    if engine not in ("auto", "mpi"):
        return None
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("mpirun", path=beside)
    if importlib.util.find_spec("mpi4py") is not None and found is not None:
        return found
    if engine == "auto":
        return None
    raise BackendUnavailable(
        f"wanted mpi4py and mpirun to start processes of MPI, and "
        f"{'there is no mpirun' if found is None else 'mpi4py is not installed'}; type: "
        f"pip install 'xpnn[mpi]', or take --engine torch"
    )


# Until it is over ---------------------------------------------------------------------------------


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that the signals which end programs are added to, as they come."""
    found: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = {one: signal.signal(one, lambda number, _: found.append(number)) for one in numbers}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _until_over(job: "Job", signals: list[int]) -> int:
    deadline, told = None, False
    while job.is_running():
        time.sleep(PERIOD)
        if signals and not told:
            told, deadline = True, time.monotonic() + AFTER_SIGNAL
            job.send(signals[0])
        elif deadline is None and (job.status() or job.screen.is_lost):
            deadline = time.monotonic() + AFTER_FAILURE
            job.end_others()
        if len(signals) > 1 or (deadline is not None and time.monotonic() > deadline):
            job.kill()
    job.finish()
    if signals:
        return 128 + signals[0]
    if job.screen.is_lost:
        return 128 + signal.SIGPIPE
    if status := job.status():
        job.explain()
    return status


# What they write ----------------------------------------------------------------------------------


class Screen:
    """Hands on what the processes write, line by line, each with its rank in front.

    Args:
        quiet: whether to leave out what others than process 0 write to standard output.

    Attributes:
        is_lost: whether nobody reads any more.
    """

    def __init__(self, quiet: bool):
        self.quiet, self.is_lost = quiet, False
        self._writing = threading.Lock()

    def write(self, rank: int | None, name: str, line: bytes) -> None:
        if self.quiet and rank and name == "out":
            return
        stream = sys.stdout if name == "out" else sys.stderr
        text = line.decode(errors="replace").rstrip("\n")
        with self._writing:
            try:
                stream.write(f"{'' if rank is None else f'[{rank}] '}{text}\n")
                stream.flush()
            except BrokenPipeError:
                self.is_lost = True


class Output:
    """What one process writes, read in two threads.

    Attributes:
        errors: the last lines of standard error.
        raised: when the last traceback in it began; None without one.
        ended: when that was closed; None before.
    """

    def __init__(self, rank: int, screen: Screen, open_stream: Callable[[str], IO[bytes]]):
        self.rank, self.screen = rank, screen
        self.errors: deque[bytes] = deque(maxlen=KEPT)
        self.has_begun, self.raised, self.ended = False, None, None
        self._threads = [
            threading.Thread(target=self._read, args=(name, open_stream), daemon=True)
            for name in ("out", "err")
        ]
        for thread in self._threads:
            thread.start()

    raised: float | None
    ended: float | None

    def _read(self, name: str, open_stream: Callable[[str], IO[bytes]]) -> None:
        with open_stream(name) as stream:
            self.has_begun = True
            for line in stream:
                if name == "err":
                    self.errors.append(line)
                    if TRACEBACK in line:
                        self.raised = time.monotonic()
                self.screen.write(self.rank, name, line)
        if name == "err":
            self.ended = time.monotonic()

    def join(self) -> None:
        """Wait until all is written that the process has left."""
        if self.has_begun:
            for thread in self._threads:
                thread.join(2.0)

    @property
    def traceback(self) -> bytes:
        """The last traceback, whole, with what followed; empty where there is none."""
        lines = [*self.errors]
        starts = [k for k, line in enumerate(lines) if TRACEBACK in line]
        first = starts.pop() if starts else len(lines)
        while starts and any(words in lines[first - 2] for words in CHAINED):
            first = starts.pop()  # what it was raised from belongs to it
        return b"".join(lines[first:])


# How they are started -----------------------------------------------------------------------------


class Job:
    """All processes of a launch."""

    screen: Screen
    outputs: list[Output]
    started: list[subprocess.Popen[bytes]]

    def is_running(self) -> bool:
        return any(one.poll() is None for one in self.started)

    def status(self) -> int:
        """The exit status of the first that has failed, 0 if none has."""
        raise NotImplementedError

    def first_failed(self) -> int:
        """The rank of the process that has failed first."""
        raise NotImplementedError

    def send(self, number: int) -> None:
        """A signal for each of them, once."""
        raise NotImplementedError

    def end_others(self) -> None:
        """Ask those that run to end."""
        for one in self.started:
            _signal_group(one, signal.SIGTERM)

    def kill(self) -> None:
        """End all that they have started, too."""
        for one in self.started:
            _signal_group(one, signal.SIGKILL)
            one.wait()

    def finish(self) -> None:
        for one in self.outputs:
            one.join()

    def explain(self) -> None:
        """Say who has failed first, with its traceback."""
        failed = self.first_failed()
        text = self.outputs[failed].traceback.decode(errors="replace").rstrip("\n")
        end = f":\n{text}" if text else ""
        print(f"xpnn: process {failed} {self.how_it_ended(failed)}{end}", file=sys.stderr)

    def how_it_ended(self, rank: int) -> str:
        return _in_words(self.status())


class Direct(Job):
    """Processes with the environment that ``torchrun`` gives."""

    def __init__(self, count: int, command: list[str], environment: dict[str, str], screen: Screen):
        self.screen, self.outputs, self.started = screen, [], []
        self._failed: list[int] = []
        shared = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = _started(command, {**environment, **shared, **own})
            streams: dict[str, Any] = {"out": process.stdout, "err": process.stderr}
            self.started.append(process)
            self.outputs.append(Output(rank, screen, streams.__getitem__))

    def is_running(self) -> bool:
        ended = [rank for rank, one in enumerate(self.started) if one.poll()]
        new = [rank for rank in ended if rank not in self._failed]
        # of those found at once, who was killed was first: the others lost their connection to it
        self._failed += sorted(new, key=lambda rank: self.started[rank].returncode > 0)
        return super().is_running()

    def first_failed(self) -> int:
        first = self._failed[0]
        when = self.outputs[first].raised
        if self.started[first].returncode < 0 or when is None:
            return first
        # who raises may end more slowly than those that lose their connection to it
        raised = {
            rank: one.raised
            for rank, one in enumerate(self.outputs)
            if one.raised is not None and when - MOMENTS < one.raised <= when
        }
        return min(raised, key=raised.__getitem__)

    def status(self) -> int:
        code = self.started[self._failed[0]].returncode if self._failed else 0
        return 128 - code if code < 0 else code

    def send(self, number: int) -> None:
        for one in self.started:
            if one.poll() is None:
                one.send_signal(number)


class ByMPI(Job):
    """Processes that ``mpirun`` starts; they write into pipes that have names."""

    def __init__(
        self,
        count: int,
        command: list[str],
        environment: dict[str, str],
        screen: Screen,
        mpirun: str,
        folder: Path,
    ):
        self.screen, self._folder = screen, folder
        for rank in range(count):
            for name in ("out", "err"):
                os.mkfifo(folder / f"{rank}.{name}")
        becoming = [sys.executable, "-I", of_mpirun.__file__, str(folder)]
        own = _started(
            [mpirun, "-n", str(count), *becoming, *command], {**OF_OPEN_MPI, **environment}
        )
        self.started = [own]
        self.outputs = [Output(rank, screen, self._opener(rank)) for rank in range(count)]
        streams: dict[str, Any] = {"out": own.stdout, "err": own.stderr}
        self._of_mpirun = Output(0, Screen(quiet=True), streams.__getitem__)
        self._of_mpirun.screen.write = lambda *_: None  # type: ignore[method-assign]

    def _opener(self, rank: int) -> Callable[[str], IO[bytes]]:
        return lambda name: (self._folder / f"{rank}.{name}").open("rb")

    def status(self) -> int:
        code = self.started[0].poll() or 0
        return 128 - code if code < 0 else code

    def first_failed(self) -> int:
        ended = [one for one in self.outputs if one.has_begun]
        ended.sort(key=lambda one: (not one.traceback, one.ended or 0.0))
        return ended[0].rank if ended else 0

    def send(self, number: int) -> None:
        for process in self._ids():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self) -> None:
        for process in self._ids():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        super().kill()

    def finish(self) -> None:
        super().finish()
        self._of_mpirun.join()
        if not any(one.has_begun for one in self.outputs):  # it has started none, and says why
            for line in self._of_mpirun.errors:
                self.screen.write(None, "err", line)

    def _ids(self) -> list[int]:
        """Of those processes that run."""
        if self.started[0].poll() is not None:
            return []
        return [int(one.read_text() or 0) for one in self._folder.glob("*.pid")]


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process in a group of its own, so that Ctrl-C reaches it by way of us alone."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=of_mpirun.die_with_parent,
    )


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """A signal for a process and for all that it has started, where one of them is there still."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _in_words(status: int) -> str:
    if status > 128 and status - 128 in {*signal.Signals}:
        return f"was ended by {signal.Signals(status - 128).name}"
    return f"has failed, with exit status {status}"
