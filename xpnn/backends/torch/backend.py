"""PyTorch: tensors on the CPU, on CUDA or on MPS, without its autograd."""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, Unpack

import numpy as np

from xpnn.backends.cuda_driver import driver_fault
from xpnn.backends.portable.attention import Scoring
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.boundary import CPU, CUDA, ROCM, read_in_place
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.convolution import over_parts
from xpnn.backends.portable.launched import local_rank
from xpnn.backends.portable.sums_begun import keep_begun
from xpnn.backends.portable.windows import Slide
from xpnn.backends.torch import attention, convolution, pooling
from xpnn.backends.torch.communicator import sum_in_graph
from xpnn.backends.torch.compiling import TracedStep
from xpnn.backends.torch.elementwise import in_float32
from xpnn.backends.torch.memory import storages_followed
from xpnn.errors import BackendUnavailable, Change, DataError
from xpnn.numerics import HOST, LONGEST_SUM, widened
from xpnn.typing import Array, Namespace

WRITTEN = {"float32": "float", "int64": "long"}
"""The methods of a tensor that convert it to a dtype."""


class TorchBackend(Backend):
    """Tensors of PyTorch on ``cpu`` (the default), ``cuda``, ``cuda:1``, ``mps``, ...

    ``cuda`` is the GPU that PyTorch is set to; where that is the first one, as unless it was set,
    each of several processes that were started together on a machine takes that of its rank there.

    xpnn works out gradients itself: tensors are taken without their autograd history, and none is
    recorded.
    """

    name = "torch"
    library = "torch"
    install = "pip install torch"
    array_type = "torch:Tensor"
    joint_size = 65_536
    positions_first = False

    def __init__(self, device: str | None = None):
        if (device or "").startswith("cuda") and "rocm" not in importlib.metadata.version("torch"):
            fault = driver_fault()  # asked first: importing torch takes a second
            if fault:
                raise BackendUnavailable(
                    f"torch cannot use {device!r} here: {fault}; use backend='torch' for the CPU"
                )
        super().__init__(device)
        if self.device.type != "cpu":
            self.attention_from = 2048  # where no kernels serve: to keep all takes fewer calls

    def load_namespace(self) -> Namespace:
        import array_api_compat.torch as xp

        def summed(x: Array, /, *, axis: Any = None, **options: Any) -> Array:
            """``sum``, which adds up the rows of what lies with gaps one after another."""
            if axis is None and x.numel() > LONGEST_SUM and not x.is_contiguous():
                x = xp.reshape(x, (*[1] * (x.ndim - 1), -1))
            return xp.sum(x, axis=axis, **options)

        return SimpleNamespace(**{**vars(xp), "sum": summed})

    def resolve_device(self, device: str | None) -> Any:
        import torch

        try:
            resolved = torch.device(device or "cpu")
            (torch.zeros(1, device=resolved) + 1).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise BackendUnavailable(
                f"torch cannot use the device {device!r} here: {str(error).splitlines()[0]}; it "
                f"has {', '.join(self.describe_devices())}"
            ) from None
        if resolved.type == "cuda" and resolved.index is None:
            number = torch.cuda.current_device() or local_rank() % torch.cuda.device_count()
            resolved = torch.device("cuda", number)
        return resolved

    def describe_devices(self) -> list[str]:
        import torch

        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]

    def owns(self, array: Any) -> bool:
        import torch

        return (
            isinstance(array, torch.Tensor)
            and array.device == self.device
            and not array.requires_grad
            and type(array) in (torch.Tensor, torch.nn.Parameter)
            and array.layout is torch.strided
            and not (array.is_nested or array.is_quantized)
        )

    @classmethod
    def device_of(cls, array: Any) -> Any:
        return array.device if cls.recognizes(array) else None

    @classmethod
    def written_as(cls, array: str, dtype: str) -> str:
        return f"{array}.{WRITTEN[dtype]}()"

    @classmethod
    def plain(cls, array: Any) -> Any:
        import torch

        if array.is_meta:
            raise DataError("wanted a tensor of numbers, got one of the meta device, without any")
        kinds = [
            (array.is_nested, "of rows of several lengths", "to_padded_tensor(0.0)"),
            (hasattr(array, "get_mask"), "under a mask", "to_tensor(0.0)"),
            (array.is_quantized, "quantized", "dequantize()"),
            (array.layout is not torch.strided, "sparse", "to_dense()"),
        ]
        for is_one, words, method in kinds:
            if is_one:
                raise DataError(
                    f"wanted a tensor with a number in each place, got one that is {words}",
                    change=Change("", f"{{values}}.{method}"),
                )
        is_plain = type(array) is torch.Tensor and not array.requires_grad
        return array if is_plain else array.detach().as_subclass(torch.Tensor)

    @classmethod
    def to_host(cls, array: Any) -> Any:
        import torch

        array = cls.plain(array).cpu()
        return array.float() if array.dtype == torch.bfloat16 else array

    def read_in_place(self, values: Any) -> Array | None:
        import torch

        if isinstance(values, torch.Tensor):
            return self.plain(values)
        if isinstance(values, np.ndarray):  # these may be read-only, which a tensor cannot be
            return None
        gpu = ROCM if torch.version.hip else CUDA
        device = {"cpu": (CPU, 0), "cuda": (gpu, self.device.index)}.get(self.device.type)
        return read_in_place(values, torch.from_dlpack, device)

    def on_device(self) -> AbstractContextManager[Any]:
        import torch

        cudnn, switches = torch.backends.cudnn, list[tuple[Any, str, bool]]()
        if self.tf32 is not None:
            matmul = torch.backends.cuda.matmul
            switches += [(one, "allow_tf32", self.tf32) for one in (matmul, cudnn)]
        if self.deterministic:
            switches.append((cudnn, "deterministic", True))
        if self.device.type != "cuda" or not switches:
            return super().on_device()
        return _set(switches)

    def shares_memory(self, one: Array, other: Array) -> bool:
        return bool(one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr())

    @property
    def on_host(self) -> bool:
        return bool(self.device.type == "cpu")

    def from_numpy(self, array: np.ndarray) -> Array:
        import torch

        if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch lacks their arithmetic
            array = array.astype(np.int64)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()  # torch has neither read-only tensors nor negative strides
        return torch.from_numpy(np.asarray(array)).to(self.device)

    def synchronize(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def counting(self, rule: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Python numbers, but for a step that is being compiled: there counters are tensors."""
        import torch

        def count(*counters: Any) -> Any:
            traced = any(isinstance(one, torch.Tensor) for one in counters)
            return rule(self.xp if traced else HOST, *counters)

        return count

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        return in_float32(rule, self.xp)

    def all_sum(
        self, array: Array, communicator: Communicator, behind: Array | None = None
    ) -> Array:
        found = sum_in_graph(array, communicator)
        return communicator.all_sum(array) if found is None else found

    def start_all_sum(
        self,
        array: Array,
        communicator: Communicator,
        number: int,
        behind: Array | None = None,
    ) -> Array:
        found = sum_in_graph(array, communicator)
        if found is None:
            return super().start_all_sum(array, communicator, number, behind)
        keep_begun(communicator, number, lambda: found)
        return found

    def compile(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
    ) -> Callable[..., Any]:
        """One graph, made into fused loops by ``torch.compile``; takes seconds to minutes, once."""
        return TracedStep(step, donate, required)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        if self.deterministic and self.device.type != "cpu":  # index_add_ has atomics there
            return array.index_put_((indices,), updates, accumulate=True)
        return array.index_add_(0, indices, updates)

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        return convolution.convolve(Z, W, slides, groups, bias, self)

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        dtype = delta.dtype
        if self.on_host:  # some processors add up halves in halves
            delta, W = widened(delta, self.xp), widened(W, self.xp)
        dZ = convolution.input_gradient(delta, W, slides, groups, self).to(dtype)
        return dZ if bias is None else dZ + bias

    def convolve_kernel_gradient(
        self, Z: Array, delta: Array, slides: Sequence[Slide], groups: int = 1
    ) -> Array:
        def gradient(Z: Array, delta: Array) -> Array:
            return convolution.kernel_gradient(Z, delta, slides, groups, self)

        if not self.on_host:
            return gradient(Z, delta)
        return over_parts(gradient, Z, delta, convolution.MOST_ROWS, self.xp)

    def max_pool(self, Z: Array, slides: Sequence[Slide]) -> tuple[Array, Any]:
        return pooling.max_pool(Z, slides, self)

    def max_pool_gradient(self, delta: Array, kept: Any, slides: Sequence[Slide]) -> Array:
        return pooling.max_pool_gradient(delta, kept, slides, self)

    def average_pool(self, Z: Array, slides: Sequence[Slide], count_padding: bool = False) -> Array:
        wide = widened(Z, self.xp) if len(slides) == 3 else Z  # there the CPU has no halves
        S = pooling.average_pool(wide, slides, count_padding)
        return super().average_pool(Z, slides, count_padding) if S is None else S.to(Z.dtype)

    def average_pool_gradient(
        self, delta: Array, slides: Sequence[Slide], count_padding: bool = False
    ) -> Array:
        wide = widened(delta, self.xp)  # halves would be added up in halves
        dZ = pooling.average_pool_gradient(wide, slides, count_padding)
        if dZ is None:
            return super().average_pool_gradient(delta, slides, count_padding)
        return dZ.to(delta.dtype)

    def prefers_weights(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> bool:
        if self.device.type != "cpu" and attention.pair(Q, K, V, scoring) is not None:
            return False
        return super().prefers_weights(Q, K, V, **scoring)

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array]:
        pair = attention.pair(Q, K, V, scoring)
        if pair is None:
            return super().attention(Q, K, V, **scoring)
        return attention.attention(Q, K, V, scoring, pair)

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
        given, pair = (Q, K, V, A, statistics, dA), attention.pair(Q, K, V, scoring)
        if pair is None:
            return super().attention_gradients(*given, **scoring)
        return attention.attention_gradients(*given, scoring, pair)

    def erfc(self, x: Array) -> Array:
        import torch

        return torch.erfc(x)

    @property
    def _words(self) -> Any:
        return self.xp.int64  # torch has no shifts of uint32

    def free_bytes(self) -> int | None:
        import torch

        if self.device.type != "cuda":
            return super().free_bytes()
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + cached

    def ran_out_of_memory(self, error: BaseException) -> bool:
        import torch

        on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        import torch

        if self.device.type != "cuda":
            with storages_followed() as peak:
                yield peak
            return
        before = torch.cuda.memory_allocated(self.device)

        def most() -> int:
            found = torch.cuda.max_memory_allocated(self.device) - before
            torch.cuda.reset_peak_memory_stats(self.device)
            return max(int(found), 0)

        torch.cuda.reset_peak_memory_stats(self.device)
        yield most

    def free_memory(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _set(switches: Sequence[tuple[Any, str, bool]]) -> Iterator[None]:
    """Sets switches of the whole process, as PyTorch has no others, and puts them back."""
    before = [getattr(owner, name) for owner, name, _ in switches]
    for owner, name, wanted in switches:
        setattr(owner, name, wanted)
    try:
        yield
    finally:
        for (owner, name, _), was in zip(switches, before, strict=True):
            setattr(owner, name, was)
