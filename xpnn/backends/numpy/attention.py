"""Attention on NumPy: the equations of ``portable/attention.py``, head by head in fixed memory.

Scores are worked out strip by strip into the same 256 KiB, which so stay in the cache. Forward, a
strip is some queries with all keys that they see, in parts only where these are very many; backward
it is some keys with all queries that see them, so that dK and dV are one product each. Scores lie
turned, keys by queries, as NumPy is faster at maxima and sums of columns than of rows, and at
subtracting one number from each of them. Backward, products subtract what is known of a query
themselves, as further features, and multiply with the scale s; P is divided by l, dA is not::

    S - m - log l = [s Q, -m, -log l] . [K, 1, 1]           s (dP - D) = [dA, -D] . [s V, s]

What slopes and a window add to a score depends on the distance of query and key alone, and is made
once for each distance; a strip reads it as a matrix of which each row begins one number further on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
    window: int | None,
    slopes: Array | None,
    mask: Array | None,
    out: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
    """``Backend.attention``, into ``out`` where that is given."""
    work = _Work(Q, K, causal, window, slopes, mask)
    out = room_for_attention(Q) if out is None else out
    queries = np.empty(Q.shape[2:], work.dtype)
    for key_head in np.ndindex(*K.shape[:2]):
        k, v = (work.wide(one[key_head]) for one in (K, V))
        for head in _served_by(key_head, Q, K):
            A, statistics = (one[head] for one in out)
            queries[...] = Q[head]
            queries *= work.dtype.type(scale)
            _attend(work, head, queries, k, v, A, statistics)
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
    window: int | None,
    slopes: Array | None,
    mask: Array | None,
    out: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
    """``Backend.attention_gradients``, into ``out`` where that is given."""
    work = _Work(Q, K, causal, window, slopes, mask)
    out = room_for_gradients(Q, K, V) if out is None else out
    s, d = work.dtype.type(scale), Q.shape[3]
    q_m, k_1 = (np.zeros((one.shape[2], d + 2), work.dtype) for one in (Q, K))
    dA_D, v_s = (np.zeros((one.shape[2], d + 1), work.dtype) for one in (Q, K))
    k_1[:, d:] = 1.0
    for key_head in np.ndindex(*K.shape[:2]):
        k_1[:, :d], v_s[:, :d] = K[key_head], V[key_head]
        v_s *= s  # as a whole, as that is faster
        v_s[:, d] = s
        places = [one[key_head] for one in out[1:]]
        key_sums = [work.wide(one) for one in places]
        heads = _served_by(key_head, Q, K)
        for head in heads:
            q, a, da = (work.wide(one[head]) for one in (Q, A, dA))
            m, found = statistics[head].T
            q_m[:, :d], dA_D[:, :d] = q, da
            q_m *= s
            np.negative(m, out=q_m[:, d])
            np.negative(np.log(found), out=q_m[:, d + 1])
            np.negative(np.einsum("td,td->t", da, a), out=dA_D[:, d])
            place = out[0][head]
            dQ, sure = work.wide(place), found == 1.0
            known = q_m, k_1, v_s, dA_D, q, sure if sure.any() else None
            _attend_back(work, head, head == heads[0], *known, dQ, *key_sums)
            _put(dQ, place)
        for total, place in zip(key_sums, places, strict=True):
            _put(total, place)
    return tuple(out)


def _served_by(key_head: tuple[int, ...], Q: Array, K: Array) -> list[tuple[int, int]]:
    """The heads of queries that a head of keys serves; each with its item of the batch."""
    item, number = key_head
    group = Q.shape[1] // K.shape[1]
    return [(item, number * group + k) for k in range(group)]


def _put(wide: Array, place: Array) -> None:
    """Into its place what is not there already."""
    if wide is not place:
        place[...] = wide


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
    """Memory for the scores of a strip and for its products, and what is added to them.

    Attributes:
        time, length, causal, window: of queries and keys.
        short, long: the most numbers along the sides of a strip.
        ones: to add up columns with.
        outputs: memory for the outputs of a strip of queries.
        unseen: (batch, length, 1), far below 0 at keys that nobody sees; None where all are seen.
    """

    def __init__(
        self,
        Q: Array,
        K: Array,
        causal: bool,
        window: int | None,
        slopes: Array | None,
        mask: Array | None,
    ):
        (_, _, self.time, d), self.length = Q.shape, K.shape[2]
        self.causal, self.window = causal, window
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
        self._later = self._by_distance = None
        if window or slopes is not None:
            self._by_distance = self._added_at_distances(slopes, barred)
        elif causal:
            self._later = np.tri(CAUSAL, k=-1, dtype=self.dtype) * barred
        self.unseen = None if mask is None else ~mask[..., None] * barred

    def _added_at_distances(self, slopes: Array | None, barred: np.floating[Any]) -> Array:
        """What is added to a score where its key is so far before its query: (heads or 1, ...), at
        k the numbers for the distances k + 1 - length and on, as many as a strip has queries.
        """
        most = max(self.short, self.long)
        distances = np.arange(1 - self.length, self.time + most)
        added = np.zeros((1, len(distances)), self.dtype)
        if slopes is not None:
            added = added - slopes[:, None].astype(self.dtype) * np.abs(distances)
        if self.causal:
            added[:, distances < 0] = barred
        if self.window:
            added[:, distances >= self.window] = barred
        return sliding_window_view(added, most, axis=1)

    def keys_of(self, i: slice) -> Iterator[slice]:
        """The strips of the keys that queries ``i`` see."""
        first = max(i.start + 1 - self.window, 0) if self.window else 0
        return cut(first, min(i.stop, self.length) if self.causal else self.length, self.long)

    def queries_of(self, j: slice) -> Iterator[slice]:
        """The strips of the queries that see keys ``j``."""
        last = min(j.stop - 1 + self.window, self.time) if self.window else self.time
        return cut(j.start if self.causal else 0, last, self.long)

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

    def scores(self, head: tuple[int, int], q: Array, k: Array, i: slice, j: slice) -> Array:
        """Of queries ``i`` and keys ``j``, turned; far below 0 where barred.

        Of a causal one the diagonal is where the shorter side is: the last keys forward, the first
        queries backward.
        """
        S = np.matmul(k[j], q[i].T, out=_memory(self._S, i, j))
        if self._later is not None and j.stop > i.start:
            corner = S[max(i.start - j.start, 0) :, :CAUSAL]
            corner += self._later[: corner.shape[0], : corner.shape[1]]
        if self._by_distance is not None:
            first, (keys, queries) = i.start - j.stop + self.length, S.shape
            of_a_head = self._by_distance[head[1] % len(self._by_distance)]
            S += of_a_head[first : first + keys, :queries][::-1]
        if self.unseen is not None:
            S += self.unseen[head[0], j]
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
    work: _Work,
    head: tuple[int, int],
    q: Array,
    k: Array,
    v: Array,
    A: Array,
    statistics: Array,
) -> None:
    """One head, into ``A`` and ``statistics``."""
    for i in cut(0, work.time, work.short):
        m, found = statistics[i].T
        out = work.outputs[: len(m)]
        for number, j in enumerate(work.keys_of(i)):
            P = work.scores(head, q, k, i, j)
            if number == 0:
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
            work.add(number == 0, work.ones[: len(P)], P, found)
            work.add(number == 0, P.T, v[j], out)
        if work.unseen is not None:
            unseen = m <= 0.5 * BARRED
            m[unseen], found[unseen], out[unseen] = 0.0, 1.0, 0.0
        np.divide(out, found[:, None], out=A[i])


def _attend_back(
    work: _Work,
    head: tuple[int, int],
    is_first: bool,
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
    """One head, into ``dQ``, and into ``dK`` and ``dV``, to which it adds unless it is the first
    of its group; there is no dS of queries that are ``sure``.
    """
    k, dA = k_1[:, : q.shape[1]], dA_D[:, : q.shape[1]]
    if work.window:  # so that the first strip of a query's keys need not be told
        dQ[...] = 0.0
    for j in cut(0, work.length, work.short):
        for number, i in enumerate(work.queries_of(j)):
            P = work.scores(head, q_m, k_1, i, j)
            np.exp(P, out=P)
            work.add(is_first and number == 0, P, dA[i], dV[j])
            dS = work.powers_back(v_s, dA_D, i, j)
            dS *= P
            if sure is not None:
                dS[:, sure[i]] = 0.0
            work.add(is_first and number == 0, dS, q[i], dK[j])
            work.add(j.start == 0 and not work.window, dS.T, k[j], dQ[i])
    if work.causal and is_first:  # keys behind the last query
        dK[work.time :], dV[work.time :] = 0.0, 0.0
