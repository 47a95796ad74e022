"""Factors of rate and decay, by patterns of parameter names."""

import math
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from xpnn.optimizers.schedules import Hyper, Product, Schedule, as_schedule

SCALED = ("rate", "weight_decay")
"""The hyperparameters that may have factors: what is carried from step to step has none of them."""


class Factors(Mapping[str, dict[str, Hyper]]):
    """For each pattern the factors of hyperparameters, to be read; see ``Optimizer``."""

    def __init__(self, given: Mapping[str, Any]):
        if not isinstance(given, Mapping):
            raise TypeError(
                f"factors is a dictionary of patterns such as {{'0.*': 0.1}}, got {given!r}"
            )
        self._of = {pattern: _checked(pattern, value) for pattern, value in given.items()}

    def numbers(self, names: Iterable[str]) -> dict[str, int]:
        """Which pattern counts for each name, from 1 on; names that match none are left out."""
        found = {}
        for name in names:
            matching = (k for k, one in enumerate(self._of, start=1) if fnmatchcase(name, one))
            if number := next(matching, 0):
                found[name] = number
        return found

    def check_names(self, names: Iterable[str]) -> None:
        """Raise ValueError unless each pattern matches one of these names."""
        names = list(names)
        for pattern in self._of:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"the pattern {pattern!r} of factors matches no parameter; there are "
                    f"{', '.join(names) or 'none'}"
                )

    def __getitem__(self, pattern: str) -> dict[str, Hyper]:
        return dict(self._of[pattern])

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        return repr(self._of)


def times(value: Hyper, factor: Hyper) -> Hyper:
    """A hyperparameter times a factor of it."""
    if isinstance(value, Schedule) or isinstance(factor, Schedule):
        return Product(value, factor)
    return value * factor


def _checked(pattern: Any, value: Any) -> dict[str, Hyper]:
    """The factors of one pattern by the names of hyperparameters."""
    if not isinstance(pattern, str):
        raise TypeError(f"factors wants patterns of names, such as '0.*', got {pattern!r}")
    given = value if isinstance(value, Mapping) else {"rate": value}
    found: dict[str, Hyper] = {}
    for name, factor in given.items():
        where = f"factors[{pattern!r}]"
        if name not in SCALED:
            raise ValueError(f"{where} wants factors of {' and '.join(SCALED)}, got {name!r}")
        if isinstance(factor, bool) or not isinstance(factor, Real | Schedule):
            raise TypeError(f"{where} wants numbers or schedules, got {factor!r}")
        if isinstance(factor, Schedule) and factor.plateau is not None:
            raise ValueError(f"{where} has no place for ReduceOnPlateau; let {name} follow it")
        checked = factor if isinstance(factor, Schedule) else float(factor)
        if not all(0 <= end < math.inf for end in as_schedule(checked).ends):
            raise ValueError(f"{where} wants factors of at least 0, got {factor}")
        found[name] = checked
    return found
