"""Attention on NumPy: the equations of ``portable/attention.py``, head by head in fixed memory.

Scores are worked out strip by strip into the same 256 KiB, which so stay in the cache. Forward, a
strip is some queries with all keys that they see, in parts only where these are very many; backward
it is some keys with all queries that see them, so that dK and dV are one product each. Scores lie
turned, keys by queries, as NumPy is faster at maxima and sums of columns than of rows, and at
subtracting one number from each of them. Backward, products subtract what is known of a query
themselves, as further features, and multiply with the scale s; P is divided by l, dA is not::

    S - m - log l = [s Q, -m, -log l] . [K, 1, 1]           s (dP - D) = [dA, -D] . [s V, s]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends.portable.attention import cut
from xpnn.numerics import BARRED
from xpnn.typing import Array

SIDE = 256  # of a strip that is square; others have as many scores, at most
CAUSAL = 128  # the shorter side of a causal strip: so more is left out above the diagonal


def attention(
    Q: Array,
    K: Array,
    V: Array,
    scale: float,
    causal: bool,
    mask: Array | None,
    out: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
    """``Backend.attention``, into ``out`` where that is given."""
    work = _Work(Q, K, causal, mask)
    out = room_for_attention(Q) if out is None else out
    queries = np.empty(Q.shape[2:], work.dtype)
    for head in np.ndindex(*Q.shape[:2]):
        q, k, v = (work.wide(one[head]) for one in (Q, K, V))
        A, statistics = (one[head] for one in out)
        queries[...] = q
        queries *= work.dtype.type(scale)
        _attend(work, head[0], queries, k, v, A, statistics)
    return tuple(out)


def attention_gradients(
    Q: Array,
    K: Array,
    V: Array,
    A: Array,
    statistics: Array,
    dA: Array,
    scale: float,
    causal: bool,
    mask: Array | None,
    out: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
    """``Backend.attention_gradients``, into ``out`` where that is given."""
    work = _Work(Q, K, causal, mask)
    out = room_for_gradients(Q, K, V) if out is None else out
    s, d = work.dtype.type(scale), Q.shape[3]
    q_m, k_1 = (np.zeros((one.shape[2], d + 2), work.dtype) for one in (Q, K))
    dA_D, v_s = (np.zeros((one.shape[2], d + 1), work.dtype) for one in (Q, K))
    k_1[:, d:] = 1.0
    for head in np.ndindex(*Q.shape[:2]):
        q, k, v, a, da = (work.wide(one[head]) for one in (Q, K, V, A, dA))
        m, found = statistics[head].T
        for longer, one in ((q_m, q), (k_1, k), (v_s, v), (dA_D, da)):
            longer[:, :d] = one
        for longer in (q_m, v_s):  # as a whole, as that is faster
            longer *= s
        np.negative(m, out=q_m[:, d])
        np.negative(np.log(found), out=q_m[:, d + 1])
        np.negative(np.einsum("td,td->t", da, a), out=dA_D[:, d])
        v_s[:, d] = s
        narrow = [one[head] for one in out]
        sums = [work.wide(one) for one in narrow]
        sure = found == 1.0
        _attend_back(work, head[0], q_m, k_1, v_s, dA_D, q, sure if sure.any() else None, *sums)
        for one, total in zip(narrow, sums, strict=True):
            if one is not total:
                one[...] = total
    return tuple(out)


def room_for_attention(Q: Array, *rest: Any) -> tuple[Array, Array]:
    """Memory for what ``attention`` returns."""
    wide = np.result_type(Q.dtype, np.float32)
    return _heads_side_by_side(Q), np.empty((*Q.shape[:2], 2, Q.shape[2]), wide).swapaxes(2, 3)


def room_for_gradients(Q: Array, K: Array, V: Array, *rest: Any) -> tuple[Array, ...]:
    """Memory for what ``attention_gradients`` returns."""
    return tuple(map(_heads_side_by_side, (Q, K, V)))


def _heads_side_by_side(x: Array) -> Array:
    """Memory for an array like ``x``, lying as the layer wants it next."""
    batch, heads, time, d = x.shape
    return np.empty((batch, time, heads, d), x.dtype).swapaxes(1, 2)


class _Work:
    """Memory for the scores of a strip and for its products, and what is barred in it.

    Attributes:
        time, length, causal: of queries and keys.
        short, long: the most numbers along the sides of a strip.
        ones: to add up columns with.
        outputs: memory for the outputs of a strip of queries.
        unseen: (batch, length, 1), far below 0 at keys that nobody sees; None where all are seen.
    """

    def __init__(self, Q: Array, K: Array, causal: bool, mask: Array | None):
        (_, _, self.time, d), self.length, self.causal = Q.shape, K.shape[2], causal
        longest = max(self.time, self.length, 1)
        self.short = CAUSAL if causal else _even(longest, SIDE)
        self.long = SIDE**2 // self.short
        if not causal:
            self.long = _even(longest, self.long)
        self.dtype = np.result_type(Q.dtype, np.float32)
        self.ones = np.ones(self.long, self.dtype)
        self.outputs = np.empty((self.short, d), self.dtype)
        self._S, self._dS = np.empty((2, SIDE**2), self.dtype)
        self._product = np.empty(self.long * d, self.dtype)
        barred = self.dtype.type(BARRED)
        self._later = np.tri(CAUSAL, k=-1, dtype=self.dtype) * barred if causal else None
        self.unseen = None if mask is None else ~mask[..., None] * barred

    def wide(self, x: Array) -> Array:
        """In at least float32."""
        return x.astype(self.dtype, copy=False)

    def add(self, first: bool, one: Array, other: Array, total: Array) -> None:
        """A product to a total, which it is if it is the first."""
        if first:
            np.matmul(one, other, out=total)
        else:
            out = self._product[: total.size].reshape(total.shape)
            total += np.matmul(one, other, out=out)

    def scores(self, item: int, q: Array, k: Array, i: slice, j: slice) -> Array:
        """Of queries ``i`` and keys ``j``, turned; far below 0 where barred.

        Of a causal one the diagonal is where the shorter side is: the last keys forward, the first
        queries backward.
        """
        S = np.matmul(k[j], q[i].T, out=_memory(self._S, i, j))
        if self._later is not None and j.stop > i.start:
            corner = S[max(i.start - j.start, 0) :, :CAUSAL]
            corner += self._later[: corner.shape[0], : corner.shape[1]]
        if self.unseen is not None:
            S += self.unseen[item, j]
        return S

    def powers_back(self, v: Array, dA: Array, i: slice, j: slice) -> Array:
        """Of queries ``i`` and keys ``j``, turned, dP from ``v`` and ``dA``."""
        return np.matmul(v[j], dA[i].T, out=_memory(self._dS, i, j))


def _even(length: int, most: int) -> int:
    """The size of about equal parts of so many at most: multiples of 16, and no thin rest, as
    products are slower at others.

    >>> _even(300, 256)
    160
    """
    parts = -(-length // most)
    return min(most, -(-length // parts // 16) * 16)


def _memory(of_a_strip: Array, i: slice, j: slice) -> Array:
    """That of the scores of queries ``i`` and keys ``j``."""
    shape = j.stop - j.start, i.stop - i.start
    return of_a_strip[: shape[0] * shape[1]].reshape(shape)


def _attend(
    work: _Work, item: int, q: Array, k: Array, v: Array, A: Array, statistics: Array
) -> None:
    """One head, into ``A`` and ``statistics``."""
    for i in cut(0, work.time, work.short):
        m, found = statistics[i].T
        out = work.outputs[: len(m)]
        for j in cut(0, min(i.stop, work.length) if work.causal else work.length, work.long):
            P = work.scores(item, q, k, i, j)
            if j.start == 0:
                np.maximum.reduce(P, axis=0, out=m)
            else:
                w = m.copy()
                np.maximum(m, np.maximum.reduce(P, axis=0), out=m)
                w -= m
                np.exp(w, out=w)
                found *= w
                out *= w[:, None]
            P -= m
            np.exp(P, out=P)
            work.add(j.start == 0, work.ones[: len(P)], P, found)
            work.add(j.start == 0, P.T, v[j], out)
        if work.unseen is not None:
            unseen = m <= 0.5 * BARRED
            m[unseen], found[unseen], out[unseen] = 0.0, 1.0, 0.0
        np.divide(out, found[:, None], out=A[i])


def _attend_back(
    work: _Work,
    item: int,
    q_m: Array,
    k_1: Array,
    v_s: Array,
    dA_D: Array,
    q: Array,
    sure: Array | None,
    dQ: Array,
    dK: Array,
    dV: Array,
) -> None:
    """One head, into ``dQ``, ``dK`` and ``dV``; there is no dS of queries that are ``sure``."""
    k, dA = k_1[:, : q.shape[1]], dA_D[:, : q.shape[1]]
    for j in cut(0, work.length, work.short):
        begin = j.start if work.causal else 0
        for i in cut(begin, work.time, work.long):
            P = work.scores(item, q_m, k_1, i, j)
            np.exp(P, out=P)
            work.add(i.start == begin, P, dA[i], dV[j])
            dS = work.powers_back(v_s, dA_D, i, j)
            dS *= P
            if sure is not None:
                dS[:, sure[i]] = 0.0
            work.add(i.start == begin, dS, q[i], dK[j])
            work.add(j.start == 0, dS.T, k[j], dQ[i])
    if work.causal:  # keys behind the last query
        dK[work.time :], dV[work.time :] = 0.0, 0.0
