"""A nesting of arrays, numbers and texts in a file: what a checkpoint is made of.

Arrays become tensors of a safetensors file, in their exact dtypes; all else, 0-d arrays included,
is JSON in the file's metadata.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import FileError
from xpnn.saving.tensor_file import TensorFile, strict_json
from xpnn.saving.tensors import Tensor, dtype_name, write_tensors
from xpnn.saving.versions import (
    CHECKPOINT,
    CHECKPOINT_VERSION,
    format_of,
    other_format,
    upgraded,
    version_of,
)
from xpnn.training.checkpointing.upgrades import UPGRADES
from xpnn.trees import Keys, TreeError, is_leaf, map_with_path
from xpnn.typing import Array

TOGETHER = 1 << 24  # numbers: more are copied in several pieces, as joining them takes memory
TENSOR, FLOAT = "$tensor", "$float"


@dataclass(frozen=True)
class Contents:
    """What goes into a file, all of it on the host, where no later step can touch it."""

    tree: Any
    tensors: dict[str, Tensor]


def contents_of(tree: Any, backend: Backend) -> Contents:
    """The nesting ``tree`` as a file holds it; see ``on_host`` and ``encoded``."""
    return encoded(on_host(tree, backend))


def on_host(tree: Any, backend: Backend) -> Any:
    """The same nesting with a Tensor for each array, and a number for each 0-d array.

    They are copies, for which the device is waited for once.

    Args:
        tree: dicts with texts as keys, lists and tuples, which come back as lists, of arrays,
            numbers, texts and None.
        backend: of the arrays in it; NumPy arrays may be there besides.

    Raises:
        TypeError: two arrays have the same name, or a dict has other keys.
    """
    leaves: dict[str, Array] = {}

    def collect(leaf: Any, name: str) -> Any:
        if name in leaves:
            raise TypeError(f"two things in what a file holds have the name {name!r}; rename one")
        leaves[name] = leaf
        return leaf

    _mapped(collect, tree)
    arrays = {name: leaf for name, leaf in leaves.items() if hasattr(leaf, "dtype")}
    copies = dict(zip(arrays, host_copies(list(arrays.values()), backend), strict=True))

    def copied(leaf: Any, name: str) -> Any:
        if name not in copies:
            return leaf
        return copies[name] if copies[name].values.ndim else copies[name].values.item()

    return _mapped(copied, tree)


def encoded(tree: Any) -> Contents:
    """A nesting that lies on the host as a file holds it: its tensors, and all else in JSON.

    Raises:
        TypeError: something is in it that no file can hold.
    """
    tensors: dict[str, Tensor] = {}

    def described(leaf: Any, name: str) -> Any:
        if not isinstance(leaf, Tensor):
            return _as_json(leaf, name)
        tensors[name] = leaf
        return {TENSOR: name}

    return Contents(_mapped(described, _renamed(tree, _escaped)), tensors)


def host_copies(arrays: Sequence[Array], backend: Backend) -> list[Tensor]:
    """Copies of the arrays on the host: those of one dtype in one transfer, or in a few."""
    copies: dict[int, Tensor] = {}
    groups: dict[str, list[list[int]]] = {}
    sizes = [math.prod(one.shape) for one in arrays]
    for index, one in enumerate(arrays):
        dtype = dtype_name(one)
        if isinstance(one, np.ndarray | np.generic) or backend.on_host:
            host = one if isinstance(one, np.ndarray | np.generic) else backend.to_numpy(one)
            copies[index] = Tensor(dtype, np.array(host))
            continue
        pieces = groups.setdefault(dtype, [[]])
        if sum(sizes[k] for k in pieces[-1]) + sizes[index] > TOGETHER:
            pieces.append([])
        pieces[-1].append(index)
    with backend.on_device():
        for dtype, pieces in groups.items():
            for indices in filter(None, pieces):
                host = backend.to_numpy(backend.join([arrays[k] for k in indices])).reshape(-1)
                stops = np.cumsum([sizes[k] for k in indices])
                for k, stop in zip(indices, stops, strict=True):
                    part = host[stop - sizes[k] : stop].reshape(tuple(arrays[k].shape))
                    copies[k] = Tensor(dtype, part.copy() if len(indices) == 1 else part)
    return [copies[index] for index in range(len(arrays))]


def write_contents(path: Path, contents: Contents) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: it could not be written; an old file is unharmed.
    """
    metadata = {
        "format": CHECKPOINT,
        "version": str(CHECKPOINT_VERSION),
        "contents": json.dumps(contents.tree, allow_nan=False),
    }
    write_tensors(path, contents.tensors, metadata)


