"""Launched: what ``torchrun``, ``mpirun`` and ``srun`` tell each process that they start."""

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

LAUNCHERS = (
    ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("mpirun", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    ("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
"""Who starts processes, and where each finds its rank, their number, its rank on its machine.

Slurm's batch script itself has a ``SLURM_PROCID``, too; only what ``srun`` starts is in a step.
"""

ON_ONE_MACHINE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
"""How many of the processes that ``mpirun`` has started are on this machine."""

JOBS = ("PMIX_NAMESPACE", "SLURM_JOB_ID", "PMI_FD")
"""What tells one job of a machine from another."""

PORTS = range(20_000, 32_000)
"""Where nobody was told a port. Below those that systems give to whoever asks for any."""


@dataclass(frozen=True)
class Launched:
    """One of several processes that were started together.

    Attributes:
        by: who has started them: "torchrun", or who sets the same variables; "mpirun" or "srun".
        rank: the number of this process, from 0 on.
        size: how many there are.
        local_rank: its number among those on its machine, which is that of its GPU.
        address: of the machine of process 0; None where nobody has told it.
        port: one on which process 0 may be reached there.
    """

    by: str
    rank: int
    size: int
    local_rank: int
    address: str | None
    port: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """What this process was told when it was started; None where it was started by itself.

    Raises:
        ValueError: a variable that has to be a number is none.

    >>> launched({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "host", "MASTER_PORT": "29500"})
    Launched(by='torchrun', rank=1, size=2, local_rank=1, address='host', port=29500)
    """
    for by, *names in LAUNCHERS:
        if names[0] in environment and names[1] in environment:
            rank, size = (_number(environment, name) for name in names[:2])
            own = _number(environment, names[2]) if names[2] in environment else rank
            return Launched(by, rank, size, own, *_meeting_point(by, size, environment))
    return None


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those on its machine; 0 where it is alone."""
    found = launched(environment)
    return 0 if found is None else found.local_rank


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise ValueError(
            f"wanted a number in the environment's {name}, got {environment[name]!r}; whoever "
            f"starts the processes sets it"
        ) from None


def _meeting_point(by: str, size: int, environment: Mapping[str, str]) -> tuple[str | None, int]:
    """The address of process 0, if it can be told, and a port."""
    job = next((environment[name] for name in JOBS if name in environment), "")
    port = PORTS[zlib.crc32(job.encode()) % len(PORTS)]
    if "MASTER_PORT" in environment:
        port = _number(environment, "MASTER_PORT")
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"], port
    if by == "srun":
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
        return _first_of(nodes) or None, port
    here = [_number(environment, name) for name in ON_ONE_MACHINE if name in environment]
    return ("127.0.0.1" if size in here else None), port


def _first_of(nodes: str) -> str:
    """The first machine of Slurm's list.

    >>> _first_of("gpu[003-008,010],login1"), _first_of("a1,a2"), _first_of("rack2n[7]-ib")
    ('gpu003', 'a1', 'rack2n7-ib')
    """
    name, bracket, rest = nodes.partition("[")
    if not bracket or "," in name:
        return name.partition(",")[0]
    inside, _, behind = rest.partition("]")
    return name + inside.partition(",")[0].partition("-")[0] + behind.partition(",")[0]
