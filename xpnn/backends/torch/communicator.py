"""torch.distributed: gloo for what lies on the host, NCCL for tensors on GPUs."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.compiled_step import NotCompilable
from xpnn.backends.portable.launched import Launched
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array


class TorchDistributed(Communicator):
    """The processes of PyTorch's default process group.

    A group that the program has initialized itself is taken as it is, and left to the program.
    Otherwise one is made, and destroyed when the process ends.

    Args:
        device: where the tensors of the network lie; NumPy's arrays go by way of it.
        place: what this process was told when it was started.
        timeout: see ``Communicator``.

    Raises:
        BackendUnavailable: there is no engine for such a device, or nobody has said where process 0
            can be reached.
    """

    overlaps = True  # gloo has threads of its own, NCCL a stream

    def __init__(
        self, device: Any = "cpu", place: Launched | None = None, timeout: float | None = 600.0
    ):
        import torch
        import torch.distributed as library

        self.device, self._library = torch.device(device), library
        engine = {"cpu": "gloo", "cuda": "nccl"}.get(self.device.type)
        if engine is None:
            raise BackendUnavailable(
                f"wanted tensors on the CPU or on CUDA, which torch.distributed adds up, got a "
                f"network on {str(self.device)!r}; take backend='torch' or 'torch:cuda'"
            )
        if not is_initialized():
            if place is None:
                raise BackendUnavailable(
                    "wanted several processes, got one that was started by itself; start them by "
                    "torchrun, or call torch.distributed.init_process_group first"
                )
            library.init_process_group(
                engine,
                init_method=_meeting_point(place),
                rank=place.rank,
                world_size=place.size,
                device_id=self.device if engine == "nccl" else None,
            )
            atexit.register(_destroyed)
        super().__init__(library.get_rank(), library.get_world_size())
        self.timeout = timeout
        # gloo aborts where a sum meets a shorter one: what is told beside the steps goes by itself
        self._beside = library.new_group() if engine == "gloo" else None

    def all_sum(self, array: Array) -> Array:
        return self.start_all_sum(array)()

    def start_all_sum(self, array: Array) -> Callable[[], Array]:
        import torch

        copy = self._copied(array)
        work = self._library.all_reduce(copy, async_op=True)

        def wait() -> Array:
            work.wait()
            return copy if isinstance(array, torch.Tensor) else copy.cpu().numpy()

        return wait

    def small_sum(self, array: np.ndarray) -> np.ndarray:
        copy = self._copied(array)
        self._library.all_reduce(copy, group=self._beside)
        return np.asarray(copy.cpu().numpy())

    def broadcast(self, array: Array) -> Array:
        import torch

        copy = self._copied(array)
        self._library.broadcast(copy, src=0)
        return copy if isinstance(array, torch.Tensor) else copy.cpu().numpy()

    def traced_all_sum(self, array: Array) -> Array:
        """``all_sum``, as an operation of the graph that is being traced."""
        from torch.distributed import _functional_collectives as operations

        return operations.all_reduce(array, "sum", self._library.group.WORLD)

    def _copied(self, array: Array) -> Any:
        import torch

        if isinstance(array, torch.Tensor):
            return array.clone(memory_format=torch.contiguous_format)
        return torch.from_numpy(np.array(array, order="C")).to(self.device)


def is_initialized() -> bool:
    """Whether the program has initialized PyTorch's default process group."""
    library = sys.modules.get("torch.distributed")
    return library is not None and library.is_available() and library.is_initialized()


def sum_in_graph(array: Array, communicator: Communicator) -> Array | None:
    """The sum, where a graph is being traced, which holds it; None where none is.

    Raises:
        NotCompilable: a graph is traced, and this communicator is not PyTorch's own.
    """
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    if get_proxy_mode() is None:
        return None
    if not isinstance(communicator, TorchDistributed):
        raise NotCompilable(
            f"{type(communicator).__name__} adds up outside of PyTorch, and a graph cannot hold "
            f"that; distributed='torch' can be compiled"
        )
    return communicator.traced_all_sum(array)


def _meeting_point(place: Launched) -> str:
    """Where the processes meet, in PyTorch's words."""
    if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return "env://"
    if place.address is None:
        raise BackendUnavailable(
            f"wanted to know where process 0 of {place.size} can be reached, and {place.by} did "
            f"not tell; set MASTER_ADDR to its machine and MASTER_PORT to a free port there"
        )
    return f"tcp://{place.address}:{place.port}"


def _destroyed() -> None:
    """Let go of the group that was made here, if the program has not done so."""
    import torch.distributed as library

    if library.is_initialized():
        library.destroy_process_group()
