"""Attention block by block: there are never more scores at a time than those of one block.

With i for queries, j for keys and s for the scale::

    S_ij = s Q_i . K_j                      A_i = sum_j exp(S_ij) V_j / sum_j exp(S_ij)

What is known of a query after some of its keys is the maximum m of its scores, the sum l of their
powers and an output O. A block of further keys brings that on (Dao et al., FlashAttention, 2022,
algorithm 1)::

    m' = max(m, max_j S_ij)                 P_ij = exp(S_ij - m')               w = exp(m - m')
    l' = w l + sum_j P_ij                   O' = w O + sum_j P_ij V_j

After the last one ``A = O / l``, and m and l are kept. Backward works P out again from them
(algorithm 4); with dA already divided by l, so that P may stay as it is::

    dP_ij = dA_i . V_j                      D_i = dA_i . A_i                    dS_ij = P_ij (dP_ij - D_i)
    dV_j = sum_i P_ij dA_i                  dQ_i = s sum_j dS_ij K_j            dK_j = s sum_i dS_ij Q_i

D is the sum of ``dP_ij P_ij / l`` over the keys, but for rounding. A query that is sure of one key,
as the others add nothing to an l of 1, would so get a dS of a few roundings where it is 0: its rows
of dQ, and its share of dK, are left out.

Where a head of keys serves a group of heads of queries, these become queries of one head, those of a
group side by side at each position: there are more rows, and the sums of a group are in the products.
With a window, blocks of keys that no query of a block sees are left out on either side.
"""  # noqa: E501

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Required, TypedDict, Unpack

from xpnn.numerics import BARRED, inclined, widened
from xpnn.typing import Array, Namespace, Shape

BLOCK = 256  # queries and keys of one block: in float32, its scores are 256 KiB for each head
MOST_BLOCKS = 8  # along each axis: compilers are given all of them, one after another

HALVES = "float16", "bfloat16"  # the dtypes that cuDNN has attention for
FEATURES = 8  # of a head, for cuDNN: multiples of so many, which are 16 bytes,
MOST_FEATURES = 128  # and at most so many, by what its gradients are for on every GPU


class Scoring(TypedDict, total=False):
    """Which keys a query sees, and how it scores them.

    Attributes:
        scale: what the products of queries and keys are multiplied with.
        causal: whether query i sees no key behind key i.
        window: of a causal one with as many keys as queries, how many keys a query sees at most:
            its own and those right before it.
        slopes: (heads,) numbers; query i scores key j lower by its head's slope times ``|i - j|``.
        mask: (batch, length) booleans, False at keys that nobody sees.
    """

    scale: Required[float]
    causal: bool
    window: int | None
    slopes: Array | None
    mask: Array | None


def in_order(
    *,
    scale: float,
    causal: bool = False,
    window: int | None = None,
    slopes: Array | None = None,
    mask: Array | None = None,
) -> tuple[Any, ...]:
    """A ``Scoring`` by position, for calls that a tape notes."""
    return scale, causal, window, slopes, mask


def by_name(
    scale: float, causal: bool, window: int | None, slopes: Array | None, mask: Array | None
) -> Scoring:
    """What ``in_order`` has put in order."""
    return {"scale": scale, "causal": causal, "window": window, "slopes": slopes, "mask": mask}


