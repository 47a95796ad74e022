"""Encodings as plain values, as files hold them, and back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from xpnn.data.columns.encodings import (
    Bucketed,
    Dates,
    Embedded,
    Encoding,
    Numbers,
    OneHot,
    Standardized,
)

ENCODINGS: dict[str, type[Encoding]] = {
    one.kind: one for one in (Standardized, Numbers, OneHot, Embedded, Bucketed, Dates)
}
"""By the names that stand for them, in ``Columns`` and in files."""


def as_plain(encoding: Encoding) -> dict[str, Any]:
    """What JSON can hold of it."""
    fields = {field.name: getattr(encoding, field.name) for field in dataclasses.fields(encoding)}
    plain = {k: list(one) if isinstance(one, tuple) else one for k, one in fields.items()}
    return {"kind": encoding.kind, **plain}


def from_plain(plain: Any) -> Encoding:
    """The encoding again; of a file, nothing is believed.

    Raises:
        ValueError: it makes no sense.
    """
    if not isinstance(plain, Mapping) or plain.get("kind") not in ENCODINGS:
        raise ValueError(f"there is no encoding {str(plain)[:100]}")
    kind = ENCODINGS[plain["kind"]]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    given = {name: one for name, one in plain.items() if name != "kind"}
    for name, value in given.items():
        if name not in fields or not _makes_sense(name, value):
            raise ValueError(f"an encoding {kind.kind!r} with {name[:100]}={str(value)[:100]}")
    made = kind(**{k: tuple(one) if isinstance(one, list) else one for k, one in given.items()})
    if not made.is_known:
        raise ValueError(f"an encoding {kind.kind!r} that has learned nothing")
    return made


def _makes_sense(name: str, value: Any) -> bool:
    if name in ("mean", "deviation"):
        return _is_number(value) and (name == "mean" or value > 0)
    if name == "labels":
        return _are(value, str | bool | int | float) and len(set(value)) == len(value)
    if name == "bounds":
        return _are(value, int | float) and list(value) == sorted(set(value))
    if name in ("features", "limit", "buckets"):
        return value is None or (type(value) is int and 0 < value < 2**31)
    return isinstance(value, bool)


def _are(values: Any, kind: Any) -> bool:
    if not isinstance(values, list) or not all(isinstance(one, kind) for one in values):
        return False
    return all(math.isfinite(one) for one in values if isinstance(one, float))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
