"""Tokenizers of the package ``tokenizers``: byte pairs, word pieces and all that it has."""

from pathlib import Path
from types import ModuleType
from typing import Any, Self

from xpnn.data.text.ids import TextIds
from xpnn.errors import FileError

KNOWN = {
    "padding": ("[PAD]", "<pad>", "<padding>", "<|padding|>"),
    "unknown": ("[UNK]", "<unk>", "<unknown>"),
    "begin": ("<s>", "[BOS]", "<bos>", "<begin>", "<|begin_of_text|>"),
    "end": ("</s>", "[EOS]", "<eos>", "<end>", "<|endoftext|>", "<|end_of_text|>"),
}
"""What special tokens are usually called."""


def package() -> ModuleType:
    """The package ``tokenizers``, which is imported when it is asked for.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise ModuleNotFoundError(
            "a tokenizer of this kind needs the package tokenizers; type: pip install 'xpnn[text]'"
        ) from error
    return tokenizers


class Tokenizer(TextIds, kind="Tokenizer"):
    """A tokenizer of the package ``tokenizers``, with what ``Vocabulary`` has.

    Special tokens are found by their usual names, such as ``[PAD]`` and ``</s>``, or named. What
    the tokenizer itself puts around a text, as BERT's ``[CLS]``, it goes on putting; begin and end
    are put around that where there are such tokens and it does not do so itself.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; a fast tokenizer of the package transformers, whose
            tokenizer is taken; or the path of a ``tokenizer.json``.
        padding, unknown, begin, end: the special tokens, "" for none.

    Raises:
        ModuleNotFoundError: the package is not installed; the message says how to.
        FileError: there is no such file, or it holds no tokenizer.
        ValueError: it has no such token.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        padding: str | None = None,
        unknown: str | None = None,
        begin: str | None = None,
        end: str | None = None,
    ):
        kind = package().Tokenizer
        tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if isinstance(tokenizer, str | Path):
            tokenizer = _from_file(Path(tokenizer))
        if not isinstance(tokenizer, kind):
            raise TypeError(
                f"wanted a tokenizers.Tokenizer, or the path of a tokenizer.json, got "
                f"{type(tokenizer).__name__}"
            )
        self.tokenizer = kind.from_str(tokenizer.to_str())  # of its own, without padding of rows
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        given = {"padding": padding, "unknown": unknown, "begin": begin, "end": end}
        for name, token in given.items():
            self._note(name, token)

    def _note(self, name: str, token: str | None) -> None:
        """Find the id of a special token."""
        known = KNOWN[name] if token is None else [token] if token else []
        ids = [self.tokenizer.token_to_id(one) for one in known]
        found = next((one for one in ids if one is not None), None)
        if token and found is None:
            raise ValueError(f"wanted the token {token!r} for {name}, but the tokenizer has none")
        setattr(self, name, found)

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def __repr__(self) -> str:
        return f"<Tokenizer of {len(self)} tokens>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.as_plain() == other.as_plain()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return type(self).from_plain, (self.as_plain(),)

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids
        ids = ids[1:] if ids and ids[0] == self.begin else ids
        return ids[:-1] if ids and ids[-1] == self.end else ids

    def _decoded(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    # In files -------------------------------------------------------------------------------------

    def as_plain(self) -> dict[str, Any]:
        """What JSON can hold of it: the text of a ``tokenizer.json``, and its special tokens."""
        numbers = {name: getattr(self, name) for name in KNOWN}
        tokens = {
            name: "" if number is None else self.tokenizer.id_to_token(number)
            for name, number in numbers.items()
        }
        return {"tokenizer": self.tokenizer.to_str(), **tokens}

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The tokenizer again; raises ValueError if it makes no sense."""
        if not isinstance(plain, dict) or plain.keys() != {"tokenizer", *KNOWN}:
            raise ValueError("a tokenizer without its tokens")
        if not all(isinstance(one, str) for one in plain.values()):
            raise ValueError("a tokenizer whose tokens are no texts")
        named = {name: plain[name] for name in KNOWN}
        return cls(_from_text(plain["tokenizer"], "the text"), **named)


def _from_file(path: Path) -> Any:
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"wanted a tokenizer.json, got {path}: {error}; check the path, or get it again"
        ) from error
    return _from_text(text, str(path))


def _from_text(text: str, name: str) -> Any:
    """The tokenizer of a text of JSON; its package raises nothing finer than Exception."""
    try:
        return package().Tokenizer.from_str(text)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise FileError(
            f"wanted what tokenizer.save has written, got {name}: {str(error)[:200]}; get it again"
        ) from error