class Attention:
    """The part of a backend that lets queries look at keys.

    Attributes:
        attention_from: how many queries or keys there have to be for a training step to work by
            these. With fewer, to keep all weights takes little memory, and is faster.
    """

    xp: Namespace
    device: Any
    attention_from: int = BLOCK

    def prefers_weights(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> bool:
        """Whether a training step had better keep all weights of ``attention`` for these.

        Args:
            Q, K, V, scoring: as for ``attention``.
        """
        return max(Q.shape[2], K.shape[2]) < self.attention_from

    def statistics_shape(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> Shape:
        """The shape of the statistics that ``attention`` returns for these.

        A step that is recorded for another backend asks for it, as nothing runs then.

        Args:
            Q, K, V, scoring: as for ``attention``.
        """
        return (*Q.shape[:3], 2)

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array]:
        """Scaled dot-product attention, of which no array of (time, length) is kept.

        ::

            P = softmax(scale Q K^T - slope |i - j|), over the keys that a query sees
            A = P V

        Where a query sees no key at all, its A is zero, and so are its gradients. Half precision is
        worked out in float32.

        Args:
            Q: (batch, heads, time, d).
            K, V: (batch, key heads, length, d); each key head serves as many heads of queries,
                which lie behind each other.
            scoring: see ``Scoring``.

        Returns:
            A, like Q, and statistics: what ``attention_gradients`` of the same backend needs to
            know of each query, in at least float32; here (batch, heads, time, 2), the maximum of
            its scores and the sum of their powers. By cuDNN on JAX, a function that knows it.
        """
        blocks = Blocks.of(self.xp, self.device, Q, K, scoring)
        return attend(self.xp, Q, K, V, scoring["scale"], blocks)

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array, Array]:
        """dL/dQ, dL/dK and dL/dV of ``attention``; no array of (time, length) is made.

        ::

            dP = dA V^T                             dS = P (dP - sum of dP P over the keys)
            dQ = scale dS K                         dK = scale dS^T Q           dV = P^T dA

        The gradients of a key head are summed over the heads of queries that it serves.

        Args:
            Q, K, V, scoring: as ``attention`` was given them.
            A, statistics: what it returned.
            dA: dL/dA.
        """
        blocks = Blocks.of(self.xp, self.device, Q, K, scoring)
        return attend_back(self.xp, Q, K, V, A, statistics, dA, scoring["scale"], blocks)


