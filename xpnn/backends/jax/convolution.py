"""Convolution by XLA: all three products are one of its own, read in other orders.

``conv_general_dilated`` puts zeros between the entries of its left side, too, and takes any axes as
batch and features, so that it says what a convolution does to delta as well.
"""

from collections.abc import Sequence
from typing import Any

from xpnn.backends.portable.convolution import turned_kernel
from xpnn.backends.portable.windows import Slide, span
from xpnn.typing import Array

MOST_ROWS = 16_384  # of a kernel's gradient on the CPU in one go; see ``over_parts``


def convolve(Z: Array, W: Array, slides: Sequence[Slide], groups: int) -> Array:
    """``Backend.convolve`` without its bias."""
    return _convolved(
        *(Z, W, _layouts(len(slides))),
        window_strides=[one.stride for one in slides],
        padding=[(one.low, one.extent - one.low - one.length) for one in slides],
        rhs_dilation=[one.dilation for one in slides],
        feature_group_count=groups,
    )


def input_gradient(delta: Array, W: Array, slides: Sequence[Slide], groups: int) -> Array:
    """``delta``, spread out by the stride, under the kernel turned around."""
    import jax.numpy as jnp

    axes = range(len(slides))
    turned = jnp.flip(turned_kernel(jnp, W, groups), axis=tuple(axes))
    padding = []
    for one in slides:
        before = span(one.size, one.dilation) - 1 - one.low
        padding.append((before, one.length + one.low - 1 - (one.positions - 1) * one.stride))
    return _convolved(
        *(delta, turned, _layouts(len(slides))),
        window_strides=[1 for _ in slides],
        padding=padding,
        lhs_dilation=[one.stride for one in slides],
        rhs_dilation=[one.dilation for one in slides],
        feature_group_count=groups,
    )


def kernel_gradient(Z: Array, delta: Array, slides: Sequence[Slide], groups: int) -> Array:
    """``delta`` as a kernel under ``Z``: channels are the batch, and the batch is added up."""
    axes = len(slides)
    last, positions = axes + 1, tuple(range(1, axes + 1))
    window = tuple(range(axes))
    return _convolved(
        *(Z, delta, ((last, 0, *positions), (last, 0, *positions), (axes, last, *window))),
        window_strides=[one.dilation for one in slides],
        padding=[(one.low, one.extent - one.low - one.length) for one in slides],
        rhs_dilation=[one.stride for one in slides],
        batch_group_count=groups,
    )


def _layouts(axes: int) -> tuple[tuple[int, ...], ...]:
    """Which axes are batch and features, in (batch, *lengths, channels), and in a kernel."""
    positions, window = range(1, axes + 1), range(axes)
    images = (0, axes + 1, *positions)
    return images, (axes + 1, axes, *window), images


def _convolved(lhs: Array, rhs: Array, layouts: tuple[tuple[int, ...], ...], **options: Any) -> Any:
    from jax import lax

    numbers = lax.ConvDimensionNumbers(*layouts)
    return lax.conv_general_dilated(lhs, rhs, dimension_numbers=numbers, **options)
