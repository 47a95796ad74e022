"""Attention by cuDNN, in half precision: read where a layer's joint product has left Q, K and V.

cuDNN takes (batch, heads, time, d) with strides of any order, as long as the d numbers of a head
lie side by side. Sums are in float32; of each query it keeps ``m + log l`` in float32, m and l as
in ``portable/attention.py``. Where a query is sure of its key, its dS is a few roundings, not 0.

A mask of keys becomes a length for each sequence (``portable/packed_keys.py``), which cuDNN knows.

``serves`` is False for what cuDNN does not do, and for what was never tried: other dtypes, masks
where queries see no later keys, heads of more than 128 features, fewer heads of keys than of
queries, windows and slopes, and what it refuses itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpnn.backends.cupy.cudnn import ALIGNMENT, Cudnn, Plan
from xpnn.backends.portable.attention import HALVES, Scoring, suits_cudnn
from xpnn.backends.portable.packed_keys import Packing
from xpnn.typing import Array, Shape


@dataclass(frozen=True)
class Pass:
    """Attention forward or backward, for arrays of some shapes that lie in some way.

    Attributes:
        name: of the operation of a cuDNN graph.
        queries: (batch, heads, time, d).
        keys: (batch, heads, length, d).
        strides: of Q, K and V; backward of A and dA, too; in numbers.
        scale: what the scores are multiplied with.
        causal: whether query i sees no key behind key i.
        padded: whether each sequence has a length of its own.
    """

    name: str
    queries: Shape
    keys: Shape
    strides: tuple[Shape, ...]
    scale: float
    causal: bool
    padded: bool
    dtype: str
    deterministic: bool
    exact: bool = False

    def lay_out(self, graph: Any, dtype: Any, wide: Any) -> list[Any]:
        """The tensors of Q, K, V, A and statistics; backward of Q, K, V, A, dA, statistics and
        the gradients of the first three. Where padded, how many queries and keys each sequence has
        stand in front, (batch,) int32.
        """
        batch, heads, time, _ = self.queries
        shapes = self.queries, self.keys, self.keys, self.queries, self.queries
        given = [
            graph.tensor(name=name, dim=list(shape), stride=list(strides), data_type=dtype)
            for name, shape, strides in zip("QKVAD", shapes, self.strides, strict=False)
        ]
        options = {"attn_scale": self.scale, "use_causal_mask": self.causal}
        lengths = []
        if self.padded:
            one_each = {"dim": [batch, 1, 1, 1], "stride": [1, 1, 1, 1]}
            lengths = [
                graph.tensor(name=name, data_type=type(wide).INT32, **one_each) for name in "qk"
            ]
            options |= {"use_padding_mask": True}
            options |= zip(("seq_len_q", "seq_len_kv"), lengths, strict=True)
        of_queries = {"dim": [batch, heads, time, 1], "stride": [heads * time, time, 1, 1]}
        if self.name == "sdpa":
            q, k, v = given
            A, statistics = graph.sdpa(q=q, k=k, v=v, generate_stats=True, **options)
            statistics.set_output(True).set_data_type(wide)
            statistics.set_dim(of_queries["dim"]).set_stride(of_queries["stride"])
            return [
                *lengths,
                *given,
                _as_result(A, self.queries, _own_strides(self.queries), dtype),
                statistics,
            ]
        q, k, v, o, dO = given
        statistics = graph.tensor(name="statistics", data_type=wide, **of_queries)
        found = graph.sdpa_backward(
            q=q,
            k=k,
            v=v,
            o=o,
            dO=dO,
            stats=statistics,
            use_deterministic_algorithm=self.deterministic,
            **options,
        )
        is_joint = self.queries == self.keys
        strides_of = _joint_strides if is_joint else _own_strides
        results = [
            _as_result(one, shape, strides_of(shape), dtype)
            for one, shape in zip(found, shapes[:3], strict=True)
        ]
        return [*lengths, *given, statistics, *results]


def serves(
    Q: Array,
    K: Array,
    V: Array,
    scoring: Scoring,
    cudnn: Cudnn,
    deterministic: bool,
) -> bool:
    """Whether cuDNN works attention out for these, forward."""
    return _planned("sdpa", [Q, K, V], scoring, cudnn, deterministic) is not None


def attention(
    Q: Array,
    K: Array,
    V: Array,
    scoring: Scoring,
    packing: Packing | None,
    cudnn: Cudnn,
    deterministic: bool,
) -> tuple[Array, Array]:
    """``Backend.attention`` where cuDNN serves; statistics are (batch, heads, time, 1)."""
    import cupy

    if packing is not None:
        K, V = map(packing.packed, (K, V))
    given = [Q, K, V]
    plan = _planned("sdpa", given, scoring, cudnn, deterministic)
    assert plan is not None
    A, statistics = _empty(Q.shape, Q.dtype), cupy.empty((*Q.shape[:3], 1), "float32")
    cudnn.run(plan, [*_lengths(packing), *map(_readable, given), A, statistics])
    return A if packing is None else packing.answered(A), statistics


def attention_gradients(
    Q: Array,
    K: Array,
    V: Array,
    A: Array,
    statistics: Array,
    dA: Array,
    scoring: Scoring,
    packing: Packing | None,
    cudnn: Cudnn,
    deterministic: bool,
) -> tuple[Array, Array, Array] | None:
    """``Backend.attention_gradients``, of what ``attention`` has worked out; None if refused.

    Gradients of one shape lie side by side, (batch, time, 3, heads, d), as their layer joins them.
    """
    if packing is not None:
        K, V, dA = packing.packed(K), packing.packed(V), packing.answered(dA)
    given = [Q, K, V, A, dA]
    plan = _planned("sdpa_backward", given, scoring, cudnn, deterministic)
    if plan is None:
        return None
    if Q.shape == K.shape:
        dQ, dK, dV = _empty_side_by_side(Q.shape, Q.dtype)
    else:
        dQ, dK, dV = (_empty(one.shape, one.dtype) for one in (Q, K, V))
    cudnn.run(plan, [*_lengths(packing), *map(_readable, given), statistics, dQ, dK, dV])
    if packing is not None:
        dK, dV = map(packing.unpacked, (dK, dV))
    return dQ, dK, dV


def is_half(array: Array) -> bool:
    """Whether it is of a dtype that cuDNN has attention for."""
    return array.dtype.name in HALVES


def _planned(
    name: str, arrays: Sequence[Array], scoring: Scoring, cudnn: Cudnn, deterministic: bool
) -> Plan | None:
    if not cudnn.attends or not suits_cudnn(arrays, scoring):
        return None
    Q, K, *_ = arrays
    strides = [_strides(one) or _own_strides(one.shape) for one in arrays]
    padded = scoring.get("mask") is not None
    if padded:
        strides[1:3] = [_own_strides(K.shape)] * 2  # as they lie once they are packed
    scale = float(scoring["scale"])  # cuDNN takes no other number for it
    causal = scoring.get("causal", False)
    form = Q.shape, K.shape, tuple(strides), scale, causal, padded, Q.dtype.name, deterministic
    return cudnn.plan(Pass(name, *form))


def _lengths(packing: Packing | None) -> list[Array]:
    return [] if packing is None else [packing.queries, packing.keys]


# How arrays lie -----------------------------------------------------------------------------------


def _own_strides(shape: Shape) -> Shape:
    """Those of (batch, heads, time, d) that lies as (batch, time, heads, d), as layers want it.

    >>> _own_strides((2, 3, 5, 8))
    (120, 8, 24, 1)
    """
    _, heads, time, d = shape
    return time * heads * d, d, heads * d, 1


def _empty(shape: Shape, dtype: Any) -> Array:
    import cupy

    batch, heads, time, d = shape
    return cupy.empty((batch, time, heads, d), dtype).transpose(0, 2, 1, 3)


def _joint_strides(shape: Shape) -> Shape:
    """Those of one of three that lie as (batch, time, 3, heads, d).

    >>> _joint_strides((2, 3, 5, 8))
    (360, 8, 72, 1)
    """
    _, heads, time, d = shape
    return time * 3 * heads * d, d, 3 * heads * d, 1


def _empty_side_by_side(shape: Shape, dtype: Any) -> list[Array]:
    import cupy

    batch, heads, time, d = shape
    joint = cupy.empty((batch, time, 3, heads, d), dtype)
    return [joint[:, :, k].transpose(0, 2, 1, 3) for k in range(3)]


def _strides(x: Array) -> Shape | None:
    """How ``x`` lies, in numbers; None where cuDNN cannot read it so."""
    itemsize, own = x.dtype.itemsize, _own_strides(x.shape)
    found = tuple(
        stride // itemsize if count > 1 else usual  # no matter where there is one
        for count, stride, usual in zip(x.shape, x.strides, own, strict=True)
    )
    apart = all(stride > 0 and stride * itemsize % ALIGNMENT == 0 for stride in found[:3])
    address = getattr(x.data, "ptr", 0)  # while a step is recorded there is none yet
    return found if apart and found[3] == 1 and address % ALIGNMENT == 0 else None


def _readable(x: Array) -> Array:
    """``x`` as it lies, if cuDNN can read it so, or a copy."""
    if _strides(x) is not None:
        return x
    copy = _empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def _as_result(tensor: Any, shape: Shape, strides: Shape, dtype: Any) -> Any:
    tensor.set_output(True).set_data_type(dtype)
    tensor.set_dim(list(shape)).set_stride(list(strides))
    return tensor
