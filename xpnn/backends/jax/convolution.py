"""Convolution by XLA: all three products are one of its own, read in other orders.

``conv_general_dilated`` puts zeros between the entries of its left side, too, and takes any axes as
batch and features, so that it says what a convolution does to delta as well.

On a CPU volumes go plane by plane: in three axes XLA takes two to ten times as long there as for
the same products in two, and more with a stride.
"""

from collections.abc import Sequence
from typing import Any

from xpnn.backends.portable.convolution import Convolutions, turned_kernel
from xpnn.backends.portable.windows import Slide, cut, fold, span
from xpnn.numerics import add_up
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
    padding, hidden = [], False
    for one in slides:
        before = span(one.size, one.dilation) - 1 - one.low
        behind = one.length + one.low - 1 - (one.positions - 1) * one.stride
        hides = _is_taken_for_groups(one, before, behind)
        padding.append((before, behind + hides))
        hidden |= hides
    found = _convolved(
        *(delta, turned, _layouts(len(slides))),
        window_strides=[1 for _ in slides],
        padding=padding,
        lhs_dilation=[one.stride for one in slides],
        rhs_dilation=[one.dilation for one in slides],
        feature_group_count=groups,
    )
    return found[:, *(slice(one.length) for one in slides)] if hidden else found


def _is_taken_for_groups(one: Slide, before: int, behind: int) -> bool:
    """Whether XLA takes an axis of ``input_gradient`` for one of groups; one more entry hides it.

    It then ends the process where it lets kernel and image change places, as it does where the
    image is the smaller one ("Window dimensions do not match RHS shape").
    """
    return (one.size, one.stride, one.dilation, before, behind) == (2, 2, 1, 0, 0)


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


def convolve_planes(
    Z: Array, W: Array, slides: Sequence[Slide], groups: int, backend: Convolutions
) -> Array:
    """``convolve`` of volumes: for each entry along the depth that of planes, added up."""
    depth, *plane = slides
    entries = zip(cut(Z, 1, depth, backend), W, strict=True)
    products = (backend.convolve(_planes(z), w, plane, groups) for z, w in entries)
    return _volumes(add_up(products, backend.xp).astype(Z.dtype), depth)


def planes_input_gradient(
    delta: Array, W: Array, slides: Sequence[Slide], groups: int, backend: Convolutions
) -> Array:
    """``input_gradient`` of volumes."""
    depth, *plane = slides
    D = _planes(delta)
    parts = [_volumes(backend.convolve_input_gradient(D, w, plane, groups), depth) for w in W]
    return fold(parts, 1, depth, backend)


def planes_kernel_gradient(
    Z: Array, delta: Array, slides: Sequence[Slide], groups: int, backend: Convolutions
) -> Array:
    """``kernel_gradient`` of volumes."""
    depth, *plane = slides
    D, gradient = _planes(delta), backend.convolve_kernel_gradient
    parts = [gradient(_planes(z), D, plane, groups) for z in cut(Z, 1, depth, backend)]
    return backend.xp.stack(parts)


def _planes(Z: Array) -> Array:
    """(batch, depth, ...) as (batch * depth, ...)."""
    return Z.reshape(Z.shape[0] * Z.shape[1], *Z.shape[2:])


def _volumes(S: Array, depth: Slide) -> Array:
    """The way back of ``_planes``, for as many planes as the kernel has positions."""
    return S.reshape(S.shape[0] // depth.positions, depth.positions, *S.shape[1:])


def _layouts(axes: int) -> tuple[tuple[int, ...], ...]:
    """Which axes are batch and features, in (batch, *lengths, channels), and in a kernel."""
    positions, window = range(1, axes + 1), range(axes)
    images = (0, axes + 1, *positions)
    return images, (axes + 1, axes, *window), images


def _convolved(lhs: Array, rhs: Array, layouts: tuple[tuple[int, ...], ...], **options: Any) -> Any:
    from jax import lax

    numbers = lax.ConvDimensionNumbers(*layouts)
    return lax.conv_general_dilated(lhs, rhs, dimension_numbers=numbers, **options)
