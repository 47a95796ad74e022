"""Attention on NumPy: the blocks of ``portable/attention.py``, head by head in fixed memory.

The scores of a block are worked out into the same 256 KiB for all blocks, which so stay in the
cache. They lie turned, keys by queries, as NumPy is faster at maxima and sums of columns than of
rows, and at subtracting one number from each of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends.portable.attention import BLOCK, Blocks
from xpnn.numerics import BARRED
from xpnn.typing import Array

CAUSAL_BLOCK = 128  # queries and keys: of smaller blocks, more can be left out above the diagonal


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
    for head in np.ndindex(*Q.shape[:2]):
        q, k, v = (work.wide(one[head]) for one in (Q, K, V))
        A, statistics = (one[head] for one in out)
        _attend(work, head[0], q * work.dtype.type(scale), k, v, A, statistics)
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
    for head in np.ndindex(*Q.shape[:2]):
        q, k, v, a, da = (work.wide(one[head]) for one in (Q, K, V, A, dA))
        narrow = [one[head] for one in out]
        sums = [work.wide(one) for one in narrow]
        m, found = statistics[head].T
        D = np.einsum("td,td->t", da, a) / found
        s = work.dtype.type(scale)
        _attend_back(work, head[0], q * s, k, v, m.copy(), found, da / found[:, None], D, *sums)
        sums[0] *= s if np.all(learns := found != 1.0) else s * learns[:, None]
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
    """Memory for the scores of a block and for its products, and what is barred in it."""

    def __init__(self, Q: Array, K: Array, causal: bool, mask: Array | None):
        size = CAUSAL_BLOCK if causal else BLOCK
        self.blocks = Blocks.of(np, None, Q, K, causal, mask, size)
        self.dtype = np.result_type(Q.dtype, np.float32)
        self.ones, self.outputs = (
            np.ones(size, self.dtype),
            np.empty((size, Q.shape[-1]), self.dtype),
        )
        self._S, self._dS = np.empty((2, size * size), self.dtype)
        self._product = np.empty(size * Q.shape[-1], self.dtype)
        triangle = np.tri(size, k=-1, dtype=self.dtype) * self.dtype.type(BARRED)
        self._later = triangle if causal else None

    def wide(self, x: Array) -> Array:
        """In at least float32."""
        return x.astype(self.dtype, copy=False)

    def square(self, rows: slice, columns: slice, first: bool = True) -> Array:
        """(keys, queries) of one block: the one for scores, or the other one."""
        shape = columns.stop - columns.start, rows.stop - rows.start
        return (self._S if first else self._dS)[: shape[0] * shape[1]].reshape(shape)

    def add(self, first: bool, one: Array, other: Array, total: Array) -> None:
        """A product of two blocks to a total, which it is if it is the first."""
        if first:
            np.matmul(one, other, out=total)
        else:
            out = self._product[: total.size].reshape(total.shape)
            total += np.matmul(one, other, out=out)

    def scores(self, item: int, q: Array, k: Array, rows: slice, columns: slice) -> Array:
        """Of one block, turned; far below 0 where barred."""
        S = np.matmul(k[columns], q[rows].T, out=self.square(rows, columns))
        if self._later is not None and rows.start == columns.start:
            S += self._later[: S.shape[0], : S.shape[1]]
        if self.blocks.unseen is not None:
            S += self.blocks.unseen[item, 0, 0, columns, None] * self.dtype.type(BARRED)
        return S


def _attend(
    work: _Work, item: int, q: Array, k: Array, v: Array, A: Array, statistics: Array
) -> None:
    """One head, into ``A`` and ``statistics``."""
    for i in work.blocks.of_queries():
        m, found = statistics[i].T
        out = work.outputs[: len(m)]
        for j in work.blocks.of_keys(i):
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
        if work.blocks.unseen is not None:
            unseen = m <= 0.5 * BARRED
            m[unseen], found[unseen], out[unseen] = 0.0, 1.0, 0.0
        np.divide(out, found[:, None], out=A[i])


def _attend_back(
    work: _Work,
    item: int,
    q: Array,
    k: Array,
    v: Array,
    m: Array,
    found: Array,
    dA: Array,
    D: Array,
    dQ: Array,
    dK: Array,
    dV: Array,
) -> None:
    """One head, into ``dQ``, which lacks the scale, ``dK`` and ``dV``."""
    learning = q if np.all(found != 1.0) else q * (found != 1.0)[:, None]
    for i in work.blocks.of_queries():
        for j in work.blocks.of_keys(i):
            P = work.scores(item, q, k, i, j)
            P -= m[i]
            np.exp(P, out=P)
            first = j.start >= i.start if work.blocks.causal else i.start == 0
            work.add(first, P, dA[i], dV[j])
            dS = np.matmul(v[j], dA[i].T, out=work.square(i, j, first=False))
            dS -= D[i]
            dS *= P
            work.add(first, dS, learning[i], dK[j])
            work.add(j.start == 0, dS.T, k[j], dQ[i])
    if work.blocks.causal:  # keys behind the last query
        dK[len(q) :], dV[len(q) :] = 0.0, 0.0
