"""GradientReport: what a gradient check found, as a table that a person reads."""

from dataclasses import dataclass, field

import numpy as np

from xpnn.typing import Shape


@dataclass(frozen=True)
class GradientRow:
    """One gradient against its differences.

    Attributes:
        name: of the parameter; ``(input)`` or ``(predictions)`` for what flows in.
        shape: of the array that the gradient belongs to.
        error: the largest relative error; see ``check_gradients``.
        where: the index of the largest error.
        numeric: the derivative there, by differences.
        given: the derivative there, by ``backward``.
        mistake: what is likely wrong, in words; empty where nothing is.
        left_out: how many elements could not be judged, as they lie on a kink.

    >>> from xpnn.layers import Dense
    >>> from xpnn.testing import check_gradients
    >>> [row.name for row in check_gradients(Dense(2), (4,)).rows]
    ['(input)', 'weight', 'bias']
    """

    name: str
    shape: Shape
    error: float
    where: tuple[int, ...]
    numeric: float
    given: float
    mistake: str = ""
    left_out: int = 0

    def cells(self) -> tuple[str, ...]:
        """The row of the printed table."""
        numbers = (f"{self.numeric:.6g}", f"{self.given:.6g}")
        return (self.name, str(self.shape), f"{self.error:.1e}", str(self.where), *numbers)


@dataclass(frozen=True)
class GradientReport:
    """All rows of one check; print it to read it.

    Attributes:
        title: what was checked, and where.
        rows: one for each parameter, and one for what flows in.
        faults: what is wrong besides the gradients, such as an input that was written to.
        culprits: the layers inside that are wrong when they are checked by themselves.
        notes: what to know about the check itself.

    >>> from xpnn.layers import Tanh
    >>> from xpnn.testing import check_gradients
    >>> report = check_gradients(Tanh(), (4,))
    >>> report.wrong, [row.name for row in report.rows]
    (False, ['(input)'])
    """

    title: str
    rows: tuple[GradientRow, ...]
    faults: tuple[str, ...] = ()
    culprits: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def wrong(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.faults) or any(row.mistake for row in self.rows)

    @property
    def error(self) -> float:
        """The largest relative error of all rows."""
        return max((row.error for row in self.rows), default=0.0)

    def __getitem__(self, name: str) -> GradientRow:
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        verdict = "gradients are WRONG" if self.wrong else "gradients are right"
        header = ("gradient of", "shape", "error", "at", "numeric", "given")
        table = [header, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [f"{self.title}: {verdict}"]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        lines += [f"{row.name}: {row.mistake}" for row in self.rows if row.mistake]
        return "\n".join([*lines, *self.faults, *self.culprits, *self.notes])


def worst(errors: np.ndarray) -> tuple[int, ...]:
    """The index of the largest error, where NaN is the largest of all."""
    flat = int(np.argmax(np.nan_to_num(errors, nan=np.inf, posinf=np.inf)))
    return tuple(int(i) for i in np.unravel_index(flat, errors.shape))
