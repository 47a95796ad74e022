"""MPI, by mpi4py: the engine of NumPy."""

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import numpy as np

from xpnn.backends.portable.communicator import LET_ALL, Communicator
from xpnn.errors import BackendUnavailable, XpnnError
from xpnn.typing import Array

INSTALL = "pip install 'xpnn[mpi]'"


class MPI(Communicator):
    """The processes that ``mpirun`` or Slurm's ``srun`` has started.

    Args:
        timeout: see ``Communicator``.

    Raises:
        BackendUnavailable: mpi4py is not installed, or does not find an MPI library.
    """

    def __init__(self, timeout: float | None = 600.0) -> None:
        if importlib.util.find_spec("mpi4py") is None:
            raise BackendUnavailable(f"mpi4py is not installed here; type: {INSTALL}")
        try:
            from mpi4py import MPI as library  # noqa: N811  (a module in all but its name)
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendUnavailable(
                f"mpi4py is installed, but finds no MPI library: {error}; type: {INSTALL}"
            ) from error
        self.world = library.COMM_WORLD
        self._in_place: Any = library.IN_PLACE
        self._failure, self._truncated = library.Exception, library.ERR_TRUNCATE
        super().__init__(self.world.Get_rank(), self.world.Get_size())
        # a thread, as MPI gets on with a sum in its own calls alone; two threads want two worlds
        self._own_world = self.world.Dup()
        self._beside = ThreadPoolExecutor(1, "xpnn-sums")
        beside = self.world.Split_type(library.COMM_TYPE_SHARED).Get_size()  # on this machine
        has_a_core = (os.cpu_count() or 1) > beside
        self.overlaps = has_a_core and library.Query_thread() == library.THREAD_MULTIPLE
        self.timeout = timeout

    def all_sum(self, array: Array) -> Array:
        found = np.array(array, order="C")
        self._called(self.world.Allreduce, self._in_place, found)
        return found

    def start_all_sum(self, array: Array) -> Callable[[], Array]:
        return self._beside.submit(self._sum_beside, np.array(array, order="C")).result

    def _sum_beside(self, array: np.ndarray) -> np.ndarray:
        self._called(self._own_world.Allreduce, self._in_place, array)
        return array

    def _called(self, verb: Callable[..., None], *arguments: Any) -> None:
        """Call one of MPI, which gives an array of another length where another sum was meant."""
        try:
            verb(*arguments)
        except self._failure as error:
            if error.Get_error_class() != self._truncated:
                raise
            place = self.place or "a training step"
            raise XpnnError(
                f"wanted all processes to add up the same, but process {self.rank}, at {place}, "
                f"got what belongs to another place; {LET_ALL}"
            ) from error

    def broadcast(self, array: Array) -> Array:
        found = np.array(array, order="C")
        self.world.Bcast(found, root=0)
        return found

    def barrier(self) -> None:
        self.world.Barrier()

    def abort(self, status: int) -> NoReturn:
        self.world.Abort(status)
        super().abort(status)
