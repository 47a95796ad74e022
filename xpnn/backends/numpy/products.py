"""Matrix products of replayed steps: what multiplies, and in how many parts."""

import functools
import math
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from xpnn.backends.numpy.arena import aligned_bytes
from xpnn.backends.numpy.cores import Cores, Task, ranges, so_many_cores
from xpnn.backends.numpy.fastest import Fastest
from xpnn.backends.numpy.kept import kept_folder
from xpnn.backends.numpy.mkl import SWITCH, Mkl, how_it_lies, mkl, switched_off, why_not
from xpnn.backends.numpy.openblas import one_thread_a_product, openblas, openblas_threads

LONGEST_TRIED = 1024  # rows, columns and addends of a product whose time is taken
MOST_TRIED = 16  # matrices along each axis of a stack


class Multiply(Protocol):
    """What binds a product, of matrices or of stacks of them, to memory."""

    alone: bool  # whether each product is meant for the thread that calls
    least: int  # operations of a part: 25 us; handing it over takes 10 to 30

    def matrices(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of two matrices, into one that lies row by row in one piece."""

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of any two arrays, as ``np.matmul`` has it, into one that lies anyhow."""


class Products:
    """Matrix products, the large ones in parts on all cores.

    Args:
        cores: on which there are loops, too; None where there are none, and OpenBLAS's threads may
            have the cores to themselves.
        multiply: what does each part.

    Attributes:
        are_split: whether any of them are.
    """

    def __init__(self, cores: Cores | None, multiply: Multiply):
        threads = openblas_threads()
        if cores is None and multiply.alone:
            cores = so_many_cores(threads)
        self.cores = cores if cores is not None and threads > 1 else None
        self._most = 1 if self.cores is None else min(self.cores.count, threads)
        self.multiply, self.are_split = multiply, False

    def matrices(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of two matrices, into one that lies row by row: its rows or its columns in parts.

        Parts go as stacks of one, as ``dot`` makes copies of matrices that do not lie in one piece.
        """
        rows, columns = out.shape
        count, part = self._parts(out.size * a.shape[1], max(rows, columns)), self.multiply.stack
        if count < 2:
            return self.multiply.matrices(a, b, out)
        if rows >= columns:
            return self._split([part(a[s], b, out[s]) for s in ranges(rows, count)])
        return self._split([part(a, b[:, s], out[:, s]) for s in ranges(columns, count)])

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        """Of matrices in stacks of the same shape, parts of the stack."""
        alike = a.ndim > 2 and a.shape[:-2] == b.shape[:-2] == out.shape[:-2]
        count = self._parts(out.size * a.shape[-1], len(out)) if alike else 1
        if count < 2:
            return self.multiply.stack(a, b, out)
        return self._split(
            [self.multiply.stack(a[s], b[s], out[s]) for s in ranges(len(out), count)]
        )

    def _parts(self, products: int, length: int) -> int:
        return min(self._most, 2 * products // self.multiply.least, length)

    def _split(self, tasks: list[Task]) -> Task:
        assert self.cores is not None
        self.are_split = True
        return partial(self.cores.run, tasks)


# What multiplies ----------------------------------------------------------------------------------


class ByNumpy:
    """NumPy, by ``dot`` where that does, which asks less."""

    name, alone, least = "NumPy", False, 2_000_000

    def matrices(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        return partial(a.dot, b, out)

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        return partial(np.matmul, a, b, out=out)


BY_NUMPY = ByNumpy()


class ByFastest:
    """NumPy or MKL, whichever was faster at a product of that kind when one first came along.

    The two round differently, so what is chosen once stays, for the process and for later ones.

    Args:
        library: MKL.
        fastest: what has been chosen.
    """

    alone, least = True, 4_000_000

    def __init__(self, library: Mkl, fastest: Fastest):
        self.library, self.fastest = library, fastest

    def matrices(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        return self._fastest(a, b, out, BY_NUMPY.matrices)

    def stack(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Task:
        return self._fastest(a, b, out, BY_NUMPY.stack)

    def _fastest(
        self, a: np.ndarray, b: np.ndarray, out: np.ndarray, by_numpy: Callable[..., Task]
    ) -> Task:
        if not self.library.takes(a, b, out):
            return by_numpy(a, b, out)
        library = self.library
        ways: dict[str, Callable[..., Task | None]] = {"MKL": library.stack}
        if a.ndim == b.ndim == 2:
            ways = {"MKL": library.product, "MKL's own kernel": library.own_kernel}

        def tasks() -> dict[str, Task]:
            like = [_like(one) for one in _cut(a, b, out)]
            in_one_piece = like[2].shape == out.shape  # as ``dot`` wants it
            usual = by_numpy if in_one_piece else BY_NUMPY.stack
            made = {name: way(*like) for name, way in ways.items()}
            found = {name: task for name, task in made.items() if task is not None}
            return {BY_NUMPY.name: usual(*like), **found}

        with one_thread_a_product():
            name = self.fastest.of(kind_of_product(a, b, out), tasks)
        task = ways[name](a, b, out) if name is not None and name in ways else None
        return by_numpy(a, b, out) if task is None else task


def kind_of_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> str:
    """For products of one kind one way is taken to be fastest: how they lie, and about how large.

    >>> kind_of_product(np.zeros((4, 3, 20)), np.zeros((9, 20)).T, np.zeros((4, 3, 9)))
    'float64, 3..4 of 3..4 x 17..32 x 9..16, b turned'
    """
    a, b, out = _cut(a, b, out)
    sizes = [*out.shape[-2:-1], a.shape[-1], *out.shape[-1:]]
    stack = f"{_about(math.prod(out.shape[:-2]))} of " if out.ndim > 2 else ""
    lying = {name: how_it_lies(one) for name, one in (("a", a), ("b", b), ("out", out))}
    turned = "".join(f", {name} turned" for name, one in lying.items() if one and one[0])
    return f"{out.dtype}, {stack}{' x '.join(map(_about, sizes))}{turned}"


def _about(length: int) -> str:
    """The powers of two between which it is."""
    most = 2 ** (length - 1).bit_length()
    return f"{most // 2 + 1}..{most}"


def _cut(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, ...]:
    """The product, or as much of it as its time is taken of."""
    side = slice(LONGEST_TRIED)

    def cut(x: np.ndarray) -> np.ndarray:
        return x[(*[slice(MOST_TRIED)] * (x.ndim - 2), side, side)]

    return cut(a), cut(b), cut(out)


def _like(x: np.ndarray) -> np.ndarray:
    """An array of ones that lies as another one does."""
    reach = [(length - 1) * stride for length, stride in zip(x.shape, x.strides, strict=True)]
    before = -sum(one for one in reach if one < 0)  # of a stack that goes backwards
    ones = aligned_bytes(x.itemsize + sum(map(abs, reach)))
    ones.view(x.dtype)[...] = 1
    return np.ndarray(x.shape, x.dtype, ones, before, x.strides)


# What is chosen, and where it is kept ------------------------------------------------------------


def multiplication(deterministic: bool) -> Multiply:
    """NumPy alone, or MKL, too, where it is installed, and what is chosen can be kept.

    Args:
        deterministic: whether what is chosen may not depend on measured times.
    """
    return BY_NUMPY if deterministic else _by_fastest() or BY_NUMPY


@functools.cache
def _by_fastest() -> ByFastest | None:
    library = mkl()
    folder = kept_folder("xpnn-products") if library else None
    if library is None or folder is None:
        return None
    found = openblas().info()
    machine = (np.__version__, found["version"], found["architecture"], library.version, _core())
    return ByFastest(library, Fastest(folder, machine))


def _core() -> str:
    """The model of the processor's cores, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((one for one in lines if one.startswith("model name")), "")


def described() -> str | None:
    """A few words on MKL and how often it was chosen; None where it is not installed."""
    by = _by_fastest()
    if by is None:
        return f"MKL switched off by {SWITCH}=0" if switched_off() else None
    names = by.fastest.all_chosen()
    chosen = sum(name != BY_NUMPY.name for name in names)
    counted = f"so far in {chosen} of {len(names)} kinds" if names else "none was tried yet"
    return f"products by MKL {by.library.version} where it is faster ({counted})"


def missing() -> str | None:
    """Why MKL does not multiply although it is installed, and what to do."""
    why = why_not()
    if why is None and mkl() is not None and _by_fastest() is None:
        why = "what is faster cannot be kept; set XDG_CACHE_HOME to a folder that is yours alone"
    return f"MKL is installed, but not used: {why}" if why else None
