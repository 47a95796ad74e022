"""Attention by cuDNN, in half precision, as JAX hands it on for NVIDIA's GPUs.

``jax.nn.dot_product_attention`` has a way back of its own, and gives what that needs to know to
nobody. So ``jax.vjp`` is asked for it: what it returns is a function of dA, and takes the place of
statistics. It keeps m + log l of each query, m and l as in ``portable/attention.py``, beside Q, K,
V and A, which in a compiled step are those that the layer keeps. Where a query is sure of its key,
its dS is a few roundings, not 0.

A mask of keys becomes a length for each sequence (``portable/packed_keys.py``): as a mask JAX would
hand it to cuDNN as an array of all queries and keys.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from xpnn.backends.portable.packed_keys import Packing
from xpnn.typing import Array

Back: TypeAlias = Callable[[Array], tuple[Array, Array, Array]]
OLDEST_GPU = 8.0  # compute capability, of those that cuDNN has attention for


def has_cudnn(device: Any) -> bool:
    """Whether ``device`` is a GPU for which JAX brings cuDNN, and cuDNN attention."""
    if "cuda" not in device.client.platform_version:
        return False
    return float(device.compute_capability) >= OLDEST_GPU


def attention(
    Q: Array, K: Array, V: Array, scale: float, causal: bool, packing: Packing | None
) -> tuple[Array, Back]:
    """``Backend.attention``; statistics are a function that ``attention_gradients`` calls."""
    import jax

    options: dict[str, Any] = {"scale": float(scale), "is_causal": causal}
    if packing is not None:
        K, V = packing.packed(K), packing.packed(V)
        options["query_seq_lengths"] = packing.queries
        options["key_value_seq_lengths"] = packing.keys

    def attend(*arrays: Array) -> Array:
        turned = map(_turned, arrays)
        A = jax.nn.dot_product_attention(*turned, implementation="cudnn", **options)
        return _turned(A) if packing is None else packing.answered(_turned(A))

    A, back = jax.vjp(attend, Q, K, V)
    return A, back


def attention_gradients(
    back: Back, dA: Array, packing: Packing | None
) -> tuple[Array, Array, Array]:
    """``Backend.attention_gradients``, by what ``attention`` has returned."""
    dQ, dK, dV = back(dA)
    if packing is not None:
        dK, dV = packing.unpacked(dK), packing.unpacked(dV)
    return dQ, dK, dV


def _turned(x: Array) -> Array:
    """(batch, heads, time, d) as (batch, time, heads, d), or back."""
    return x.transpose(0, 2, 1, 3)
