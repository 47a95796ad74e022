"""Attention: every step of a sequence looks at the others."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError, XpnnError
from xpnn.initializers import Initializer, glorot_uniform, zeros
from xpnn.layers.activations import product_rule, softmax_slope
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.layers.containers import Container
from xpnn.layers.dropout import Dropout
from xpnn.layers.sequence.positions import Rotary
from xpnn.numerics import product_over_rows, sum_to_features, widened
from xpnn.typing import Array, Namespace, Shape, State


class MultiHeadAttention(Container):
    """Scaled dot-product attention of several heads (Vaswani et al., 2017, section 3.2).

    For queries from Z (batch, time, features), and keys and values from a context C (batch, length,
    features), which in self-attention is Z itself::

        Q = Z W_q + b_q     K = C W_k + b_k     V = C W_v + b_v       cut into heads of d features
        S = Q K^T / sqrt(d)                     far below 0 where a key must not be seen
        P = softmax(S), over the keys           dropout acts on P
        A = P V                                 heads side by side again
        Y = A W_o + b_o

    Backward, given delta = dL/dY::

        dA = delta W_o^T                        dL/dW_o = A^T delta        dL/db_o = sum of delta
        dV = P^T dA                             dP = dA V^T
        dS = P (dP - sum of dP P over the keys)
        dQ = dS K / sqrt(d)                     dK = dS^T Q / sqrt(d)
        dL/dW_q = Z^T dQ, and so on             dL/dZ = dQ W_q^T, and so on

    In a training step and in ``predict``, long sequences go by ``Backend.attention``, which works P
    out block by block, and again in backward, and so keeps no array of (time, length). P is made as
    a whole, and is there to look at in ``cache["P"]``, where dropout acts on it, behind a plain
    ``network.forward``, while a text is generated, and below ``backend.attention_from`` steps.

    The sum of dP P over the keys equals that of dA A over the d features, but for rounding: only
    the former is dP itself where P is 1, so that dS is 0 there.

    Keys where ``cache["mask"]`` (put there by ``Masked``) is False are not seen by any query. Where
    a query may see no key at all, its row of P is zero.

    Args:
        heads: number of heads; it divides the features.
        causal: whether a step sees only itself and the steps before it (self-attention only).
        dropout: share of P to drop in training.
        rotate: whether to turn Q and K by their positions, see ``Rotary`` (self-attention only).
        use_bias: whether to add the four ``b``.
        weight_init: draws [W_q W_k W_v] and W_o.

    Parameters: ``weight`` (features, 3 features) and ``bias`` (3 features,) for Q, K and V side by
    side, one product in self-attention; ``output_weight`` (features, features), ``output_bias``.

    >>> MultiHeadAttention(4).output_shape((20, 64))
    (20, 64)
    """

    fixed = ("layers", "heads", "dropout", "use_bias", "weight_init")
    kept_as: ClassVar[dict[str, str]] = {"dropout": "dropout.rate"}

    gives = ANY_NUMBER

    def __init__(
        self,
        heads: int,
        *,
        causal: bool = False,
        dropout: float = 0.0,
        rotate: bool = False,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
    ):
        if heads < 1:
            raise ValueError(f"MultiHeadAttention needs at least one head, got heads={heads}")
        self.dropout = Dropout(dropout)
        super().__init__([self.dropout])
        self.heads, self.causal, self.rotate = heads, causal, rotate
        self.inspected = True
        self.use_bias, self.weight_init = use_bias, weight_init

    # Shapes and starting values -----------------------------------------------------------------

    def children(self) -> dict[str, Layer]:
        return {"dropout": self.dropout}

    def child_shapes(self, input_shape: Shape) -> list[Shape]:
        return [(self.heads, input_shape[0], input_shape[0])]

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise ShapeError(f"{self!r} wants inputs of shape (time, features), got {input_shape}")
        width, rest = divmod(input_shape[-1], self.heads)
        if rest or (self.rotate and width % 2):
            even = " of an even number of features" if self.rotate else ""
            raise ShapeError(
                f"{self!r} cuts its inputs into {self.heads} equal heads{even}, got "
                f"{input_shape[-1]} features; choose a number of heads that fits"
            )
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        features = input_shape[-1]
        params = {
            "weight": self.weight_init((features, 3 * features), rng),
            "output_weight": self.weight_init((features, features), rng),
        }
        if self.use_bias:
            params |= {"bias": zeros((3 * features,), rng), "output_bias": zeros((features,), rng)}
        return params

    def empty_past(self, batch: int, length: int) -> State:
        """Room for the keys and values of ``length`` positions; see ``generate``."""
        assert self.input_shape is not None
        if not self.causal:
            raise XpnnError(
                f"{self!r} looks ahead, so it cannot generate; make it with causal=True"
            )
        W = self.params["weight"]
        shape = (batch, self.heads, length, self.input_shape[-1] // self.heads)
        room = self.xp.zeros(shape, dtype=W.dtype, device=self.backend.device)
        mask = self.xp.ones((batch, length), dtype=self.xp.bool, device=self.backend.device)
        return {"K": room, "V": room, "mask": mask, "position": self.backend.counter()}

    def multiply_adds(self, input_shape: Shape) -> int:
        time, features = input_shape
        return time * features * (4 * features + 2 * time)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        rotary = Rotary(self.backend)
        return {
            "sum_of_products": self.backend.sums(product_rule),
            "scores_back": elementwise(softmax_slope, (1,)),
            "turn": rotary.turn,
            "turn_back": rotary.turn_back,
        }

    # Running ------------------------------------------------------------------------------------

    def forward(self, Z: Array, training: bool = False) -> Array:
        return self.attend(Z, mask=self.cache.get("mask"), training=training)

    def backward(self, delta: Array) -> Array:
        return self.attend_back(delta)[0]

    def attend(
        self,
        Z: Array,
        context: Array | None = None,
        mask: Array | None = None,
        training: bool = False,
    ) -> Array:
        """Let every step of ``Z`` look at those of ``context``, or of ``Z`` where there is none.

        Args:
            Z: (batch, time, features).
            context: (batch, length, features), for cross-attention.
            mask: (batch, length) booleans, False at the keys that nobody sees.
            training: whether dropout acts.
        """
        if context is not None and (self.causal or self.rotate):
            raise XpnnError(
                f"{self!r} goes by the order of the steps of one sequence, and cannot look at "
                f"another; make it without causal and rotate"
            )
        _check_attend(self, Z, context, mask)
        Q, K, V = self._queries_keys_values(Z, context, mask)
        if self._keeps_weights(Q, K, V, mask, training):
            Q = Q * _scale(Q)
            A = self._looked_up(Q, K, V, mask, training)
        else:
            A, statistics = self.backend.attention(Q, K, V, **self._seen(Q, mask))
            self.cache.update(P=None, statistics=statistics, seen=mask)
        A = self._side_by_side(A)
        self.cache.update(Z=Z, context=context, Q=Q, K=K, V=V, A=A)
        Y = A @ self.params["output_weight"]
        if self.use_bias:
            Y += self.params["output_bias"]
        return Y

    def _keeps_weights(
        self, Q: Array, K: Array, V: Array, mask: Array | None, training: bool
    ) -> bool:
        """Whether P is made as a whole: to be dropped from, read, or as there is little of it."""
        dropped = training and self.dropout.rate > 0
        if self.inspected or dropped or "past" in self.cache:
            return True
        return self.backend.prefers_weights(Q, K, V, **self._seen(Q, mask))

    def _seen(self, Q: Array, mask: Array | None) -> dict[str, Any]:
        return {"scale": _scale(Q), "causal": self.causal, "mask": mask}

    def _looked_up(self, Q: Array, K: Array, V: Array, mask: Array | None, training: bool) -> Array:
        """``A`` by way of all of P; Q has been multiplied with the scale."""
        xp = self.xp
        scores = widened(Q @ xp.matrix_transpose(K), xp)
        barred = self._barred(mask, scores.shape[-1])
        P = self.backend.softmax(scores, barred)
        if barred is not None and mask is not None:  # a query may see no key at all
            P *= xp.astype(~barred, P.dtype)
        P = xp.astype(P, Q.dtype, copy=False)
        dropped = self.dropout.forward(P, training)
        self.cache.update(P=P, dropped=dropped)
        return dropped @ V

    def attend_back(self, delta: Array) -> tuple[Array, Array | None]:
        """The backward of ``attend``: writes ``grads``; returns dL/dZ and dL/d(context)."""
        xp, A = self.xp, self.cache["A"]
        Q, K, V = (self.cache[name] for name in ("Q", "K", "V"))
        self.grads["output_weight"] = _product_back(xp, A, delta)
        if self.use_bias:
            self.grads["output_bias"] = sum_to_features(delta, xp)
        dA = self._heads(delta @ self.params["output_weight"].T)
        if self.cache["P"] is not None:
            dQ, dK, dV = self._looked_up_back(Q, K, V, dA)
        else:
            statistics, seen = self.cache["statistics"], self._seen(Q, self.cache["seen"])
            dQ, dK, dV = self.backend.attention_gradients(
                Q, K, V, self._heads(A), statistics, dA, **seen
            )
        if self.rotate:
            dQ, dK = self.fused["turn_back"](0, dQ, dK)
        return self._projections_back(dQ, dK, dV)

    def _looked_up_back(
        self, Q: Array, K: Array, V: Array, dA: Array
    ) -> tuple[Array, Array, Array]:
        """The backward of ``_looked_up``."""
        xp, P = self.xp, self.cache["P"]
        dV = xp.matrix_transpose(self.cache["dropped"]) @ dA
        dP = self.dropout.backward(dA @ xp.matrix_transpose(V))
        sums = self.fused["sum_of_products"](dP, P)
        dS = self.fused["scores_back"](P, dP, sums)
        return dS @ K * _scale(Q), xp.matrix_transpose(dS) @ Q, dV

    def _queries_keys_values(
        self, Z: Array, context: Array | None, mask: Array | None
    ) -> list[Array]:
        """Q, K and V, (batch, heads, time, d) each; K and V with those of the past."""
        features, past = Z.shape[-1], self.cache.get("past")
        if context is None:
            joint = self._affine(Z, 0, 3 * features)
            thirds = [joint[..., i * features : (i + 1) * features] for i in range(3)]
        else:
            joint = self._affine(context, features, 3 * features)
            thirds = [self._affine(Z, 0, features), joint[..., :features], joint[..., features:]]
        Q, K, V = map(self._heads, thirds)
        if self.rotate:
            start = 0 if past is None else past["position"]
            Q, K = self.fused["turn"](start, Q, K)
        return [Q, *((K, V) if past is None else self._remembered(K, V, mask))]

    def _affine(self, Z: Array, first: int, last: int) -> Array:
        S = Z @ self.params["weight"][:, first:last]
        if self.use_bias:
            S += self.params["bias"][first:last]
        return S

    def _projections_back(self, dQ: Array, dK: Array, dV: Array) -> tuple[Array, Array | None]:
        xp, Z, context, W = self.xp, self.cache["Z"], self.cache["context"], self.params["weight"]
        features = Z.shape[-1]
        if context is None:
            pairs = [(Z, self._side_by_side(dQ, dK, dV), W)]
        else:
            inner = self._side_by_side(dK, dV)
            pairs = [
                (Z, self._side_by_side(dQ), W[:, :features]),
                (context, inner, W[:, features:]),
            ]
        self.grads["weight"] = _joined(xp, [_product_back(xp, X, d) for X, d, _ in pairs])
        if self.use_bias:
            self.grads["bias"] = _joined(xp, [sum_to_features(d, xp) for _, d, _ in pairs])
        dZ, *rest = [d @ part.T for _, d, part in pairs]
        return dZ, rest[0] if rest else None

    # Masks and memory ---------------------------------------------------------------------------

    def _barred(self, mask: Array | None, keys: int) -> Array | None:
        """Which keys are not seen; broadcasts to (batch, heads, queries, keys)."""
        past = self.cache.get("past")
        positions = self.backend.indices(keys)
        if past is not None:
            later = positions >= past["position"]
            mask = None if mask is None else past["mask"]
        else:
            later = positions > positions[:, None] if self.causal else None
        if mask is None:
            return later
        padding = ~mask[:, None, None, :]
        return padding if later is None else padding | later

    def _remembered(self, K: Array, V: Array, mask: Array | None) -> list[Array]:
        """``K``, ``V`` and mask of one more position, put in their place among those before."""
        xp, past = self.xp, self.cache["past"]
        if K.shape[2] != 1:
            raise ShapeError(f"{self!r} goes on by one position at a time, got {K.shape[2]}")
        here = self.backend.indices(past["K"].shape[2]) == past["position"]
        for name, new in (("K", K), ("V", V)):
            past[name] = xp.where(here[:, None], new, past[name])
        if mask is not None:
            past["mask"] = xp.where(here, mask, past["mask"])
        past["position"] = past["position"] + 1
        return [past["K"], past["V"]]

    # Heads --------------------------------------------------------------------------------------

    def _heads(self, S: Array) -> Array:
        """(batch, time, features) as (batch, heads, time, d)."""
        batch, time, features = S.shape
        S = self.xp.reshape(S, (batch, time, self.heads, features // self.heads))
        return self.xp.permute_dims(S, (0, 2, 1, 3))

    def _side_by_side(self, *parts: Array) -> Array:
        """Each (batch, heads, time, d), as (batch, time, features of all parts)."""
        xp, (batch, _, time, _) = self.xp, parts[0].shape
        turned = [xp.permute_dims(part, (0, 2, 1, 3)) for part in parts]
        joined = turned[0] if len(turned) == 1 else self.backend.stack(turned, axis=2)
        return xp.reshape(joined, (batch, time, math.prod(joined.shape[2:])))

    def __repr__(self) -> str:
        options = [f", {name}=True" for name in ("causal", "rotate") if getattr(self, name)]
        return f"MultiHeadAttention({self.heads}{''.join(options)})"


def _scale(Q: Array) -> float:
    return 1 / math.sqrt(Q.shape[-1])


def _joined(xp: Namespace, parts: list[Array]) -> Array:
    """The gradients of W_q and of [W_k W_v] side by side, where they come apart."""
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)


def _product_back(xp: Namespace, Z: Array, delta: Array) -> Array:
    """dL/dW of ``Z W``: the sum over all steps of Z^T delta."""
    Z, delta = (xp.reshape(one, (-1, one.shape[-1])) for one in (Z, delta))
    return product_over_rows(Z, delta, xp)


def _check_attend(
    layer: MultiHeadAttention, Z: Array, context: Array | None, mask: Array | None
) -> None:
    """Queries, a context and a mask, as ``MultiHeadAttention.attend`` looks at them."""
    batch, features = Z.shape[0], layer.params["output_weight"].shape[0]
    for name, one in (("queries", Z), ("a context", context)):
        if one is not None and (one.ndim != 3 or (one.shape[0], one.shape[2]) != (batch, features)):
            raise ShapeError(
                f"{layer!r} wants {name} of shape ({batch}, time, {features}), got "
                f"{tuple(one.shape)}; a Dense({features}) makes other features fit"
            )
    keys = tuple((Z if context is None else context).shape[:2])
    if mask is not None and (tuple(mask.shape) != keys or not layer.xp.isdtype(mask.dtype, "bool")):
        raise ShapeError(
            f"{layer!r} wants a mask of booleans of shape {keys}, True at the keys that may be "
            f"seen, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
