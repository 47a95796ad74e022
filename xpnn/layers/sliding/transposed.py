"""Transposed convolution: every input paints a small picture, and overlaps add up."""

import math
from typing import Any

from xpnn.backends.portable.convolution import turned_kernel
from xpnn.backends.portable.windows import Slide, lying, span
from xpnn.errors import ShapeError
from xpnn.layers.sliding.convolution import KernelLayer
from xpnn.layers.sliding.windows import per_axis
from xpnn.typing import Array, Shape


class TransposedConvolution(KernelLayer):
    """Base of the transposed convolutions; see ``ConvTranspose2D`` for the equations."""

    fixed = (*KernelLayer.fixed, "output_padding")

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        *,
        output_padding: int | tuple[int, ...] = 0,
        **options: Any,
    ):
        super().__init__(filters, kernel_size, **options)
        self.output_padding = per_axis("output_padding", output_padding, self.axes, least=0)
        for more, stride, dilation in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if more >= max(stride, dilation):
                raise ValueError(
                    f"output_padding is less than the stride or the dilation, got "
                    f"output_padding={output_padding} with stride={self.stride}"
                )

    def slides(self, lengths: Shape) -> list[Slide]:
        """How the kernel slides over the output: as many positions as the input is long."""
        slides = []
        for positions, size, stride, dilation, padding, more in zip(
            lengths,
            self.kernel_size,
            self.stride,
            self.dilation,
            self.padding,
            self.output_padding,
            strict=True,
        ):
            wide = span(size, dilation)
            if padding == "same":
                length, low = positions * stride, max(wide - stride, 0) // 2
            else:
                low = 0 if isinstance(padding, str) else padding
                length = (positions - 1) * stride + wide - 2 * low
            slides.append(Slide(length + more, positions, size, stride, dilation, low))
        return slides

    def output_shape(self, input_shape: Shape) -> Shape:
        self.check_shape(input_shape)
        lengths = tuple(one.length for one in self.slides(input_shape[:-1]))
        if min(lengths) < 1:
            raise ShapeError(
                f"{self!r} cuts all of the output away with padding={self.padding}, for inputs of "
                f"shape {input_shape}; make the padding smaller"
            )
        return (*lengths, self.filters)

    def kernel(self) -> Array:
        """That of the convolution from the outputs to the inputs, whose way back this layer is."""
        return turned_kernel(self.xp, self.params["weight"], self.groups)

    def forward(self, Z: Array, training: bool = False) -> Array:
        slides, b = self.slides(Z.shape[1:-1]), self.params.get("bias")
        self.cache["Z"] = Z
        S = self.backend.convolve_input_gradient(Z, self.kernel(), slides, self.groups, b)
        return self.activated(S, training)

    def backward(self, delta: Array) -> Array | None:
        backend, Z = self.backend, self.cache["Z"]
        slides = self.slides(Z.shape[1:-1])
        delta = lying(self.before_activation(delta), backend)
        dW = backend.convolve_kernel_gradient(delta, Z, slides, self.groups)
        self.write_gradients(delta, weight=turned_kernel(self.xp, dW, self.groups))
        if not self.passes_back:
            return None
        return backend.convolve(delta, self.kernel(), slides, self.groups)

    def multiply_adds(self, input_shape: Shape) -> int:
        self.check_shape(input_shape)
        return math.prod(input_shape) * math.prod(self.kernel_size) * self.filters // self.groups


class ConvTranspose1D(TransposedConvolution):
    """The transpose of ``Conv1D``: what its backward does to delta, as a forward; it lengthens.

    Forward, with stride s, dilation d, and p entries cut off at both ends::

        S[n, u] = b + sum of Z[n, t] W[i] over all t, i with t s + i d - p = u

        Z (batch, length, inputs)   W (kernel, inputs / groups, filters)   b (filters,)
        S (batch, (length - 1) s + d (kernel - 1) + 1 - 2 p + output_padding, filters)

    Backward, given delta = dL/dS::

        dL/dW[i] = sum_nt Z[n, t]^T delta[n, t s + i d - p]
        dL/db = sum_nu delta[n, u]
        dL/dZ[n, t] = sum_i delta[n, t s + i d - p] W[i]^T

    Args:
        filters, kernel_size, output_padding, options: as for ``ConvTranspose2D``, along one axis.

    >>> ConvTranspose1D(3, 4, stride=2, padding=1).output_shape((50, 16))
    (100, 3)
    """

    axes = 1


class ConvTranspose2D(TransposedConvolution):
    """The transpose of ``Conv2D``: what its backward does to delta, as a forward; it enlarges.

    Forward, with stride s, dilation d, and p rows and columns cut off at the edges::

        S[n, u, v] = b + sum of Z[n, r, c] W[i, j]
                     over all r, c, i, j with r s + i d - p = u and c s + j d - p = v

        Z (batch, height, width, inputs)
        W (kernel height, kernel width, inputs / groups, filters)   b (filters,)
        S (batch, (height - 1) s + d (kernel - 1) + 1 - 2 p + output_padding, ..., filters)

    Backward, given delta = dL/dS::

        dL/dW[i, j] = sum_nrc Z[n, r, c]^T delta[n, r s + i d - p, c s + j d - p]
        dL/db = sum_nuv delta[n, u, v]
        dL/dZ[n, r, c] = sum_ij delta[n, r s + i d - p, c s + j d - p] W[i, j]^T

    With ``padding="same"`` the output is s times as high and wide as the input.

    Args:
        filters, kernel_size: as for ``Conv2D``.
        output_padding: rows and columns added at the far edges, less than the stride or the
            dilation: several inputs of a strided convolution give outputs of one size, and this
            tells them apart.
        options: all others of ``Conv2D``.

    >>> ConvTranspose2D(3, 4, stride=2, padding=1).output_shape((7, 7, 16))
    (14, 14, 3)
    """

    axes = 2


class ConvTranspose3D(TransposedConvolution):
    """The transpose of ``Conv3D``, for volumes (batch, depth, height, width, channels).

    Forward, with stride s, dilation d, and p layers, rows and columns cut off at the edges::

        S[n, w, u, v] = b + sum of Z[n, q, r, c] W[h, i, j] over all q, r, c, h, i, j
                        with q s + h d - p = w, r s + i d - p = u and c s + j d - p = v

        W (kernel depth, kernel height, kernel width, inputs / groups, filters)   b (filters,)

    Backward, given delta = dL/dS::

        dL/dW[h, i, j] = sum_nqrc Z[n, q, r, c]^T
                         delta[n, q s + h d - p, r s + i d - p, c s + j d - p]
        dL/db = sum_nwuv delta[n, w, u, v]
        dL/dZ[n, q, r, c] = sum_hij delta[n, q s + h d - p, r s + i d - p, c s + j d - p]
                            W[h, i, j]^T

    Args:
        filters, kernel_size, output_padding, options: as for ``ConvTranspose2D``, along three axes.

    >>> ConvTranspose3D(3, 4, stride=2, padding=1).output_shape((4, 7, 7, 16))
    (8, 14, 14, 3)
    """

    axes = 3
