"""A network that reads a growing text, and what its layers remember of it."""

from collections.abc import Sequence

import numpy as np

from xpnn.errors import DataError
from xpnn.generation.given import Inputs
from xpnn.layers import Graph, Layer
from xpnn.layers.graphs.parts import parted
from xpnn.network import Network
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Params, State
from xpnn.without_past import check_past

Past = dict[str, State]
"""What each layer remembers, by the layer's name."""


class Reader:
    """Reads a growing text with a network, every id once.

    Args:
        network: see ``generate``.
        batch: how many texts are read side by side.
        others: arrays for the inputs that are not that of the text. Where they have fewer rows than
            there are texts, each is for as many texts behind each other.

    >>> import numpy as np
    >>> from xpnn import GRU, Dense, Embedding, Network
    >>> net = Network([Embedding(5, 8), GRU(16, return_sequences=True), Dense(5)], input_shape=(4,))
    >>> reader = Reader(net, batch=1)
    >>> reader.scores_after(np.array([[1, 2]])).shape
    (1, 5)
    """

    start: int  # where in the text the memory begins
    seen: int  # how many ids it holds
    bounded: bool  # whether it can hold no more than the network's input is long
    past: Past

    def __init__(self, network: Network, batch: int, others: Inputs | None = None):
        self.network, self.batch, others = network, batch, others or {}
        (text,) = set(range(len(network.inputs))) - set(others)
        self.length = network.inputs[text][0][0]
        check_past(network, text)
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
