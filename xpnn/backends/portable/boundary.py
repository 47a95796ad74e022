"""How arrays of any library get onto a backend, and back to the host."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
from array_api_compat import to_device

from xpnn.backends.advice import rewording
from xpnn.backends.portable.host_arrays import in_plain_floats, numbers
from xpnn.backends.registry import class_recognizing
from xpnn.errors import BackendUnavailable, DataError, DeviceError
from xpnn.typing import Array, Namespace, Shape

_NOWHERE = nullcontext()

CPU, CUDA, ROCM = 1, 2, 10
"""Kinds of devices, as DLPack counts them."""

EXCHANGED = {
    *("bool", "int8", "int16", "int32", "int64", "uint8"),
    *("float16", "bfloat16", "float32", "float64"),
}
"""The dtypes that every library with DLPack knows and can count in."""


class Boundary:
    """The part of a backend that arrays pass on their way in and out."""

    name: ClassVar[str]
    array_type: ClassVar[str]
    xp: Namespace
    device: Any

    # What a subclass says about its library -------------------------------------------------

    @classmethod
    def recognizes(cls, array: Any) -> bool:
        """Whether ``array`` is of this library, on any device. Never imports the library."""
        module, _, name = cls.array_type.partition(":")
        return isinstance(array, getattr(sys.modules.get(module), name, ()))

    @classmethod
    def device_of(cls, array: Any) -> Any:
        """The device of an array of this library; None for all else, and where there is but one."""
        return None

    @classmethod
    def device_name(cls, device: Any) -> str:
        """A device of this library, as it stands behind the colon of a spec."""
        return str(device)

    @classmethod
    def spec_of(cls, array: Any) -> str:
        """What to ask ``get_backend`` for, to work where an array of this library lies."""
        device = cls.device_of(array)
        return cls.name if device is None else f"{cls.name}:{cls.device_name(device)}"

    @classmethod
    def written_as(cls, array: str, dtype: str) -> str:
        """How people write an array of this library in another dtype; for advice in errors."""
        return f"{array}.astype({dtype!r})"

    @classmethod
    def plain(cls, array: Any) -> Any:
        """An array of this library, of no subclass and without its autograd history.

        Raises:
            DataError: it does not have a number in each place, as one that is sparse or masked.
        """
        return array

    @classmethod
    def to_host(cls, array: Any) -> Any:
        """An array of this library, on any device, as something that ``np.asarray`` reads."""
        return array

    def owns(self, array: Any) -> bool:
        """Whether ``array`` is of this library and lies on this device."""
        return self.recognizes(array) and self.device_of(array) in (None, self.device)

    def read_in_place(self, values: Any) -> Array | None:
        """Values of any library in the memory they have, if this library can; never written to."""
        return None

    def from_numpy(self, array: np.ndarray) -> Array:
        """A NumPy array as an array of this backend; may share memory, is never written to."""
        return self.xp.asarray(array, device=self.device)

    def from_others(self, array: np.ndarray) -> Array:
        """``from_numpy``, of an array that its owner may write into once it was handed over."""
        return self.from_numpy(array)

    def for_all_threads(self, array: np.ndarray) -> Array:
        """``from_numpy``, of an array that every thread may read from now on."""
        return self.from_numpy(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        """The values on the host, bfloat16 as float32; waits for the device."""
        return in_plain_floats(np.asarray(self.to_host(array)))

    def on_device(self) -> AbstractContextManager[Any]:
        """The context in which this backend's operations run: CuPy's device, switches for TF32."""
        return _NOWHERE

    # Crossing the boundary ------------------------------------------------------------------

    def dtype(self, name: str) -> Any:
        """The library's dtype of that name, such as ``"float32"``."""
        found = getattr(self.xp, name, None)
        if found is None:
            raise BackendUnavailable(f"{self.name} has no dtype {name!r}; choose another one")
        return found

    def asarray(self, values: Any, dtype: str | None = None) -> Array:
        """Values of any library, or nested lists of numbers, as an array of this backend.

        Nothing is copied where ``values`` already fit. Other libraries' arrays on the same device
        are taken over in the memory they have, through DLPack, where that can be; all else travels
        through the host. Big-endian, read-only and non-contiguous arrays all work. Whatever memory
        the result shares is never written to. JAX, whose arrays never change, always has a copy of
        what is not its own.

        Raises:
            DataError: the values are not numbers (strings, objects, ragged lists).
            DeviceError: an array of this library, on another device; ``move`` takes it.
        """
        if not self.owns(values):
            self._check_device(values)
            with self.on_device():
                shared = self.read_in_place(values)
                if shared is not None and self.owns(shared):
                    values = shared
                else:
                    with rewording(x=values):
                        values = self.from_others(numbers(values))
        if dtype is None or values.dtype == self.dtype(dtype):
            return values
        if self.xp.isdtype(values.dtype, "complex floating"):
            raise DataError(
                f"wanted numbers (floats, integers or booleans), got {values.dtype}; give real and "
                f"imaginary parts as features of their own"
            )
        with self.on_device():
            return self.xp.astype(values, self.dtype(dtype))

    def copied(self, values: Any, dtype: str | None = None) -> Array:
        """``asarray`` into memory of its own: whoever gave the values may write into theirs."""
        with self.on_device():
            return self.xp.asarray(self.asarray(values, dtype), copy=True)

    def shares_memory(self, one: Array, other: Array) -> bool:
        """Whether writing into one array of this library may change another; True if in doubt."""
        return True

    def move(self, values: Any, dtype: str | None = None) -> Array:
        """``asarray``, for arrays on other devices of this library, too; these are copied.

        Raises:
            DataError: the values are not numbers.
        """
        if self.device_of(values) not in (None, self.device):
            with self.on_device():
                values = to_device(values, self.device)
        return self.asarray(values, dtype)

    def _check_device(self, values: Any) -> None:
        found = self.device_of(values)
        if found not in (None, self.device):
            own, other = (f"{self.name}:{self.device_name(one)}" for one in (self.device, found))
            raise DeviceError(
                f"wanted arrays on {own!r}, got one on {other!r}; move the array, "
                f"get_backend({own!r}).move(x), or the network, network.to({other!r})"
            )

    def zeros(self, shape: Shape, dtype: str) -> Array:
        """Zeros on this backend's device."""
        with self.on_device():
            return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self.device)


def read_in_place(
    values: Any, read: Callable[[Any], Array], device: tuple[int, int] | None
) -> Array | None:
    """``values`` of another library, in the memory that they have, or None where that cannot be.

    Args:
        values: anything.
        read: the library's own ``from_dlpack``.
        device: the one that ``values`` have to be on, as ``__dlpack_device__`` tells it.
    """
    kind = class_recognizing(values)
    if kind is not None:
        values = kind.plain(values)
    if device is None or _dlpack_device(values) != device or _dtype_name(values) not in EXCHANGED:
        return None
    try:
        return read(values)
    except (BufferError, RuntimeError, TypeError, ValueError):  # such as strides it does not take
        return None


def _dlpack_device(values: Any) -> tuple[int, int] | None:
    """The kind of device and its number, as ``__dlpack_device__`` tells them, or None."""
    try:
        kind, number = values.__dlpack_device__()
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        return None
    return int(kind), int(number)


def _dtype_name(values: Any) -> str:
    return str(getattr(values, "dtype", "")).rpartition(".")[2]
