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
"""  # noqa: E501

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xpnn.numerics import BARRED, widened
from xpnn.typing import Array, Namespace, Shape

BLOCK = 256  # queries and keys of one block: in float32, its scores are 256 KiB for each head
MOST_BLOCKS = 8  # along each axis: compilers are given all of them, one after another

HALVES = "float16", "bfloat16"  # the dtypes that cuDNN has attention for
FEATURES = 8  # of a head, for cuDNN: multiples of so many, which are 16 bytes,
MOST_FEATURES = 128  # and at most so many, by what its gradients are for on every GPU


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
        *,
        scale: float,
        causal: bool = False,
        mask: Array | None = None,
    ) -> bool:
        """Whether a training step had better keep all weights of ``attention`` for these.

        Args:
            Q, K, V, scale, causal, mask: as for ``attention``.
        """
        return max(Q.shape[2], K.shape[2]) < self.attention_from

    def statistics_shape(
        self,
        Q: Array,
        K: Array,
        V: Array,
        *,
        scale: float,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Shape:
        """The shape of the statistics that ``attention`` returns for these.

        A step that is recorded for another backend asks for it, as nothing runs then.

        Args:
            Q, K, V, scale, causal, mask: as for ``attention``.
        """
        return (*Q.shape[:3], 2)

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        *,
        scale: float,
        causal: bool = False,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """Scaled dot-product attention, of which no array of (time, length) is kept.

        ::

            P = softmax(scale Q K^T), over the keys that a query sees        A = P V

        Where a query sees no key at all, its A is zero, and so are its gradients. Half precision is
        worked out in float32.

        Args:
            Q: (batch, heads, time, d).
            K, V: (batch, heads, length, d).
            scale: what the scores are multiplied with.
            causal: whether query i sees no key behind key i.
            mask: (batch, length) booleans, False at keys that nobody sees.

        Returns:
            A, like Q, and statistics: what ``attention_gradients`` of the same backend needs to
            know of each query, in at least float32; here (batch, heads, time, 2), the maximum of
            its scores and the sum of their powers. By cuDNN on JAX, a function that knows it.
        """
        blocks = Blocks.of(self.xp, self.device, Q, K, causal, mask)
        return attend(self.xp, Q, K, V, scale, blocks)

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        *,
        scale: float,
        causal: bool = False,
        mask: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """dL/dQ, dL/dK and dL/dV of ``attention``; no array of (time, length) is made.

        ::

            dP = dA V^T                             dS = P (dP - sum of dP P over the keys)
            dQ = scale dS K                         dK = scale dS^T Q           dV = P^T dA

        Args:
            Q, K, V, scale, causal, mask: as ``attention`` was given them.
            A, statistics: what it returned.
            dA: dL/dA.
        """
        blocks = Blocks.of(self.xp, self.device, Q, K, causal, mask)
        return attend_back(self.xp, Q, K, V, A, statistics, dA, scale, blocks)


@dataclass(frozen=True)
class Blocks:
    """How queries and keys are cut into blocks, and which keys are barred in each.

    Attributes:
        xp: the namespace.
        time, length: how many queries and keys there are.
        causal: as for ``attention``.
        positions: 0, 1, ... for a causal one.
        unseen: (batch, 1, 1, length) booleans, True at keys that nobody sees.
        size: of a block.
    """

    xp: Namespace
    time: int
    length: int
    causal: bool
    positions: Array | None
    unseen: Array | None
    size: int

    @classmethod
    def of(
        cls,
        xp: Namespace,
        device: Any,
        Q: Array,
        K: Array,
        causal: bool,
        mask: Array | None,
        size: int | None = None,
    ) -> "Blocks":
        """Those of the arguments of ``attention``."""
        time, length = Q.shape[-2], K.shape[-2]
        if size is None:
            size = max(BLOCK, -(-max(time, length) // MOST_BLOCKS))
        positions = None
        if causal:
            positions = xp.arange(max(time, length), dtype=xp.int32, device=device)
        unseen = None if mask is None else ~mask[:, None, None, :]
        return cls(xp, time, length, causal, positions, unseen, size)

    def of_queries(self) -> Iterator[slice]:
        """The blocks of queries."""
        return cut(0, self.time, self.size)

    def of_keys(self, rows: slice | None = None) -> Iterator[slice]:
        """The blocks of keys, only those that some of these queries see."""
        reached = self.length if rows is None else self.seen_by(rows).stop
        return (j for j in cut(0, self.length, self.size) if j.start < reached)

    def seen_by(self, rows: slice) -> slice:
        """All keys that some of these queries see, but for a mask."""
        return slice(0, min(rows.stop, self.length) if self.causal else self.length)

    def barred(self, rows: slice, columns: slice) -> Array | None:
        """Which keys of a block are not seen; None where all are."""
        later = None
        if self.causal and columns.stop > rows.start + 1:
            assert self.positions is not None
            later = self.positions[columns] > self.positions[rows][:, None]
        if self.unseen is None:
            return later
        unseen = self.unseen[..., columns]
        return unseen if later is None else unseen | later


def suits_cudnn(arrays: Sequence[Array], causal: bool, masked: bool) -> bool:
    """Whether cuDNN has attention for these, on a GPU for which it has any.

    It knows how many keys a sequence has, not which are seen: ``portable/packed_keys.py`` turns a
    mask into that, where queries see later keys.

    Args:
        arrays: Q, K and V first.
        causal: as for ``attention``.
        masked: whether there is a mask.
    """
    Q, K, *_ = arrays
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


def scores(xp: Namespace, Q: Array, K: Array, barred: Array | None) -> Array:
    """Products of queries, already scaled, and keys; far below 0 where barred."""
    S = Q @ xp.matrix_transpose(K)
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
    Q, K, V = widened(Q, xp) * scale, widened(K, xp), widened(V, xp)
    found = []
    for i in blocks.of_queries():
        after = None
        for j in blocks.of_keys(i):
            S = scores(xp, Q[..., i, :], K[..., j, :], blocks.barred(i, j))
            after = brought_on(xp, S, V[..., j, :], after)
        assert after is not None
        found.append(settled(xp, *after, blocks.unseen is not None))
    A, statistics = (_joined(xp, parts) for parts in zip(*found, strict=True))
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
    Q, K, V = widened(Q, xp) * scale, widened(K, xp), widened(V, xp)
    m, dA, D, learns = prepared(xp, A, statistics, dA)
    learning, columns = Q * learns, list(blocks.of_keys())
    dQ: list[Array] = []
    dK: list[Any] = [xp.zeros_like(K[..., j, :]) for j in columns]
    dV: list[Any] = [xp.zeros_like(V[..., j, :]) for j in columns]
    for i in blocks.of_queries():
        row = xp.zeros_like(Q[..., i, :])
        for k, j in enumerate(blocks.of_keys(i)):
            S = scores(xp, Q[..., i, :], K[..., j, :], blocks.barred(i, j))
            at = m[..., i, :], D[..., i, :], dA[..., i, :]
            P, dS = gradient_parts(xp, S, V[..., j, :], *at)
            dV[k] = dV[k] + xp.matrix_transpose(P) @ dA[..., i, :]
            dK[k] = dK[k] + xp.matrix_transpose(dS) @ learning[..., i, :]
            row = row + dS @ K[..., j, :]
        dQ.append(row)
    return (
        xp.astype(_joined(xp, dQ) * (learns * scale), dtype, copy=False),
        xp.astype(_joined(xp, dK), dtype, copy=False),
        xp.astype(_joined(xp, dV), dtype, copy=False),
    )


def _joined(xp: Namespace, parts: Any) -> Array:
    """Blocks behind each other along the axis of queries or of keys."""
    return parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=-2)
