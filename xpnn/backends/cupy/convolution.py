"""Convolution by cuDNN, on channels last: nothing but the kernel is turned.

cuDNN counts the axes of (batch, *lengths, channels) as batch, channels, lengths, and takes from the
strides how they lie. A single axis becomes that of an image of height 1. It wants a kernel with its
inputs last, as (filters, *window, inputs), where ours is (*window, inputs, filters).

Each function returns None for what cuDNN does not do: other dtypes, and what it refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpnn.backends.cupy.cudnn import TYPES, Cudnn, in_place
from xpnn.backends.cupy.products import COMPUTE_32F_FAST_TF32, compute_type
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.windows import Slide, cut_back, filled_up, over_padded, span
from xpnn.typing import Array, Shape


@dataclass(frozen=True)
class Product:
    """One of the three products of a convolution, for arrays of some shapes.

    Attributes:
        name: of the operation of a cuDNN graph, which has two operands.
        shapes: of the operands and the bias, if there is one: first axis, positions, last axis.
        result: the shape of the result.
        slides: one for each axis; none reaches further than ``_padding`` can say.
    """

    name: str
    shapes: tuple[Shape, ...]
    result: Shape
    slides: tuple[Slide, ...]
    dtype: str
    exact: bool
    deterministic: bool

    def lay_out(self, graph: Any, dtype: Any, wide: Any) -> list[Any]:
        """The tensors of the operands, of the bias and of the result."""
        given = [
            graph.tensor(name=f"given {k}", data_type=dtype, **_layout(shape))
            for k, shape in enumerate(self.shapes)
        ]
        result = getattr(graph, self.name)(*given[:2], **_options(self.slides))
        if len(given) > 2:
            result = graph.bias(input=result, bias=given[2])
        layout = _layout(self.result)
        result.set_output(True).set_data_type(dtype)
        result.set_dim(layout["dim"]).set_stride(layout["stride"])
        return [*given, result]


def convolve(
    Z: Array,
    W: Array,
    slides: Sequence[Slide],
    bias: Array | None,
    cudnn: Cudnn,
    backend: Backend,
) -> Array | None:
    """``Backend.convolve``."""
    if not _counts_in(Z, W, bias):
        return None
    reached = [_reached(one) for one in slides]
    Z = filled_up(Z, slides, reached, backend)
    shape = (Z.shape[0], *(one.positions for one in slides), W.shape[-1])
    operands = [Z, _outputs_first(W)]
    if bias is not None:
        row = bias.reshape(*[1] * (Z.ndim - 1), -1)
        S = _worked_out("conv_fprop", [*operands, row], shape, reached, cudnn, backend)
        if S is not None:
            return S
    S = _worked_out("conv_fprop", operands, shape, reached, cudnn, backend)
    if S is not None and bias is not None:
        S += bias
    return S


def input_gradient(
    delta: Array,
    W: Array,
    slides: Sequence[Slide],
    groups: int,
    bias: Array | None,
    cudnn: Cudnn,
    backend: Backend,
) -> Array | None:
    """``Backend.convolve_input_gradient``."""
    if not _counts_in(delta, W, bias):
        return None
    reached = [_reached(one) for one in slides]
    shape = (delta.shape[0], *(one.length for one in reached), W.shape[-2] * groups)
    operands = [delta, _outputs_first(W)]
    dZ = _worked_out("conv_dgrad", operands, shape, reached, cudnn, backend)
    if dZ is None:
        return None
    dZ = cut_back(dZ, slides, reached, backend)
    if bias is not None:
        dZ += bias
    return dZ


def kernel_gradient(
    Z: Array,
    delta: Array,
    slides: Sequence[Slide],
    groups: int,
    cudnn: Cudnn,
    backend: Backend,
) -> Array | None:
    """``Backend.convolve_kernel_gradient``."""
    import cupy

    if not _counts_in(Z, delta):
        return None
    reached = [_reached(one) for one in slides]
    Z = filled_up(Z, slides, reached, backend)
    shape = (delta.shape[-1], *(one.size for one in slides), Z.shape[-1] // groups)
    dW = _worked_out("conv_wgrad", [Z, delta], shape, reached, cudnn, backend)
    return None if dW is None else cupy.ascontiguousarray(cupy.moveaxis(dW, 0, -1))


def _worked_out(
    name: str,
    arrays: Sequence[Array],
    shape: Shape,
    slides: Sequence[Slide],
    cudnn: Cudnn,
    backend: Backend,
) -> Array | None:
    import cupy

    dtype = arrays[0].dtype
    shapes = tuple(one.shape for one in arrays)
    exact = dtype.name == "float32" and not _in_tf32(dtype, backend)
    product = Product(name, shapes, shape, tuple(slides), dtype.name, exact, backend.deterministic)
    plan = cudnn.plan(product)
    if plan is None:
        return None
    result = cupy.empty(shape, dtype)
    cudnn.run(plan, [*map(in_place, arrays), result])
    return result


def _counts_in(*arrays: Array | None) -> bool:
    """Whether cuDNN has the dtype, which is one and the same, and there is something to do."""
    given = [one for one in arrays if one is not None]
    dtypes = {one.dtype.name for one in given}
    return len(dtypes) == 1 and dtypes <= TYPES.keys() and all(one.size for one in given)


def _in_tf32(dtype: Any, backend: Backend) -> bool:
    """Whether TF32 is allowed: by the backend's switch or, where it says nothing, by CuPy's."""
    if backend.tf32 is not None:
        return backend.tf32
    return compute_type(dtype) == COMPUTE_32F_FAST_TF32


def _outputs_first(W: Array) -> Array:
    """(*window, inputs, outputs) as (outputs, *window, inputs), a view."""
    import cupy

    return cupy.moveaxis(W, -1, 0)


# In cuDNN's words ---------------------------------------------------------------------------------


def _layout(shape: Shape) -> dict[str, list[int]]:
    """(first, *positions, last) in one piece, as dims in cuDNN's order with their strides.

    >>> _layout((4, 7, 3))
    {'dim': [4, 3, 1, 7], 'stride': [21, 1, 21, 3]}
    """
    first, *positions, last = shape
    positions = [1, *positions] if len(positions) == 1 else positions
    lengths, strides = [first, *positions, last], [1]
    for length in reversed(lengths[1:]):
        strides.insert(0, strides[0] * length)
    return {
        "dim": [first, last, *positions],
        "stride": [strides[0], strides[-1], *strides[1:-1]],
    }


def _options(slides: Sequence[Slide]) -> dict[str, list[int]]:
    if len(slides) == 1:
        slides = [Slide(length=1, positions=1, size=1), *slides]
    return {
        "pre_padding": [one.low for one in slides],
        "post_padding": [_behind(one) for one in slides],
        "stride": [one.stride for one in slides],
        "dilation": [one.dilation for one in slides],
    }


def _behind(one: Slide) -> int:
    """How much is padded behind: as much as before, if that makes no difference."""
    return one.low if _positions(one, one.low) == one.positions else max(_missing(one), 0)


def _missing(one: Slide) -> int:
    """How far the last window reaches beyond the axis; below 0 if it ends before."""
    return one.extent - one.low - one.length


def _positions(one: Slide, behind: int) -> int:
    """How many positions cuDNN finds room for."""
    return (one.length + one.low + behind - span(one.size, one.dilation)) // one.stride + 1


def _reached(one: Slide) -> Slide:
    """The slide, if padding gives its positions, or that over what the windows reach."""
    if _positions(one, _behind(one)) == one.positions:
        return one
    return over_padded(one)
