"""What ``mpirun`` starts for ``xpnn launch``: a process that turns into the program.

It writes where ``xpnn launch`` reads, tells its id, and ends when ``mpirun`` does. Nothing of xpnn
is imported here, as it is run by its path: ``python -I rank.py FOLDER COMMAND...``
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def die_with_parent() -> None:
    """Let this process be killed when the one that has started it ends, however that does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def main(folder: Path, command: list[str]) -> None:
    rank = next(os.environ[name] for name in RANKS if name in os.environ)
    die_with_parent()
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_WRONLY), number)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
