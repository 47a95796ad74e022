"""Which engine connects the processes of a training."""

from xpnn.backends import Backend, Communicator


def as_communicator(
    distributed: str | Communicator | None, backend: Backend
) -> Communicator | None:
    """What connects this process with the others; None where it is alone.

    Args:
        distributed: as for ``Trainer``.
    """
    if distributed is None:
        return None
    found = distributed if isinstance(distributed, Communicator) else _opened(distributed, backend)
    return found if found.size > 1 else None


def _opened(engine: str, backend: Backend) -> Communicator:
    from xpnn.backends.numpy.mpi import MPI

    if engine == "mpi":
        return MPI()
    raise ValueError(engine)
