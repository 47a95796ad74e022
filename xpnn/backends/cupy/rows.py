"""Attention over blocks of queries, with all keys that they see: what cuDNN does not do on CuPy.

The formulas are those of ``portable/attention.py``, whose blocks are small enough to stay in a
cache, and would be thousands of launches here. A block of queries is a few kernels, whose time is
that of the memory they go through, so blocks are large. Where queries see no later keys, more
blocks leave out more: n of them have (n + 1) / 2n of all scores.
"""

import math
from collections.abc import Callable
from typing import Any

from xpnn.backends.cupy.reductions import Softmax
from xpnn.backends.portable.attention import Blocks, Scoring
from xpnn.numerics import BARRED, inclined
from xpnn.typing import Array, Namespace, Shape

KEPT_SCORES = 1 << 23  # to keep as many P takes 32 MiB in float32, and is no slower
MOST_SCORES = 1 << 26  # of a block: 256 MiB in float32
WORTH_LAUNCHES = 1 << 23  # scores: to go through these takes as long as to launch what a block is
ROWS = 64  # products are faster of multiples of these


class Rows:
    """Attention and its gradients; half precision is worked out in float32.

    Args:
        xp, elementwise, sums, softmax: the backend's.
    """

    def __init__(
        self,
        xp: Namespace,
        elementwise: Callable[..., Any],
        sums: Callable[..., Callable[..., Array]],
        softmax: Softmax,
    ):
        self._xp, self._softmax, self._product_sums = xp, softmax, sums(_product)
        self._copy = elementwise(_copy, donate=(0,))
        self._incline = elementwise(inclined, donate=(0,))
        self._back = elementwise(_powers_and_slopes, donate=(0, 1))

    def attention(self, Q: Array, K: Array, V: Array, scoring: Scoring) -> tuple[Array, Array]:
        """``Backend.attention``; statistics are those of the portable version."""
        import cupy

        blocks, dtype = self._blocks(Q, K, scoring), Q.dtype
        Q = self._copied(blocks.grouped(Q), scoring["scale"])
        K, V = self._copied(K), self._copied(V)
        A, statistics = _turned_empty(Q), cupy.empty((*Q.shape[:3], 2), Q.dtype)
        for i in blocks.of_queries():
            j = blocks.seen_by(i)
            S = self._scores(Q, K, blocks, i, j)
            barred = _listed(blocks.barred(i, j))
            top = self._softmax.top(S, *barred)
            if blocks.unseen is not None:  # it may be that all are barred: P is to come out as 0
                top = cupy.where(top > 0.5 * BARRED, top, 0.0)
            total = self._softmax.total(S, top, *barred)
            if blocks.unseen is not None:
                total = cupy.maximum(total, 1.0)  # as it is wherever a key is seen
            A[..., i, :] = self._softmax.shares(S, top, total, *barred) @ V[..., j, :]
            statistics[..., i, :1], statistics[..., i, 1:] = top, total
        A, statistics = blocks.ungrouped(A), blocks.ungrouped(statistics)
        return self._xp.astype(A, dtype, copy=False), statistics

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        scoring: Scoring,
    ) -> tuple[Array, Array, Array]:
        """``Backend.attention_gradients``."""
        import cupy

        blocks, dtype, scale = self._blocks(Q, K, scoring), Q.dtype, scoring["scale"]
        Q, A, statistics, dA = map(blocks.grouped, (Q, A, statistics, dA))
        D = self._product_sums(dA, A)
        Q, K, V, dA = self._copied(Q, scale), *map(self._copied, (K, V, dA))
        dQ = _turned_empty(Q)
        sums: list[Array] = []
        for i in reversed([*blocks.of_queries()]):
            j = blocks.seen_by(i)
            k, v, q, da = K[..., j, :], V[..., j, :], Q[..., i, :], dA[..., i, :]
            S, dP = self._scores(Q, K, blocks, i, j), da @ v.swapaxes(2, 3)
            known = statistics[..., i, :1], statistics[..., i, 1:], D[..., i, :]
            P, dS = self._back(S, dP, *known, *_listed(blocks.barred(i, j)))
            found = dS.swapaxes(2, 3) @ q, P.swapaxes(2, 3) @ da
            if not sums and j.start == 0:  # the last block, which sees all keys that any query sees
                sums = [*found]
            else:
                sums = sums or [cupy.zeros_like(one) for one in (K, V)]
                for total, part in zip(sums, found, strict=True):
                    total[..., j, :] += part
            cupy.multiply(dS @ k, scale, out=dQ[..., i, :])
        dK, dV = (_filled_up(one, K.shape) for one in sums)
        astype = self._xp.astype
        return (
            astype(blocks.ungrouped(dQ), dtype, copy=False),
            astype(dK, dtype, copy=False),
            astype(dV, dtype, copy=False),
        )

    def _blocks(self, Q: Array, K: Array, scoring: Scoring) -> Blocks:
        scores = math.prod(Q.shape[:3]) * K.shape[2]
        queries = Q.shape[1] // K.shape[1] * Q.shape[2]
        size = rows_of_a_block(scores, queries, scoring.get("causal", False))
        return Blocks.of(self._xp, Q.device, Q, K, scoring, size)

    def _scores(self, Q: Array, K: Array, blocks: Blocks, i: slice, j: slice) -> Array:
        S = Q[..., i, :] @ K[..., j, :].swapaxes(2, 3)
        inclination = blocks.inclination(i, j)
        return self._incline(S, *inclination) if inclination else S

    def _copied(self, x: Array, factor: float = 1.0) -> Array:
        """``x``, in at least float32, so that blocks of rows can be multiplied as they lie."""
        import cupy

        wide = "float64" if x.dtype.char == "d" else "float32"
        return self._copy(cupy.empty(x.shape, wide), x, factor)


def rows_of_a_block(scores: int, time: int, causal: bool) -> int:
    """How many queries are a block, where there are so many scores in all.

    Of n blocks the launches take n times as long as to go through ``WORTH_LAUNCHES`` scores; what
    they leave out is most worth that where n is the root of how often that goes into all scores.
    """
    blocks = -(-scores // MOST_SCORES)
    if causal:
        blocks = max(blocks, round(math.sqrt(scores / WORTH_LAUNCHES)))
    return -(-time // max(blocks, 1) // ROWS) * ROWS


def _copy(xp: Namespace, room: Array, x: Array, factor: float) -> Array:
    return xp.astype(x, room.dtype) * factor


def _product(xp: Namespace, a: Array, b: Array) -> Array:
    return a * b


def _powers_and_slopes(
    xp: Namespace, S: Array, dP: Array, m: Array, found: Array, D: Array, *barred: Array
) -> tuple[Array, Array]:
    """P and dS, which is 0 where a query is sure of its key."""
    if barred:
        S = S + xp.astype(barred[0], S.dtype) * BARRED
    P = xp.exp(S - m) / found
    return P, P * (dP - D) * xp.astype(found != 1.0, P.dtype)


def _turned_empty(x: Array) -> Array:
    """Memory for an array like ``x``, lying as the layer wants it next."""
    import cupy

    batch, heads, time, d = x.shape
    return cupy.empty((batch, time, heads, d), x.dtype).transpose(0, 2, 1, 3)


def _filled_up(sums: Array, shape: Shape) -> Array:
    """With zeros for keys behind the last query."""
    import cupy

    if sums.shape == shape:
        return sums
    whole = cupy.zeros(shape, sums.dtype)
    whole[..., : sums.shape[2], :] = sums
    return whole


def _listed(barred: Array | None) -> list[Array]:
    return [] if barred is None else [barred]
