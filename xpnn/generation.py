"""Text, or any sequence of ids, written on by a network, one id after another.

A causal network that has read t ids need not read them again to go on, as long as what later
positions want to know of earlier ones is kept. A layer that looks along time takes part by
``empty_past(batch, length)``, a dictionary of arrays. While the network writes, that dictionary
stands in the layer's ``cache["past"]``, and ``forward`` is called with the next position only: it
reads the past and adds the new position. Attention keeps keys and values, recurrent layers keep
their memory, position layers keep how far they are. All shapes stay the same from position to
position, so that one compiled step serves all of them.

A layer without ``empty_past`` must say of a position alone what it says of it among others. That is
tried out on random inputs before anything is written. A container with a ``forward`` of its own
speaks for the layers inside: if some of them keep a past, give it an ``empty_past`` too, which
returns ``{}`` where the container itself has nothing to remember.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from xpnn.backends import Backend
from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.layers import Layer, Masked, Parallel, Recompute, Residual, Sequential
from xpnn.losses import MEANINGS
from xpnn.network import Network
from xpnn.typing import Array, Params, State

Past = dict[str, State]
"""What each layer remembers, by the layer's name."""

JOINED = {kind.forward for kind in (Sequential, Residual, Parallel, Masked, Recompute)}
"""How containers run that are fit for writing wherever all layers inside are."""


def generate(
    network: Network,
    prompt: Any,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
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
        temperature, top_k: see ``sample``.
        seed: of the draws.

    Returns:
        The prompt with ``count`` more ids, on the host.
    """
    ids = _ids(network, prompt)
    if temperature > 0:
        _check_scores(network)
    if count < 0:
        raise ValueError(f"count is how many ids to write, at least 0, got {count}")
    rng, reader = Generator(Philox(seed)), Reader(network, ids.shape[0])
    for _ in range(count):
        drawn = sample(reader.scores_after(ids), rng, temperature, top_k)
        ids = np.concatenate([ids, drawn[:, None]], axis=1)
    return ids.reshape(*np.shape(prompt)[:-1], -1)


def sample(
    scores: np.ndarray, rng: Generator, temperature: float = 1.0, top_k: int | None = None
) -> np.ndarray:
    """Draw an id for each row of ``scores``: with probability ``softmax(scores / temperature)``.

    Args:
        scores: (batch, vocabulary), on the host.
        rng: where the randomness comes from.
        temperature: below 1 for likelier ids, above 1 for stranger ones; 0 for the likeliest id.
        top_k: draw only among the ids with the ``top_k`` highest scores.

    Returns:
        Ids, (batch,).

    >>> sample(np.array([[0.0, 2.0, 1.0]]), np.random.default_rng(0), temperature=0)
    array([1])
    """
    if not temperature >= 0 or (top_k is not None and top_k < 1):
        raise ValueError(
            f"wanted a temperature of at least 0 and top_k of at least 1, got "
            f"temperature={temperature}, top_k={top_k}"
        )
    if temperature == 0:
        return np.argmax(scores, axis=1)
    scores = scores.astype(np.float64)
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    shares = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    up_to = np.cumsum(shares, axis=1)
    mark = rng.random((len(scores), 1)) * up_to[:, -1:]
    return np.minimum(np.sum(up_to <= mark, axis=1), scores.shape[1] - 1)


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


def _check_scores(network: Network) -> None:
    """Refuse outputs that are probabilities already, whose softmax knows next to nothing."""
    found = network.root.output_range(None)
    if found is not None and not MEANINGS["class logits"].fits(*found):
        raise ValueError(
            f"generate draws by the softmax of the network's scores, but its outputs lie from "
            f"{found[0]:g} to {found[1]:g}; leave the last layer out, or write temperature=0 for "
            f"the likeliest id"
        )


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
