"""Text, or any sequence of ids, written on by a network, one id after another.

A causal network that has read t ids need not read them again to go on, as long as what later
positions want to know of earlier ones is kept. A layer that looks along time takes part by
``empty_past(batch, length)``, a dictionary of arrays, the first axis of each that of the texts, and
of counters. While the network writes, that dictionary
stands in the layer's ``cache["past"]``, and ``forward`` is called with the next position only: it
reads the past and adds the new position. Attention keeps keys and values, recurrent layers keep
their memory, position layers keep how far they are. All shapes stay the same from position to
position, so that one compiled step serves all of them.

In a network of several inputs one is that of the text, and the others are its context. What they
alone lead to, such as an encoder's output, is worked out once; so is what a layer like
``CrossAttention`` makes of it, which it adds to its past when it reads the first position.

A layer without ``empty_past`` must say of a position alone what it says of it among others. That is
tried out on random inputs before anything is written. A container with a ``forward`` of its own
speaks for the layers inside: if some of them keep a past, give it an ``empty_past`` too, which
returns ``{}`` where the container itself has nothing to remember.
"""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from xpnn.arguments import in_order
from xpnn.backends import Backend
from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.layers import (
    Graph,
    Layer,
    Masked,
    Parallel,
    Recompute,
    Residual,
    Sequential,
    TransformerDecoderBlock,
    WeightNorm,
)
from xpnn.layers.graphs.parts import followers, parted
from xpnn.layers.nodes import Kind, is_several, kinds_of
from xpnn.losses import MEANINGS
from xpnn.network import Network
from xpnn.numerics import log_softmax
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Params, Shape, State

Past = dict[str, State]
"""What each layer remembers, by the layer's name."""

Inputs = dict[int, Array]
"""What the inputs of a network are given, but for that of the text, by their numbers."""

