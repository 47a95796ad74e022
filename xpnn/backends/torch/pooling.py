"""Pooling by PyTorch's own operators, on channels last."""

import math
from collections.abc import Sequence
from typing import Any

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import Slide, cut_back, filled_up, over_padded
from xpnn.backends.torch.convolution import ONE, padded_alike
from xpnn.typing import Array


def max_pool(Z: Array, slides: Sequence[Slide], backend: Sliding) -> tuple[Array, Array]:
    """``Backend.max_pool``; where the largest were is kept as numbers of items."""
    import torch

    if len(slides) == 1:
        S, where = max_pool(Z[:, None], (ONE, *slides), backend)
        return S[:, 0], where
    alike = _alike(slides)
    Z = filled_up(Z, slides, alike, backend, fill=-math.inf)
    pooled = getattr(torch.ops.aten, f"max_pool{len(slides)}d_with_indices")
    S, where = pooled(Z.movedim(-1, 1), *_options(alike))
    return S.movedim(1, -1), where


def max_pool_gradient(
    delta: Array, where: Array, slides: Sequence[Slide], backend: Sliding
) -> Array:
    """``Backend.max_pool_gradient``."""
    import torch

    if len(slides) == 1:
        return max_pool_gradient(delta[:, None], where, (ONE, *slides), backend)[:, 0]
    alike = _alike(slides)
    lengths = [one.length for one in alike]
    Z = delta.new_empty((delta.shape[0], *lengths, delta.shape[-1]))  # only its shape is read
    back = getattr(torch.ops.aten, f"max_pool{len(slides)}d_with_indices_backward")
    dZ = back(delta.movedim(-1, 1), Z.movedim(-1, 1), *_options(alike), where).movedim(1, -1)
    return cut_back(dZ, slides, alike, backend)


def average_pool(Z: Array, slides: Sequence[Slide], count_padding: bool) -> Array | None:
    """``Backend.average_pool``; None where PyTorch cannot count, as it does not pad like that."""
    import torch

    if len(slides) == 1:
        S = average_pool(Z[:, None], (ONE, *slides), count_padding)
        return None if S is None else S[:, 0]
    if _alike(slides) != [*slides]:
        return None
    options = *_options(slides)[:3], False, count_padding, None
    pooled = getattr(torch.ops.aten, f"avg_pool{len(slides)}d")
    return pooled(Z.movedim(-1, 1), *options).movedim(1, -1)


def average_pool_gradient(
    delta: Array, slides: Sequence[Slide], count_padding: bool
) -> Array | None:
    """``Backend.average_pool_gradient``, likewise."""
    import torch

    if len(slides) == 1:
        dZ = average_pool_gradient(delta[:, None], (ONE, *slides), count_padding)
        return None if dZ is None else dZ[:, 0]
    if _alike(slides) != [*slides]:
        return None
    options = *_options(slides)[:3], False, count_padding, None
    lengths = [one.length for one in slides]
    Z = delta.new_empty((delta.shape[0], *lengths, delta.shape[-1]))  # only its shape is read
    back = getattr(torch.ops.aten, f"avg_pool{len(slides)}d_backward")
    return back(delta.movedim(-1, 1), Z.movedim(-1, 1), *options).movedim(1, -1)


def _alike(slides: Sequence[Slide]) -> list[Slide]:
    """The slides, each over the padded axis where PyTorch does not pad like that.

    It pads both sides alike, by no more than half of the window.
    """
    return [padded_alike(one) if 2 * one.low <= one.size else over_padded(one) for one in slides]


def _options(slides: Sequence[Slide]) -> tuple[Any, ...]:
    """Window, stride, padding and dilation; positions are rounded down."""
    names = ("size", "stride", "low", "dilation")
    return *([getattr(one, name) for one in slides] for name in names), False
