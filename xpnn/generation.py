"""Text, or any sequence of ids, written on by a network, one id after another.

A causal network that has read t ids need not read them again to go on, as long as what later
positions want to know of earlier ones is kept. A layer that looks along time takes part by
``empty_past(batch, length)``, a dictionary of arrays, the first axis of each that of the texts, and
of counters. While the network writes, that dictionary
stands in the layer's ``cache["past"]``, and ``forward`` is called with the next position only: it
reads the past and adds the new position. Attention keeps keys and values, recurrent layers keep
their memory, position layers keep how far they are. All shapes stay the same from position to
position, so that one compiled step serves all of them.

A layer without ``empty_past`` must say of a position alone what it says of it among others. That is
tried out on random inputs before anything is written. A container with a ``forward`` of its own
speaks for the layers inside: if some of them keep a past, give it an ``empty_past`` too, which
returns ``{}`` where the container itself has nothing to remember.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from xpnn.backends import Backend
from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.layers import Layer, Masked, Parallel, Recompute, Residual, Sequential, WeightNorm
from xpnn.losses import MEANINGS
from xpnn.network import Network
from xpnn.numerics import log_softmax
from xpnn.typing import Array, Params, State

Past = dict[str, State]
"""What each layer remembers, by the layer's name."""

JOINED = {kind.forward for kind in (Sequential, Residual, Parallel, Masked, Recompute, WeightNorm)}
"""How containers run that are fit for writing wherever all layers inside are."""


