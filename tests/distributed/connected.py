"""What each of several processes runs: an engine's verbs, against sums done by hand.

``python -m tests.distributed.connected FOLDER torch numpy`` tries an engine on backends. What is
wrong is an AssertionError of that process.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from xpnn.backends import get_backend
from xpnn.distributed import Communicator
from xpnn.distributed.opening import as_communicator

DTYPES = {
    "mpi": ("float32", "float64", "int32", "int64"),
    "torch": ("float16", "bfloat16", "float32", "float64", "int32", "int64"),
}


def check_sums(communicator, backend, dtypes):
    rank, size = communicator.rank, communicator.size
    below = size * (size - 1) // 2
    for dtype in dtypes:
        numbers = np.arange(24.0).reshape(4, 6)
        own = backend.asarray(numbers + rank, dtype)
        for part in (own, own[::2, 1:4], backend.xp.permute_dims(own, (1, 0)), own[0, 0], own[:0]):
            before = backend.to_numpy(part).copy()
            whole, first = communicator.all_sum(part), communicator.broadcast(part)
            assert backend.owns(whole), type(whole)
            assert backend.owns(first), type(first)
            assert whole.shape == first.shape == part.shape
            assert whole.dtype == first.dtype == part.dtype
            wanted = size * (before - rank) + below
            np.testing.assert_array_equal(backend.to_numpy(whole), wanted, dtype)
            np.testing.assert_array_equal(backend.to_numpy(first), before - rank)
            np.testing.assert_array_equal(backend.to_numpy(part), before)


def check_on_host(communicator):
    rank, size = communicator.rank, communicator.size
    large = np.asarray([2**60 if rank == 0 else rank, -rank])
    below = size * (size - 1) // 2
    np.testing.assert_array_equal(communicator.all_sum(large), [2**60 + below, -below])
    np.testing.assert_array_equal(communicator.broadcast(large), [2**60, 0])

    read_only = np.full(3, 0.5 + rank)
    read_only.flags.writeable = False
    np.testing.assert_array_equal(communicator.all_sum(read_only), [0.5 * size + below] * 3)

    pairs = np.arange(2.0 * rank).reshape(rank, 2) + 100 * rank  # process 0 has none
    parts = communicator.gathered(pairs)
    assert [part.shape for part in parts] == [(k, 2) for k in range(size)]
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(part, np.arange(2.0 * k).reshape(k, 2) + 100 * k)
    assert [list(one) for one in communicator.gathered(np.asarray([rank]))] == [
        [k] for k in range(size)
    ]
    assert all(part.shape == (0, 3) for part in communicator.gathered(np.zeros((0, 3))))


def check_several_begun(communicator, backend):
    ones = backend.asarray(np.ones(1000), "float32")
    waits = [communicator.start_all_sum((k + 1) * ones) for k in range(5)]
    for k, wait in enumerate(waits):
        np.testing.assert_array_equal(
            backend.to_numpy(wait()), np.full(1000, (k + 1) * communicator.size)
        )


def check_barrier(communicator, here):
    """The slowest process is waited for."""
    if communicator.rank == communicator.size - 1:
        time.sleep(0.5)
        here.touch()
    communicator.barrier()
    assert here.exists()


def check_traced(communicator, backend):
    """A graph of PyTorch holds sums, and they are taken at every run."""
    import torch

    torch.compile = lambda graph, **options: graph  # which would take seconds
    step = backend.compile(
        lambda x: (backend.all_sum(2.0 * backend.all_sum(x, communicator), communicator),),
        required=True,
    )
    for k in range(3):
        x = backend.asarray(np.full(4, float(k + communicator.rank)), "float32")
        size = communicator.size
        below = size * (size - 1) // 2
        (found,) = step(x)
        np.testing.assert_array_equal(
            backend.to_numpy(found), [2.0 * size * (size * k + below)] * 4
        )
    assert len(step.units) == 1


def check_user_group(backend):
    """A group that is there is used, and is still there when the process ends."""
    import atexit

    import torch.distributed as library

    def is_there():
        if not library.is_initialized():
            os._exit(3)  # as an error of what is called at the end changes no status
        library.destroy_process_group()

    atexit.register(is_there)  # runs behind what is registered later
    library.init_process_group("gloo")
    for name in ("RANK", "WORLD_SIZE"):
        del os.environ[name]
    found = as_communicator("auto", backend)
    assert (found.rank, found.size) == (library.get_rank(), library.get_world_size())
    return found


def main(folder, engine, *specs):
    for spec in specs:
        backend = get_backend(spec.removesuffix("+group"))
        own_group = spec.endswith("+group")
        communicator = check_user_group(backend) if own_group else as_communicator("auto", backend)
        assert as_communicator(engine, backend) is communicator
        assert isinstance(communicator, Communicator)
        assert type(communicator).__name__ == {"mpi": "MPI", "torch": "TorchDistributed"}[engine]
        check_sums(communicator, backend, DTYPES["torch" if backend.name == "torch" else "mpi"])
        check_on_host(communicator)
        check_several_begun(communicator, backend)
        check_barrier(communicator, Path(folder) / backend.name)
        if backend.name == "torch" and not own_group:
            check_traced(communicator, backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
