"""Weights in files: safetensors, written so that a crash never leaves half a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.errors import DataError
from xpnn.network import Network


def save_weights(network: Network, path: str | Path) -> None:
    """Write all parameters and state into a safetensors file, as host arrays by name.

    The file is written beside its place and then moved there, so that whoever reads it finds the
    old file or the new one, whole.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; an old file is unharmed.
    """
    from safetensors.numpy import save

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(value, order="C") for name, value in network.numpy_arrays().items()}
    content = save(arrays, metadata={"format": "xpnn-weights", "version": "1"})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_weights(network: Network, path: str | Path) -> None:
    """Read what ``save_weights`` wrote into a network of the same layers, on any backend.

    Raises:
        DataError: the file is not a whole safetensors file.
        ShapeError: its arrays do not fit the network. Either way the network is unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, Any] = load(Path(path).read_bytes())
    except SafetensorError as error:
        raise DataError(
            f"{path} is not a whole safetensors file ({error}); save it again"
        ) from None
    network.load(arrays)
