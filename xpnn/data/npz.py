"""Samples in NumPy's own archives of arrays."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xpnn.data.shards import Paths, Shards
from xpnn.data.windows import Block
from xpnn.errors import FileError


class NpzShards(Shards):
    """Samples in ``.npz`` files, as ``numpy.savez`` and ``savez_compressed`` write them.

    Each file holds an array of inputs and one of targets, of as many rows, and has the shapes and
    dtypes of the others. Batches keep the dtype of the file: bytes take a quarter of the room of
    float32, on the disk and in the window, and training converts them. A file is read as a whole,
    which finds out whether it is damaged before one of its samples is used.

    Args:
        paths, batch_size, window, seed: see ``Shards``.
        x, y: the names of the arrays in the files.
        sample_weight: the name of the weights, where there are such.

    Raises:
        FileError: a file is not there.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        x: str = "x",
        y: str = "y",
        sample_weight: str | None = None,
        batch_size: int = 32,
        window: int | None = None,
        seed: int = 0,
    ):
        super().__init__(paths, batch_size=batch_size, window=window, seed=seed)
        self.names = [name for name in (x, y, sample_weight) if name is not None]

    def read(self, shard: Path) -> Iterator[Block]:
        """The whole file, in one block."""
        yield self._load(shard)

    def _load(self, path: Path) -> Block:
        with _named(path), path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array")
            with archive:
                _check_names(self.names, archive.files, path)
                return tuple(archive[name] for name in self.names)

    def rows(self, shard: Path) -> int:
        """How many rows ``x`` has, from the few bytes before its numbers."""
        from zipfile import ZipFile  # whose import takes as long as a third of the package's own

        header = np.lib.format
        with _named(shard), ZipFile(shard) as archive:
            files = [name.removesuffix(".npy") for name in archive.namelist()]
            _check_names(self.names[:1], files, shard)
            with archive.open(f"{self.names[0]}.npy") as file:
                old = header.read_magic(file) == (1, 0)
                read = header.read_array_header_1_0 if old else header.read_array_header_2_0
                shape, _, _ = read(file)
                return int(shape[0]) if shape else 0


def _check_names(names: list[str], found: list[str], path: Path) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise FileError(
            f"wanted an array {missing[0]!r} in {path}, which holds {', '.join(found) or 'none'}; "
            f"say what the arrays are called: NpzShards(..., x=..., y=...)"
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong inside says which file it was."""
    from zipfile import BadZipFile

    try:
        yield
    except FileError:
        raise
    except (OSError, ValueError, EOFError, NotImplementedError, zlib.error, BadZipFile) as error:
        raise FileError(
            f"wanted a whole .npz file of plain arrays, but {path} cannot be read: {error}; write "
            f"it anew, or leave it out"
        ) from error