def read_contents(path: Path) -> Any:
    """The nesting that a checkpoint holds, its arrays as NumPy arrays.

    Raises:
        OSError: the file is not there, or cannot be read.
        NoCheckpointError: it is torn, damaged, or another kind of file.
        FileError: it is of a newer version.
    """
    try:
        file = TensorFile(path)
    except FileError as error:
        raise NoCheckpointError(str(error)) from None
    with file:
        if format_of(file) != CHECKPOINT:
            raise NoCheckpointError(
                f"{other_format(file, CHECKPOINT)}, and give resume what a Checkpoint or "
                f"trainer.save has written"
            )
        version = version_of(file, CHECKPOINT, CHECKPOINT_VERSION)
        try:
            file.check_sum()
            tree = _restored(strict_json(file.metadata["contents"]), file)
            if version > 2:  # older ones took such keys as they were
                tree = _renamed(tree, _unescaped)
            return upgraded(tree, version, CHECKPOINT_VERSION, UPGRADES)
        except (AttributeError, FileError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise NoCheckpointError(f"{path} is no whole checkpoint: {error}") from None


class NoCheckpointError(FileError):
    """A file that is torn, damaged, or of another kind."""


def _mapped(change: Callable[[Any, str], Any], tree: Any) -> Any:
    """The same nesting with every leaf changed, which is told its name, such as "a.b.0"."""

    def named(path: Keys, leaf: Any) -> Any:
        name = ".".join(map(str, path))
        if isinstance(leaf, dict):
            wrong = next(key for key in leaf if not isinstance(key, str))
            raise TypeError(f"{name}: wanted texts as keys in what a file holds, got {wrong!r}")
        return change(leaf, name)

    try:
        return map_with_path(named, tree, is_leaf=_is_leaf)
    except TreeError as error:
        raise TypeError(f"what a file holds is too deep: {error}") from None


def _is_leaf(tree: Any) -> bool:
    """Whether it is no nesting that a file can hold: a dict of names, a list, a tuple."""
    if isinstance(tree, dict):
        return not all(isinstance(key, str) for key in tree)
    return not isinstance(tree, list | tuple)


def _as_json(leaf: Any, name: str) -> Any:
    """A number, a text or None as strict JSON has it, which knows no infinities."""
    if isinstance(leaf, float) and not math.isfinite(leaf):
        return {FLOAT: repr(float(leaf))}
    if leaf is None or isinstance(leaf, bool | int | str):
        return leaf
    if isinstance(leaf, float):
        return float(leaf)
    raise TypeError(
        f"{name}: wanted arrays, numbers, texts, None, and dicts and lists of such, got a "
        f"{type(leaf).__name__}; let state() return these only"
    )


def _renamed(tree: Any, rename: Callable[[str], str]) -> Any:
    """The same nesting with other keys."""
    if isinstance(tree, dict):
        names = {key: rename(key) if isinstance(key, str) else key for key in tree}
        return {names[key]: _renamed(one, rename) for key, one in tree.items()}
    return [_renamed(one, rename) for one in tree] if isinstance(tree, list | tuple) else tree


def _escaped(key: str) -> str:
    """A key that is taken neither for ``TENSOR`` nor for ``FLOAT``: with one sign more."""
    return f"${key}" if key.startswith("$") else key


def _unescaped(key: str) -> str:
    return key.removeprefix("$")


def _restored(tree: Any, file: TensorFile) -> Any:
    """What ``encoded`` has described, which is all that JSON knows no word for."""

    arrays = file.read_all()

    def read(path: Keys, leaf: Any) -> Any:
        if not isinstance(leaf, dict):
            return leaf
        if TENSOR not in leaf:
            return float(leaf[FLOAT])
        if leaf[TENSOR] not in arrays:
            raise ValueError(f"it names an array that is not there, or again: {leaf[TENSOR]!r}")
        return arrays.pop(leaf[TENSOR])

    def is_described(tree: Any) -> bool:
        return is_leaf(tree) or (type(tree) is dict and tree.keys() in ({TENSOR}, {FLOAT}))

    return map_with_path(read, tree, is_leaf=is_described)
