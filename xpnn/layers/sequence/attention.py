"""Attention: every step of a sequence looks at the others."""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from xpnn.backends.portable.attention import Scoring
from xpnn.errors import ShapeError, XpnnError
from xpnn.initializers import Initializer, glorot_uniform, zeros
from xpnn.layers.activations import product_rule, softmax_slope
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.layers.containers import Container
from xpnn.layers.dropout import Dropout
from xpnn.layers.sequence.positions import Rotary, alibi_slopes
from xpnn.numerics import inclined, product_over_rows, sum_to_features, widened
from xpnn.typing import Array, Namespace, Shape, State


class MultiHeadAttention(Container):
    """Scaled dot-product attention of several heads (Vaswani et al., 2017, section 3.2).

    Forward, for queries from Z (batch, time, features), and keys and values from a context C
    (batch, length, features), which in self-attention is Z itself::

        Q = Z W_q + b_q     K = C W_k + b_k     V = C W_v + b_v       cut into heads of d features
        S = Q K^T / sqrt(d)                     far below 0 where a key must not be seen
        P = softmax(S), over the keys           dropout acts on P
        A = P V                                 heads side by side again
        Y = A W_o + b_o

    With ``kv_heads`` (Ainslie et al., 2023; one of them is Shazeer's multi-query attention, 2019) K
    and V have fewer heads, each of which serves as many heads of Q, which lie behind each other.
    With ``alibi`` (Press et al., 2022, section 3) the scores fall with the distance of a step i and
    a key j, for each head h, counted from 1, by a slope of its own, here for counts of heads that
    are powers of two, between which the authors' code puts others::

        S = Q K^T / sqrt(d) - slope |i - j|
        slope = 2^(-8 h / heads)

    Backward, given delta = dL/dY::

        dA = delta W_o^T                        dL/dW_o = A^T delta        dL/db_o = sum of delta
        dV = P^T dA                             dP = dA V^T
        dS = P (dP - sum of dP P over the keys)
        dQ = dS K / sqrt(d)                     dK = dS^T Q / sqrt(d)
        dL/dW_q = Z^T dQ, and so on             dL/dZ = dQ W_q^T, and so on

    with dK and dV summed over the heads that they serve.

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
        kv_heads: number of heads of keys and values, which divides ``heads``; as many unless given.
        causal: whether a step sees only itself and the steps before it (self-attention only).
        window: of a causal one, how many steps a step sees at most, itself among them (Beltagy et
            al., 2020, section 3.1).
        dropout: share of P to drop in training.
        rotate: whether to turn pairs of features of Q and K by angles that grow with the position
            (Su et al., 2021, section 3.2; self-attention only).
        alibi: whether scores fall with the distance (self-attention only).
        use_bias: whether to add the four ``b``.
        weight_init: draws [W_q W_k W_v] and W_o.

    Raises:
        ShapeError: inputs are no sequences, or heads do not divide their features; from where a
            network is made.

    Parameters: ``weight`` (features, 3 features) and ``bias`` (3 features,) for Q, K and V side by
    side, one product in self-attention; ``output_weight`` (features, features), ``output_bias``.
    With fewer ``kv_heads`` K and V are narrower there, d features for each.

    >>> MultiHeadAttention(4).output_shape((20, 64))
    (20, 64)
    """

    fixed = ("layers", "heads", "kv_heads", "dropout", "use_bias", "weight_init")
    kept_as: ClassVar[dict[str, str]] = {"dropout": "dropout.rate"}

    gives = ANY_NUMBER

    def __init__(
        self,
        heads: int,
        *,
        kv_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
        rotate: bool = False,
        alibi: bool = False,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
    ):
        if heads < 1:
            raise ValueError(f"MultiHeadAttention needs at least one head, got heads={heads}")
        if kv_heads is not None and (kv_heads < 1 or heads % kv_heads):
            raise ValueError(
                f"each of the kv_heads serves as many heads, so they divide heads={heads}, got "
                f"kv_heads={kv_heads}"
            )
        if window is not None and (window < 1 or not causal):
            raise ValueError(
                f"window is how many steps a causal layer sees, at least 1, got window={window} "
                f"with causal={causal}"
            )
        self.dropout = Dropout(dropout)
        super().__init__([self.dropout])
        self.heads, self.kv_heads = heads, kv_heads
        self.causal, self.window, self.rotate, self.alibi = causal, window, rotate, alibi
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
        joint = features + 2 * self._key_features(features)
        return self._params_of({"weight": (features, joint)}, features, rng)

    def _params_of(
        self, weights: Mapping[str, Shape], features: int, rng: Generator
    ) -> dict[str, np.ndarray]:
        """Weights of these shapes, W_o, and the biases of all."""
        weights = {**weights, "output_weight": (features, features)}
        params = {name: self.weight_init(shape, rng) for name, shape in weights.items()}
        if self.use_bias:
            joint = features + 2 * self._key_features(features)
            params |= {"bias": zeros((joint,), rng), "output_bias": zeros((features,), rng)}
        return params

    @property
    def key_heads(self) -> int:
        """How many heads keys and values have."""
        return self.kv_heads or self.heads

    @property
    def context_features(self) -> int:
        """How many features a context has, as built: those of the queries."""
        return self.params["output_weight"].shape[0]

    def _key_features(self, features: int) -> int:
        """How many features the keys have, all heads together."""
        return features // self.heads * self.key_heads

    def empty_past(self, batch: int, length: int) -> State:
        """Room for the keys and values of ``length`` positions; see ``generate``."""
        assert self.input_shape is not None
        if not self.causal:
            raise XpnnError(
                f"{self!r} looks ahead, so it cannot generate; make it with causal=True"
            )
        W = self.params["weight"]
        shape = (batch, self.key_heads, length, self.input_shape[-1] // self.heads)
        room = self.xp.zeros(shape, dtype=W.dtype, device=self.backend.device)
        mask = self.xp.ones((batch, length), dtype=self.xp.bool, device=self.backend.device)
        return {"K": room, "V": room, "mask": mask, "position": self.backend.counter()}

    def multiply_adds(self, input_shape: Shape) -> int:
        time, features = input_shape
        projected = 2 * features + 2 * self._key_features(features)
        return time * features * (projected + 2 * time)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        rotary = Rotary(self.backend)
        return {
            "sum_of_products": self.backend.sums(product_rule),
            "incline": elementwise(inclined, (0,)),
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
        if context is not None and (self.causal or self.rotate or self.alibi):
            raise XpnnError(
                f"{self!r} goes by the order of the steps of one sequence, and cannot look at "
                f"another; make it without causal, rotate and alibi"
            )
        _check_attend(self, Z, context, mask)
        Q, K, V = self._queries_keys_values(Z, context, mask)
        if self._keeps_weights(Q, K, V, mask, training):
            Q = Q * _scale(Q)
            A = self._looked_up(Q, K, V, mask, training)
        else:
            A, statistics = self.backend.attention(Q, K, V, **self._scoring(Q, mask))
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
        return self.backend.prefers_weights(Q, K, V, **self._scoring(Q, mask))

    def _scoring(self, Q: Array, mask: Array | None) -> Scoring:
        return {
            "scale": _scale(Q),
            "causal": self.causal,
            "window": self.window,
            "slopes": self._slopes(Q),
            "mask": mask,
        }

    def _slopes(self, Q: Array) -> Array | None:
        """(heads,), in at least float32."""
        if not self.alibi:
            return None
        wide = "float64" if Q.dtype == self.xp.float64 else "float32"
        return self.backend.constant(alibi_slopes(self.heads), wide)

    def _looked_up(self, Q: Array, K: Array, V: Array, mask: Array | None, training: bool) -> Array:
        """``A`` by way of all of P; Q has been multiplied with the scale."""
        xp, slopes = self.xp, self._slopes(Q)
        scores = widened(self._product(Q, xp.matrix_transpose(K)), xp)
        queries, keys = self._positions(Q.shape[2], K.shape[2])
        if slopes is not None:
            scores = self.fused["incline"](scores, slopes[:, None, None], queries, keys)
        barred = self._barred(mask, queries, keys)
        P = self.backend.softmax(scores, barred)
        if barred is not None and mask is not None:  # a query may see no key at all
            P *= xp.astype(~barred, P.dtype)
        P = xp.astype(P, Q.dtype, copy=False)
        dropped = self.dropout.forward(P, training)
        self.cache.update(P=P, dropped=dropped)
        return self._product(dropped, V)

    def attend_back(self, delta: Array) -> tuple[Array, Array | None]:
        """The backward of ``attend``: writes ``grads``; returns dL/dZ and dL/d(context)."""
        xp, A = self.xp, self.cache["A"]
        Q, K, V = (self.cache[name] for name in ("Q", "K", "V"))
        self.grads["output_weight"] = _product_back(xp, A, delta)
        if self.use_bias:
            self.grads["output_bias"] = sum_to_features(delta, xp)
        dA = self._heads(delta @ self.params["output_weight"].T, self.heads)
        if self.cache["P"] is not None:
            dQ, dK, dV = self._looked_up_back(Q, K, V, dA)
        else:
            statistics, scoring = self.cache["statistics"], self._scoring(Q, self.cache["seen"])
            dQ, dK, dV = self.backend.attention_gradients(
                Q, K, V, self._heads(A, self.heads), statistics, dA, **scoring
            )
        if self.rotate:
            dQ, dK = self.fused["turn_back"](0, dQ, dK)
        return self._projections_back(dQ, dK, dV)

    def _looked_up_back(
        self, Q: Array, K: Array, V: Array, dA: Array
    ) -> tuple[Array, Array, Array]:
        """The backward of ``_looked_up``."""
        xp, P = self.xp, self.cache["P"]
        dV = self._product_of_keys(self.cache["dropped"], dA)
        dP = self.dropout.backward(self._product(dA, xp.matrix_transpose(V)))
        sums = self.fused["sum_of_products"](dP, P)
        dS = self.fused["scores_back"](P, dP, sums)
        return self._product(dS, K) * _scale(Q), self._product_of_keys(dS, Q), dV

    def _queries_keys_values(
        self, Z: Array, context: Array | None, mask: Array | None
    ) -> list[Array]:
        """Q, (batch, heads, time, d), K and V, with those of the past."""
        features, past = Z.shape[-1], self.cache.get("past")
        width = self._key_features(features)
        last = features + 2 * width
        if context is None:
            joint = self._affine(Z, 0, last)
            Q, joint = joint[..., :features], joint[..., features:]
        else:
            Q, joint = self._affine(Z, 0, features), self._affine(context, features, last)
        Q = self._heads(Q, self.heads)
        K, V = (
            self._heads(half, self.key_heads) for half in (joint[..., :width], joint[..., width:])
        )
        if self.rotate:
            start = 0 if past is None else past["position"]
            Q, K = self.fused["turn"](start, Q, K)
        return [Q, *((K, V) if past is None else self._remembered(K, V, mask))]

    def _affine(self, Z: Array, first: int, last: int) -> Array:
        S = Z @ self._columns(first, last)
        if self.use_bias:
            S += self.params["bias"][first:last]
        return S

    def _columns(self, first: int, last: int) -> Array:
        """Columns of [W_q W_k W_v]."""
        return self.params["weight"][:, first:last]

    def _keep_slopes(self, slopes: list[Array]) -> None:
        """Write down dL/d[W_q W_k W_v]; or that of W_q and of [W_k W_v], where they come apart."""
        self.grads["weight"] = _joined(self.xp, slopes)

    def _projections_back(self, dQ: Array, dK: Array, dV: Array) -> tuple[Array, Array | None]:
        xp, Z, context = self.xp, self.cache["Z"], self.cache["context"]
        features = Z.shape[-1]
        if context is None:
            pairs = [(Z, self._side_by_side(dQ, dK, dV), self.params["weight"])]
        else:
            inner = self._side_by_side(dK, dV)
            pairs = [
                (Z, self._side_by_side(dQ), self._columns(0, features)),
                (context, inner, self._columns(features, features + inner.shape[-1])),
            ]
        self._keep_slopes([_product_back(xp, X, d) for X, d, _ in pairs])
        if self.use_bias:
            self.grads["bias"] = _joined(xp, [sum_to_features(d, xp) for _, d, _ in pairs])
        dZ, *rest = [d @ part.T for _, d, part in pairs]
        return dZ, rest[0] if rest else None

    # Masks and memory ---------------------------------------------------------------------------

    def _positions(self, queries: int, keys: int) -> tuple[Array, Array]:
        """Where they stand, (queries, 1) and (keys,); a past has read the one query already."""
        past, indices = self.cache.get("past", {}), self.backend.indices
        here = indices(1) + (past["position"] - 1) if "position" in past else indices(queries)
        return here[:, None], indices(keys)

    def _barred(self, mask: Array | None, queries: Array, keys: Array) -> Array | None:
        """Which keys are not seen; broadcasts to (batch, heads, queries, keys)."""
        past, found = self.cache.get("past"), []
        if mask is not None:
            found.append(~(mask if past is None else past["mask"])[:, None, None, :])
        if self.causal:
            found.append(keys > queries)
        if self.window is not None and self.window < keys.shape[0]:
            found.append(keys <= queries - self.window)
        return functools.reduce(operator.or_, found) if found else None

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

    def _heads(self, S: Array, heads: int) -> Array:
        """(batch, time, features) as (batch, heads, time, d)."""
        batch, time, features = S.shape
        S = self.xp.reshape(S, (batch, time, heads, features // heads))
        return self.xp.permute_dims(S, (0, 2, 1, 3))

    def _side_by_side(self, *parts: Array) -> Array:
        """Each (batch, heads, time, d), as (batch, time, features of all parts)."""
        xp, (batch, _, time, _) = self.xp, parts[0].shape
        turned = [xp.permute_dims(part, (0, 2, 1, 3)) for part in parts]
        if len(turned) == 1:
            joined = turned[0]
        elif parts[0].shape == parts[-1].shape:
            joined = self.backend.stack(turned, axis=2)
        else:
            joined = xp.concat(turned, axis=2)
        return xp.reshape(joined, (batch, time, math.prod(joined.shape[2:])))

    def _product(self, X: Array, Y: Array) -> Array:
        """X Y, of each head X with the Y of the keys that serve it."""
        if self.key_heads == self.heads:
            return X @ Y
        return self.xp.reshape(self._by_key_head(X) @ Y, (*X.shape[:3], Y.shape[-1]))

    def _product_of_keys(self, X: Array, Y: Array) -> Array:
        """X^T Y, summed over the heads that the keys of one head serve."""
        return self.xp.matrix_transpose(self._by_key_head(X)) @ self._by_key_head(Y)

    def _by_key_head(self, X: Array) -> Array:
        """(batch, heads, time, n) as (batch, key heads, time of a whole group, n)."""
        if self.key_heads == self.heads:
            return X
        batch, heads, time, n = X.shape
        return self.xp.reshape(X, (batch, self.key_heads, heads // self.key_heads * time, n))

    def __repr__(self) -> str:
        names = "kv_heads", "causal", "window", "rotate", "alibi"
        options = [f", {name}={getattr(self, name)}" for name in names if getattr(self, name)]
        return f"{type(self).__name__}({self.heads}{''.join(options)})"


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
    given = ("queries", Z, features), ("a context", context, layer.context_features)
    for name, one, width in given:
        if one is not None and (one.ndim != 3 or (one.shape[0], one.shape[2]) != (batch, width)):
            raise ShapeError(
                f"{layer!r} wants {name} of shape ({batch}, time, {width}), got "
                f"{tuple(one.shape)}; a Dense({width}) makes other features fit"
            )
    keys = tuple((Z if context is None else context).shape[:2])
    if mask is not None and (tuple(mask.shape) != keys or not layer.xp.isdtype(mask.dtype, "bool")):
        raise ShapeError(
            f"{layer!r} wants a mask of booleans of shape {keys}, True at the keys that may be "
            f"seen, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
