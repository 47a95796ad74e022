"""Files that Keras 3 writes, ``.keras`` and ``.weights.h5``: which layer holds which arrays.

A ``.weights.h5`` file is HDF5 with one group for each layer, called after its class and counted::

    layers/conv2d/vars/0, 1                          kernel and bias
    layers/dense/vars/0, 1      layers/dense_1/vars/0, 1
    layers/lstm/cell/vars/0, 1, 2                    what stands inside of a layer
    layers/sequential/layers/dense/vars/0, 1         a model inside of the model

Groups of different classes have lost their order there. A ``.keras`` file is a zip archive of such
a file and of ``config.json``, where all layers stand in their order. (Keras 3, ``saving_lib.py``.)
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.errors import FileError, XpnnError
from xpnn.files import open_file
from xpnn.initializers import check_memory
from xpnn.saving.tensor_file import strict_json

NO_LAYERS = {"optimizer", "metrics", "loss", "seed_generator", "compile_metrics"}
"""Groups of what is no layer: what training knows, and states of random generators."""

MAX_DEPTH = 50
"""Models inside of models, and how deep groups may lie."""


@dataclass(frozen=True)
class Module:
    """A layer of Keras that holds arrays.

    Attributes:
        kind: its class, as files spell it, such as "conv2d".
        name: what the user has called it, or Keras.
        path: of its group in the file.
        arrays: by their paths inside of the group, such as "0" and "cell/1".
    """

    kind: str
    name: str
    path: str
    arrays: Mapping[str, np.ndarray]


def read_modules(path: str | Path, known: set[str]) -> tuple[list[Module], bool]:
    """The layers with arrays in a file, and whether all of them stand in the order of the model.

    Args:
        path: of the file.
        known: kinds whose arrays belong together, however deep they lie.

    Raises:
        FileError: it is no such file, or is damaged.
        OSError: there is no such file, or it cannot be read.
        XpnnError: h5py is not installed.
    """
    with open_file(path) as file, _whole(path):
        start = file.read(8)
        file.seek(0)
        config: Any = None
        source: Any = file
        if start.startswith(b"PK\x03\x04"):
            config, source = _unpacked(path, zipfile.ZipFile(file))
        elif not start.startswith(b"\x89HDF"):
            raise FileError(
                f"wanted a file of Keras, .keras or .weights.h5, but {path} begins with {start!r}; "
                f"in Keras write model.save('model.keras')"
            )
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        with _h5py().File(source, "r") as tree:
            if "layer_names" in tree.attrs or "model_weights" in tree:
                raise FileError(
                    f"{path} is HDF5 as Keras wrote it before version 3; load it there, and write "
                    f"model.save('model.keras')"
                )
            reader = _Reader(path, size, known)
            modules = list(reader.modules(tree, "", config))
    return modules, config is not None


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise XpnnError(
            "files of Keras are read by h5py; type: pip install 'xpnn[keras]'"
        ) from None
    return h5py


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    """What zipfile, h5py and JSON make of bytes that are not what they should be."""
    try:
        yield
    except XpnnError:
        raise
    except (zipfile.BadZipFile, EOFError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise  # the file itself
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> FileError:
    return FileError(f"{path} is not a whole file of Keras ({str(error)[:200]}); save it again")


def _unpacked(path: str | Path, archive: zipfile.ZipFile) -> tuple[Any, Any]:
    """The description of the layers in an archive, and its file of weights."""
    names = archive.namelist()
    if not {"config.json", "model.weights.h5"} <= {*names}:
        raise FileError(
            f"wanted a zip archive of model.weights.h5 and config.json, as Keras writes it, and "
            f"{path} holds {', '.join(names[:5])[:200]}; in Keras write model.save('model.keras')"
        )
    for name in ("config.json", "model.weights.h5"):
        check_memory(archive.getinfo(name).file_size, f"{name} in {path}", "read another file")
    config = strict_json(archive.read("config.json").decode())
    return config, io.BytesIO(archive.read("model.weights.h5"))


class _Reader:
    """Walks through the groups of a file.

    Args:
        path: of the file, for errors.
        size: its bytes, which its arrays cannot exceed together.
        known: see ``read_modules``.
    """

    def __init__(self, path: str | Path, size: int, known: set[str]):
        self.path, self.left, self.known = path, size, known

    def modules(self, group: Any, kind: str, config: Any, depth: int = 0) -> Iterator[Module]:
        """The layers with arrays in a group, which is a layer or a model."""
        children = dict(self._groups(group, depth))
        if kind in self.known or not children.keys() & {"layers", "layer"}:
            arrays = dict(self._arrays(group, depth))
            if arrays:
                name = group["vars"].attrs.get("name", "") if "vars" in children else ""
                yield Module(kind or "model", str(name), group.name.strip("/"), arrays)
            return
        inside = _inside(config)
        if "layer" in children:  # of a wrapper, such as TimeDistributed
            wrapped = children["layer"]
            known_as = _kind_of(inside.get("layer"))
            kind = known_as or _without_count(str(wrapped["vars"].attrs.get("name", "")))
            yield from self.modules(wrapped, kind, inside.get("layer"), depth + 1)
        groups = dict(self._groups(children["layers"], depth)) if "layers" in children else {}
        for name, described in _in_order(groups, inside.get("layers")):
            kind = _kind_of(described) or _without_count(name)
            yield from self.modules(groups[name], kind, described, depth + 1)
        own = {"vars": children.get("vars"), **children}
        for name, child in own.items():
            if name not in ("layers", "layer") and child is not None:
                arrays = dict(self._arrays(child, depth + 1))
                if arrays:
                    yield Module(name, name, child.name.strip("/"), arrays)

    def _groups(self, group: Any, depth: int) -> Iterator[tuple[str, Any]]:
        h5py = _h5py()
        if depth > MAX_DEPTH:
            raise ValueError("its groups lie too deep")
        for name in group:
            if name in NO_LAYERS or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            if isinstance(group[name], h5py.Group):
                yield name, group[name]

    def _arrays(self, group: Any, depth: int, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """All arrays below a group, by their numbers in "vars" and the path to it."""
        for name, child in self._groups(group, depth):
            if name != "vars":
                yield from self._arrays(child, depth + 1, f"{prefix}{name}/")
                continue
            for number in sorted(child, key=lambda one: (len(one), one)):
                yield f"{prefix}{number}", self._read(child[number])

    def _read(self, dataset: Any) -> np.ndarray:
        if dataset.dtype.kind not in "fiu":
            raise FileError(
                f"{self.path}: {dataset.name} is of dtype {dataset.dtype}, wanted numbers; "
                f"in Keras save the model in float32"
            )
        self.left -= dataset.nbytes
        if self.left < 0 or dataset.is_virtual or dataset.external:
            raise ValueError("its arrays are larger than the file")
        return np.asarray(dataset[()])


def _inside(config: Any) -> dict[str, Any]:
    """The arguments of a layer that is described, where its layers are, too."""
    arguments = config.get("config") if isinstance(config, dict) else None
    return arguments if isinstance(arguments, dict) else {}


def _kind_of(config: Any) -> str:
    """Its class as a file spells it; "" if it is not described.

    >>> _kind_of({"class_name": "Conv2DTranspose"}), _kind_of({"class_name": "PReLU"})
    ('conv2d_transpose', 'p_re_lu')
    """
    name = config.get("class_name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        return ""
    name = re.sub(r"\W+", "", name.rpartition(">")[2])
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _without_count(name: str) -> str:
    """
    >>> _without_count("dense_12"), _without_count("conv2d")
    ('dense', 'conv2d')
    """
    return re.sub(r"_\d+$", "", name)


def _in_order(groups: Mapping[str, Any], described: Any) -> Iterator[tuple[str, Any]]:
    """The names of groups in the order of what is described; else each kind in its own."""
    counts, rest = Counter[str](), dict.fromkeys(groups)
    for one in described if isinstance(described, list) else ():
        kind = _kind_of(one)
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if name in rest:
            del rest[name]
            yield name, one
    for name in sorted(rest, key=lambda one: (_without_count(one), len(one), one)):
        yield name, None
