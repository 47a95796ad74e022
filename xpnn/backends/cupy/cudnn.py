"""cuDNN, where it is installed: what one GPU is asked to do with it, and how it has been planned.

The package ``nvidia-cudnn-frontend``, whose module is ``cudnn``, describes operations as a graph of
tensors, which cuDNN makes a plan of: a choice of kernels, some of them compiled on the spot. That
takes up to a second, so plans are kept. What cuDNN refuses is remembered in the same place.
"""

import functools
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from xpnn.typing import Array

logger = logging.getLogger("xpnn")

# Releases whose graphs of convolutions gave the right values on a GPU, with cuDNN 9. The extras
# cuda12 and cuda13 leave 1.23 and 1.24 out: attention of 1.24 wants a newer cuDNN than 9.19; its
# convolutions are right. What comes later was never tried and brings other packages along.
OLDEST, NEWEST = (1, 18), (1, 24)
NEWEST_FOR_ATTENTION = (1, 22)
OLDEST_LIBRARY = 90_000  # cuDNN 9.0.0, as it counts its own versions
INSTALL = "pip install 'nvidia-cudnn-frontend>=1.18,<1.23' nvidia-cudnn-cu{cuda}"

PLANS = 512  # kept on each GPU; a ResNet-50 takes some 80 for each shape of its batches
TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
# Of a GPU's memory, for the workspace of one operation: 5 of 80 GB. cuDNN goes by speed alone, and
# a graph keeps the largest workspace in its pool, beside all activations.
WORKSPACE_SHARE = 1 / 16
ALIGNMENT = 16  # bytes: cuDNN refuses addresses that are not multiples of that
NOT_EXACT = "TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"


class CudnnMissingError(Exception):
    """There is no cuDNN here, or none that was tried; says what to type."""


class Form(Protocol):
    """What a plan is made for; two that are equal share it.

    Attributes:
        dtype: of all arrays.
        exact: whether products of float32 are worked out in float32, not in TF32.
        deterministic: whether sums have one order.
    """

    @property
    def dtype(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def deterministic(self) -> bool: ...

    def lay_out(self, graph: Any, dtype: Any, wide: Any) -> list[Any]:
        """Describe it to ``graph``; returns the tensors in the order of arrays in ``run``.

        Args:
            graph: of cuDNN.
            dtype: ``dtype`` in cuDNN's words.
            wide: float32 in cuDNN's words.
        """


@dataclass(frozen=True, eq=False)
class Plan:
    """How cuDNN works something out: its graph, with the tensors that stand for arrays."""

    graph: Any
    tensors: tuple[Any, ...]
    workspace: int  # bytes


class Cudnn:
    """cuDNN on one GPU.

    Its handle is not for two threads at once, so there is a lock around it; work goes to whatever
    stream is CuPy's current one, while a step is captured, too.

    Attributes:
        attends: whether its attention was tried.
        most_workspace: bytes that an operation may have for itself.
    """

    def __init__(self, module: Any, device: int):
        import cupy

        with cupy.cuda.Device(device) as gpu:
            self.handle = module.create_handle()
            self.most_workspace = int(gpu.mem_info[1] * WORKSPACE_SHARE)
        self.module, self._lock = module, threading.Lock()
        self.attends = _version(module) <= NEWEST_FOR_ATTENTION
        self.plan = functools.lru_cache(PLANS)(self._plan)

    def _plan(self, form: Form) -> Plan | None:
        """The plan for ``form``; None where cuDNN refuses it, which is logged once.

        That is what it finds fastest, or fastest of what needs no more than ``most_workspace``.
        """
        plan = self._built(form)
        if plan is None or plan.workspace <= self.most_workspace:
            return plan
        return self._built(form, self.most_workspace)

    def _built(self, form: Form, most_workspace: int | None = None) -> Plan | None:
        cudnn = self.module
        dtype, wide = getattr(cudnn.data_type, TYPES[form.dtype]), cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=dtype,
            intermediate_data_type=wide,
            compute_data_type=wide,
            handle=self.handle,
        )
        tensors = form.lay_out(graph, dtype, wide)
        notes = (NOT_EXACT if form.exact else ()) + (
            ("NONDETERMINISTIC",) if form.deterministic else ()
        )
        # "Not supported" has a class of its own in some places; in others it is a status of cuDNN's
        # in a RuntimeError. A graph that we describe wrongly is a ValueError or a TypeError.
        try:
            with self._lock:
                graph.validate()
                graph.build_operation_graph()
                graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
                if notes:
                    graph.deselect_numeric_notes([getattr(cudnn.numerical_note, n) for n in notes])
                if most_workspace is not None:
                    graph.deselect_workspace_greater_than(most_workspace)
                graph.check_support()
                graph.build_plans()
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as error:
            logger.info("cuDNN refuses %s: %s", form, " ".join(str(error).split()))
            return None
        return Plan(graph, tuple(tensors), graph.get_workspace_size())

    def run(self, plan: Plan, arrays: Sequence[Array]) -> None:
        """Fill the results, the last of the arrays, on CuPy's current stream.

        Addresses are handed over, as the package would make the null stream wait for an array,
        which CUDA forbids while a stream is captured.
        """
        import cupy

        workspace = cupy.empty(max(plan.workspace, 1), "uint8")
        addresses = [array.data.ptr for array in arrays]
        stream = cupy.cuda.get_current_stream().ptr
        with self._lock:
            self.module.set_stream(handle=self.handle, stream=stream)
            plan.graph.execute(
                dict(zip(plan.tensors, addresses, strict=True)),
                workspace.data.ptr,
                handle=self.handle,
            )
        kept = getattr(_captures, "plans", None)
        if kept is not None:
            kept.add(plan)


