"""CuPy: NVIDIA GPUs, one fused kernel for each elementwise rule."""

import functools
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnn.backends.base import Backend, in_plain_floats
from xpnn.backends.cuda_driver import driver_fault
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array, Namespace, Shape

RANDOM_BITS = """
    bits = xpnn_mix(xpnn_mix(i) ^ xpnn_mix(xpnn_mix(xpnn_mix(draw) ^ low) ^ high));
"""
MIX = """
    __device__ unsigned int xpnn_mix(unsigned int word) {
        word = (word ^ (word >> 16)) * 0x45d9f3bu;
        word = (word ^ (word >> 16)) * 0x45d9f3bu;
        return word ^ (word >> 16);
    }
"""


class CupyBackend(Backend):
    """Arrays of CuPy on GPU 0, or on the GPU whose number follows the colon: ``"cupy:1"``."""

    name = "cupy"
    library = "cupy"
    install = "pip install 'cupy-cuda12x[ctk]' (or 'cupy-cuda13x[ctk]' for a CUDA 13 driver)"
    counters_on_device = True

    def __init__(self, device: str | None = None):
        if not _is_rocm():
            fault = driver_fault()  # asked first: CuPy imports well and fails at its first array
            if fault:
                raise BackendUnavailable(
                    f"CuPy is installed, but {fault}; until then use backend='numpy'"
                )
        super().__init__(device)

    def load_namespace(self) -> Namespace:
        import array_api_compat.cupy

        return array_api_compat.cupy

    def resolve_device(self, device: str | None) -> Any:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
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

    def on_device(self) -> AbstractContextManager[Any]:
        import cupy

        return cupy.cuda.Device(self.device.id)

    def owns(self, array: Any) -> bool:
        import cupy

        return isinstance(array, cupy.ndarray) and array.device == self.device

    def from_numpy(self, array: np.ndarray) -> Array:
        import cupy

        with self.on_device():
            return cupy.asarray(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        return in_plain_floats(array.get())

    def synchronize(self) -> None:
        self.device.synchronize()

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """One fused kernel: compiled when first called, then launched once a call."""
        import cupy

        # compat's sign sets NaN by a mask, which does not fuse
        namespace = SimpleNamespace(**{**vars(self.xp), "sign": cupy.sign})

        def bound(*arrays: Any) -> Any:
            return rule(namespace, *arrays)

        name = re.sub(r"\W+", "_", getattr(rule, "__qualname__", "rule"))
        return cupy.fuse(kernel_name=f"xpnn_{name}")(bound)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        import cupy

        cupy.add.at(array, indices, updates)
        return array

    def erf(self, x: Array) -> Array:
        from cupyx.scipy.special import erf

        values = erf(x)
        if values.dtype == x.dtype:
            return values
        return self.xp.astype(values, x.dtype)  # CuPy answers float16 in float64

    def random_bits(self, seed: int, draw: Any, shape: Shape) -> Array:
        """The portable version's words from one kernel, which needs no index array."""
        import cupy

        low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
        with self.on_device():
            bits = cupy.empty(shape, dtype=cupy.uint32)
            return _random_bits_kernel()(np.uint32(low), np.uint32(high), draw, bits)

    def free_memory(self) -> None:
        import cupy

        with self.on_device():
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()


@functools.cache
def _random_bits_kernel() -> Any:
    import cupy

    return cupy.ElementwiseKernel(
        "uint32 low, uint32 high, int32 draw",
        "uint32 bits",
        RANDOM_BITS,
        "xpnn_random_bits",
        preamble=MIX,
    )


def _is_rocm() -> bool:
    """Whether this CuPy was built for AMD's GPUs, of which the NVIDIA driver knows nothing."""
    return any(_installed(f"cupy-rocm-{version}") for version in ("7-0", "5-0", "4-3"))


def _installed(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False
