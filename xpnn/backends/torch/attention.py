"""Attention by PyTorch's own kernels, which go block by block, too.

On CPUs that is one pair for all. On GPUs it is the flash pair in half precision, and the
memory-efficient pair, in which a mask is added to the scores; which of them serve is asked of
PyTorch, and so its switches hold (``torch.backends.cuda.enable_flash_sdp``).

Where a query is sure of its key, what they find for its dS is a few roundings, not 0: they keep
m + log l alone, see ``portable/attention.py``.
"""

from collections.abc import Sequence
from typing import Any

from xpnn.backends.portable.attention import Scoring
from xpnn.typing import Array

FEATURES = 8  # of a head: the flash pair wants multiples of so many,
MOST_FEATURES = 128  # and of more some GPUs have no gradients
ALIGNED = 8  # numbers: at multiples of so many the rows of a mask begin, as PyTorch lays them out


def pair(Q: Array, K: Array, V: Array, scoring: Scoring) -> str | None:
    """The name of the pair of kernels that serves these; None where there is none.

    Windows and slopes would be an array of all queries and keys to them.
    """
    from torch.backends import cuda

    if scoring.get("window") or scoring.get("slopes") is not None:
        return None
    causal, mask = scoring.get("causal", False), scoring.get("mask")
    if Q.device.type == "cpu":
        return "flash_attention_for_cpu"
    if Q.device.type != "cuda" or 0 in Q.shape or 0 in K.shape or (causal and _longer(Q, K)):
        return None
    K, V = (one.narrow(1, 0, 1).expand(-1, Q.shape[1], -1, -1) for one in (K, V))  # as repeated
    bias = _added(Q, K, mask)
    asked = cuda.SDPAParams(*map(_in_rows, (Q, K, V)), bias, 0.0, causal and bias is None, False)
    d = Q.shape[-1]
    if d % FEATURES == 0 and d <= MOST_FEATURES and cuda.can_use_flash_attention(asked):
        return "flash_attention"
    return "efficient_attention" if cuda.can_use_efficient_attention(asked) else None


def attention(Q: Array, K: Array, V: Array, scoring: Scoring, pair: str) -> tuple[Array, Array]:
    """``Backend.attention`` by a pair of kernels; statistics are (batch, heads, time or more)."""
    import torch

    scale, causal, mask = scoring["scale"], scoring.get("causal", False), scoring.get("mask")
    K, V = _for_each_head(Q, K, V)
    given, bias = tuple(map(_in_rows, (Q, K, V))), _added(Q, K, mask)
    attend: Any = getattr(torch.ops.aten, f"_scaled_dot_product_{pair}")
    if pair == "flash_attention_for_cpu":
        A, statistics = attend(*given, 0.0, causal, attn_mask=bias, scale=scale)
    elif pair == "flash_attention":
        A, statistics, *_ = attend(*given, 0.0, causal, scale=scale)
    else:
        A, statistics, *_ = attend(*given, bias, True, 0.0, causal, scale=scale)
        A = _of_those_that_see(A, causal, mask)
    return A, statistics


def attention_gradients(
    Q: Array,
    K: Array,
    V: Array,
    A: Array,
    statistics: Array,
    dA: Array,
    scoring: Scoring,
    pair: str,
) -> tuple[Array, Array, Array]:
    """``Backend.attention_gradients``, of what ``attention`` has worked out by the same pair."""
    import torch

    scale, causal, mask = scoring["scale"], scoring.get("causal", False), scoring.get("mask")
    key_heads = K.shape[1]
    K, V = _for_each_head(Q, K, V)
    bias, dtype = _added(Q, K, mask), torch.uint64 if pair == "flash_attention" else torch.int64
    back: Any = getattr(torch.ops.aten, f"_scaled_dot_product_{pair}_backward")
    if pair == "efficient_attention":
        dA = _of_those_that_see(dA, causal, mask)
    dA, Q, K, V, A = map(_in_rows, (dA, Q, K, V, A))
    if pair == "flash_attention_for_cpu":
        found = back(dA, Q, K, V, A, statistics, 0.0, causal, attn_mask=bias, scale=scale)
        return _of_key_heads(found, key_heads)
    draws = Q.new_zeros(2, dtype=dtype), Q.new_zeros((), dtype=dtype)  # nothing is dropped
    if pair == "flash_attention":
        counts = None, None, Q.shape[2], K.shape[2]
        found = back(dA, Q, K, V, A, statistics, *counts, 0.0, causal, *draws, scale=scale)
    else:
        wanted = [True, True, True, False]
        given = dA, Q, K, V, bias, A, statistics, draws[1], draws[1]
        found = back(*given, 0.0, wanted, causal, scale=scale)
    return _of_key_heads(found, key_heads)


def _for_each_head(Q: Array, K: Array, V: Array) -> tuple[Array, Array]:
    """K and V, once for each head that they serve: not every kernel knows of groups."""
    group = Q.shape[1] // K.shape[1]
    if group == 1:
        return K, V
    return K.repeat_interleave(group, dim=1), V.repeat_interleave(group, dim=1)


def _of_key_heads(gradients: Sequence[Array], key_heads: int) -> tuple[Array, Array, Array]:
    """dQ, dK and dV, the latter summed over the heads that a head of keys serves."""
    dQ, dK, dV, *_ = gradients
    if dK.shape[1] == key_heads:
        return dQ, dK, dV
    dK, dV = (one.unflatten(1, (key_heads, -1)).sum(2) for one in (dK, dV))
    return dQ, dK, dV


def _longer(Q: Array, K: Array) -> bool:
    """Whether queries and keys are not as many: then kernels disagree on what causal is."""
    return Q.shape[2] != K.shape[2]


def _in_rows(x: Array) -> Array:
    """``x`` with the features of a step side by side, as these kernels take for granted."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _added(Q: Array, K: Array, mask: Array | None) -> Array | None:
    """What is added to the scores at keys that nobody sees, for all queries the same row."""
    if mask is None:
        return None
    batch, length = mask.shape
    room = Q.new_zeros((batch, 1, 1, -(-length // ALIGNED) * ALIGNED)).narrow(3, 0, length)
    room.masked_fill_(
        mask.reshape(batch, 1, 1, length).logical_not(), _barring(Q.dtype, Q.device.type)
    )
    return room.expand(Q.shape[0], Q.shape[1], Q.shape[2], K.shape[2])


def _barring(dtype: Any, device_type: str) -> float:
    """What bars a key: -inf on CPUs; on GPUs, where rows of these are NaN, half of the lowest."""
    import torch

    return float("-inf") if device_type == "cpu" else 0.5 * torch.finfo(dtype).min


def _of_those_that_see(x: Array, causal: bool, mask: Array | None) -> Array:
    """``x``, like Q, with zeros for queries that see no key at all."""
    if mask is None:
        return x
    seen = mask.cumsum(dim=1) > 0 if causal else mask.any(dim=1, keepdim=True)
    return x.where(seen.reshape(len(seen), 1, -1, 1), 0.0)
