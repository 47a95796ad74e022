"""What belongs with a network and goes into its file: how its data are prepared, above all.

::

    {"columns": {"kind": "Columns", "content": ...}, "note": {"kind": "plain", "content": "..."}}

is a text of JSON in the metadata of a file. Contents are what an ``Attachment`` makes of itself, or
plain values. Only classes that are known here are asked to read them.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from xpnn.errors import FileError, XpnnError
from xpnn.saving.tensor_file import strict_json

PLAIN = "plain"
MAX_TEXT = 4_000_000
"""Characters of JSON, of all attachments together; what a vocabulary of 250,000 words needs."""


class Attachment(ABC):
    """Base of what can be put into ``network.attachments``.

    A class says by what name files know it: ``class Columns(Attachment, kind="Columns")``. That
    name never changes; one of your own has your package in front, such as "yourlib.Names".

    >>> class Names(Attachment, kind="yourlib.Names"):
    ...     def __init__(self, names):
    ...         self.names = names
    ...
    ...     def as_plain(self):
    ...         return self.names
    ...
    ...     @classmethod
    ...     def from_plain(cls, plain):
    ...         return cls(plain)
    >>> from xpnn import Dense, Network
    >>> net = Network([Dense(2)], input_shape=(3,))
    >>> net.attachments["names"] = Names(["no", "yes"])
    """

    kinds: ClassVar[dict[str, type["Attachment"]]] = {}
    """All such classes that are known here, by their names in files."""
    kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind:
            taken = Attachment.kinds.get(kind)
            if kind == PLAIN or (taken is not None and taken.__qualname__ != cls.__qualname__):
                raise ValueError(f"there is an attachment of the kind {kind!r} already: {taken!r}")
            cls.kind = kind
            Attachment.kinds[kind] = cls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} that goes into a network's file>"

    @abstractmethod
    def as_plain(self) -> Any:
        """What it is made of: numbers, texts, None, lists, and dicts with texts as keys."""

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: Any) -> Self:
        """What ``as_plain`` was made of; it may come from a file that somebody has tampered with.

        Raises:
            ValueError, TypeError: it makes no sense.
        """


def attachments_text(attachments: Mapping[str, Any]) -> str:
    """All attachments as a file holds them.

    Raises:
        XpnnError: one cannot be written; it is named.
    """
    found = {}
    for name, one in attachments.items():
        if not isinstance(name, str):
            raise XpnnError(f"wanted texts as names of attachments, got {name!r}")
        if isinstance(one, Attachment):
            if not one.kind:
                raise XpnnError(
                    f"attachment {name!r} is a {type(one).__name__}, which has no name in files; "
                    f"write class {type(one).__name__}(Attachment, "
                    f"kind='yourlib.{type(one).__name__}')"
                )
            content = {"kind": one.kind, "content": one.as_plain()}
        else:
            content = {"kind": PLAIN, "content": one}
        try:
            text = json.dumps(content, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise XpnnError(
                f"attachment {name!r} cannot be put into a file: {error}; a file holds Columns, a "
                f"Vocabulary, and numbers, texts, None, lists and dicts of such"
            ) from error
        if content["kind"] == PLAIN and json.loads(text)["content"] != _with_lists(one):
            raise XpnnError(
                f"attachment {name!r} would be another one when it is read; let the keys of dicts "
                f"be texts"
            )
        found[name] = content
    whole = json.dumps(found, allow_nan=False, ensure_ascii=False) if found else ""
    if len(whole) > MAX_TEXT:
        raise XpnnError(
            f"the attachments {', '.join(found)} have {len(whole):,} characters, and a file holds "
            f"{MAX_TEXT:,}; keep the largest one in a file of its own"
        )
    return whole


def _with_lists(value: Any) -> Any:
    """A nesting with lists in place of tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _with_lists(one) for key, one in value.items()}
    return [*map(_with_lists, value)] if isinstance(value, list | tuple) else value


def read_attachments(text: str) -> dict[str, Any]:
    """The attachments again.

    Raises:
        FileError: the text is not what ``attachments_text`` writes, or names a kind that is not
            known here.
    """
    if not text:
        return {}
    if len(text) > MAX_TEXT:
        raise FileError(f"its attachments have {len(text):,} characters, too many")
    try:
        found = strict_json(text)
    except ValueError as error:
        raise FileError(f"its attachments are not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise FileError("its attachments are no dictionary")
    return {name: _read(name[:100], one) for name, one in found.items()}


def _read(name: str, field: Any) -> Any:
    if not isinstance(field, dict) or field.keys() != {"kind", "content"}:
        raise FileError(f"its attachment {name!r} makes no sense")
    kind, content = field["kind"], field["content"]
    if kind == PLAIN:
        return content
    known = Attachment.kinds.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise FileError(
            f"its attachment {name!r} is a {str(kind)[:100]!r}, which is not known here; import "
            f"the module that has such a class, or update xpnn if it should be part of it"
        )
    try:
        return known.from_plain(content)
    except (XpnnError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise FileError(f"its attachment {name!r} is no {kind}: {str(error)[:300]}") from error
