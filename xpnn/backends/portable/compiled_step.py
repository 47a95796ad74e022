"""A step that is made one unit for each form of its arguments: which units there are, and when.

A unit is a recording that is replayed (NumPy), a CUDA graph (CuPy), a compiled graph (PyTorch).
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from xpnn.errors import CompileError, CompileWarning
from xpnn.trees import Structure

MOST_UNITS = 16  # of one step; then the one that was used longest ago makes room
MOST_ALIKE = 2  # of these, for arguments of one form: two networks may take turns in one step


class NotCompilable(Exception):  # noqa: N818  (it is no error: the step runs call by call)
    """The step does what this backend cannot compile; the message says what that is."""


class Unit(Protocol):
    """A step for arguments of one form, ready to run."""

    @property
    def form_key(self) -> Any:
        """Equal for units of arguments of one form, which differ in the donated arrays alone."""

    def load(self, arguments: tuple[Any, ...]) -> bool:
        """Put arguments where the unit reads them; False if it is not for them."""

    def run(self) -> Any:
        """Take the step on what was loaded; the results."""


class CompiledStep:
    """A pure step of nested dicts, lists and tuples of arrays and numbers, in units.

    A step that a backend refuses runs call by call, and a CompileWarning says so once. Whatever
    else is raised while a unit is made is the step's own error, or a fault, and comes out.

    Args:
        step: what it returns depends on its arguments alone, and it changes nothing else.
        donate: positions of arguments that may be written over. The first results take their
            place, in their order.
        required: whether a refusal is a CompileError rather than a warning.
    """

    asked: bool | str = True  # how, where a unit is required

    def __init__(
        self, step: Callable[..., Any], donate: Sequence[int] = (), required: bool = False
    ):
        self.step, self.donate, self.required = step, frozenset(donate), required
        self.units: list[Any] = []  # the last used one first
        self.refusal: str | None = None  # why forms that have no unit run call by call
        functools.update_wrapper(self, step)

    def make(self, arguments: tuple[Any, ...]) -> Unit | None:
        """A unit that has loaded these arguments; None to go call by call this time.

        Raises:
            NotCompilable: the step does what cannot be part of a unit.
        """
        raise NotImplementedError

    def __call__(self, *arguments: Any) -> Any:
        for number, unit in enumerate(self.units):
            if unit.load(arguments):
                if number:
                    self.units.insert(0, self.units.pop(number))
                return unit.run()
        made = None
        try:
            made = self.make(arguments) if self.refusal is None else None
            results = None if made is None else made.run()  # in which PyTorch compiles
        except NotCompilable as reason:
            made = None
            self.refuse(reason)
        if made is None:  # behind the handler: what it holds, such as memory, is free again
            return self.call_by_call(arguments)
        self._remember(made)
        return results

    def call_by_call(self, arguments: tuple[Any, ...]) -> Any:
        """The step as it is written."""
        return self.step(*arguments)

    def try_out(self, take: Callable[[], Any], arguments: Callable[[], tuple[Any, ...]]) -> Any:
        """Take the first steps, as far as their memory is not known without.

        Args:
            take: takes a step, which calls this function.
            arguments: tells with which arguments.

        Returns:
            What ``planned_bytes`` wants to know of it, which holds no large arrays.
        """
        take()

    def planned_bytes(self, small: Any, large: Any, steps: float, last: int) -> int | None:
        """What a call takes at its peak once it is compiled, known before it runs; None if not.

        Args:
            small, large: what ``try_out`` returned for two batches.
            steps: how far behind ``large`` the batch in question is, counted in what it takes from
                ``small`` to it.
            last: what the step took at most for ``large``, once it was compiled.
        """
        return None

    def refuse(self, reason: Exception) -> None:
        """Make no more units, and say why."""
        what = str(reason).partition("\n")[0].rstrip(".")
        if self.required:
            raise CompileError(
                f"compile={self.asked!r} asked for steps that are compiled, and this one cannot "
                f"be: {what}; change that, or leave compile={self.asked!r} out"
            ) from reason
        self.refusal = what
        warnings.warn(
            f"steps run call by call, which is slower, as they cannot be compiled: {what}; with "
            f"compile=False nothing is tried",
            CompileWarning,
            stacklevel=2,
        )

    def _remember(self, new: Unit) -> None:
        """Put a unit in front; of those of one form the ones that were used last stay."""
        alike = [one for one in self.units if one.form_key == new.form_key]
        kept = [one for one in self.units if one not in alike[MOST_ALIKE - 1 :]]
        self.units = [new, *kept][:MOST_UNITS]


def successors(arguments: Structure, results: Structure, donate: Iterable[int]) -> list[int | None]:
    """For each leaf of the results, the leaf of the arguments whose place it takes, if any.

    Args:
        arguments: the form of a tuple of arguments.
        results: the form of ``(results,)``; the first of them, in their order, take the place of
            the donated arguments, leaf by leaf.
        donate: positions of the donated arguments.
    """
    rank = {number: k for k, number in enumerate(sorted(donate))}
    donated = {
        (rank[number], *path): k
        for k, (number, *path) in enumerate(arguments.paths)
        if number in rank
    }
    return [donated.get(path[1:]) for path in results.paths]
