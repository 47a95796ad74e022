"""Texts as ids and back: vocabularies, tokenizers, stretches of long texts."""

import copy
import gzip
import pickle
import re

import numpy as np
import pytest

import xpnn
from xpnn import Dense, Embedding, Network
from xpnn.data import Tokenizer, Vocabulary, datasets, next_ids
from xpnn.errors import DataError, FileError, ShapeError

TEXTS = ["The quick brown fox\njumps over", "the lazy dog; the end.", "", "élan, naïve — the über"]
ALL = ("padding", "unknown", "begin", "end")


@pytest.mark.parametrize("specials", [(), ("padding",), ("unknown", "padding"), ALL])
def test_characters_come_back_as_they_were(specials):
    vocabulary = Vocabulary.of(TEXTS, specials=specials)
    assert len(vocabulary) == len(set("".join(TEXTS))) + len(specials)
    for number, name in enumerate(one for one in ALL if one in specials):
        assert getattr(vocabulary, name) == number
    assert list(vocabulary.tokens[len(specials) :]) == sorted(set("".join(TEXTS)))
    for text in TEXTS:
        ids = vocabulary.encode(text)
        assert ids.dtype == np.int64
        assert vocabulary.decode(ids) == text
        assert len(ids) == len(text) + 2 * (specials is ALL)
    if "padding" in specials:
        assert vocabulary.decode(vocabulary.batch(TEXTS)) == TEXTS


def test_words_as_scikit_learn_counts_them():
    """Its words of one letter or more, in the order of how often they come."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    counter = text.CountVectorizer(token_pattern=r"\w+|[^\w\s]")
    counts = np.asarray(counter.fit_transform(TEXTS).sum(axis=0)).ravel()
    words = counter.get_feature_names_out()
    wanted = [words[k] for k in np.lexsort((words, -counts))]
    vocabulary = Vocabulary.of(iter(TEXTS), by="words", lower=True)
    assert list(vocabulary.tokens[2:]) == wanted
    assert list(Vocabulary.of(TEXTS, by="words", lower=True, limit=3).tokens[2:]) == wanted[:3]
    often = Vocabulary.of(TEXTS, by="words", lower=True, at_least=2, specials=())
    assert list(often.tokens) == [w for w in wanted if counts[list(words).index(w)] > 1]
    assert vocabulary.decode(vocabulary.encode("The dog , the fox")) == "the dog , the fox"


def test_what_is_unknown_has_an_id_or_is_named():
    known = Vocabulary("abc", specials=["unknown"])
    assert known.encode("abxc").tolist() == [1, 2, 0, 3]
    assert (known["a"], known["x"], "a" in known, "x" in known) == (1, 0, True, False)
    with pytest.raises(DataError, match=r"got 'x' at place 2.*specials=\('unknown',\)"):
        Vocabulary("abc", specials=[]).encode("abxc")


def test_rows_are_filled_up_cut_and_framed():
    vocabulary = Vocabulary("ab", specials=ALL)
    p, _, b, e, x, y = range(6)
    assert vocabulary.batch(["a", "bab"]).tolist() == [[b, x, e, p, p], [b, y, x, y, e]]
    assert vocabulary.batch(["a", "bab"], 3).tolist() == [[b, x, e], [b, y, e]]
    assert vocabulary.batch(["bab"], 2, begin=False, end=False).tolist() == [[y, x]]
    assert vocabulary.encode("a", end=False).tolist() == [b, x]
    assert vocabulary.decode([b, x, e, y, y]) == "a"
    assert vocabulary.decode(np.asarray([[b, y, p], [b, x, e]])) == ["b", "a"]


def test_ids_of_every_library_are_decoded(backend):
    vocabulary = Vocabulary.of(TEXTS)
    assert vocabulary.decode(backend.asarray(vocabulary.encode(TEXTS[0]))) == TEXTS[0]


def test_stretches_of_a_long_text():
    ids = np.arange(50)
    for length, start in ((7, 0), (7, 3), (49, 0), (1, 48)):
        x, y = next_ids(ids, length, start)
        assert x.shape == y.shape == ((49 - start) // length, length)
        np.testing.assert_array_equal(x.ravel(), np.arange(start, start + x.size))
        np.testing.assert_array_equal(y, x + 1)


def test_networks_keep_their_vocabulary(tmp_path, backend):
    vocabulary = Vocabulary.of(TEXTS, by="words", specials=ALL, lower=True)
    ids = vocabulary.batch(TEXTS)
    layers = [Embedding(len(vocabulary), 3), Dense(len(vocabulary))]
    network = Network(layers, (ids.shape[1],), backend)
    network.attachments["words"] = vocabulary
    network.save(tmp_path / "n.safetensors")
    again = xpnn.load(tmp_path / "n.safetensors", backend)
    assert again.attachments["words"] == vocabulary
    np.testing.assert_array_equal(again.attachments["words"].batch(TEXTS), ids)
    assert pickle.loads(pickle.dumps(vocabulary)) == copy.deepcopy(vocabulary) == vocabulary


WRONG = {
    "a list of texts": (lambda v: v.encode(["a"]), TypeError, "for several write batch"),
    "one text": (lambda v: v.batch("a"), TypeError, r"write \[text\], or encode"),
    "no texts": (lambda v: v.batch([]), DataError, "at least one text"),
    "no padding": (
        lambda v: Vocabulary("ab", specials=()).batch(["a", "ab"]),
        DataError,
        r"got 1 in text 0 \(the first is 0\)",
    ),
    "no begin": (lambda v: v.encode("a", begin=True), ValueError, "an id for begin"),
    "large ids": (lambda v: v.decode([0, 99]), DataError, "from 0 to 4, got ids from 0 to 99"),
    "floats": (lambda v: v.decode([0.5]), DataError, "integers, got float64"),
    "three axes": (lambda v: v.decode(np.zeros((1, 1, 1), int)), ShapeError, r"\(1, 1, 1\)"),
    "long tokens": (lambda v: Vocabulary(["ab"]), ValueError, "characters as tokens, got 'ab'"),
    "twice": (lambda v: Vocabulary("aba"), ValueError, "got 'a' twice"),
    "specials": (lambda v: Vocabulary("a", specials=["start"]), ValueError, "some of padding"),
    "by": (lambda v: Vocabulary("a", by="letters"), ValueError, "'characters' or 'words'"),
    "special tokens": (
        lambda v: Vocabulary(Vocabulary.of("a b", by="words").tokens, by="words"),
        ValueError,
        "without those that specials brings, got '<padding>'",
    ),
    "a limit": (lambda v: Vocabulary.of("aab", limit=-1), ValueError, "wanted limit to be a whole"),
    "half": (lambda v: Vocabulary.of("aab", at_least=1.5), ValueError, "at_least to be a whole"),
    "nothing": (lambda v: Vocabulary.of([""]), DataError, "characters come at least 1 times"),
    "short": (lambda v: next_ids([1, 2], 2), DataError, "more than 2 of them"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    act, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        act(Vocabulary("abc"))


def test_forged_vocabularies_are_refused():
    plain = Vocabulary("ab").as_plain()
    assert Vocabulary.from_plain(plain) == Vocabulary("ab")
    for name in plain:
        for value in (None, 3, [1], ["a", "a"], {}, "letters", ["begin", 2]):
            with pytest.raises((ValueError, TypeError)):
                Vocabulary.from_plain({**plain, name: value})
    with pytest.raises(ValueError, match="a vocabulary"):
        Vocabulary.from_plain({"tokens": ["a"]})


# Tokenizers ---------------------------------------------------------------------------------------


@pytest.fixture
def pairs():
    """A tokenizer of byte pairs, learned on the texts."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=80, special_tokens=["<pad>", "<unk>", "<s>", "</s>"], show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def test_any_tokenizer_does_what_a_vocabulary_does(tmp_path, pairs):
    one = Tokenizer(pairs)
    assert (one.padding, one.unknown, one.begin, one.end) == (0, 1, 2, 3)
    assert len(one) == pairs.get_vocab_size()
    for text in TEXTS:
        assert one.encode(text, begin=False, end=False).tolist() == pairs.encode(text).ids
        assert one.decode(one.encode(text)) == text
    pairs.enable_padding(pad_id=0, pad_token="<pad>")
    wanted = [found.ids for found in pairs.encode_batch(TEXTS)]
    assert one.batch(TEXTS, begin=False, end=False).tolist() == wanted
    pairs.save(str(tmp_path / "tokenizer.json"))
    assert (
        Tokenizer(tmp_path / "tokenizer.json").encode(TEXTS[0]).tolist()
        == one.encode(TEXTS[0]).tolist()
    )


