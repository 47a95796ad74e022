"""Data sets to learn from: one that ships with xpnn, and a reader for files that a user has.

::

    digits()         1797 handwritten digits of 8x8 pixels, inside the package
    mnist(folder)    70000 handwritten digits of 28x28 pixels, from the four IDX files
    read_idx(path)   any IDX file
    text(path)       a file of plain text, as one string

Others than the last return NumPy arrays on the host; the network moves them to its own library.
Nothing here downloads anything.
"""

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpnn.errors import DataError
from xpnn.files import open_file, out_of_memory

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Inputs ``x`` in [0, 1] and class labels ``y``, one per sample."""

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20


def digits(flat: bool = True) -> Samples:
    """Return the 8x8 handwritten digits that ship with xpnn: 1797 images in ten classes.

    The images are the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and
    Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0; ``digits.txt`` beside this file has the
    whole story). Each pixel counts the inked cells of a 4x4 block of the scanned digit, from 0 to
    16, and is divided by 16 here. The order is that of the original file, where the digits of one
    writer seem to stand together: shuffle before splitting.

    Args:
        flat: whether an image is a row of 64 features, or else 8 rows, 8 columns and 1 channel.

    Returns:
        ``x`` float32 in [0, 1], of shape (1797, 64) if flat, else (1797, 8, 8, 1), where 0 is paper
        and 1 is ink; and ``y`` int64 of shape (1797,), the digit from 0 to 9. Both are new arrays.

    >>> x, y = digits()
    >>> x.shape, y.shape
    ((1797, 64), (1797,))
    """
    from importlib import resources  # whose import takes a tenth of the whole package's

    path = resources.files("xpnn.data") / "digits.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    x = np.divide(images, 16, dtype=np.float32)
    return x.reshape((-1, 64) if flat else (-1, 8, 8, 1)), labels.astype(np.int64)


def mnist(folder: str | Path, split: Literal["train", "test"] = "train") -> Samples:
    """Read the MNIST digits (LeCun, Cortes and Burges 1998) from the four original IDX files.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each as it is or gzip-compressed with
    ``.gz`` at the end; one split needs its two files only. Sets published in the same files, such
    as Fashion-MNIST, read as well.

    Args:
        folder: where the files are; ``~`` stands for the home folder.
        split: ``"train"`` (60000 images in the original) or ``"test"`` (10000).

    Returns:
        ``x`` float32 in [0, 1], of shape (n, 28, 28, 1), where 0 is paper and 1 is ink; and ``y``
        int64 of shape (n,), the digit from 0 to 9.

    Raises:
        DataError: if a file is missing, damaged, or not what its name says.
    """
    if split not in MNIST_FILES:
        raise DataError(f'mnist needs split="train" or split="test", got {split!r}')
    folder = Path(folder).expanduser()
    images, labels = map(read_idx, _mnist_files(folder, split))
    _check_mnist(images, labels, split, folder)
    x = np.divide(images, 255, dtype=np.float32)
    return x[..., np.newaxis], labels.astype(np.int64)


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read an array from an IDX file, the format that MNIST is published in.

    The format: two zero bytes, a byte for the dtype, a byte for the number of axes, the length of
    each axis (32 bits, unsigned), then the numbers, all big-endian. The dtype is one of
    uint8 (08), int8 (09), int16 (0B), int32 (0C), float32 (0D) and float64 (0E).

    A file that starts like gzip is decompressed on the way, whatever its name. What is read never
    exceeds what the file really holds, so a header that lies costs no memory.

    Args:
        path: the file; ``~`` stands for the home folder.

    Returns:
        A writable array of the shape and dtype that the header names, in this machine's byte order.

    Raises:
        DataError: if the file is missing, is no IDX file, or is shorter or longer than its header
            says.

    >>> from pathlib import Path
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "small-idx1-ubyte"
    ...     size = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))  # uint8, an axis of 3
    ...     read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path).expanduser()
    try:
        with open_file(path) as raw:
            zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not zipped:
                return _parse_idx(raw, path)
            with gzip.open(raw) as unzipped:
                return _parse_idx(unzipped, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"read_idx needs a whole gzip file, but {path} is damaged ({error}): download it again"
        ) from error
    except MemoryError as error:
        raise out_of_memory(path) from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"read_idx needs an IDX file it can read, got {path}: {reason}") from error


def text(path: str | Path, *, encoding: str = "utf-8") -> str:
    """Read a file of plain text, which may be packed with gzip, whatever its name.

    A mark of the byte order at its beginning is left out; nothing else is changed.

    Args:
        path: the file; ``~`` stands for the home folder.
        encoding: as Python names it.

    Returns:
        The text, which ``xpnn.data.Vocabulary.of`` numbers.

    Raises:
        DataError: the file is missing, is damaged, is empty, or is no text in that encoding.

    >>> from pathlib import Path
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "play.txt"
    ...     size = path.write_text("to be")
    ...     text(path)
    'to be'
    """
    path = Path(path).expanduser()
    try:
        with open_file(path) as raw:
            content = raw.read()
        if content[:2] == GZIP_MAGIC:
            content = gzip.decompress(content)
        found = content.decode(encoding).removeprefix("\ufeff")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"text needs a whole gzip file, but {path} is damaged ({error}): get it again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"text needs a file in the encoding {encoding}, but byte {error.start} of {path} makes "
            f"no sense there: name another one, such as encoding='latin-1'"
        ) from error
    except MemoryError as error:
        raise out_of_memory(path) from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"text needs a file it can read, got {path}: {reason}") from error
    if not found:
        raise DataError(f"text needs a file with something in it, but {path} is empty")
    return found


def _parse_idx(file: BufferedIOBase, path: Path) -> NDArray[Any]:
    dtype, shape = _read_header(file, path)
    wanted = math.prod(shape) * dtype.itemsize
    content = _read_at_most(file, wanted + 1)
    if len(content) != wanted:
        came = f"{len(content)}" if len(content) < wanted else f"more than {wanted}"
        raise DataError(
            f"{path} should hold {wanted} bytes after its header, since that says shape {shape} of "
            f"{dtype.name}, but it holds {came}: download it again"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_header(file: BufferedIOBase, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES or not magic[3]:
        codes = ", ".join(f"{code:02x}" for code in IDX_DTYPES)
        raise DataError(
            f"An IDX file starts with 00 00, a dtype of {codes} and at least one axis, but {path} "
            f"starts with '{magic.hex(' ')}': check that it is the file you meant, or download it "
            "again"
        )
    axes = magic[3]
    lengths = file.read(4 * axes)
    shape = tuple(np.frombuffer(lengths[: len(lengths) // 4 * 4], ">u4").tolist())
    if len(shape) < axes or 0 in shape or axes > 32:
        raise DataError(
            f"{path} announces {axes} axes, and from 1 to 32, each of length 1 or more, can be "
            f"read, but its header holds the lengths {shape}: download it again"
        )
    return np.dtype(IDX_DTYPES[magic[2]]), shape


def _read_at_most(file: BufferedIOBase, limit: int) -> bytearray:
    # One read(limit) would set aside memory for whatever a damaged header asks for.
    content = bytearray()
    while chunk := file.read(min(CHUNK, limit - len(content))):
        content += chunk
    return content


def _mnist_files(folder: Path, split: str) -> tuple[Path, Path]:
    wanted = [folder / name for name in MNIST_FILES[split]]
    found = [_plain_or_gzip(path) for path in wanted]
    missing = [path.name for path, there in zip(wanted, found, strict=True) if not there.is_file()]
    if missing:
        names = ", ".join(name for pair in MNIST_FILES.values() for name in pair)
        came = f"it lacks {' and '.join(missing)}" if folder.is_dir() else "there is no such folder"
        raise DataError(
            f"mnist needs a folder with the files {names}, each as it is or with .gz at the end, "
            f"got {folder}: {came}. Download the files, or name the folder that holds them"
        )
    return found[0], found[1]


def _plain_or_gzip(path: Path) -> Path:
    return path if path.is_file() else path.with_name(path.name + ".gz")


def _check_mnist(images: NDArray[Any], labels: NDArray[Any], split: str, folder: Path) -> None:
    problem = None
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        problem = f"the images have shape {images.shape} and dtype {images.dtype}"
    elif labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        problem = f"{len(images)} images come with labels of {labels.shape} and {labels.dtype}"
    elif labels.max() > 9:
        problem = f"there is a label {labels.max()}"
    if problem:
        raise DataError(
            f"mnist needs images (n, 28, 28) and labels (n,) from 0 to 9, both uint8, but in "
            f"{' and '.join(MNIST_FILES[split])} of {folder} {problem}: check that the files "
            f"belong together; read_idx reads other IDX files"
        )
