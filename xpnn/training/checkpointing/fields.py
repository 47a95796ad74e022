"""What has to be in a checkpoint, looked at before anything is changed by it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnn.trees import leaves

LARGEST = 2**53  # of a count: no run comes there

ANYTHING, BYTES, COUNT, DICTIONARY = "anything", "an array of bytes", "a count", "a dictionary"
LIST, NUMBER, NUMBERS = "a list", "a number", "a number or a list of such"
PLAIN, TEXT = "numbers and texts", "a text"

KINDS: dict[str, Callable[[Any], bool]] = {
    ANYTHING: lambda found: True,
    BYTES: lambda found: isinstance(found, np.ndarray) and found.dtype == np.uint8,
    COUNT: lambda found: type(found) is int and 0 <= found < LARGEST,
    DICTIONARY: lambda found: isinstance(found, Mapping),
    LIST: lambda found: isinstance(found, list),
    NUMBER: lambda found: type(found) in (int, float),
    NUMBERS: lambda found: all(type(one) in (int, float) for one in leaves(found)),
    PLAIN: lambda found: _is_plain(found),
    TEXT: lambda found: isinstance(found, str),
}
"""Whether a value is of a kind."""


def or_none(kind: str) -> str:
    """The kind of what may be None instead."""
    return f"{kind} or None"


def check_fields(found: Any, wanted: Any, name: str) -> None:
    """Raise ValueError unless ``found`` is what ``wanted`` says.

    Args:
        found: something that a checkpoint holds.
        wanted: one of the kinds above, or, for a dictionary, the fields that it has to have.
        name: of what was found, for the message.
    """
    if isinstance(wanted, str):
        kind = wanted.removesuffix(or_none(""))
        if not KINDS[kind](found) and (kind == wanted or found is not None):
            raise unusable(found, wanted, name)
        return
    if not isinstance(found, Mapping):
        raise unusable(found, DICTIONARY, name)
    for key, below in wanted.items():
        if key not in found:
            raise unusable(found, f"a dictionary with {key!r}", name)
        check_fields(found[key], below, key)


def unusable(found: Any, wanted: str, name: str) -> ValueError:
    """The error for something that makes no sense where it stands."""
    got = f"one with {', '.join(map(repr, found))}" if isinstance(found, Mapping) else repr(found)
    return ValueError(f"wanted its {name!r} to be {wanted}, got {got[:200]}")


def _is_plain(found: Any) -> bool:
    if isinstance(found, Mapping):
        return all(map(_is_plain, found.values()))
    if isinstance(found, list):
        return all(map(_is_plain, found))
    return not isinstance(found, np.ndarray)
