"""MPI, by mpi4py: the engine of NumPy."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends.portable.communicator import Communicator
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array

INSTALL = "pip install 'xpnn[mpi]'"


class MPI(Communicator):
    """The processes that ``mpirun`` or Slurm's ``srun`` has started.

    Raises:
        BackendUnavailable: mpi4py is not installed, or does not find an MPI library.
    """

    def __init__(self) -> None:
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
        super().__init__(self.world.Get_rank(), self.world.Get_size())

    def all_sum(self, array: Array) -> Array:
        found = np.array(array, order="C")
        self.world.Allreduce(self._in_place, found)
        return found

    def start_all_sum(self, array: Array) -> Callable[[], Array]:
        found = np.array(array, order="C")
        request = self.world.Iallreduce(self._in_place, found)

        def wait() -> Array:
            request.Wait()
            return found

        return wait

    def broadcast(self, array: Array) -> Array:
        found = np.array(array, order="C")
        self.world.Bcast(found, root=0)
        return found

    def barrier(self) -> None:
        self.world.Barrier()
