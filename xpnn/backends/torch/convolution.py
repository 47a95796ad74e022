"""Convolution by PyTorch's own operators, on channels last: nothing but the kernel is turned.

They want channels behind the batch, which a view of (batch, *lengths, channels) has, and what they
make of such a view lies as it does; a single axis becomes that of an image of height 1, as only
images may lie so. Both sides of an axis are padded alike: where a ``Slide`` reaches further behind,
or less far, the input is filled up before.
"""

from collections.abc import Sequence
from typing import Any

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import Slide, cut_back, filled_up, over_padded, span
from xpnn.typing import Array

ONE = Slide(length=1, positions=1, size=1)
MOST_ROWS = 65_536  # of a kernel's gradient on the CPU in one go; see ``over_parts``


def convolve(
    Z: Array, W: Array, slides: Sequence[Slide], groups: int, bias: Array | None, backend: Sliding
) -> Array:
    """``Backend.convolve``."""
    import torch

    if len(slides) == 1:
        return convolve(Z[:, None], W[None], (ONE, *slides), groups, bias, backend)[:, 0]
    alike = [padded_alike(one) for one in slides]
    Z = filled_up(Z, slides, alike, backend)
    kernel, options = _outputs_first(W), _options(alike, groups)
    return torch.ops.aten.convolution(Z.movedim(-1, 1), kernel, bias, *options).movedim(1, -1)


def input_gradient(
    delta: Array, W: Array, slides: Sequence[Slide], groups: int, backend: Sliding
) -> Array:
    """``Backend.convolve_input_gradient`` without its bias."""
    if len(slides) == 1:
        return input_gradient(delta[:, None], W[None], (ONE, *slides), groups, backend)[:, 0]
    alike = [padded_alike(one) for one in slides]
    lengths = [one.length for one in alike]
    Z = delta.new_empty((delta.shape[0], *lengths, W.shape[-2] * groups))  # only its shape is read
    dZ = _gradients(Z, delta, _outputs_first(W), alike, groups, wanted=0).movedim(1, -1)
    return cut_back(dZ, slides, alike, backend)


def kernel_gradient(
    Z: Array, delta: Array, slides: Sequence[Slide], groups: int, backend: Sliding
) -> Array:
    """``Backend.convolve_kernel_gradient``."""
    import torch

    if len(slides) == 1:
        return kernel_gradient(Z[:, None], delta[:, None], (ONE, *slides), groups, backend)[0]
    outputs, inputs, window = delta.shape[-1], Z.shape[-1] // groups, [one.size for one in slides]
    if delta.dtype == torch.float64:  # which PyTorch does not convolve channels last
        kernel = delta.new_empty((outputs, inputs, *window))
    else:
        kernel = delta.new_empty((outputs, *window, inputs)).movedim(-1, 1)  # its shape is read
    alike = [padded_alike(one) for one in slides]
    Z = filled_up(Z, slides, alike, backend)
    dW = _gradients(Z, delta, kernel, alike, groups, wanted=1)
    return dW.permute(*range(2, dW.ndim), 1, 0).contiguous()


def _gradients(
    Z: Array, delta: Array, kernel: Array, slides: Sequence[Slide], groups: int, wanted: int
) -> Array:
    """dL/dZ (0) or dL/dW (1), channels second."""
    import torch

    Z, delta = Z.movedim(-1, 1), delta.movedim(-1, 1)
    mask = [k == wanted for k in range(3)]
    options = _options(slides, groups)
    return torch.ops.aten.convolution_backward(delta, Z, kernel, None, *options, mask)[wanted]


def _outputs_first(W: Array) -> Array:
    """(*window, inputs, outputs) as (outputs, inputs, *window), lying with the inputs last."""
    return W.movedim(-1, 0).contiguous().movedim(-1, 1)


def _options(slides: Sequence[Slide], groups: int) -> tuple[Any, ...]:
    """Stride, padding, dilation, transposed, output padding and groups."""
    stride = [one.stride for one in slides]
    padding, dilation = [one.low for one in slides], [one.dilation for one in slides]
    return stride, padding, dilation, False, [0 for _ in slides], groups


def padded_alike(one: Slide) -> Slide:
    """The slide, if ``low`` on both sides gives its positions, or that over the padded axis."""
    spare = one.length + 2 * one.low - span(one.size, one.dilation)
    return one if spare // one.stride + 1 == one.positions else over_padded(one)