JOINED = {
    kind.forward
    for kind in (
        *(Sequential, Residual, Parallel, Masked, Recompute, WeightNorm, Graph),
        TransformerDecoderBlock,
    )
}
"""How containers run that are fit for writing wherever all layers inside are."""


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
    """
    ids, others = _text_and_others(network, prompt, context)
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
    """
    ids, others = _text_and_others(network, prompt, context)
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
        others: arrays for the inputs that are not that of the text. Where they have fewer rows than
            there are texts, each is for as many texts behind each other.
    """

    start: int  # where in the text the memory begins
    seen: int  # how many ids it holds
    bounded: bool  # whether it can hold no more than the network's input is long
    past: Past

    def __init__(self, network: Network, batch: int, others: Inputs | None = None):
        self.network, self.batch, others = network, batch, others or {}
        (text,) = set(range(len(network.inputs))) - set(others)
        self.length = network.inputs[text][0][0]
        with network.backend.on_device(), network.holding(network.params, network.state):
            inputs = tuple(number == text for number in range(len(network.inputs)))
            for name, layer, grows in _without_past("", network.root, inputs):
                if not _alone_as_among_others(layer, network.backend, grows):
                    raise XpnnError(
                        f"layer {name}: {layer!r} goes by more than the newest position, so it "
                        f"cannot write a text without remembering the others; use layers that keep "
                        f"a past, such as LSTM and causal attention, or give it an empty_past"
                    )
        self._root: Layer = network.root
        self._context: tuple[Array, ...] = ()
        if others:
            assert isinstance(network.root, Graph)
            before, self._root = parted(network.root, [text])
            self._context = self._worked_out(before, [others[one] for one in sorted(others)])
        self._step = network.backend.compiled(self._one_position)
        self._forget(0)

    def _worked_out(self, before: Graph, others: Sequence[Array]) -> tuple[Array, ...]:
        """What the network makes of the other inputs, a row for each text."""
        network, backend = self.network, self.network.backend

        def run(params: Params, state: State, given: Arrays) -> tuple[Array, ...]:
            with network.holding(params, state):
                made = as_tuple(before.forward(given))
                before.clear()
                return made

        with backend.on_device():
            made = backend.compiled(run)(network.params, network.state, one_or_tuple(others))
            given = others[0].shape[0]
            rows = np.repeat(np.arange(given), self.batch // given)
            taken = backend.asarray(rows, "int32")
            return tuple(backend.xp.take(one, taken, axis=0) for one in made)

    def scores_after(self, ids: np.ndarray) -> np.ndarray:
        """The scores of what follows ``ids`` (batch, time), a text that begins with the last one's.

        Returns:
            (batch, vocabulary), on the host.

        Raises:
            DataError: of the scores of a text none is largest, as they are NaN or infinite.
        """
        backend, network = self.network.backend, self.network
        if self.bounded and ids.shape[1] - self.start > self.length:
            self._forget(ids.shape[1] - max(self.length // 2, 1))
        with backend.on_device():
            for t in range(self.start + self.seen, ids.shape[1]):
                column = backend.asarray(ids[:, t : t + 1], "int32")
                self.scores, self.past = self._step(
                    network.params, network.state, self.past, column, self._context
                )
        self.seen = ids.shape[1] - self.start
        scores = backend.to_numpy(self.scores)
        if not np.all(np.isfinite(scores.max(axis=1))):
            raise DataError(
                "wanted scores that tell which id is likely, but the largest is NaN or infinite; "
                "there is NaN among the weights, or they have grown too large: load earlier ones"
            )
        return scores

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
                for name, layer in self._root.walk()
                if hasattr(layer, "empty_past")
            }
        self.bounded = any("position" in past for past in self.past.values())

    def _one_position(
        self, params: Params, state: State, past: Past, ids: Array, context: tuple[Array, ...]
    ) -> tuple[Array, Past]:
        with self.network.holding(params, state):
            layers = [(name, one) for name, one in self._root.walk() if name in past]
            for name, layer in layers:
                layer.cache["past"] = dict(past[name])
            scores = self._root.forward(one_or_tuple([ids, *context]))[:, -1, :]
            past = {name: layer.cache["past"] for name, layer in layers}
            self._root.cache.clear()  # if it is a part, the network does not know of it
            return scores, past


def _without_past(
    name: str, layer: Layer, grows: tuple[bool, ...] = (True,)
) -> Iterator[tuple[str, Layer, tuple[bool, ...]]]:
    """The layers that keep nothing from position to position, inner ones before outer ones.

    Args:
        grows: which of the inputs come position by position; the others are there as a whole.
    """
    if hasattr(layer, "empty_past"):
        return
    if isinstance(layer, Graph):
        yield from _without_past_in_graph(name, layer, grows)
    else:
        for key, child in layer.children().items():
            yield from _without_past(_joined(name, key), child)
    if type(layer).forward not in JOINED:
        yield name, layer, grows


def _without_past_in_graph(
    name: str, graph: Graph, grows: tuple[bool, ...]
) -> Iterator[tuple[str, Layer, tuple[bool, ...]]]:
    """``_without_past`` of a graph, each layer with what grows of its inputs."""
    steps = followers(graph, [number for number, one in enumerate(grows) if one])
    for step, follows in steps:
        full, layer = _joined(name, step.name), step.layer
        wanted = tuple(number not in layer.contexts for number in range(len(follows)))
        if layer.contexts and follows != wanted:
            raise XpnnError(
                f"layer {full}: {layer!r} looks from the text at all of another sequence, so it "
                f"cannot write where that follows from the text itself; call it on what is made of "
                f"the text, and then on what is made of the other inputs alone"
            )
        keeps = any(hasattr(one, "empty_past") for _, one in layer.walk())
        if keeps and sum(other.layer is layer for other, _ in steps) > 1:
            raise XpnnError(
                f"layer {full}: {layer!r} is called several times on the text, but what it keeps "
                f"from position to position is that of one call; make a layer for each"
            )
        yield from _without_past(full, layer, follows)


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _alone_as_among_others(
    layer: Layer, backend: Backend, grows: tuple[bool, ...] = (True,)
) -> bool:
    """Whether ``layer`` says the same of positions one by one as of all of them at once."""
    given: Any = layer.input_shape
    shapes, xp = given if is_several(given) else (given,), backend.xp
    time = next(shape[0] for shape, one in zip(shapes, grows, strict=True) if one)
    parts = [(1, *shape[1:]) if one else shape for shape, one in zip(shapes, grows, strict=True)]
    try:
        alone = layer.output_shape(one_or_tuple(parts))
        if alone[:1] != (1,) or layer.output_shape(given) != (time, *alone[1:]):
            return False
    except ShapeError:
        return False
    rng, kinds = Generator(Philox(0)), kinds_of(layer, len(shapes))
    samples = [
        _sample_of(shape, takes, layer, rng) for shape, takes in zip(shapes, kinds, strict=True)
    ]
    split = [
        xp.reshape(one, (time, 1, *one.shape[1:]))
        if grown
        else xp.broadcast_to(one[None, ...], (time, *one.shape))
        for one, grown in zip(samples, grows, strict=True)
    ]
    together = [one[None, ...] for one in samples]
    one_by_one, at_once = (
        np.nan_to_num(
            backend.to_numpy(layer.forward(one_or_tuple(inputs))), posinf=0, neginf=0
        ).reshape(time, *alone[1:])
        for inputs in (split, together)
    )
    rounding = 0.01 + 8 * float(xp.finfo(backend.dtype(layer.dtype)).eps)  # TF32 and two bytes
    return np.allclose(one_by_one, at_once, rtol=0, atol=rounding * np.abs(at_once).max())


def _sample_of(shape: Shape, takes: Kind, layer: Layer, rng: Generator) -> Array:
    """One sample of an input, to try a layer with."""
    backend = layer.backend
    if takes == "integers":
        return backend.xp.zeros(shape, dtype=backend.xp.int32, device=backend.device)
    # with a mean of its own for each position, which one that averages over them mixes up
    means = rng.standard_normal((*shape[:1], *[1] * len(shape[1:])))
    return backend.asarray(rng.standard_normal(shape) + means, layer.dtype)


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


def _text_and_others(network: Network, prompt: Any, context: Any) -> tuple[np.ndarray, Inputs]:
    """The prompt as (batch, length) integers, and the other inputs, found fit for the network."""
    text = _input_of_the_text(network, context)
    shape, takes, name = network.inputs[text]
    if len(shape) != 1 or takes != "integers":
        raise ShapeError(
            f"wanted a network that reads ids, of input_shape (time,) and with an Embedding first, "
            f"got {network!r}, whose input {name!r} takes {takes} of shape {shape}"
        )
    outputs: Any = network.output_shape
    if is_several(outputs) or len(outputs) != 2:
        raise ShapeError(
            f"wanted a network that gives scores at every position, (time, vocabulary), got "
            f"outputs of shape {outputs}; a recurrent layer needs return_sequences"
        )
    ids = _ids(prompt)
    others = _others(network, text, context, prompt)
    with network.backend.on_device():
        given = {**others, text: network.backend.asarray(ids, "int32")}
        network.root.check_inputs(one_or_tuple([given[number] for number in sorted(given)]))
    return ids, others


def _input_of_the_text(network: Network, context: Any) -> int:
    """The number of the input that is not among the context."""
    names = [name for _, _, name in network.inputs]
    if len(names) == 1 and context is not None:
        raise DataError(
            f"context is for the other inputs of a network of several, got one for {network!r}, "
            f"which has a single input, that of the text"
        )
    if len(names) > 1 and context is None:
        raise DataError(
            f"wanted context for all inputs but that of the text, as the network has several, "
            f"{', '.join(names)}; write context={{{names[0]!r}: ...}}"
        )
    if not isinstance(context, Mapping):
        return len(names) - 1
    left = [number for number, name in enumerate(names) if name not in context]
    if len(left) != 1:
        raise DataError(
            f"wanted context by the names of all inputs but that of the text, of "
            f"{', '.join(names)}, got {', '.join(map(str, context))}"
        )
    return left[0]


def _others(network: Network, text: int, context: Any, prompt: Any) -> Inputs:
    """What the inputs that are not that of the text are given, a row for each prompt."""
    numbers = [number for number in range(len(network.inputs)) if number != text]
    if not numbers:
        return {}
    names, backend = [network.inputs[number][2] for number in numbers], network.backend
    given = in_order(context, names, "context")
    *batch, _ = np.shape(prompt)
    found = {}
    for number, one in zip(numbers, given, strict=True):
        rows = backend.asarray(one)
        found[number] = network.as_input(rows if batch else rows[None, ...], number)
        if batch and found[number].shape[0] != batch[0]:
            raise DataError(
                f"wanted context for {batch[0]} prompts, got {found[number].shape[0]} rows for "
                f"the input {network.inputs[number][2]!r}"
            )
    return found


def _ids(prompt: Any) -> np.ndarray:
    """The prompt as (batch, length) integers."""
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
    return ids.reshape(-1, ids.shape[-1]).astype(np.int64)
