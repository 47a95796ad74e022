"""Attention by PyTorch's own kernels for the CPU, which go block by block, too.

Where a query is sure of its key, what they find for its dS is a few roundings, not 0: they keep
m + log l alone, see ``portable/attention.py``.
"""

from typing import Any

from xpnn.typing import Array


def attention(
    Q: Array, K: Array, V: Array, scale: float, causal: bool, mask: Array | None
) -> tuple[Array, Array]:
    """``Backend.attention``; statistics are (batch, heads, time)."""
    import torch

    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    A, statistics = attend(
        *map(_in_rows, (Q, K, V)), 0.0, causal, attn_mask=_added(Q, K, mask), scale=scale
    )
    return A, statistics


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
) -> tuple[Array, Array, Array]:
    """``Backend.attention_gradients``."""
    import torch

    back: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    given = map(_in_rows, (dA, Q, K, V, A))
    dQ, dK, dV = back(*given, statistics, 0.0, causal, attn_mask=_added(Q, K, mask), scale=scale)
    return dQ, dK, dV


def _in_rows(x: Array) -> Array:
    """``x`` with the features of a step side by side, as these kernels take for granted."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _added(Q: Array, K: Array, mask: Array | None) -> Array | None:
    """What is added to the scores: -inf at keys that nobody sees, for all queries the same row."""
    if mask is None:
        return None
    barred = Q.new_zeros((mask.shape[0], 1, 1, K.shape[2]))
    barred = barred.masked_fill(~mask[:, None, None, :], float("-inf"))
    return barred.expand(Q.shape[0], Q.shape[1], Q.shape[2], K.shape[2])
