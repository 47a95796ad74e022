"""Cross-attention: the steps of one sequence look at those of another, in a graph."""

from numpy import ndarray
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, glorot_uniform
from xpnn.layers.base import Layer
from xpnn.layers.sequence.attention import MultiHeadAttention
from xpnn.typing import Array, Shape, Shapes, State


class CrossAttention(MultiHeadAttention):
    """The steps of one sequence look at those of another (Vaswani et al., 2017, section 3.2.3).

    Forward, called on the queries' side Z (batch, time, features) and on the context C (batch,
    length, context features), such as what an encoder makes; all else is as in
    ``MultiHeadAttention``::

        Q = Z W_q + b_q          K = C W_k + b_k          V = C W_v + b_v

    Backward, with dQ, dK and dV as there::

        dL/dZ = dQ W_q^T         dL/dC = dK W_k^T + dV W_v^T

    A third input (batch, length) says which steps of the context are seen: those where it is not 0,
    such as ``PaddingMask`` makes it of ids. It has no gradient. Steps of Z that are padding are
    treated like any other, inside of ``Masked``, too: they belong out of the loss.

    While a text is written, K and V are worked out at its first position and kept.

    Where the context has other features than the queries, as in ``torch.nn.MultiheadAttention(...,
    kdim=, vdim=)``, the parameters ``weight`` (features, features) are W_q alone, and
    ``context_weight`` (context features, features of K and of V) are W_k and W_v side by side.

    Args:
        heads: number of heads; it divides the features.
        kv_heads: number of heads of keys and values, which divides ``heads``; as many unless given.
        dropout: share of P to drop in training.
        use_bias: whether to add the four ``b``.
        weight_init: draws [W_q W_k W_v], or W_q and [W_k W_v], and W_o.

    Raises:
        ShapeError: the inputs are no sequences, or a mask has another length; from where the layer
            is called on nodes.

    >>> from xpnn import Input
    >>> decoded, encoded, seen = Input((5, 8)), Input((9, 8)), Input((9,))
    >>> CrossAttention(2)(decoded, encoded).shape, CrossAttention(2)(decoded, encoded, seen).shape
    ((5, 8), (5, 8))
    >>> CrossAttention(2)(decoded, Input((9, 12))).shape
    (5, 8)
    """

    arity = None
    contexts = (1, 2)

    def __init__(
        self,
        heads: int,
        *,
        kv_heads: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
    ):
        super().__init__(
            heads, kv_heads=kv_heads, dropout=dropout, use_bias=use_bias, weight_init=weight_init
        )

    def output_shape(self, input_shape: Shapes) -> Shape:
        queries, context, *seen = input_shape
        if len(context) != 2 or len(queries) != 2:
            raise ShapeError(
                f"{self!r} wants queries of shape (time, features) and a context of shape (length, "
                f"features), got {queries} and {context}"
            )
        if seen and (len(seen) > 1 or seen[0] != context[:1]):
            raise ShapeError(
                f"{self!r} wants, behind queries and context, no more than a mask of shape "
                f"{context[:1]}, got {', '.join(map(str, seen))}"
            )
        return super().output_shape(queries)

    def child_shapes(self, input_shape: Shapes) -> list[Shape]:
        return [(self.heads, input_shape[0][0], input_shape[1][0])]

    def init_params(self, input_shape: Shapes, rng: Generator) -> dict[str, ndarray]:
        queries, context, *_ = input_shape
        features, of_context = queries[1], context[1]
        if of_context == features:
            return super().init_params(queries, rng)
        inner = 2 * self._key_features(features)
        weights = {"weight": (features, features), "context_weight": (of_context, inner)}
        return self._params_of(weights, features, rng)

    @property
    def context_features(self) -> int:
        own = self.params.get("context_weight")
        return super().context_features if own is None else own.shape[0]

    def _columns(self, first: int, last: int) -> Array:
        own = self.params.get("context_weight")
        return super()._columns(first, last) if own is None or first == 0 else own

    def _keep_slopes(self, slopes: list[Array]) -> None:
        if "context_weight" not in self.params:
            super()._keep_slopes(slopes)
        else:
            self.grads["weight"], self.grads["context_weight"] = slopes

    def multiply_adds(self, input_shape: Shapes) -> int:
        (time, features), (length, context), *_ = input_shape
        of_queries = time * 2 * features * features
        of_keys = length * 2 * context * self._key_features(features)
        return of_queries + of_keys + 2 * time * length * features

    def empty_past(self, batch: int, length: int) -> State:
        """Nothing yet: what is kept of the context comes with the first position."""
        return {}

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        queries, context, *seen = Z
        self.cache["unlearned"] = len(seen)
        mask = seen[0] != 0 if seen else None
        return self.attend(queries, context, mask, training)

    def _queries_keys_values(
        self, Z: Array, context: Array | None, mask: Array | None
    ) -> list[Array]:
        past = self.cache.get("past")
        if not past:
            return super()._queries_keys_values(Z, context, mask)
        Q = self._heads(self._affine(Z, 0, Z.shape[-1]), self.heads)
        return [Q, past["K"], past["V"]]

    def _remembered(self, K: Array, V: Array, mask: Array | None) -> list[Array]:
        """``K`` and ``V`` of all of the context, kept for the positions to come."""
        self.cache["past"] |= {"K": K, "V": V} | ({} if mask is None else {"mask": mask})
        return [K, V]

    def backward(self, delta: Array) -> tuple[Array | None, ...]:
        return *self.attend_back(delta), *[None] * self.cache["unlearned"]


class PaddingMask(Layer):
    """1 at the real steps of ids, 0 where they are filled up.

    Forward, for ids Z (batch, time), as an ``Embedding`` reads them::

        S = 1 where Z != padding, else 0              S (batch, time)

    Ids have no gradient. It is for the third input of ``CrossAttention``.

    Args:
        padding: the id that fills up short sequences.

    >>> from xpnn import Input, Network
    >>> ids = Input((4,), takes="integers")
    >>> Network(inputs=ids, outputs=PaddingMask()(ids)).predict([[5, 2, 0, 0]]).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """

    takes = "integers"
    gives = (0.0, 1.0)

    def __init__(self, padding: int = 0):
        super().__init__()
        self.padding = padding

    def forward(self, ids: Array, training: bool = False) -> Array:
        return self.xp.astype(ids != self.padding, self.backend.dtype(self.dtype))

    def backward(self, delta: Array) -> None:
        return None

    def __repr__(self) -> str:
        return f"PaddingMask({self.padding})"
