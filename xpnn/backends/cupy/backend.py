"""CuPy: NVIDIA GPUs, one fused kernel for each elementwise rule."""

import functools
import importlib.metadata
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, Unpack

import numpy as np

from xpnn.backends.cuda_driver import driver_fault
from xpnn.backends.cupy import attention, bfloat16, convolution, windows
from xpnn.backends.cupy.accesses import tell
from xpnn.backends.cupy.communicator import check_capture
from xpnn.backends.cupy.cudnn import Cudnn, CudnnMissingError, opened
from xpnn.backends.cupy.fusing import Fusing
from xpnn.backends.cupy.graph import CapturedStep
from xpnn.backends.cupy.kernels import (
    MOST_ARRAYS,
    concat,
    put,
    random_bits,
    random_mask,
    side_by_side,
    stack,
    stacked_already,
)
from xpnn.backends.cupy.memory import device_followed
from xpnn.backends.cupy.reductions import Softmax, fusable, fused, reduced, summed
from xpnn.backends.cupy.rows import KEPT_SCORES, Rows
from xpnn.backends.cupy.staging import PIECE, CupyStaging, copied_in_pieces
from xpnn.backends.cupy.switches import add_in_order, with_tf32
from xpnn.backends.portable.attention import Scoring
from xpnn.backends.portable.base import Backend, MakeRecorded
from xpnn.backends.portable.boundary import CUDA, ROCM, read_in_place
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.launched import local_rank
from xpnn.backends.portable.packed_keys import Packer, Packing
from xpnn.backends.portable.random_words import mask_limit
from xpnn.backends.portable.staging import Staging
from xpnn.backends.portable.windows import Slide
from xpnn.errors import BackendUnavailable
from xpnn.local_rows import Stretch
from xpnn.typing import Array, Namespace, Shape

logger = logging.getLogger("xpnn")