def generate(
    network: Network,
    prompt: Any,
    count: int,
    *,
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
        temperature, top_k, top_p: see ``sample``.
        stop: ids at which a text ends. What follows there, as long as others of the batch go on, is
            that id again.
        seed: of the draws.

    Returns:
        The prompt with ``count`` more ids, or fewer where all texts have ended, on the host.
    """
    ids, ends = _ids(network, prompt), _stop_ids(network, stop)
    if temperature > 0:
        _check_scores(network, "generate", ", or write temperature=0 for the likeliest id")
    _check_count(count)
    rng, reader = Generator(Philox(seed)), Reader(network, ids.shape[0])
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
        network, prompt, count: see ``generate``.
        beams: how many texts are kept for each prompt; with 1, the likeliest id is taken each time.
        length_penalty: 0 for the likeliest text; the higher, the better longer ones do.
        stop: see ``generate``.

    Returns:
        The prompt with at most ``count`` more ids, as ``generate`` returns it, and the scores,
        (batch,) or (), on the host.
    """
    ids, ends = _ids(network, prompt), _stop_ids(network, stop)
    _check_scores(network, "beam_search")
    _check_count(count)
    if beams < 1 or not length_penalty >= 0:
        raise ValueError(
            f"wanted at least one of beams and a length_penalty of at least 0, got beams={beams}, "
            f"length_penalty={length_penalty}"
        )
    found = Beams(ids, beams, length_penalty, ends)
    if count:
        reader = Reader(network, len(found.texts))
        for left in reversed(range(count)):
            reader.reorder(found.brought_on(reader.scores_after(found.texts)))
            if found.are_settled(left):
                break
    texts, scores = found.best()
    shape = np.shape(prompt)[:-1]
    return texts.reshape(*shape, -1), scores.reshape(shape)


class Beams:
    """The texts that a beam search keeps, and for each prompt the best that has ended.

    Attributes:
        texts: (prompts * beams, time), those of a prompt behind each other.
    """

    def __init__(self, prompts: np.ndarray, beams: int, length_penalty: float, ends: np.ndarray):
        self.texts = np.repeat(prompts, beams, axis=0)
        self._length, self._penalty, self._ends = prompts.shape[1], length_penalty, ends
        self._totals = np.full((len(prompts), beams), -np.inf)  # of log P
        self._totals[:, 0] = 0.0  # the others are the same text
        self._ended = list(prompts)
        self._scores = np.full(len(prompts), -np.inf)

    def brought_on(self, scores: np.ndarray) -> np.ndarray:
        """Go on by an id; returns which row each text was that is kept now.

        Args:
            scores: of all ids after each text, (prompts * beams, vocabulary).
        """
        prompts, beams = self._totals.shape
        scores = scores.astype(np.float64).reshape(prompts, beams, -1)
        totals = self._totals[:, :, None] + log_softmax(scores, np)
        self._end(totals)
        totals[:, :, self._ends] = -np.inf
        totals = totals.reshape(prompts, -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, :beams]
        self._totals = np.take_along_axis(totals, order, axis=1)
        parents, ids = np.divmod(order, scores.shape[2])
        rows = (parents + beams * np.arange(prompts)[:, None]).reshape(-1)
        self.texts = np.concatenate([self.texts[rows], ids.reshape(-1, 1)], axis=1)
        return rows

    def are_settled(self, left: int) -> bool:
        """Whether none that is kept can do better, with so many ids left to write."""
        bounds = self._totals.max(axis=1) / self._divisor(left)
        return bool(np.all(self._scores >= bounds))

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each prompt the best text, all filled up to one length, and its score."""
        scores = self._totals[:, 0] / self._divisor()
        kept = self.texts.reshape(*self._totals.shape, -1)[:, 0]
        texts = [
            ended if done else text
            for ended, done, text in zip(self._ended, self._scores >= scores, kept, strict=True)
        ]
        longest = max(map(len, texts))
        filled = [np.pad(text, (0, longest - len(text)), mode="edge") for text in texts]
        return np.stack(filled), np.maximum(self._scores, scores)

    def _end(self, totals: np.ndarray) -> None:
        """Take note of the best of the texts that would end now."""
        if not self._ends.size:
            return
        prompts, beams = self._totals.shape
        ending = totals[:, :, self._ends].reshape(prompts, -1) / self._divisor(1)
        for prompt, (where, score) in enumerate(zip(ending.argmax(1), ending.max(1), strict=True)):
            if score > self._scores[prompt]:
                beam, k = divmod(int(where), self._ends.size)
                text = self.texts[prompt * beams + beam]
                self._ended[prompt] = np.append(text, self._ends[k])
                self._scores[prompt] = score

    def _divisor(self, more: int = 0) -> float:
        """Of the log P of texts with so many more ids than those that are kept."""
        written = self.texts.shape[1] - self._length + more
        return float(((5 + written) / 6) ** self._penalty)


def sample(
    scores: np.ndarray,
    rng: Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Draw an id for each row of ``scores``: with probability ``softmax(scores / temperature)``.

    Args:
        scores: (batch, vocabulary), on the host.
        rng: where the randomness comes from.
        temperature: below 1 for likelier ids, above 1 for stranger ones; 0 for the likeliest id.
        top_k: draw only among the ids with the ``top_k`` highest scores.
        top_p: draw only among the likeliest ids, as few as have a probability of ``top_p`` together
            (Holtzman et al., 2020, section 3.1), by what temperature and top_k leave.

    Returns:
        Ids, (batch,).

    >>> sample(np.array([[0.0, 2.0, 1.0]]), np.random.default_rng(0), temperature=0)
    array([1])
    """
    fits = temperature >= 0 and (top_k is None or top_k >= 1) and (top_p is None or 0 < top_p <= 1)
    if not fits:
        raise ValueError(
            f"wanted a temperature of at least 0, top_k of at least 1 and top_p above 0, at most "
            f"1, got temperature={temperature}, top_k={top_k}, top_p={top_p}"
        )
    if temperature == 0:
        return np.argmax(scores, axis=1)
    scores = scores.astype(np.float64)
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    shares = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    if top_p is not None:
        shares = _nucleus(shares, top_p)
    up_to = np.cumsum(shares, axis=1)
    mark = rng.random((len(scores), 1)) * up_to[:, -1:]
    return np.minimum(np.sum(up_to <= mark, axis=1), scores.shape[1] - 1)


def _nucleus(shares: np.ndarray, top_p: float) -> np.ndarray:
    """The shares, but 0 where larger ones have ``top_p`` of all already."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    up_to = np.cumsum(ranked, axis=1)
    ranked[up_to - ranked >= top_p * up_to[:, -1:]] = 0.0
    kept = np.empty_like(shares)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept


class Reader:
    """Reads a growing text with a network, every id once.

    Args:
        network: see ``generate``.
        batch: how many texts are read side by side.
    """

    start: int  # where in the text the memory begins
    seen: int  # how many ids it holds
    bounded: bool  # whether it can hold no more than the network's input is long
    past: Past

    def __init__(self, network: Network, batch: int):
        self.network, self.batch = network, batch
        self.length = network.input_shape[0]
        with network.backend.on_device(), network.holding(network.params, network.state):
            for name, layer in _without_past("", network.root):
                if not _alone_as_among_others(layer, network.backend):
                    raise XpnnError(
                        f"layer {name}: {layer!r} goes by more than the newest position, so it "
                        f"cannot write a text without remembering the others; use layers that keep "
                        f"a past, such as LSTM and causal attention, or give it an empty_past"
                    )
        self._step = network.backend.compiled(self._one_position)
        self._forget(0)

    def scores_after(self, ids: np.ndarray) -> np.ndarray:
        """The scores of what follows ``ids`` (batch, time), a text that begins with the last one's.

        Returns:
            (batch, vocabulary), on the host.
        """
        backend, network = self.network.backend, self.network
        if self.bounded and ids.shape[1] - self.start > self.length:
            self._forget(ids.shape[1] - max(self.length // 2, 1))
        with backend.on_device():
            for t in range(self.start + self.seen, ids.shape[1]):
                column = backend.asarray(ids[:, t : t + 1], "int32")
                self.scores, self.past = self._step(
                    network.params, network.state, self.past, column
                )
        self.seen = ids.shape[1] - self.start
        return backend.to_numpy(self.scores)

    def reorder(self, rows: np.ndarray) -> None:
        """Go on with other texts of the batch, or the same: of each, which row it has been."""
        if np.array_equal(rows, np.arange(self.batch)):
            return
        xp, backend = self.network.backend.xp, self.network.backend
        with backend.on_device():
            taken = backend.asarray(rows, "int32")
            self.past = {
                layer: {
                    name: xp.take(one, taken, axis=0) if getattr(one, "ndim", 0) else one
                    for name, one in past.items()
                }
                for layer, past in self.past.items()
            }

    def _forget(self, start: int) -> None:
        """Begin anew, with id number ``start`` of the text."""
        self.start, self.seen = start, 0
        with self.network.backend.on_device():
            self.past = {
                name: layer.empty_past(self.batch, self.length)
                for name, layer in self.network.walk()
                if hasattr(layer, "empty_past")
            }
        self.bounded = any("position" in past for past in self.past.values())

    def _one_position(
        self, params: Params, state: State, past: Past, ids: Array
    ) -> tuple[Array, Past]:
        with self.network.holding(params, state):
            layers = [(name, one) for name, one in self.network.walk() if name in past]
            for name, layer in layers:
                layer.cache["past"] = dict(past[name])
            scores = self.network.root.forward(ids)[:, -1, :]
            return scores, {name: layer.cache["past"] for name, layer in layers}


def _without_past(name: str, layer: Layer) -> Iterator[tuple[str, Layer]]:
    """The layers that keep nothing from position to position, inner ones before outer ones."""
    if hasattr(layer, "empty_past"):
        return
    for key, child in layer.children().items():
        yield from _without_past(f"{name}.{key}" if name else key, child)
    if type(layer).forward not in JOINED:
        yield name, layer


def _alone_as_among_others(layer: Layer, backend: Backend) -> bool:
    """Whether ``layer`` says the same of positions one by one as of all of them at once."""
    assert layer.input_shape is not None
    (time, *rest), xp = layer.input_shape, backend.xp
    try:
        alone = layer.output_shape((1, *rest))
        if alone[:1] != (1,) or layer.output_shape((time, *rest)) != (time, *alone[1:]):
            return False
    except ShapeError:
        return False
    if layer.takes == "integers":
        inputs = xp.zeros((time, 1, *rest), dtype=xp.int32, device=backend.device)
    else:  # with a mean of its own for each position, which one that averages over them mixes up
        rng = Generator(Philox(0))
        draws = rng.standard_normal((time, 1, *rest))
        draws += rng.standard_normal((time, 1, *[1] * len(rest)))
        inputs = backend.asarray(draws, layer.dtype)
    outputs = layer.forward(inputs), layer.forward(xp.reshape(inputs, (1, time, *rest)))
    one_by_one, at_once = (
        np.nan_to_num(backend.to_numpy(one), posinf=0, neginf=0).reshape(time, *alone[1:])
        for one in outputs
    )
    rounding = 0.01 + 8 * float(xp.finfo(backend.dtype(layer.dtype)).eps)  # TF32 and two bytes
    return np.allclose(one_by_one, at_once, rtol=0, atol=rounding * np.abs(at_once).max())


def _check_scores(network: Network, writer: str, otherwise: str = "") -> None:
    """Refuse outputs that are probabilities already, whose softmax knows next to nothing."""
    found = network.root.output_range(None)
    if found is not None and not MEANINGS["class logits"].fits(*found):
        raise ValueError(
            f"{writer} goes by the softmax of the network's scores, but its outputs lie from "
            f"{found[0]:g} to {found[1]:g}; leave the last layer out{otherwise}"
        )


def _check_count(count: int) -> None:
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


def _ids(network: Network, prompt: Any) -> np.ndarray:
    """The prompt as (batch, length) integers, found fit for the network."""
    if len(network.input_shape) != 1 or network.root.takes != "integers":
        raise ShapeError(
            f"wanted a network that reads ids, of input_shape (time,) and with an Embedding first, "
            f"got {network!r}"
        )
    if len(network.output_shape) != 2:
        raise ShapeError(
            f"wanted a network that gives scores at every position, (time, vocabulary), got "
            f"outputs of shape {network.output_shape}; a recurrent layer needs return_sequences"
        )
    ids = host_array(prompt)
    if ids.ndim not in (1, 2) or ids.size == 0 or ids.dtype.kind not in "iu":
        raise DataError(
            f"wanted a prompt of ids, integers of shape (length,) or (batch, length) with at least "
            f"one id, got {ids.dtype} of shape {ids.shape}"
        )
    if int(ids.min()) < -(2**31) or int(ids.max()) >= 2**31:
        raise DataError(
            f"wanted ids that fit 32 bits, got ids from {ids.min()} to {ids.max()}; count from 0"
        )
    ids = ids.reshape(-1, ids.shape[-1]).astype(np.int64)
    with network.backend.on_device():
        network.root.check_inputs(network.backend.asarray(ids, "int32"))
    return ids
