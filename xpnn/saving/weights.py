"""Weights in files: safetensors, written so that a crash never leaves half a file."""

from pathlib import Path

from xpnn.errors import ShapeError
from xpnn.named_values import NamedValues
from xpnn.saving.model import FREE_SOME, fitted, write_values
from xpnn.saving.partial import LoadedWeights, compared
from xpnn.saving.tensor_file import TensorFile
from xpnn.saving.versions import (
    CHECKPOINT,
    MODEL,
    MODEL_VERSION,
    WEIGHTS,
    WEIGHTS_VERSION,
    other_format,
    version_of,
)


def save_weights(network: NamedValues, path: str | Path) -> None:
    """Write all parameters and state into a safetensors file, by name and in their own dtypes.

    The file is written beside its place and then moved there, so that whoever reads it finds the
    old file or the new one, whole. ``network.save`` writes the layers, too. Where several processes
    train the network, all call it, process 0 writes, and the others wait.

    Args:
        network: whose arrays are written.
        path: of the file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; an old file is unharmed.
        XpnnError: another thread trains the network.

    >>> import tempfile
    >>> from xpnn import Dense, Network, load_weights
    >>> net, other = (Network([Dense(2)], input_shape=(3,), seed=seed) for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, f"{folder}/small.safetensors")
    ...     taken = load_weights(other, f"{folder}/small.safetensors")
    >>> bool((net.params["0.dense.weight"] == other.params["0.dense.weight"]).all())
    True
    """
    metadata = {"format": WEIGHTS, "version": str(WEIGHTS_VERSION)}
    network.write_once("save_weights", lambda: write_values(network, path, metadata))


def load_weights(network: NamedValues, path: str | Path, *, partial: bool = False) -> LoadedWeights:
    """Read weights into a network of the same layers, on any backend, in the network's dtype.

    The file is of ``save_weights`` or ``network.save``, or any safetensors file with the network's
    names.

    Args:
        network: changed in place.
        path: of the file.
        partial: whether arrays that are missing in the file, or have another shape there, stay as
            they are, and those that the network does not have are left out.

    Returns:
        What was taken, and what not: ``print`` it.

    Raises:
        FileError: the file is not a whole safetensors file, or was damaged. It is a DataError.
        ShapeError: its arrays do not fit the network, or none does. Either way the network is
            unchanged.

    >>> import tempfile
    >>> from xpnn import Dense, Network, save_weights
    >>> net, other = Network([Dense(2)], (3,)), Network([Dense(2), Dense(4)], (3,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, f"{folder}/small.safetensors")
    ...     taken = load_weights(other, f"{folder}/small.safetensors", partial=True)
    >>> taken.taken, taken.missing
    (('0.dense.weight', '0.dense.bias'), ('1.dense.weight', '1.dense.bias'))
    """
    room = network.backend.room_for(f"the arrays of {path}", f"nothing was loaded; {FREE_SOME}")
    with room, TensorFile(path) as file:
        _check_version(file)
        own = {**network.params, **network.state}
        shapes = {name: entry.shape for name, entry in file.entries.items()}
        if not partial:
            network.check_fit(shapes)
        found = compared(own, shapes)
        if partial and not found.taken:
            raise ShapeError(
                f"nothing was loaded, as nothing in {path} fits this network:\n{found}"
            )
        values = {name: fitted(name, file.read(name), own[name]) for name in found.taken}
        network.load({**network.numpy_arrays(), **values} if partial else values)
    return found


def _check_version(file: TensorFile) -> None:
    kind = file.metadata.get("format")
    if kind == CHECKPOINT:
        raise other_format(file, WEIGHTS)
    current = {WEIGHTS: WEIGHTS_VERSION, MODEL: MODEL_VERSION}.get(kind or "")
    old = kind is None or current is None or (version_of(file, kind, current) < 2 and kind != MODEL)
    if "crc32" in file.metadata or not old:  # there is none in version 1, and in files of others
        file.check_sum()