@dataclass(frozen=True)
class Blocks:
    """How queries and keys are cut into blocks, and which keys are barred in each.

    Attributes:
        xp: the namespace.
        queries, length: how many queries and keys a head of keys has.
        group: how many of these queries stand at one position.
        causal, window: as in ``Scoring``.
        positions: of the queries, and 0, 1, ... for the keys; where these matter.
        slopes: (key heads, queries, 1), where there are any.
        unseen: (batch, 1, 1, length) booleans, True at keys that nobody sees.
        size: of a block.
    """

    xp: Namespace
    queries: int
    length: int
    group: int
    causal: bool
    window: int | None
    positions: tuple[Array, Array] | None
    slopes: Array | None
    unseen: Array | None
    size: int

    @classmethod
    def of(
        cls,
        xp: Namespace,
        device: Any,
        Q: Array,
        K: Array,
        scoring: Scoring,
        size: int | None = None,
    ) -> "Blocks":
        """Those of the arguments of ``attention``."""
        _, heads, time, _ = Q.shape
        _, key_heads, length, _ = K.shape
        group = heads // key_heads
        queries = time * group
        if size is None:
            size = max(BLOCK, -(-max(queries, length) // MOST_BLOCKS))
        _, causal, window, slopes, mask = in_order(**scoring)
        positions = None
        if causal or slopes is not None:
            steps = xp.arange(max(queries, length), dtype=xp.int32, device=device)
            positions = (steps if group == 1 else steps // group), steps
        if slopes is not None:
            slopes = xp.reshape(slopes, (key_heads, 1, group))
            slopes = xp.broadcast_to(slopes, (key_heads, time, group))
            slopes = xp.reshape(slopes, (key_heads, queries, 1))
        unseen = None if mask is None else ~mask[:, None, None, :]
        return cls(xp, queries, length, group, causal, window, positions, slopes, unseen, size)

    def grouped(self, x: Array) -> Array:
        """(batch, heads, time, d) as (batch, key heads, queries, d)."""
        if self.group == 1:
            return x
        batch, heads, time, d = x.shape
        x = self.xp.reshape(x, (batch, heads // self.group, self.group, time, d))
        x = self.xp.permute_dims(x, (0, 1, 3, 2, 4))
        return self.xp.reshape(x, (batch, heads // self.group, self.queries, d))

    def ungrouped(self, x: Array) -> Array:
        """(batch, key heads, queries, d) as (batch, heads, time, d)."""
        if self.group == 1:
            return x
        batch, key_heads, queries, d = x.shape
        time = queries // self.group
        x = self.xp.reshape(x, (batch, key_heads, time, self.group, d))
        x = self.xp.permute_dims(x, (0, 1, 3, 2, 4))
        return self.xp.reshape(x, (batch, key_heads * self.group, time, d))

    def of_queries(self) -> Iterator[slice]:
        """The blocks of queries."""
        return cut(0, self.queries, self.size)

    def of_keys(self, rows: slice | None = None) -> Iterator[slice]:
        """The blocks of keys, only those that some of these queries see."""
        seen = slice(0, self.length) if rows is None else self.seen_by(rows)
        blocks = cut(0, self.length, self.size)
        return (j for j in blocks if j.start < seen.stop and j.stop > seen.start)

    def seen_by(self, rows: slice) -> slice:
        """All keys that some of these queries see, but for a mask."""
        first, last = self._ends(rows)
        return slice(
            max(first + 1 - self.window, 0) if self.window else 0,
            min(last + 1, self.length) if self.causal else self.length,
        )

    def barred(self, rows: slice, columns: slice) -> Array | None:
        """Which keys of a block are not seen; None where all are."""
        first, last = self._ends(rows)
        found = []
        if self.causal and columns.stop > first + 1:
            queries, keys = self._at(rows, columns)
            found.append(keys > queries)
        if self.window and columns.start + self.window <= last:
            queries, keys = self._at(rows, columns)
            found.append(keys <= queries - self.window)
        if self.unseen is not None:
            found.append(self.unseen[..., columns])
        return functools.reduce(operator.or_, found) if found else None

    def inclination(self, rows: slice, columns: slice) -> tuple[Array, ...]:
        """What the scores of a block are ``inclined`` by; nothing where they are not."""
        if self.slopes is None:
            return ()
        return self.slopes[:, rows, :], *self._at(rows, columns)

    def _ends(self, rows: slice) -> tuple[int, int]:
        """The positions of the first and of the last of these queries."""
        return rows.start // self.group, (rows.stop - 1) // self.group

    def _at(self, rows: slice, columns: slice) -> tuple[Array, Array]:
        assert self.positions is not None
        queries, keys = self.positions
        return queries[rows][:, None], keys[columns]


def suits_cudnn(arrays: Sequence[Array], scoring: Scoring) -> bool:
    """Whether cuDNN has attention for these, on a GPU for which it has any.

    It knows how many keys a sequence has, not which are seen: ``portable/packed_keys.py`` turns a
    mask into that, where queries see later keys. Windows, slopes and heads of keys that serve a
    group of queries were never tried on a GPU.

    Args:
        arrays: Q, K and V first.
        scoring: as for ``attention``.
    """
    Q, K, *_ = arrays
    causal, masked = scoring.get("causal", False), scoring.get("mask") is not None
    if scoring.get("window") or scoring.get("slopes") is not None or Q.shape[1] != K.shape[1]:
        return False
    dtype, time, length = Q.dtype.name, Q.shape[2], K.shape[2]
    return (
        dtype in HALVES
        and all(one.dtype.name == dtype and one.size for one in arrays)
        and not (causal and (masked or time != length))
        and Q.shape[3] % FEATURES == 0
        and Q.shape[3] <= MOST_FEATURES
        and max(time, length) > 1  # it has no gradients of one query and one key
    )


def cut(start: int, stop: int, size: int) -> Iterator[slice]:
    """So many numbers at a time, the last ones as many as there are."""
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def scores(xp: Namespace, Q: Array, K: Array, blocks: Blocks, i: slice, j: slice) -> Array:
    """Of a block, of queries that are scaled already; far below 0 where barred."""
    S = Q[..., i, :] @ xp.matrix_transpose(K[..., j, :])
    inclination, barred = blocks.inclination(i, j), blocks.barred(i, j)
    if inclination:
        S = inclined(xp, S, *inclination)
    if barred is not None:
        S += xp.astype(barred, S.dtype) * BARRED
    return S


def brought_on(
    xp: Namespace, S: Array, V: Array, before: tuple[Array, Array, Array] | None
) -> tuple[Array, Array, Array]:
    """m, l and out of some queries, after a block of keys with the scores ``S``, which is new."""
    m = xp.max(S, axis=-1, keepdims=True)
    if before is not None:
        m = xp.maximum(before[0], m)
    S -= m
    P = xp.exp(S)
    found, out = xp.sum(P, axis=-1, keepdims=True), P @ V
    if before is None:
        return m, found, out
    w = xp.exp(before[0] - m)
    return m, w * before[1] + found, w * before[2] + out


def settled(xp: Namespace, m: Array, found: Array, out: Array, masked: bool) -> tuple[Array, Array]:
    """A and statistics of some queries, after all of their keys."""
    if masked:  # it may be that all are barred: P is to come out as 0 then
        seen = m > 0.5 * BARRED
        m = xp.where(seen, m, xp.zeros_like(m))
        found = xp.where(seen, found, xp.ones_like(found))
        out = out * xp.astype(seen, out.dtype)
    return out / found, xp.concat([m, found], axis=-1)


def gradient_parts(
    xp: Namespace, S: Array, V: Array, m: Array, D: Array, dA: Array
) -> tuple[Array, Array]:
    """P and dS of a block; ``S`` is new."""
    S -= m
    P = xp.exp(S)
    dS = dA @ xp.matrix_transpose(V)
    dS -= D
    dS *= P
    return P, dS


def prepared(
    xp: Namespace, A: Array, statistics: Array, dA: Array
) -> tuple[Array, Array, Array, Array]:
    """For all queries m, dA / l, D, and 0 or 1 for whether the query learns anything."""
    m, found = statistics[..., :1], statistics[..., 1:]
    dA = widened(dA, xp) / found
    D = xp.sum(dA * widened(A, xp), axis=-1, keepdims=True)
    return m, dA, D, xp.astype(found != 1.0, dA.dtype)


def attend(
    xp: Namespace, Q: Array, K: Array, V: Array, scale: float, blocks: Blocks
) -> tuple[Array, Array]:
    """``Backend.attention``."""
    dtype = Q.dtype
    Q, K, V = widened(blocks.grouped(Q), xp) * scale, widened(K, xp), widened(V, xp)
    found = []
    for i in blocks.of_queries():
        after = None
        for j in blocks.of_keys(i):
            S = scores(xp, Q, K, blocks, i, j)
            after = brought_on(xp, S, V[..., j, :], after)
        assert after is not None
        found.append(settled(xp, *after, blocks.unseen is not None))
    A, statistics = (blocks.ungrouped(_joined(xp, parts)) for parts in zip(*found, strict=True))
    return xp.astype(A, dtype, copy=False), statistics


def attend_back(
    xp: Namespace,
    Q: Array,
    K: Array,
    V: Array,
    A: Array,
    statistics: Array,
    dA: Array,
    scale: float,
    blocks: Blocks,
) -> tuple[Array, Array, Array]:
    """``Backend.attention_gradients``."""
    dtype = Q.dtype
    Q, A, statistics, dA = map(blocks.grouped, (Q, A, statistics, dA))
    Q, K, V = widened(Q, xp) * scale, widened(K, xp), widened(V, xp)
    m, dA, D, learns = prepared(xp, A, statistics, dA)
    learning = Q * learns
    dQ: list[Array] = []
    dK: list[Any] = [xp.zeros_like(K[..., j, :]) for j in blocks.of_keys()]
    dV: list[Any] = [xp.zeros_like(V[..., j, :]) for j in blocks.of_keys()]
    for i in blocks.of_queries():
        row = xp.zeros_like(Q[..., i, :])
        for j in blocks.of_keys(i):
            k = j.start // blocks.size
            S = scores(xp, Q, K, blocks, i, j)
            at = m[..., i, :], D[..., i, :], dA[..., i, :]
            P, dS = gradient_parts(xp, S, V[..., j, :], *at)
            dV[k] = dV[k] + xp.matrix_transpose(P) @ dA[..., i, :]
            dK[k] = dK[k] + xp.matrix_transpose(dS) @ learning[..., i, :]
            row = row + dS @ K[..., j, :]
        dQ.append(row)
    return (
        xp.astype(blocks.ungrouped(_joined(xp, dQ) * (learns * scale)), dtype, copy=False),
        xp.astype(_joined(xp, dK), dtype, copy=False),
        xp.astype(_joined(xp, dV), dtype, copy=False),
    )


def _joined(xp: Namespace, parts: Any) -> Array:
    """Blocks behind each other along the axis of queries or of keys."""
    return parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=-2)
