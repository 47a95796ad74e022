"""Texts as rows of ids: what vocabularies and tokenizers have in common."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np

from xpnn.backends import backend_of
from xpnn.backends.registry import class_recognizing
from xpnn.errors import DataError, ShapeError
from xpnn.saving.attachments import Attachment


class TextIds(Attachment):
    """Base of what turns texts into ids, from 0, and back.

    Attributes:
        padding, unknown, begin, end: the ids that fill up short texts, stand for what is unknown,
            and stand before and behind a text; None where there is no such id.

    >>> from xpnn.data import Vocabulary
    >>> vocabulary = Vocabulary.of(["to be"], specials=("padding",))
    >>> isinstance(vocabulary, TextIds), vocabulary.padding, len(vocabulary)
    (True, 0, 6)
    """

    padding: int | None = None
    unknown: int | None = None
    begin: int | None = None
    end: int | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many ids there are: what an ``Embedding`` wants as its vocabulary."""

    @abstractmethod
    def _encoded(self, text: str) -> Any:
        """The ids of a text, without those before and behind it."""

    @abstractmethod
    def _decoded(self, ids: list[int]) -> str:
        """The text of ids, none of which are special."""

    @property
    def specials(self) -> dict[str, int]:
        """The special ids that there are, by what they stand for."""
        named = {name: getattr(self, name) for name in ("padding", "unknown", "begin", "end")}
        return {name: one for name, one in named.items() if one is not None}

    def encode(
        self, text: str, *, begin: bool | None = None, end: bool | None = None
    ) -> np.ndarray:
        """The ids of a text, (length,) int64.

        Args:
            text: which is cut into tokens.
            begin, end: whether to put the ids of begin and end around it; where there are such,
                unless given.

        Raises:
            DataError: a token is unknown, and there is no id for what is unknown.
        """
        if not isinstance(text, str):
            raise TypeError(f"wanted a text, got a {type(text).__name__}; for several write batch")
        ids = np.asarray(self._encoded(text), np.int64).reshape(-1)
        around = (self._around("begin", begin), self._around("end", end))
        return np.concatenate([around[0], ids, around[1]])

    def _around(self, name: str, wanted: bool | None) -> np.ndarray:
        number = getattr(self, name)
        if wanted and number is None:
            raise ValueError(
                f"wanted an id for {name}, and {self!r} has none; make it with one, or write "
                f"{name}=None"
            )
        there = number is not None and wanted is not False
        return np.asarray([number] if there else [], np.int64)

    def batch(
        self,
        texts: Iterable[str],
        length: int | None = None,
        *,
        begin: bool | None = None,
        end: bool | None = None,
    ) -> np.ndarray:
        """The ids of several texts, one a row, (texts, length) int64.

        Short ones are filled up at their ends with ``padding``, long ones are cut there, and keep
        the id of the end where they have one.

        Args:
            length: of the rows; that of the longest text, unless given.
            begin, end: as for ``encode``.

        Raises:
            DataError: texts are of different lengths, and there is no id for padding; a token is
                unknown; or there are no texts.
        """
        if isinstance(texts, str):
            raise TypeError("wanted several texts, got one; write [text], or encode(text)")
        rows = [self.encode(text, begin=begin, end=end) for text in texts]
        if not rows:
            raise DataError("wanted at least one text, got none")
        width = max(map(len, rows)) if length is None else length
        if width < 1:
            raise DataError(f"wanted rows of at least one id, got {width}")
        ends = len(self._around("end", end)) > 0
        found = np.empty((len(rows), width), np.int64)
        for number, row in enumerate(rows):
            if len(row) < width and self.padding is None:
                raise DataError(
                    f"wanted texts of {width} ids, as {self!r} has no id for padding, got "
                    f"{len(row)} in text {number} (the first is 0); make it with one, or cut the "
                    f"texts"
                )
            found[number, : len(row)] = row[:width]
            found[number, len(row) :] = self.padding or 0
            if ends and len(row) > width:
                found[number, -1] = row[-1]
        return found

    def decode(self, ids: Any) -> Any:
        """The text of ids (length,); of ids (texts, length) a list of texts.

        What stands behind the id of the end is left out, and so are ids of padding, begin and end.

        Raises:
            DataError: an id is none of these.
        """
        if class_recognizing(ids) is not None:
            ids = backend_of(ids).to_numpy(ids)
        given = np.asarray(ids)
        if given.size and given.dtype.kind not in "iu":
            raise DataError(f"wanted ids, which are integers, got {given.dtype}")
        if given.ndim > 2 or given.ndim < 1:
            raise ShapeError(f"wanted ids of shape (length,) or (texts, length), got {given.shape}")
        if given.size and not (int(given.min()) >= 0 and int(given.max()) < len(self)):
            raise DataError(
                f"wanted ids from 0 to {len(self) - 1}, got ids from {given.min()} to {given.max()}"
            )
        texts = [self._text_of(row.tolist()) for row in np.atleast_2d(given)]
        return texts[0] if given.ndim == 1 else texts

    def _text_of(self, ids: list[int]) -> str:
        if self.end is not None and self.end in ids:
            ids = ids[: ids.index(self.end)]
        left_out = {self.padding, self.begin}
        return self._decoded([one for one in ids if one not in left_out])


def next_ids(ids: Any, length: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of a long text, and for each id the one that follows: x and y of a language model.

    ::

        x[k] = ids[start + k length : start + (k + 1) length]        y[k] = the same, one further

    Args:
        ids: of the whole text, (time,).
        length: of a stretch; what is left at the end is left out.
        start: where the first one begins. Another one in each epoch cuts the text elsewhere.

    Returns:
        x and y, (stretches, length) each.

    Raises:
        DataError: the text is too short for one.

    >>> next_ids([5, 6, 7, 8, 9], 2)
    (array([[5, 6],
           [7, 8]]), array([[6, 7],
           [8, 9]]))
    """
    ids = np.asarray(ids)
    if length < 1 or start < 0:
        raise ValueError(
            f"wanted a length of at least 1 and a start of at least 0, got {length} and {start}"
        )
    count = (len(ids) - start - 1) // length
    if ids.ndim != 1 or count < 1:
        raise DataError(
            f"wanted ids of one text, more than {start + length} of them, got shape {ids.shape}; "
            f"take a smaller length, or a longer text"
        )
    stop = start + count * length
    x, y = ids[start:stop], ids[start + 1 : stop + 1]
    return x.reshape(count, length), y.reshape(count, length)
