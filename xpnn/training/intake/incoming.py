"""What comes in, of any library, inspected once: whose it is, and where it lies."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.backends.advice import rewording
from xpnn.backends.portable.staging import is_mapped
from xpnn.backends.registry import class_recognizing
from xpnn.data.placement import lies_on_host, on_host
from xpnn.network import Network

FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True)
class Incoming:
    """An array as it came, with what inspecting it has told.

    Attributes:
        values: an array of any library; lists have become NumPy's.
        owned: whether it is of the network's backend.
        on_host: whether NumPy can read it as it lies.
        mapped: whether it is a file that is mapped into memory.
    """

    values: Any
    owned: bool
    on_host: bool
    mapped: bool

    @property
    def numpy(self) -> np.ndarray:
        """The same memory as NumPy's array."""
        return on_host(self.values)

    def bytes_to_move(self, dtype: str) -> int:
        """What the device needs for it: as it comes, and in the network's dtype."""
        if self.owned or not self.on_host:
            return 0
        array = self.numpy
        converted = array.dtype.name != dtype
        return array.nbytes + converted * array.size * FLOAT_BYTES.get(dtype, 4)

    def stays_on_host(self, backend: Backend, has_room: bool) -> bool:
        """Whether batches are to be made from where it lies.

        Args:
            backend: where the batches are wanted.
            has_room: whether all data fit there.
        """
        if self.owned and not self.mapped:
            return False
        return (not has_room and self.on_host) or (backend.on_host and self.mapped)

    def is_readable(self, backend: Backend) -> bool:
        """Whether NumPy reads it without waiting for a device."""
        return self.on_host and (backend.on_host or not self.owned)


def inspect(name: str, values: Any, network: Network) -> Incoming | None:
    """Look at an array of any library, or at nested lists; None stays None.

    Raises:
        DataError: these are no numbers.
    """
    if values is None:
        return None
    with rewording(**{name: values}):
        kind = class_recognizing(values)
        if isinstance(values, np.ndarray) or not (kind or hasattr(values, "__dlpack_device__")):
            values = on_host(values)
        elif kind is not None:
            values = kind.plain(values)
    return Incoming(values, network.backend.owns(values), lies_on_host(values), is_mapped(values))
