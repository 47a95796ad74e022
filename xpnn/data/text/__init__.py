"""Texts for networks: characters, words and tokens as ids, and back."""

from xpnn.data.text.ids import TextIds, next_ids
from xpnn.data.text.tokenizer import Tokenizer
from xpnn.data.text.vocabulary import Vocabulary

__all__ = ["TextIds", "Tokenizer", "Vocabulary", "next_ids"]
