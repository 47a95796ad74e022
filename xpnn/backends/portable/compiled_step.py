"""A step that is made one unit for each form of its arguments: which units there are, and when.

A unit is a recording that is replayed (NumPy), a CUDA graph (CuPy), a compiled graph (PyTorch).
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

logger = logging.getLogger("xpnn")

MOST_UNITS = 16  # of one step; then the one that was used longest ago makes room
MOST_ALIKE = 2  # of these, for arguments of one form: two networks may take turns in one step


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

    Args:
        step: what it returns depends on its arguments alone, and it changes nothing else.
        donate: positions of arguments that may be written over. The first results take their
            place, in their order.
    """

    def __init__(self, step: Callable[..., Any], donate: Sequence[int] = ()):
        self.step, self.donate = step, frozenset(donate)
        self.units: list[Any] = []  # the last used one first
        self.refusal: str | None = None  # why there are no units for what came
        functools.update_wrapper(self, step)

    def make(self, arguments: tuple[Any, ...]) -> Unit | None:
        """A unit that has loaded these arguments; None to go call by call this time."""
        raise NotImplementedError

    def __call__(self, *arguments: Any) -> Any:
        for number, unit in enumerate(self.units):
            if unit.load(arguments):
                if number:
                    self.units.insert(0, self.units.pop(number))
                return unit.run()
        if self.refusal is not None:
            return self.step(*arguments)
        try:
            made = self.make(arguments)
        except Exception as reason:  # the step itself decides whether it is an error
            results = self.step(*arguments)
            self.refusal = str(reason)
            logger.info("steps run call by call, as they cannot be compiled: %s", reason)
            return results
        if made is None:
            return self.call_by_call(arguments)
        self._remember(made)
        return made.run()

    def call_by_call(self, arguments: tuple[Any, ...]) -> Any:
        """The step as it is written."""
        return self.step(*arguments)

    def _remember(self, new: Unit) -> None:
        """Put a unit in front; of those of one form the ones that were used last stay."""
        alike = [one for one in self.units if one.form_key == new.form_key]
        kept = [one for one in self.units if one not in alike[MOST_ALIKE - 1 :]]
        self.units = [new, *kept][:MOST_UNITS]
