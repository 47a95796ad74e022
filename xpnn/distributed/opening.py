"""Which engine connects the processes of a training."""

import difflib
import functools
import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np

from xpnn.backends import Backend, Communicator
from xpnn.backends.portable.launched import Launched, launched
from xpnn.backends.portable.rendezvous import from_first
from xpnn.distributed.verbs import check_verbs
from xpnn.errors import BackendUnavailable

ENGINES = {
    "mpi": ("numpy",),
    "nccl": ("cupy",),
    "torch": ("torch", "numpy"),
    "jax": ("jax",),
}
"""The backends whose arrays each engine adds up."""


def as_communicator(
    distributed: str | Communicator | None, backend: Backend
) -> Communicator | None:
    """What connects this process with the others; None where it is alone.

    All processes call it at once: the verbs of what connects them are tried.

    Args:
        distributed: as for ``Trainer``.

    Raises:
        ValueError: there is no such engine, it does not go with the backend, or a verb does not
            return what it should.
        TypeError: it is no communicator, or one that lacks a verb.
        BackendUnavailable: the engine is not installed, or finds other processes than were started.
    """
    if distributed is None:
        return None
    if isinstance(distributed, str):
        found = _opened(_engine_of_name(distributed, backend), backend)
    else:
        found = distributed
        if backend.name == "jax":
            raise ValueError(
                f"wanted the sums of a network on {backend.spec!r} to be XLA's, which compiles "
                f"them with the step, got {found!r}; write distributed='auto', or move the network"
            )
        check_verbs(found, backend)
    return None if found is None or found.size == 1 else found


def _engine_of_name(name: str, backend: Backend) -> str:
    """The engine that is called so, for arrays of that backend."""
    if name == "auto":
        return _engine_for(backend)
    if name not in ENGINES:
        close = difflib.get_close_matches(name, [*ENGINES, "auto"], n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"distributed is {', '.join(map(repr, ENGINES))}, 'auto' or a Communicator, got "
            f"{name!r}{meant}"
        )
    if backend.name not in ENGINES[name]:
        fitting = " or ".join(map(repr, ENGINES[name]))
        raise ValueError(
            f"wanted a network on backend {fitting}, whose arrays {name!r} adds up, got one on "
            f"{backend.spec!r}; write distributed='auto', or move the network"
        )
    return name


def _engine_for(backend: Backend) -> str:
    """The engine that goes with a backend; of several, the one that goes with the launcher."""
    fitting = [name for name, names in ENGINES.items() if backend.name in names]
    if not fitting:
        raise ValueError(
            f"wanted a backend with an engine ({', '.join(map(repr, _backends()))}), got "
            f"{backend.spec!r}; hand a Communicator of your own to distributed"
        )
    place = launched()
    by_torchrun = place is not None and place.by == "torchrun"
    if "torch" in fitting and by_torchrun and importlib.util.find_spec("torch") is not None:
        return "torch"
    return fitting[0]


def _backends() -> list[str]:
    return list(dict.fromkeys(name for names in ENGINES.values() for name in names))


@functools.cache
def _opened(engine: str, backend: Backend) -> Communicator | None:
    """The communicator of an engine, opened once in a process; None where it is alone."""
    place = launched()
    if engine == "torch":
        return _opened_torch(place, backend)
    if engine == "jax" or place is None or place.size == 1:
        return None  # XLA connects the devices that a network of JAX lies on
    found = _opened_mpi(place) if engine == "mpi" else _opened_nccl(place, backend)
    check_verbs(found, backend)
    return found


def _opened_mpi(place: Launched) -> Communicator:
    from xpnn.backends.numpy.mpi import MPI

    found = MPI()
    if found.size != place.size:
        raise BackendUnavailable(
            f"{place.by} has started {place.size} processes, but mpi4py is connected with "
            f"{found.size}: {_SEES_OTHERS[place.by]}"
        )
    return found


def _opened_nccl(place: Launched, backend: Backend) -> Communicator:
    from xpnn.backends.cupy.communicator import NCCL

    share = partial(from_first, place)
    if place.by == "mpirun" and importlib.util.find_spec("mpi4py") is not None:
        share = partial(_from_first_by, _opened_mpi(place))
    return NCCL(place.rank, place.size, backend.device, share)


def _from_first_by(communicator: Communicator, make: Callable[[], bytes]) -> bytes:
    """What ``make`` returns in process 0, in all of them."""
    data = np.frombuffer(make() if communicator.is_first else b"", np.uint8)
    length = int(communicator.broadcast(np.asarray([data.size]))[0])
    return communicator.broadcast(np.resize(data.astype(np.int64), length)).astype("u1").tobytes()


def _opened_torch(place: Launched | None, backend: Backend) -> Communicator | None:
    from xpnn.backends.torch import communicator

    alone = place is None or place.size == 1
    if alone and not communicator.is_initialized():
        return None
    found = communicator.TorchDistributed(backend.device or "cpu", place)
    check_verbs(found, backend)
    return found


_SEES_OTHERS = {
    "torchrun": "it knows nothing of torchrun; start them by mpirun, or write distributed='torch'",
    "mpirun": "it goes by another MPI library than this mpirun; take the one that mpi4py finds, "
    "such as that of pip install 'xpnn[mpi]'",
    "srun": "Slurm has told MPI nothing; write srun --mpi=pmix, or see srun --mpi=list",
}
"""What to do where MPI sees other processes than were started."""
