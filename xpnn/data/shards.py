"""Shards: a set of samples in many files, gone through without ever being in memory together."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.arguments import same_length
from xpnn.data.windows import Block, draw_order, recut, shuffled
from xpnn.errors import DataError, FileError, ShapeError

SOME, STRETCH = 64, 4096  # files that are looked at to tell a set from another, bytes of each
MOST = 2**53  # samples that a file may say it has: there is none as large
PARTS = ("x", "y", "sample_weight")
Paths = str | Path | Sequence[str | Path]
"""A file, a pattern such as ``"train/*.npz"``, whose files are taken by name, or a list of both."""
Form = tuple[str, dict[str, tuple[tuple[int, ...], np.dtype[Any]]]]
"""The first shard that was read, and the shapes of a sample and dtypes of its arrays."""


class Shards(ABC):
    """Samples in files, in batches ``(x, y)`` or ``(x, y, sample_weight)`` of NumPy arrays.

    ``Trainer.fit``, ``evaluate`` and ``validation=`` take them. With a window, the samples of an
    epoch come in this order::

        shards     in an order drawn from (seed, epoch)
        window     the next ``window`` samples of these shards, in a buffer
        samples    the buffer's, in an order drawn from (seed, epoch, number of the window)
        batches    cut from these; when the buffer is empty it is filled again

    So a sample goes no further than a window, and meets those of the shards that share the buffer
    with its own. That is a full shuffle if the window holds all samples, and close to one if it
    holds many shards, or if the samples were shuffled when they were written. Samples that lie
    sorted in one file stay nearly sorted. The order is the same on every backend.

    In memory are at most the window, a shard (of a table: a stretch of it) and the batches.

    Another format is a subclass with ``read`` and, where it knows, ``rows``.

    Args:
        paths: the files: one, a pattern such as ``"train/*.npz"``, or a list.
        batch_size: rows in a batch; the last may be smaller.
        window: samples in the buffer in which they are shuffled; None keeps the order of the files.
        seed: of the orders.

    Raises:
        FileError: a file is not there, or a pattern fits none.

    >>> import numpy as np
    >>> class Ranges(Shards):
    ...     def read(self, shard):
    ...         yield np.arange(3), np.arange(3)
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".numbers") as file:
    ...     print([x.tolist() for x, y in Ranges(file.name, batch_size=2)])
    [[0, 1], [2]]
    """

    def __init__(
        self, paths: Paths, *, batch_size: int = 32, window: int | None = None, seed: int = 0
    ):
        if batch_size < 1 or (window is not None and window < 1) or seed < 0:
            raise ValueError(
                f"wanted a batch_size and a window of at least 1 and a seed of at least 0, got "
                f"batch_size={batch_size}, window={window}, seed={seed}; window=None keeps the "
                f"order of the files"
            )
        self.paths = found_files(paths)
        self.batch_size, self.window, self.seed = batch_size, window, seed
        self.shards: Sequence[Any] = self.paths
        self._known_rows: dict[Any, int | None] = {}
        self._form: Form | None = None

    @abstractmethod
    def read(self, shard: Any) -> Iterator[Block]:
        """The samples of one of ``self.shards``, in order, in blocks (x, y) or (x, y, weight).

        Raises:
            FileError: the file is damaged, or not what it should be.
        """

    def rows(self, shard: Any) -> int | None:
        """How many samples a shard has, where that is known without reading it."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.paths)} files, batches of {self.batch_size}>"

    def known_by(self) -> dict[str, Any]:
        """What tells this set from another one, from a few bytes of some of its files.

        Their names count, but not where they lie.
        """
        left_out = {"paths", "shards", "types"}
        options = {
            name: one
            for name, one in vars(self).items()
            if not (name.startswith("_") or name in left_out)
        }
        return {**known_by_files(self.paths), "options": options}

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Block]:
        """The batches of an epoch, from batch ``start`` on; both are counted from 0.

        What lies before ``start`` is not read where a shard knows its number of rows.

        Raises:
            FileError, DataError: a shard cannot be read or differs from the others; it is named.
            ShapeError: its arrays are not of one length, or not of the others' shape.
        """
        skip = start * self.batch_size
        if self.window is None:
            blocks = self._blocks(self.shards, skip)
        else:
            seeds = self.seed, epoch + 1
            shards = [self.shards[k] for k in draw_order(len(self.shards), *seeds)]
            blocks = self._blocks(shards, skip - skip % self.window)
            blocks = shuffled(blocks, self.window, self.batch_size, seeds, skip)
        return recut(blocks, self.batch_size)

    def __iter__(self) -> Iterator[Block]:
        return self.batches()

    def __len__(self) -> int:
        """How many batches an epoch has.

        Raises:
            TypeError: that is not known before the files were read.
        """
        total = 0
        for shard in self.shards:
            rows = self._rows(shard)
            if rows is None:
                raise TypeError(f"{type(self).__name__} does not know how many rows {shard} has")
            total += rows
        return -(-total // self.batch_size)

    def _rows(self, shard: Any) -> int | None:
        if shard not in self._known_rows:
            rows = self.rows(shard)
            if rows is not None and not 0 <= rows < MOST:
                raise FileError(f"wanted the number of rows of {shard}, got {rows}; leave it out")
            self._known_rows[shard] = rows
        return self._known_rows[shard]

    def _blocks(self, shards: Sequence[Any], skip: int) -> Iterator[Block]:
        """The blocks of these shards without their first ``skip`` samples."""
        for shard in shards:
            if skip and (rows := self._rows(shard)) is not None and rows <= skip:
                skip -= rows
                continue
            count = 0
            for block in self.read(shard):
                rows = self._check(block, shard)
                count += rows
                dropped = min(skip, rows)
                skip -= dropped
                if dropped < rows:
                    yield tuple(one[dropped:] for one in block) if dropped else block
                del block  # before the next one is read
            if not count:
                raise DataError(
                    f"wanted at least one sample in each file, got none in {shard}; leave it out"
                )
        if skip >= self.batch_size:
            raise DataError(
                f"wanted to leave out the batches that were trained on, but the files hold {skip} "
                f"samples too few; pass the same files as before"
            )

    def _check(self, block: Block, shard: Any) -> int:
        """The number of samples in a block that fits those seen before."""
        arrays = dict(zip(PARTS, block, strict=False))
        try:
            rows = same_length(**arrays)
        except (ShapeError, DataError) as error:
            raise type(error)(f"{shard}: {error}") from error
        form = {name: (one.shape[1:], one.dtype) for name, one in arrays.items()}
        first, wanted = self._form = self._form or (str(shard), form)
        if form.keys() != wanted.keys():
            raise DataError(
                f"wanted {', '.join(wanted)} in {shard}, as in {first}, got {', '.join(form)}; "
                f"write all files alike"
            )
        for name, (shape, dtype) in form.items():
            if (shape, dtype) != wanted[name]:
                raise (ShapeError if shape != wanted[name][0] else DataError)(
                    f"wanted {name} of {_written(*wanted[name])} in {shard}, as in {first}, got "
                    f"{_written(shape, dtype)}; write all files alike"
                )
        return rows


def known_by_files(paths: Sequence[Path]) -> dict[str, Any]:
    """What tells these files from others: their names, sizes, and a few bytes of some of them."""
    sizes = [path.stat().st_size for path in paths]
    some = paths[:: -(-len(paths) // SOME)]
    return {
        "files": len(sizes),
        "bytes": sum(sizes),
        "names": _sum_of(str([path.name for path in paths]).encode()),
        "contents": _sum_of(str(sizes).encode(), *map(_some_bytes, some)),
    }


def _written(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"shape ({', '.join(['rows', *map(str, shape)])}) and {dtype}"


def _some_bytes(path: Path) -> bytes:
    """The beginning, the middle and the end of a file, where formats keep their checksums."""
    found, size = [], path.stat().st_size
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - STRETCH)):
            file.seek(start)
            found.append(file.read(STRETCH))
    return b"".join(found)


def _sum_of(*parts: bytes) -> str:
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return f"{total:08x}"


def found_files(paths: Paths) -> list[Path]:
    """The files that are meant, each of which is there."""
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    if not listed:
        raise DataError("wanted at least one file, got an empty list of paths")
    found: list[Path] = []
    for given in listed:
        path = Path(given).expanduser()
        if path.is_file():
            found.append(path)
            continue
        may_be = path.name and "\0" not in str(path)  # which from Python 3.13 on glob looks up
        fitting = [p for p in path.parent.glob(path.name) if p.is_file()] if may_be else []
        if not fitting:
            came = "a folder" if path.is_dir() else "no file of that name"
            raise FileError(
                f"wanted files or a pattern such as 'train/*.npz', got {path}, where there is "
                f"{came}; check the path, or restore the file"
            )
        found += sorted(fitting)
    return found
