"""What was read from a file of weights into a network, and what was not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xpnn.typing import Shape


@dataclass(frozen=True, repr=False)
class LoadedWeights:
    """What ``load_weights`` and ``load_torch_weights`` have read, by the names of arrays.

    Print it to read it.

    Attributes:
        taken: arrays of the network that were read.
        missing: arrays of the network that were not there. They are as they were.
        unknown: what was there, and no array of the network takes.
        other_shapes: what was there in another shape than is wanted, and so left: that shape and
            the one that is wanted.

    >>> found = LoadedWeights(taken=("0.dense.weight",), missing=("1.dense.weight",))
    >>> print(found)
    taken: 0.dense.weight
    missing: 1.dense.weight
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    other_shapes: Mapping[str, tuple[Shape, Shape]] | None = None

    def __repr__(self) -> str:
        shapes = (self.other_shapes or {}).items()
        lines = {
            "taken": self.taken,
            "missing": self.missing,
            "unknown": self.unknown,
            "of another shape": [f"{name} {one} for {wanted}" for name, (one, wanted) in shapes],
        }
        return "\n".join(f"{what}: {listed(names)}" for what, names in lines.items() if names)


def compared(own: Mapping[str, Any], shapes: Mapping[str, Shape]) -> LoadedWeights:
    """What fits of arrays of such shapes, by name, where a network has the arrays ``own``.

    >>> compared({"a": 1.0, "b": 2.0}, {"a": (), "b": (3,), "c": ()})
    taken: a
    unknown: c
    of another shape: b (3,) for ()
    """
    wanted = {name: tuple(getattr(one, "shape", ())) for name, one in own.items()}
    there = [name for name in wanted if name in shapes]
    return LoadedWeights(
        taken=tuple(name for name in there if shapes[name] == wanted[name]),
        missing=tuple(name for name in wanted if name not in shapes),
        unknown=tuple(name for name in shapes if name not in wanted),
        other_shapes={
            name: (shapes[name], wanted[name]) for name in there if shapes[name] != wanted[name]
        },
    )


def listed(names: Sequence[str]) -> str:
    """Some names, and how many there are beyond these.

    >>> listed(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
