"""Text written on by a network, by draws or by a search for the likeliest."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from xpnn.generation.beams import Beams
from xpnn.generation.given import text_and_others
from xpnn.generation.reader import Reader
from xpnn.generation.sampling import sample
from xpnn.losses import MEANINGS
from xpnn.network import Network


def generate(
    network: Network,
    prompt: Any,
    count: int,
    *,
    context: Any = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | Sequence[int] = (),
    seed: int = 0,
) -> np.ndarray:
    """Let ``network`` write on after ``prompt``.

    What the network says at a position must not depend on later ones: its attention is causal, its
    recurrent layers read forward, and no other layer looks along time. Where a text outgrows the
    ``input_shape`` of a network with attention or learned positions, the network forgets all but
    the last half of that length, and goes on from there; a network of recurrent layers alone reads
    on without end.

    Args:
        network: from ids (time,) to scores of all ids at every position, (time, vocabulary).
        prompt: ids to start with, (batch, length) or (length,), at least one.
        count: how many ids to write.
        context: of a network that is a graph of several inputs, such as one that translates: what
            the others are given, by name, as in ``{"source": ids}``; the input that is left out is
            that of the text. Without names: what all but the last are given, an array, or a
            tuple of several. With a batch axis where the prompt has one. It is worked through once.
        temperature, top_k, top_p: see ``sample``.
        stop: ids at which a text ends. What follows there, as long as others of the batch go on, is
            that id again.
        seed: of the draws.

    Returns:
        The prompt with ``count`` more ids, or fewer where all texts have ended, on the host.

    >>> from xpnn import GRU, Dense, Embedding, Network
    >>> net = Network([Embedding(5, 8), GRU(16, return_sequences=True), Dense(5)], input_shape=(4,))
    >>> generate(net, [1, 2], count=3, temperature=0.0).shape
    (5,)
    """
    ids, others = text_and_others(network, prompt, context)
    ends = _stop_ids(network, stop)
    if temperature > 0:
        _check_scores(network, "generate", ", or write temperature=0 for the likeliest id")
    _check_counts(count=count, top_k=top_k)
    rng, reader = Generator(Philox(seed)), Reader(network, ids.shape[0], others)
    ended = np.zeros(len(ids), dtype=bool)
    for _ in range(count):
        drawn = sample(reader.scores_after(ids), rng, temperature, top_k, top_p)
        drawn = np.where(ended, ids[:, -1], drawn)
        ids = np.concatenate([ids, drawn[:, None]], axis=1)
        ended |= np.isin(drawn, ends)
        if ended.all():
            break
    return ids.reshape(*np.shape(prompt)[:-1], -1)


def beam_search(
    network: Network,
    prompt: Any,
    count: int,
    *,
    context: Any = None,
    beams: int = 4,
    length_penalty: float = 0.0,
    stop: int | Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest text that ``network`` goes on with after ``prompt``, as far as beams find it.

    After each id the ``beams`` likeliest texts of that length are kept, with what the network
    remembers of them. A text ends with an id of ``stop``, or after ``count`` ids. Of all that have
    ended, whenever that was, the one with the highest score is returned, which is (Wu et al., 2016,
    equation 14, without coverage)::

        log P(text | prompt) / ((5 + ids written) / 6)^length_penalty

    The search ends before ``count`` where no text that is kept can come to a higher one. It finds
    the best of all texts for certain where there are as many beams as texts of count - 1 ids.

    Args:
        network, prompt, count, context: see ``generate``.
        beams: how many texts are kept for each prompt; with 1, the likeliest id is taken each time.
        length_penalty: 0 for the likeliest text; the higher, the better longer ones do.
        stop: see ``generate``.

    Returns:
        The prompt with at most ``count`` more ids, as ``generate`` returns it, and the scores,
        (batch,) or (), on the host.

    >>> from xpnn import GRU, Dense, Embedding, Network
    >>> net = Network([Embedding(5, 8), GRU(16, return_sequences=True), Dense(5)], input_shape=(4,))
    >>> ids, score = beam_search(net, [1, 2], count=3, beams=2)
    >>> ids.shape, bool(score < 0)
    ((5,), True)
    """
    ids, others = text_and_others(network, prompt, context)
    ends = _stop_ids(network, stop)
    _check_scores(network, "beam_search")
    _check_counts(count=count, beams=beams)
    if beams < 1 or not length_penalty >= 0:
        raise ValueError(
            f"wanted at least one of beams and a length_penalty of at least 0, got beams={beams}, "
            f"length_penalty={length_penalty}"
        )
    found = Beams(ids, beams, length_penalty, ends)
    if count:
        reader = Reader(network, len(found.texts), others)
        for left in reversed(range(count)):
            reader.reorder(found.brought_on(reader.scores_after(found.texts)))
            if found.are_settled(left):
                break
    texts, scores = found.best()
    shape = np.shape(prompt)[:-1]
    return texts.reshape(*shape, -1), scores.reshape(shape)


def _check_scores(network: Network, writer: str, otherwise: str = "") -> None:
    """Refuse outputs that are probabilities already, whose softmax knows next to nothing."""
    found = network.root.output_range(None)
    if found is not None and not MEANINGS["class logits"].fits(*found):
        raise ValueError(
            f"{writer} goes by the softmax of the network's scores, but its outputs lie from "
            f"{found[0]:g} to {found[1]:g}; leave the last layer out{otherwise}"
        )


def _check_counts(*, count: int, **others: int | None) -> None:
    for name, number in {"count": count, **others}.items():
        if number is not None and not isinstance(number, Integral):
            raise TypeError(f"{name} is an integer, got {number!r}")
    if count < 0:
        raise ValueError(f"count is how many ids to write, at least 0, got {count}")


def _stop_ids(network: Network, stop: int | Sequence[int]) -> np.ndarray:
    """The ids at which a text ends, found to be among those that the network scores."""
    ids, vocabulary = np.atleast_1d(np.asarray(stop)), network.output_shape[-1]
    if ids.size and (ids.ndim > 1 or ids.dtype.kind not in "iu" or not _are_below(ids, vocabulary)):
        raise ValueError(f"stop: wanted ids from 0 to {vocabulary - 1}, got {stop!r}")
    return np.unique(ids).astype(np.int64)


def _are_below(ids: np.ndarray, count: int) -> bool:
    return bool(np.all((ids >= 0) & (ids < count)))