class CupyBackend(Backend):
    """Arrays of CuPy on the GPU whose number follows the colon: ``"cupy:1"``.

    Without one it is GPU 0; of several processes that were started together on a machine, each
    takes its own: that of its rank there, and begins anew where there are fewer.
    """

    name = "cupy"
    library = "cupy"
    install = "pip install 'cupy-cuda12x[ctk]' (or 'cupy-cuda13x[ctk]' for a CUDA 13 driver)"
    array_type = "cupy:ndarray"
    counters_on_device = True
    joint_size = 1 << 20  # larger arrays are swept alone, and not copied for it
    side_by_side = 1 << 25  # entries: 128 MiB of float32 for one layer
    stacks = 256  # an H100 has 132 multiprocessors
    attention_from = 2048  # in half precision, where cuDNN does not serve
    compiles = "known"
    most_arrays = windows.MOST_PARTS
    _lacks: str | None = None  # of cuDNN: why there is none, and what to type

    def __init__(self, device: str | None = None):
        if not _is_rocm():
            fault = driver_fault()  # asked first: CuPy imports well and fails at its first array
            if fault:
                raise BackendUnavailable(
                    f"CuPy is installed, but {fault}; until then use backend='numpy'"
                )
        super().__init__(device)
        self._softmax = Softmax(self.xp)
        self._rows = Rows(self.xp, self.elementwise, self.sums, self._softmax)
        self._packer = Packer(self)

    def load_namespace(self) -> Namespace:
        import array_api_compat.cupy

        xp, kernels = array_api_compat.cupy, {"concat": concat, "stack": stack, "sum": summed}
        return SimpleNamespace(**{**vars(xp), **kernels, **bfloat16.namespace(xp)})

    def dtype(self, name: str) -> Any:
        if name == "bfloat16":
            bfloat16.teach()
        return super().dtype(name)

    def resolve_device(self, device: str | None) -> Any:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if device is None and count:
            device = str(local_rank() % count)
        if not (device or "0").isdigit() or int(device or 0) >= count:
            raise BackendUnavailable(
                f"CuPy sees {count} GPU(s), numbered from 0, got {device!r}; write 'cupy:0'"
            )
        chosen = cupy.cuda.Device(int(device or 0))
        try:
            with chosen:
                (cupy.zeros(2, dtype=cupy.float32) + 1).get()
        except Exception as error:
            raise BackendUnavailable(
                f"CuPy is installed and sees a GPU, but its first kernel failed: "
                f"{str(error).splitlines()[0]}; the CUDA toolkit's parts are probably missing, "
                f"type: {self.install}"
            ) from error
        return chosen

    def describe_devices(self) -> list[str]:
        import cupy

        runtime = cupy.cuda.runtime
        names = [runtime.getDeviceProperties(i)["name"] for i in range(runtime.getDeviceCount())]
        return [f"cuda:{i} {name.decode()}" for i, name in enumerate(names)]

    def describe(self) -> str:
        import cupy

        return f"cupy {cupy.__version__} on {self.describe_devices()[self.device.id]}"

    @functools.cached_property
    def _cudnn(self) -> Cudnn | None:
        """cuDNN on this GPU, looked for when first there is work for it; None without it."""
        if _is_rocm():
            return None
        try:
            return opened(self.device.id)
        except CudnnMissingError as error:
            self._lacks = str(error)
            logger.warning("%s", error)
            return None

    @functools.cached_property
    def positions_first(self) -> bool:
        """Not where cuDNN convolves."""
        return self._cudnn is None

    def missing(self) -> str | None:
        return self._lacks if self._cudnn is None else None

    def on_device(self) -> AbstractContextManager[Any]:
        import cupy

        device = cupy.cuda.Device(self.device.id)
        return device if self.tf32 is None else with_tf32(device, self.tf32)

    def owns(self, array: Any) -> bool:
        import cupy

        return type(array) is cupy.ndarray and array.device == self.device

    @classmethod
    def device_of(cls, array: Any) -> Any:
        return array.device if cls.recognizes(array) else None

    @classmethod
    def device_name(cls, device: Any) -> str:
        return str(device.id)

    @classmethod
    def to_host(cls, array: Any) -> Any:
        with array.device:
            return array.get()

    def read_in_place(self, values: Any) -> Array | None:
        import cupy

        kind = ROCM if cupy.cuda.runtime.is_hip else CUDA
        return read_in_place(values, cupy.from_dlpack, (kind, self.device.id))

    def from_numpy(self, array: np.ndarray) -> Array:
        import cupy

        with self.on_device():
            return copied_in_pieces(array) if array.nbytes > PIECE else cupy.asarray(array)

    def from_others(self, array: np.ndarray) -> Array:
        """``from_numpy``; from pinned memory CuPy would copy later, when its owner has written."""
        import cupy

        made = self.from_numpy(array)
        if cupy.cuda.pinned_memory.is_memory_pinned(array.ctypes.data):
            tell("a copy from pinned memory", [array], [made])
            cupy.cuda.get_current_stream().synchronize()
        return made

    def for_all_threads(self, array: np.ndarray) -> Array:
        """``from_numpy``, and there: other threads may work on other streams."""
        import cupy

        made = self.from_numpy(array)
        with self.on_device():
            cupy.cuda.get_current_stream().synchronize()
        return made

    def shares_memory(self, one: Array, other: Array) -> bool:
        import cupy

        return bool(cupy.may_share_memory(one, other))

    def has_room_for(self, nbytes: int) -> bool:
        """Whether it takes at most half of the free memory; the other half is for training."""
        return nbytes <= (self.free_bytes() or 0) // 2

    def staging(self) -> Staging:
        return CupyStaging(self)

    def synchronize(self) -> None:
        self.device.synchronize()

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """One fused kernel, compiled when first called; donated arrays are written over."""
        namespace, in_float32 = fusable(self.xp), bfloat16.in_float32(rule)

        def bound(*arrays: Any) -> Any:
            results = in_float32(namespace, *arrays)
            if not donate:
                return results
            listed = results if isinstance(results, tuple) else (results,)
            targets = [*donate, *[None] * len(listed)][: len(listed)]
            for k, (target, result) in enumerate(zip(targets, listed, strict=True)):
                if target is not None and arrays[target].dtype == result.dtype:
                    arrays[target][...] = result
                else:
                    targets[k] = None
            form[dtypes(arrays)] = targets, isinstance(results, tuple)
            return tuple(x for x, at in zip(listed, targets, strict=True) if at is None) or None

        def dtypes(arrays: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(arrays[k].dtype for k in donate)

        form: dict[Any, Any] = {}  # where each result is, as seen when the kernel was made
        kernel = fused(bound, rule)
        if not donate:
            return kernel

        def swept(*arrays: Any) -> Any:
            rest = iter(kernel(*arrays) or ())
            targets, several = form[dtypes(arrays)]
            results = tuple(next(rest) if at is None else arrays[at] for at in targets)
            return results if several else results[0]

        return swept

    def all_sum(
        self, array: Array, communicator: Communicator, behind: Array | None = None
    ) -> Array:
        check_capture(communicator)
        return communicator.all_sum(array)

    def start_all_sum(
        self,
        array: Array,
        communicator: Communicator,
        number: int,
        behind: Array | None = None,
    ) -> Array:
        check_capture(communicator)
        return super().start_all_sum(array, communicator, number, behind)

    def join(self, arrays: list[Array]) -> Array:
        """Arrays that lie side by side are one already; others are copied side by side."""
        if len(arrays) == 1:
            return arrays[0]
        joint = side_by_side(arrays)
        return concat(arrays, axis=None) if joint is None else joint

    def compile(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
    ) -> Callable[..., Any]:
        """A CUDA graph of the step, captured when it is called for the third time."""
        return CapturedStep(step, donate, held, required)

    def compile_fused(
        self,
        step: Callable[..., Any],
        recorded: MakeRecorded,
        donate: Sequence[int] = (),
    ) -> Callable[..., Any]:
        """A CUDA graph of the step's program, run for the first time when it is called twice."""
        fused = Fusing(recorded, frozenset(donate), self)
        return CapturedStep(step, donate, required=True, fused=fused)

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Any, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[Any, tuple[Array, ...]]:
        """What is kept of a step is put where it belongs soon after, 32 arrays in one launch."""
        import cupy

        length, wholes = inputs[0].shape[0], list[Array]()
        waiting: dict[Any, list[tuple[Array, Array]]] = {}
        for t in range(length)[:: -1 if reverse else 1]:
            carry, kept = step(carry, *(one[t, ...] for one in inputs))
            if not wholes:
                wholes = [cupy.empty((length, *one.shape), one.dtype) for one in kept]
                rows = [whole.reshape(length, -1) for whole in wholes]
            for one, row in zip(kept, rows, strict=True):
                alike = waiting.setdefault((one.size, one.dtype), [])
                alike.append((one, row[t]))
                if len(alike) == MOST_ARRAYS:
                    put(*zip(*alike, strict=True))
                    alike.clear()
        for alike in filter(None, waiting.values()):
            put(*zip(*alike, strict=True))
        return carry, tuple(wholes)

    def stack(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Without a copy where they lie so already."""
        found = stacked_already(arrays, axis)
        return super().stack(arrays, axis) if found is None else found

    def _reduced(
        self,
        rule: Callable[..., Any] | None,
        finish: Callable[..., Any] | None,
        features: bool,
        mean: bool,
    ) -> Callable[..., Array]:
        return reduced(self.xp, rule, finish, features, mean)

    def softmax(self, x: Array, barred: Array | None = None) -> Array:
        return self._softmax.softmax(x) if barred is None else self._softmax.softmax(x, barred)

    def log_softmax(self, x: Array) -> Array:
        return self._softmax.log_softmax(x)

    def pad(self, x: Array, axis: int, start: int, length: int, fill: float = 0.0) -> Array:
        return windows.pad(x, axis, start, length, fill)

    def fold(
        self,
        parts: Sequence[Array],
        axis: int,
        length: int,
        stride: int = 1,
        dilation: int = 1,
        low: int = 0,
    ) -> Array:
        if len(parts) > windows.MOST_PARTS:
            return super().fold(parts, axis, length, stride, dilation, low)
        return windows.fold(parts, axis, length, stride, dilation, low)

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self._cudnn is not None:
            S = convolution.convolve(Z, W, slides, bias, self._cudnn, self)
            if S is not None:
                return S
        return super().convolve(Z, W, slides, groups, bias)

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self._cudnn is not None:
            dZ = convolution.input_gradient(delta, W, slides, groups, bias, self._cudnn, self)
            if dZ is not None:
                return dZ
        return super().convolve_input_gradient(delta, W, slides, groups, bias)

    def convolve_kernel_gradient(
        self, Z: Array, delta: Array, slides: Sequence[Slide], groups: int = 1
    ) -> Array:
        if self._cudnn is not None:
            dW = convolution.kernel_gradient(Z, delta, slides, groups, self._cudnn, self)
            if dW is not None:
                return dW
        return super().convolve_kernel_gradient(Z, delta, slides, groups)

    def prefers_weights(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> bool:
        if attention.is_half(Q):
            if self._cudnn_attends(Q, K, V, scoring):
                return False
        elif Q.shape[0] * Q.shape[1] * Q.shape[2] * K.shape[2] > KEPT_SCORES:
            return False
        return super().prefers_weights(Q, K, V, **scoring)

    def statistics_shape(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> Shape:
        served = self._cudnn_attends(Q, K, V, scoring)
        return (*Q.shape[:3], 1 if served else 2)

    def _cudnn_attends(self, Q: Array, K: Array, V: Array, scoring: Scoring) -> bool:
        if not attention.is_half(Q) or self._cudnn is None:
            return False
        return attention.serves(Q, K, V, scoring, self._cudnn, self.deterministic)

    def _packing(self, Q: Array, scoring: Scoring) -> Packing | None:
        return self._packer.packing(scoring.get("mask"), Q.shape[2])

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array]:
        if self._cudnn_attends(Q, K, V, scoring):
            assert self._cudnn is not None
            given = Q, K, V, scoring, self._packing(Q, scoring)
            return attention.attention(*given, self._cudnn, self.deterministic)
        return self._rows.attention(Q, K, V, scoring)

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array, Array]:
        if statistics.shape[-1] == 1:  # cuDNN's
            assert self._cudnn is not None
            given = Q, K, V, A, statistics, dA, scoring, self._packing(Q, scoring)
            found = attention.attention_gradients(*given, self._cudnn, self.deterministic)
            if found is not None:
                return found
            A, statistics = self._rows.attention(Q, K, V, scoring)
        return self._rows.attention_gradients(Q, K, V, A, statistics, dA, scoring)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        import cupy

        if self.deterministic:
            return add_in_order(array, indices, updates)
        if bfloat16.is_bfloat16(array.dtype):  # CuPy has no atomics for it
            wide = self.scatter_add(array.astype("float32"), indices, updates.astype("float32"))
            return wide.astype(array.dtype)
        cupy.add.at(array, indices, updates)  # atomics: rows add up in any order
        return array

    def erfc(self, x: Array) -> Array:
        from cupyx.scipy.special import erfc

        values = erfc(x)
        if values.dtype == x.dtype:
            return values
        return self.xp.astype(values, x.dtype)  # CuPy answers halves in wider dtypes

    def random_bits(
        self, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        with self.on_device():
            return random_bits(seed, draw, shape, stretch)

    def random_mask(
        self, keep: float, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        with self.on_device():
            return random_mask(mask_limit(keep), seed, draw, shape, stretch)

    def free_bytes(self) -> int | None:
        import cupy

        with self.on_device():
            free, _ = cupy.cuda.runtime.memGetInfo()
            pool = cupy.get_default_memory_pool()
            limit = pool.get_limit() or math.inf
            return int(min(free + pool.free_bytes(), limit - pool.used_bytes()))

    def ran_out_of_memory(self, error: BaseException) -> bool:
        import cupy

        return isinstance(error, cupy.cuda.memory.OutOfMemoryError | MemoryError)

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        with self.on_device(), device_followed() as peak:
            yield peak

    def free_memory(self) -> None:
        import cupy

        with self.on_device():
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()


def _is_rocm() -> bool:
    """Whether this CuPy was built for AMD's GPUs, of which the NVIDIA driver knows nothing."""
    return any(_installed(f"cupy-rocm-{version}") for version in ("7-0", "5-0", "4-3"))


def _installed(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False
