"""Checks of what schedules are made with."""

from collections.abc import Sequence
from itertools import pairwise


def step_count(count: int, name: str) -> int:
    if count < 1 or count != int(count):
        raise ValueError(f"{name} counts training steps, a whole number above 0, got {count}")
    return int(count)


def beginnings(at: Sequence[int], count: int, kind: str, of: str) -> tuple[int, ...]:
    """The steps after which one part gives way to the next: one fewer than there are parts."""
    if not count:
        raise ValueError(f"{kind} needs at least one of {of}, got none")
    found = tuple(step_count(step, "at") for step in at)
    if len(found) != count - 1:
        raise ValueError(
            f"{kind} needs in at one step fewer than it has {of}, {count - 1} of them, got "
            f"{len(found)}"
        )
    if any(one >= other for one, other in pairwise(found)):
        raise ValueError(f"{kind} needs steps that rise in at, got {list(found)}")
    return found


def above_zero(factor: float) -> float:
    if not factor > 0:
        raise ValueError(f"a schedule multiplies by a factor above 0, got {factor}")
    return float(factor)