_captures = threading.local()


@contextmanager
def keeping_plans(plans: set[Plan]) -> Iterator[None]:
    """A context in which plans that are run join ``plans``: a graph launches kernels of theirs."""
    before, _captures.plans = getattr(_captures, "plans", None), plans
    try:
        yield
    finally:
        _captures.plans = before


def in_place(x: Array) -> Array:
    """``x`` as cuDNN can read it: in one piece, at an address that it takes; mostly as it is."""
    import cupy

    x = cupy.ascontiguousarray(x)
    return x.copy() if x.data.ptr % ALIGNMENT else x


@functools.cache
def opened(device: int) -> Cudnn:
    """cuDNN on that GPU.

    Raises:
        CudnnMissingError: it is not installed, does not load, or its version was never tried.
    """
    import cupy

    def unusable(why: str) -> CudnnMissingError:
        install = INSTALL.format(cuda=cupy.cuda.runtime.runtimeGetVersion() // 1000)
        return CudnnMissingError(
            "convolutions, and attention in half precision, go without cuDNN, which is faster: "
            f"{why}; type: {install}"
        )

    try:
        import cudnn  # which imports torch, too, where that is installed
    except ModuleNotFoundError:
        raise unusable("nvidia-cudnn-frontend is not installed") from None
    except (ImportError, OSError, RuntimeError, AssertionError) as error:  # the last: two cuDNNs
        raise unusable(f"importing nvidia-cudnn-frontend fails, {_first_line(error)}") from error
    if not OLDEST <= _version(cudnn) <= NEWEST:
        raise unusable(f"nvidia-cudnn-frontend {cudnn.__version__} was never tried")
    try:  # a RuntimeError where there is no cuDNN, or "Multiple libcudart libraries found"
        if cudnn.backend_version() < OLDEST_LIBRARY:
            raise unusable(f"cuDNN is of version {cudnn.backend_version()}, which is too old")
        return Cudnn(cudnn, device)
    except RuntimeError as error:
        raise unusable(f"cuDNN does not load, {_first_line(error)}") from error


def _version(module: Any) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", module.__version__)[:2]))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
