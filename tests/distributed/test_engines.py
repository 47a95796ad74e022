"""Engines: what connects processes, started as people start them; and what is said where it fails.

Each process checks many things, as to start one takes a second; see ``connected.py``.
"""

import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import needs
from tests.distributed.threads import together
from xpnn.backends import get_backend
from xpnn.backends.portable.launched import LAUNCHERS, launched, local_rank
from xpnn.backends.portable.rendezvous import from_first
from xpnn.distributed import Communicator, opening
from xpnn.distributed.opening import as_communicator
from xpnn.errors import BackendUnavailable, CompileError

ROOT = Path(__file__).parents[2]
PATIENCE = 300  # seconds, on a machine that does a lot else
NAMES = {name for _, *names in LAUNCHERS for name in names}

needs_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or shutil.which("mpirun", path=Path(sys.executable).parent) is None,
    reason="mpi4py, or mpirun beside this Python, is not installed",
)


@pytest.fixture
def environment(monkeypatch):
    """A process that nobody has started with others, until something is put in here."""
    for name in NAMES | {"MASTER_ADDR", "MASTER_PORT"}:
        monkeypatch.delenv(name, raising=False)
    opening._opened.cache_clear()
    yield lambda **variables: [monkeypatch.setenv(*pair) for pair in variables.items()]
    opening._opened.cache_clear()


def free_port():
    """One that nobody has, nor the one behind it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
                return port
            except OSError:
                continue


def plain_environment():
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def by_mpirun(size, *arguments):
    mpirun = Path(sys.executable).parent / "mpirun"
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    command = [mpirun, "-n", str(size), *options, sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=plain_environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


def as_by_torchrun(size, *arguments):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=plain_environment() | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        told = [one.communicate(timeout=PATIENCE)[0] for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0] * size, "\n".join(told)


@needs_mpi
def test_mpi(tmp_path):
    """By three processes; by two in test_curves.py, too, which train networks then."""
    by_mpirun(3, "-m", "tests.distributed.connected", str(tmp_path), "mpi", "numpy")


@pytest.mark.needs("torch")
def test_torch_in_a_group_of_ones_own(tmp_path):
    """In a group of one's own; without one in test_curves.py."""
    as_by_torchrun(2, "-m", "tests.distributed.connected", str(tmp_path), "torch", "torch+group")


# Whether there are others ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "mpi", "torch"])
def test_one_process_alone_has_no_communicator(engine, environment):
    assert as_communicator(engine, get_backend("numpy")) is None
    environment(RANK="0", WORLD_SIZE="1")
    assert as_communicator(engine, get_backend("numpy")) is None
    assert as_communicator(None, get_backend("numpy")) is None


def test_a_backend_without_an_engine_wants_a_communicator(environment):
    with pytest.raises(ValueError, match="hand a Communicator of your own"):
        as_communicator("auto", get_backend("array-api-strict"))


def test_what_launchers_tell():
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    meeting = {"MASTER_ADDR": "node7", "MASTER_PORT": "29500"}
    found = launched(torchrun | meeting)
    assert (found.by, found.rank, found.size, found.local_rank) == ("torchrun", 3, 8, 1)
    assert (found.address, found.port) == ("node7", 29500)
    assert launched(torchrun).address is None

    ours = "OMPI_COMM_WORLD"
    mpirun = {f"{ours}_RANK": "1", f"{ours}_SIZE": "2", f"{ours}_LOCAL_RANK": "0"}
    found = launched(mpirun)
    assert (found.by, found.rank, found.size, found.local_rank) == ("mpirun", 1, 2, 0)
    assert found.address is None  # it may be on another machine
    assert launched(mpirun | {f"{ours}_LOCAL_SIZE": "2"}).address == "127.0.0.1"
    assert launched(mpirun | meeting).address == "node7"
    assert launched({"PMI_RANK": "1", "PMI_SIZE": "2"}).by == "mpirun"
    jobs = [launched(mpirun | {"PMIX_NAMESPACE": f"job-{k}"}).port for k in range(8)]
    assert len({*jobs}) == 8

    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77"}
    assert launched(batch) is None  # of which there is one
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "gpu[003-004,010]"}
    found = launched(batch | step | {"SLURM_PROCID": "2"})
    assert (found.by, found.rank, found.size, found.local_rank) == ("srun", 2, 4, 0)
    assert found.address == "gpu003"
    assert launched(batch | step | mpirun).by == "mpirun"
    assert launched({}) is None
    assert launched({"RANK": "3"}) is None

    assert local_rank({}) == 0
    assert local_rank(torchrun) == 1
    assert local_rank({"RANK": "3", "WORLD_SIZE": "8"}) == 3


