"""Where data lie: on the host, in a file that is mapped into memory, or on a device."""

from typing import Any

import numpy as np

from xpnn.backends import get_backend
from xpnn.backends.portable.host_arrays import host_array
from xpnn.backends.portable.staging import is_mapped

HOST_KINDS = (1, 3)  # DLPack's numbers for the host's memory, pageable and pinned


def lies_on_host(values: Any) -> bool:
    """Whether NumPy can read ``values``, an array of any library or nested lists, as they lie."""
    if not hasattr(values, "__dlpack_device__"):
        return True
    try:
        kind, _ = values.__dlpack_device__()
    except (BufferError, RuntimeError, TypeError, ValueError):
        return False
    return int(kind) in HOST_KINDS


def on_host(values: Any) -> np.ndarray:
    """``values`` as NumPy's plain array: as they lie if they can be read so, memory maps always.

    Raises:
        DataError: they are not numbers.
    """
    if is_mapped(values):
        return host_array(values)
    array: np.ndarray = get_backend("numpy").asarray(values)
    return array