def test_what_a_tokenizer_puts_around_a_text_is_not_put_twice(pairs):
    tokenizers = pytest.importorskip("tokenizers")
    pairs.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    one = Tokenizer(pairs)
    assert one.encode("the").tolist() == pairs.encode("the").ids
    assert one.encode("the", begin=False).tolist() == pairs.encode("the").ids[1:]


def test_networks_keep_their_tokenizer(tmp_path, pairs):
    one = Tokenizer(pairs, begin="")
    assert one.begin is None
    network = Network([Embedding(len(one), 2)], (4,))
    network.attachments["tokens"] = one
    network.save(tmp_path / "n.safetensors")
    again = xpnn.load(tmp_path / "n.safetensors").attachments["tokens"]
    assert again == one == pickle.loads(pickle.dumps(one))
    assert again.encode(TEXTS[0]).tolist() == one.encode(TEXTS[0]).tolist()
    assert (again.begin, again.end) == (None, 3)


def test_what_is_wrong_with_a_tokenizer_is_said(tmp_path, pairs, monkeypatch):
    with pytest.raises(ValueError, match=r"token '\[SEP\]' for end"):
        Tokenizer(pairs, end="[SEP]")
    with pytest.raises(TypeError, match="got int"):
        Tokenizer(3)
    with pytest.raises(FileError, match="No such file"):
        Tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileError, match=re.escape("tokenizer.save has written")):
        Tokenizer(tmp_path / "tokenizer.json")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'xpnn[text]'")):
        Tokenizer(pairs)


# Files --------------------------------------------------------------------------------------------


def test_files_of_text(tmp_path):
    text = "\n".join(TEXTS)
    for encoding, content in {
        "utf-8": text.encode(),
        "latin-1": text.replace("—", "-").encode("latin-1"),
    }.items():
        (tmp_path / "t.txt").write_bytes(content)
        found = datasets.text(tmp_path / "t.txt", encoding=encoding)
        assert found == content.decode(encoding)
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    assert datasets.text(tmp_path / "t.gz") == text


def test_files_that_are_no_text_are_refused(tmp_path):
    wrong = {
        "in the encoding utf-8, but byte 2": b"ab\xff",
        "a whole gzip file": gzip.compress(b"abc")[:-3],
        "is empty": b"",
    }
    for said, content in wrong.items():
        (tmp_path / "t").write_bytes(content)
        with pytest.raises(DataError, match=said):
            datasets.text(tmp_path / "t")
    with pytest.raises(DataError, match="No such file"):
        datasets.text(tmp_path / "none")