def test_a_rank_that_is_no_number_is_told():
    with pytest.raises(ValueError, match="wanted a number in the environment's RANK, got 'one'"):
        launched({"RANK": "one", "WORLD_SIZE": "2"})


# What does not fit -------------------------------------------------------------------------------


def test_an_unknown_engine_is_told_with_the_known_ones(environment):
    with pytest.raises(ValueError, match=r"'mpi', 'nccl', .*, got 'ncl', did you mean 'nccl'\?"):
        as_communicator("ncl", get_backend("numpy"))


@pytest.mark.parametrize("engine", ["nccl", "jax"])
def test_an_engine_of_another_backend_is_told(engine, environment):
    with pytest.raises(ValueError, match=r"wanted a network on backend .*, got one on 'numpy'"):
        as_communicator(engine, get_backend("numpy"))


def test_the_engine_goes_with_the_backend_and_the_launcher(environment, monkeypatch):
    numpy, cupy, jax = (SimpleNamespace(name=name) for name in ("numpy", "cupy", "jax"))
    assert [opening._engine_for(one) for one in (numpy, cupy, jax)] == ["mpi", "nccl", "jax"]
    environment(RANK="0", WORLD_SIZE="2")
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    assert opening._engine_for(numpy) == "mpi"
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: name)
    assert opening._engine_for(numpy) == "torch"
    assert opening._engine_for(cupy) == "nccl"


def test_mpi_that_is_not_installed_is_told(environment, monkeypatch):
    environment(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'xpnn\[mpi\]'"):
        as_communicator("mpi", get_backend("numpy"))


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "distributed='torch'"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, "another MPI library"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "srun --mpi=pmix"),
    ],
)
def test_mpi_that_sees_other_processes_is_told(variables, advice, environment, monkeypatch):
    environment(**variables)
    monkeypatch.setattr("xpnn.backends.numpy.mpi.MPI", lambda: SimpleNamespace(size=1))
    with pytest.raises(BackendUnavailable, match=f"2 processes, but mpi4py .* 1: .*{advice}"):
        as_communicator("mpi", get_backend("numpy"))


@pytest.mark.needs("torch")
def test_torch_without_a_meeting_point_is_told(environment):
    environment(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    with pytest.raises(BackendUnavailable, match="mpirun did not tell; set MASTER_ADDR"):
        as_communicator("torch", get_backend("torch"))


@pytest.mark.needs("torch")
def test_torch_on_a_device_without_an_engine_is_told():
    from xpnn.backends.torch.communicator import TorchDistributed

    place = launched({"RANK": "0", "WORLD_SIZE": "2"})
    with pytest.raises(BackendUnavailable, match="got a network on 'mps'; take backend='torch'"):
        TorchDistributed("mps", place)
    with pytest.raises(BackendUnavailable, match="torchrun did not tell; set MASTER_ADDR"):
        TorchDistributed("cpu", place)


@pytest.mark.needs("torch")
def test_a_graph_of_pytorch_does_not_hold_sums_from_outside():
    backend, own = get_backend("torch"), Own()
    step = backend.compile(lambda x: (backend.all_sum(x, own),), required=True)
    with pytest.raises(CompileError, match="Own adds up outside of PyTorch"):
        step(backend.zeros((2,), "float32"))


# Bytes of process 0 ------------------------------------------------------------------------------


def places(size, port):
    variables = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [launched(variables | {"RANK": str(rank)}) for rank in range(size)]


def test_bytes_of_the_first_reach_all():
    own, port = os.urandom(128), free_port()
    here = places(4, port)
    found = together(4, lambda one: from_first(here[one.rank], lambda: own))
    assert found == [own] * 4


def test_strangers_on_the_port_are_sent_away():
    port = free_port()

    def work(communicator):
        place = places(2, port)[communicator.rank]
        if communicator.rank == 0:
            return from_first(place, lambda: b"own")
        for said in (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1 and more of it\r\n\r\n"):
            while True:
                try:
                    stranger = socket.create_connection(("127.0.0.1", port + 1), 1)
                    break
                except OSError:
                    continue
            with stranger:
                stranger.sendall(said)
        return from_first(place, lambda: b"another")

    assert together(2, work) == [b"own", b"own"]


def test_processes_that_do_not_come_are_told():
    first, second = places(2, free_port())
    with pytest.raises(BackendUnavailable, match="only 0 others have come"):
        from_first(first, lambda: b"own", seconds=0.1)
    with pytest.raises(BackendUnavailable, match="process 1 did not find process 0 at"):
        from_first(second, lambda: b"own", seconds=0.1)


def test_a_port_that_is_taken_is_told():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port + 1)),
        pytest.raises(BackendUnavailable, match=f"port {port + 1} of process 0 is taken"),
    ):
        from_first(places(2, port)[0], lambda: b"own")


