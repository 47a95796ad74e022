"""Vocabulary: the characters or words of texts, numbered."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from xpnn.data.text.ids import TextIds
from xpnn.errors import DataError

By: TypeAlias = Literal["characters", "words"]
SPECIALS = {"padding": "<padding>", "unknown": "<unknown>", "begin": "<begin>", "end": "<end>"}
WORD = re.compile(r"\w+|[^\w\s]")
"""A word, or a sign that is none."""


class Vocabulary(TextIds, kind="Vocabulary"):
    """Characters or words by ids, with ids for padding, for what is unknown, for begin and end.

    The special ids come first, in that order, as far as they are wanted, then the tokens. Words are
    runs of letters, digits and underscores; every other sign that is no space is a word, too. So
    ``decode`` gives words back with one space between; characters come back as they were.

    Args:
        tokens: in the order of their ids.
        by: what a token is, "characters" or "words".
        specials: which special ids there are: some of "padding", "unknown", "begin" and "end".
        lower: whether texts become lower case first.

    Attributes:
        tokens: by their ids, the special ones included.

    >>> vocabulary = Vocabulary.of(["to be", "not to be"], by="words")
    >>> vocabulary.tokens
    ('<padding>', '<unknown>', 'be', 'to', 'not')
    >>> vocabulary.encode("to be or not").tolist()
    [3, 2, 1, 4]
    >>> vocabulary.batch(["to be", "not"])
    array([[3, 2],
           [4, 0]])
    >>> vocabulary.decode([[3, 2], [4, 0]])
    ['to be', 'not']
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        by: By = "characters",
        specials: Sequence[str] = ("padding", "unknown"),
        lower: bool = False,
    ):
        if by not in ("characters", "words"):
            raise ValueError(f"wanted by to be 'characters' or 'words', got {by!r}")
        if isinstance(specials, str) or not set(specials) <= set(SPECIALS):
            raise ValueError(
                f"wanted specials to be some of {', '.join(SPECIALS)}, got {specials!r}"
            )
        listed = list(tokens)
        special = {SPECIALS[name] for name in specials}
        for token in listed:
            if token in special:
                raise ValueError(
                    f"wanted tokens without those that specials brings, got {token!r}; leave it out"
                )
            if not isinstance(token, str) or not token or (by == "characters" and len(token) > 1):
                raise ValueError(f"wanted {by} as tokens, got {token!r}")
        if len(set(listed)) < len(listed):
            twice = next(token for token, count in Counter(listed).items() if count > 1)
            raise ValueError(f"wanted each token once, got {twice!r} twice")
        self.by, self.lower = by, bool(lower)
        wanted = [name for name in SPECIALS if name in specials]
        for number, name in enumerate(wanted):
            setattr(self, name, number)
        self.tokens = (*(SPECIALS[name] for name in wanted), *listed)
        if not self.tokens:
            raise ValueError("wanted at least one token, got none")
        self._ids = {token: number for number, token in enumerate(listed, start=len(wanted))}

    @classmethod
    def of(
        cls,
        texts: str | Iterable[str],
        *,
        by: By = "characters",
        limit: int | None = None,
        at_least: int = 1,
        specials: Sequence[str] = ("padding", "unknown"),
        lower: bool = False,
    ) -> Self:
        """The vocabulary of texts; see above.

        Args:
            texts: one, or an iterable of several, such as a file that is open, which is gone
                through once.
            limit: how many tokens there may be, the special ones left aside: the most frequent.
            at_least: how often a token has to come.

        Tokens are sorted by how often they come, and by the alphabet where that is the same;
        characters by the alphabet alone.

        Raises:
            DataError: there is nothing in the texts.
        """
        for name, least in {"limit": limit, "at_least": at_least}.items():
            if least is not None and (not isinstance(least, Integral) or least < 1):
                raise ValueError(f"wanted {name} to be a whole number of at least 1, got {least!r}")
        made = cls(["a"], by=by, specials=specials, lower=lower)
        counts: Counter[str] = Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            counts.update(made.split(text))
        often = sorted((-count, token) for token, count in counts.items() if count >= at_least)
        tokens = [token for _, token in often[:limit]]
        if not tokens:
            raise DataError(
                f"wanted texts in which {by} come at least {at_least} times, got none of these"
            )
        if by == "characters":
            tokens.sort()
        return cls(tokens, by=by, specials=specials, lower=lower)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __getitem__(self, token: str) -> int:
        """The id of a token; that of what is unknown where it is."""
        return int(self._encoded_tokens([token])[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.as_plain() == other.as_plain()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} {self.by}>"

    def split(self, text: str) -> list[str]:
        """The tokens of a text."""
        text = text.lower() if self.lower else text
        return WORD.findall(text) if self.by == "words" else list(text)

    def _encoded(self, text: str) -> list[int]:
        return self._encoded_tokens(self.split(text))

    def _encoded_tokens(self, tokens: list[str]) -> list[int]:
        ids = [self._ids.get(token, self.unknown) for token in tokens]
        found = [one for one in ids if one is not None]
        if len(found) < len(ids):
            place = ids.index(None)
            raise DataError(
                f"wanted {self.by} of the vocabulary, got {tokens[place]!r} at place {place} (the "
                f"first is 0); make it of more texts, or with an id for what is unknown: "
                f"specials=('unknown',)"
            )
        return found

    def _decoded(self, ids: list[int]) -> str:
        between = "" if self.by == "characters" else " "
        return between.join(np.asarray(self.tokens, object)[ids].tolist()) if ids else ""

    # In files -------------------------------------------------------------------------------------

    def as_plain(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        specials = list(self.specials)
        return {
            "tokens": list(self.tokens[len(specials) :]),
            "by": self.by,
            "specials": specials,
            "lower": self.lower,
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The vocabulary again; raises ValueError if it makes no sense."""
        wanted = {"tokens": list, "by": str, "specials": list, "lower": bool}
        if not isinstance(plain, Mapping) or plain.keys() != wanted.keys():
            raise ValueError(f"a vocabulary {str(plain)[:100]}")
        for name, kind in wanted.items():
            if not isinstance(plain[name], kind):
                raise ValueError(f"a vocabulary with {name}={str(plain[name])[:100]}")
        return cls(**plain)
