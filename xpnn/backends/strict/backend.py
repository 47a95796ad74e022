"""array-api-strict: the standard and nothing else, on devices that refuse hidden copies.

For tests and for authors of layers: on ``"array-api-strict:device1"`` a call outside of the
standard, an array made on the wrong device, or a hidden copy to the host is an error.
"""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.sums import with_sums_by_blocks
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array, Namespace

DEVICES = {"cpu": "CPU_DEVICE", "device1": "device1", "device2": "device2"}


class StrictBackend(Backend):
    """Arrays of array-api-strict, on ``cpu``, ``device1`` or ``device2``."""

    name = "array-api-strict"
    library = "array-api-strict"
    install = "pip install array-api-strict"
    array_type = "array_api_strict._array_object:Array"

    def load_namespace(self) -> Namespace:
        import array_api_strict

        return with_sums_by_blocks(array_api_strict)

    def resolve_device(self, device: str | None) -> Any:
        try:
            return self.xp.Device(DEVICES[device or "cpu"])
        except KeyError:
            raise BackendUnavailable(
                f"array-api-strict has the devices {', '.join(DEVICES)}, got {device!r}; "
                f"write, for example, 'array-api-strict:device1'"
            ) from None

    @classmethod
    def device_of(cls, array: Any) -> Any:
        return array.device if cls.recognizes(array) else None

    @classmethod
    def device_name(cls, device: Any) -> str:
        import array_api_strict

        return next(name for name, own in DEVICES.items() if array_api_strict.Device(own) == device)

    @classmethod
    def written_as(cls, array: str, dtype: str) -> str:
        return f"array_api_strict.astype({array}, array_api_strict.{dtype})"

    @classmethod
    def to_host(cls, array: Any) -> Any:
        import array_api_strict

        return array.to_device(array_api_strict.Device("CPU_DEVICE"))

    @property
    def on_host(self) -> bool:
        return bool(self.device == self.xp.Device("CPU_DEVICE"))

    def overflowing(self) -> AbstractContextManager[Any]:
        return np.errstate(over="ignore", invalid="ignore")

    def from_numpy(self, array: np.ndarray) -> Array:
        if array.dtype == np.float16:  # which the standard does not have
            array = array.astype(np.float32)
        return super().from_numpy(array)

    def describe_devices(self) -> list[str]:
        return list(DEVICES)
