"""Convolutions: the same small matrix product at every position of a sliding window.

Arrays are channels last: (batch, length, channels), (batch, height, width, channels) or (batch,
depth, height, width, channels). As everywhere in deep learning, "convolution" is what signal
processing calls correlation: the kernel is not flipped. A backend convolves; how, written out for
any library, stands in ``xpnn.backends.portable.convolution``.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from xpnn.backends.portable.windows import Slide, lying, slid_order
from xpnn.errors import ShapeError
from xpnn.initializers import Initializer, glorot_uniform, zeros
from xpnn.layers.activated import Activated, AnyActivation
from xpnn.layers.base import ANY_NUMBER
from xpnn.layers.sliding.windows import (
    Padding,
    check_axes,
    padding_option,
    padding_per_axis,
    per_axis,
    slid_shapes,
    slide,
)
from xpnn.numerics import sum_to_features
from xpnn.typing import Array, Shape


class KernelLayer(Activated):
    """Base of the layers whose weight is a kernel that slides.

    Args:
        filters: number of output channels.
        kernel_size: how many entries the kernel has along each axis.
        stride: steps from one place of the kernel to the next.
        padding: "valid" for none, "same" for what gives ``ceil(length / stride)`` positions, or an
            integer: so many zeros on both sides of an axis.
        dilation: steps from one entry of the kernel to the next.
        groups: cuts the channels into that many groups that do not see each other; as many as there
            are input channels makes the convolution depthwise.
        activation: f, for f(S) as the output; as for ``Dense``.
        use_bias: whether to add ``b``.
        weight_init: draws ``W`` on the host, so that one seed fits every backend.
        bias_init: draws ``b``.
    """

    fixed: ClassVar[tuple[str, ...]] = (
        *Activated.fixed,
        "filters",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "use_bias",
        "weight_init",
        "bias_init",
    )
    gives = ANY_NUMBER

    axes: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: Padding = "valid",
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: AnyActivation = None,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
        bias_init: Initializer = zeros,
    ):
        super().__init__(activation)
        if filters < 1 or groups < 1 or filters % groups:
            raise ValueError(
                f"{type(self).__name__} needs filters that are a multiple of groups, both at least "
                f"1, got filters={filters}, groups={groups}"
            )
        self.filters, self.groups, self.use_bias = filters, groups, use_bias
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", stride, self.axes)
        self.padding = padding_per_axis(padding, self.axes)
        self.dilation = per_axis("dilation", dilation, self.axes)
        self.weight_init, self.bias_init = weight_init, bias_init

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "padding": padding_option(self.padding)}

    def slides(self, lengths: Shape) -> list[Slide]:
        """How the kernel slides along each axis, for inputs of those lengths."""
        raise NotImplementedError(f"{type(self).__name__} has to define slides")

    def check_shape(self, input_shape: Shape) -> None:
        """Refuse inputs whose axes or channels do not fit."""
        check_axes(self, input_shape, self.axes)
        if input_shape[-1] % self.groups:
            raise ShapeError(
                f"{self!r} cannot cut {input_shape[-1]} channels into groups={self.groups}; choose "
                f"groups that divide the number of channels"
            )

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        return slid_shapes(self.slides(input_shape[:-1]), max(input_shape[-1], self.filters))

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        shape = (*self.kernel_size, input_shape[-1] // self.groups, self.filters)
        params = {"weight": self.weight_init(shape, rng)}
        if self.use_bias:
            params["bias"] = self.bias_init((self.filters,), rng)
        return params

    def write_gradients(self, delta: Array, **weights: Array) -> None:
        """Those of the weights by name, and the sum of delta over batch and positions."""
        xp = self.xp
        self.grads.update(weights)
        if self.use_bias:
            rows, _ = slid_order(delta, self.backend)
            rows = xp.reshape(rows, (math.prod(rows.shape[:-2]), *rows.shape[-2:]))
            self.grads["bias"] = sum_to_features(rows, xp)

    def __repr__(self) -> str:
        one = len(set(self.kernel_size)) == 1
        size = self.kernel_size[0] if one else self.kernel_size
        return self.with_activation(f"{type(self).__name__}({self.filters}, {size})")


class Convolution(KernelLayer):
    """Base of the convolutions; see ``Conv2D`` for the equations."""

    def slides(self, lengths: Shape) -> list[Slide]:
        options = (self.kernel_size, self.stride, self.dilation, self.padding)
        return [slide(*one) for one in zip(lengths, *options, strict=True)]

    def output_shape(self, input_shape: Shape) -> Shape:
        self.check_shape(input_shape)
        return (*(one.positions for one in self.slides(input_shape[:-1])), self.filters)

    def forward(self, Z: Array, training: bool = False) -> Array:
        slides, W = self.slides(Z.shape[1:-1]), self.params["weight"]
        self.cache["Z"] = Z
        S = self.backend.convolve(Z, W, slides, self.groups, self.params.get("bias"))
        return self.activated(S, training)

    def backward(self, delta: Array) -> Array | None:
        backend, Z, W = self.backend, self.cache["Z"], self.params["weight"]
        slides = self.slides(Z.shape[1:-1])
        delta = lying(self.before_activation(delta), backend)
        dW = backend.convolve_kernel_gradient(Z, delta, slides, self.groups)
        self.write_gradients(delta, weight=dW)
        if not self.passes_back:
            return None
        return backend.convolve_input_gradient(delta, W, slides, self.groups)

    def multiply_adds(self, input_shape: Shape) -> int:
        window = math.prod(self.kernel_size) * input_shape[-1] // self.groups
        return math.prod(self.output_shape(input_shape)) * window


class Conv1D(Convolution):
    """Convolution along one axis, such as time.

    Forward, with stride s, dilation d, and p zeros before Z::

        S[n, t] = sum_i Z[n, t s + i d - p] W[i] + b

        Z (batch, length, inputs)   W (kernel, inputs / groups, filters)   b (filters,)
        S (batch, floor((length + 2 p - d (kernel - 1) - 1) / s) + 1, filters)

    Backward, given delta = dL/dS::

        dL/dW[i] = sum_nt Z[n, t s + i d - p]^T delta[n, t]
        dL/db = sum_nt delta[n, t]
        dL/dZ[n, u] = sum of delta[n, t] W[i]^T over all t, i with t s + i d - p = u

    Args:
        filters, kernel_size, stride, padding, dilation, groups: as for ``Conv2D``, along one axis.
        activation, use_bias, weight_init, bias_init: as for ``Dense``.

    >>> Conv1D(8, 3, padding="same").output_shape((100, 2))
    (100, 8)
    """

    axes = 1


class Conv2D(Convolution):
    """Convolution over the height and width of images.

    Forward, with stride s, dilation d, and p zeros above and to the left of Z::

        S[n, r, c] = sum_ij Z[n, r s + i d - p, c s + j d - p] W[i, j] + b

        Z (batch, height, width, inputs)
        W (kernel height, kernel width, inputs / groups, filters)   b (filters,)
        S (batch, floor((height + 2 p - d (kernel - 1) - 1) / s) + 1, ..., filters)

    Backward, given delta = dL/dS::

        dL/dW[i, j] = sum_nrc Z[n, r s + i d - p, c s + j d - p]^T delta[n, r, c]
        dL/db = sum_nrc delta[n, r, c]
        dL/dZ[n, u, v] = sum of delta[n, r, c] W[i, j]^T
                         over all r, c, i, j with r s + i d - p = u and c s + j d - p = v

    With groups, channels and filters are cut into equal runs, and run g of the filters sees only
    run g of the channels. (Dumoulin and Visin, A guide to convolution arithmetic, 2016.)

    Args:
        filters: number of output channels.
        kernel_size, stride, padding, dilation: one integer, or (height, width); ``padding`` is also
            "valid" (none) or "same" (outputs of ``ceil(length / stride)``, an odd zero behind).
        groups: divides the input channels and ``filters``; as many as there are input channels
            makes the convolution depthwise.
        activation: f, for f(S) as the output; as for ``Dense``.
        use_bias: whether to add ``b``.
        weight_init: draws ``W`` on the host, so that one seed fits every backend.
        bias_init: draws ``b``.

    >>> Conv2D(16, 3, stride=2, padding=1).output_shape((28, 28, 1))
    (14, 14, 16)
    """

    axes = 2


class Conv3D(Convolution):
    """Convolution over the depth, height and width of volumes, or over time and images.

    Forward, with stride s, dilation d, and p zeros in front of Z along each axis::

        S[n, q, r, c] = sum_hij Z[n, q s + h d - p, r s + i d - p, c s + j d - p] W[h, i, j] + b

        Z (batch, depth, height, width, inputs)
        W (kernel depth, kernel height, kernel width, inputs / groups, filters)   b (filters,)
        S (batch, floor((depth + 2 p - d (kernel - 1) - 1) / s) + 1, ..., filters)

    Backward, given delta = dL/dS::

        dL/dW[h, i, j] = sum_nqrc Z[n, q s + h d - p, r s + i d - p, c s + j d - p]^T
                         delta[n, q, r, c]
        dL/db = sum_nqrc delta[n, q, r, c]
        dL/dZ[n, w, u, v] = sum of delta[n, q, r, c] W[h, i, j]^T over all q, r, c, h, i, j
                            with q s + h d - p = w, r s + i d - p = u and c s + j d - p = v

    Args:
        filters, kernel_size, stride, padding, dilation, groups: as for ``Conv2D``, along three
            axes.
        activation, use_bias, weight_init, bias_init: as for ``Dense``.

    >>> Conv3D(8, 3, stride=(1, 2, 2), padding=1).output_shape((16, 64, 64, 1))
    (16, 32, 32, 8)
    """

    axes = 3