# Communicators of one's own ----------------------------------------------------------------------


class Own(Communicator):
    """One of two processes of which the other does the same as this one."""

    def __init__(self, rank=0):
        super().__init__(rank, 2)

    def all_sum(self, array):
        pairs = {  # what check_verbs sums: first what both give, then what it has to be
            "f": np.asarray([[1, 2, 0], [-1, 1, 4]], array.dtype),
            "i": np.asarray([1, 2**53 + 1]),
        }
        return pairs[array.dtype.kind] if array.size else array

    def broadcast(self, array):
        return array.copy()


def written_over(own, array):
    array[...] = Own.all_sum(own, array)
    return array


def doubled_integers(own, array):
    return 2 * array if array.dtype.kind == "i" else Own.all_sum(own, array)


@pytest.mark.parametrize(
    ("verb", "wrong", "said"),
    [
        (
            "all_sum",
            lambda own, array: Own.all_sum(own, array).reshape(-1),
            r"an array of shape \(2, 3\), as it was given, got shape \(6,\); return what",
        ),
        (
            "all_sum",
            lambda own, array: Own.all_sum(own, array).astype("f8"),
            "an array of dtype float32, as it was given, got dtype float64; return what",
        ),
        (
            "all_sum",
            lambda own, array: Own.all_sum(own, array).tolist(),
            "a NumPy array, as it was given, got a list; return what it is given",
        ),
        (
            "all_sum",
            lambda own, array: array.copy(),
            r"the sum over all processes, \[\[1.0, 2.0, 0.0\], .*; all processes have to be part",
        ),
        ("all_sum", doubled_integers, r"the sum over .*, got \[0, 18014398509481986\] of int64"),
        ("all_sum", written_over, "a new array, but it has written over the one that it was given"),
        ("broadcast", lambda own, array: array + 1, "what process 0 has given"),
        ("broadcast", lambda own, array: None, "a NumPy array, as it was given, got a NoneType"),
    ],
)
def test_what_a_verb_does_wrong_is_told(verb, wrong, said):
    communicator = type("Wrong", (Own,), {verb: wrong})()
    with pytest.raises(ValueError, match=f"wanted Wrong.{verb} to return {said}"):
        as_communicator(communicator, get_backend("numpy"))


def test_what_is_no_communicator_is_told():
    numpy = get_backend("numpy")

    class Half(Communicator):
        def all_sum(self, array):
            return array

    class Forgetful(Own):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="derive its class from xpnn"):
        as_communicator(7, numpy)
    with pytest.raises(TypeError, match="got a Half without broadcast; define what is missing"):
        as_communicator(Half(0, 2), numpy)
    with pytest.raises(TypeError, match="without; call super"):
        as_communicator(Forgetful(), numpy)
    with pytest.raises(ValueError, match="wanted a rank from 0 to 1 among 2 processes, got 2"):
        Own(2)


@needs("jax")
def test_steps_of_jax_have_their_sums_from_xla():
    with pytest.raises(
        ValueError, match="to be XLA's, which compiles them with the step, got <Own"
    ):
        as_communicator(Own(), get_backend("jax"))


def test_verbs_are_tried_once_with_each_communicator():
    def work(communicator):
        for _ in range(2):
            assert as_communicator(communicator, get_backend("numpy")) is communicator
        return len(communicator.calls)

    assert together(3, work) == [6] * 3
