"""Vectors for things that are numbered: words, characters, categories."""

import math

import numpy as np
from numpy.random import Generator

from xpnn.arguments import check_integers
from xpnn.backends import Backend, backend_of
from xpnn.errors import DataError
from xpnn.initializers import Initializer, normal
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import add_up, widened
from xpnn.typing import Array, Shape

LONGEST_SCATTER = 4096  # rows, or as many as there are vectors: each part goes through all of these
SMALL = normal(0.02)  # as in Radford et al. (2018), section 4.1


class Embedding(Layer):
    """A learned vector for each id (Bengio et al., 2003, section 2).

    Forward, for ids k of shape (batch, ...), integers from 0::

        S = W[k]                    W (vocabulary, features)   S (batch, ..., features)

    which is the product of one-hot rows with W. Backward, given delta = dL/dS, each vector gets the
    deltas of all positions where it was looked up::

        dL/dW[i] = sum of delta over all positions with k = i

    Ids have no gradient. Their range is checked once for a data set, where it enters ``fit``,
    ``evaluate`` or ``predict``; ``forward`` takes them as they are.

    Args:
        vocabulary: how many different ids there are.
        features: size of each vector.
        weight_init: draws ``W``; normal with spread 0.02 unless given.

    >>> from xpnn import Network
    >>> net = Network([Embedding(3, 2)], input_shape=(4,))
    >>> net.load({"0.embedding.weight": [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]})
    >>> net.predict([[2, 0, 0, 1]]).tolist()
    [[[2.0, 2.5], [0.0, 0.5], [0.0, 0.5], [1.0, 1.5]]]
    """

    fixed = ("vocabulary", "features", "weight_init")

    takes = "integers"
    gives = ANY_NUMBER

    def __init__(self, vocabulary: int, features: int, *, weight_init: Initializer = SMALL):
        super().__init__()
        if vocabulary < 1 or features < 1:
            raise ValueError(
                f"Embedding needs at least one id and one feature, got vocabulary={vocabulary}, "
                f"features={features}"
            )
        self.vocabulary, self.features, self.weight_init = vocabulary, features, weight_init

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.features)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        return {"weight": self.weight_init((self.vocabulary, self.features), rng)}

    def check_inputs(self, ids: Array) -> None:
        if not math.prod(ids.shape):
            return
        home = backend_of(ids)
        low, high = (int(home.to_numpy(end(ids))) for end in (home.xp.min, home.xp.max))
        if low < 0 or high >= self.vocabulary:
            raise DataError(
                f"wanted ids from 0 to {self.vocabulary - 1}, as {self!r} has {self.vocabulary} "
                f"vectors, got ids from {low} to {high}; count from 0, or make the vocabulary "
                f"larger"
            )

    def forward(self, ids: Array, training: bool = False) -> Array:
        xp = self.xp
        if not xp.isdtype(ids.dtype, "integral"):
            raise DataError(
                f"{self!r} looks up integer ids, got {ids.dtype}: it reads a network's inputs, all "
                f"of which are ids then. For ids beside numbers make one-hot columns of them, "
                f"np.eye({self.vocabulary})[ids], and put Dense({self.features}, use_bias=False) "
                f"in its place, which is the same"
            )
        self.cache["ids"] = flat = xp.reshape(ids, (-1,))
        rows = xp.take(self.params["weight"], flat, axis=0)
        return xp.reshape(rows, (*ids.shape, self.features))

    def backward(self, delta: Array) -> None:
        xp, W = self.xp, self.params["weight"]
        rows = widened(xp.reshape(delta, (-1, self.features)), xp)
        total = self._summed(self.cache["ids"], rows)
        self.grads["weight"] = xp.astype(total, W.dtype, copy=False)

    def _summed(self, ids: Array, rows: Array) -> Array:
        """The sum of the rows of each id; of very many in parts, so that no long sum loses digits.

        Libraries add them one after another, and one id, that of padding, may be most of them.
        """
        xp, backend, count = self.xp, self.backend, ids.shape[0]
        longest = max(LONGEST_SCATTER, self.vocabulary)

        def part(start: int) -> Array:
            stop = min(start + longest, count)
            none = xp.zeros(self.params["weight"].shape, dtype=rows.dtype, device=backend.device)
            return backend.scatter_add(none, ids[start:stop], rows[start:stop, :])

        return add_up(map(part, range(0, max(count, 1), longest)), xp)

    def __repr__(self) -> str:
        return f"Embedding({self.vocabulary}, {self.features})"


def as_ids(x: Array, backend: Backend) -> Array:
    """Integers in a dtype that every library looks things up by, none of them cut to 32 bits.

    Raises:
        DataError: ``x`` holds something else.
    """
    xp = backend.xp
    check_integers(x, xp)
    if x.dtype in (xp.int32, xp.int64):
        return x
    return xp.astype(x, xp.int64 if xp.iinfo(x.dtype).bits > 32 else xp.int32)
