"""Separable convolution: a kernel for each channel by itself, then a mixture of the channels."""

import math

import numpy as np
from numpy.random import Generator

from xpnn.backends.portable.windows import Slide, lying
from xpnn.initializers import Initializer, glorot_uniform, zeros
from xpnn.layers.activated import AnyActivation
from xpnn.layers.sliding.convolution import Convolution
from xpnn.layers.sliding.windows import Padding
from xpnn.typing import Array, Shape


class SeparableConvolution(Convolution):
    """Base of the separable convolutions; see ``SeparableConv2D`` for the equations."""

    fixed = (*Convolution.fixed, "multiplier")

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: Padding = "valid",
        dilation: int | tuple[int, ...] = 1,
        multiplier: int = 1,
        activation: AnyActivation = None,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
        bias_init: Initializer = zeros,
    ):
        super().__init__(
            filters,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            activation=activation,
            use_bias=use_bias,
            weight_init=weight_init,
            bias_init=bias_init,
        )
        if multiplier < 1:
            raise ValueError(
                f"{type(self).__name__} needs multiplier of at least 1, got multiplier={multiplier}"
            )
        self.multiplier = multiplier

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        inside = (*self.output_shape(input_shape)[:-1], input_shape[-1] * self.multiplier)
        return [*super().inner_shapes(input_shape), inside]

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        """``V`` is drawn channel by channel, as each output of it sums over one."""
        one, inputs = (*self.kernel_size, 1, self.multiplier), input_shape[-1]
        mixture = (*(1 for _ in self.kernel_size), inputs * self.multiplier, self.filters)
        params = {
            "depthwise_weight": np.concatenate(
                [self.weight_init(one, rng) for _ in range(inputs)], axis=-1
            ),
            "pointwise_weight": self.weight_init(mixture, rng),
        }
        if self.use_bias:
            params["bias"] = self.bias_init((self.filters,), rng)
        return params

    def forward(self, Z: Array, training: bool = False) -> Array:
        backend, slides = self.backend, self.slides(Z.shape[1:-1])
        V, W = self.params["depthwise_weight"], self.params["pointwise_weight"]
        D = backend.convolve(Z, V, slides, Z.shape[-1])
        self.cache["Z"], self.cache["D"] = Z, D
        S = backend.convolve(D, W, _one_by_one(D), 1, self.params.get("bias"))
        return self.activated(S, training)

    def backward(self, delta: Array) -> Array | None:
        backend, Z, D = self.backend, self.cache["Z"], self.cache["D"]
        V, W = self.params["depthwise_weight"], self.params["pointwise_weight"]
        slides, inputs = self.slides(Z.shape[1:-1]), Z.shape[-1]
        delta = lying(self.before_activation(delta), backend)
        dW = backend.convolve_kernel_gradient(D, delta, _one_by_one(D))
        dD = backend.convolve_input_gradient(delta, W, _one_by_one(D))
        dV = backend.convolve_kernel_gradient(Z, dD, slides, inputs)
        self.write_gradients(delta, depthwise_weight=dV, pointwise_weight=dW)
        return backend.convolve_input_gradient(dD, V, slides, inputs) if self.passes_back else None

    def multiply_adds(self, input_shape: Shape) -> int:
        inside = input_shape[-1] * self.multiplier
        positions = math.prod(self.output_shape(input_shape)[:-1])
        return positions * inside * (math.prod(self.kernel_size) + self.filters)


def _one_by_one(D: Array) -> list[Slide]:
    """A window of one entry over all positions."""
    return [Slide(length, length, size=1) for length in D.shape[1:-1]]


class SeparableConv1D(SeparableConvolution):
    """Separable convolution along one axis, such as time.

    Forward, with stride s, dilation d, p zeros before Z, multiplier m, and j counting the kernels
    of each channel c::

        D[n, t, c m + j] = sum_i Z[n, t s + i d - p, c] V[i, 0, c m + j]
        S[n, t] = D[n, t] W[0] + b

        Z (batch, length, inputs)
        V (kernel, 1, inputs m)   W (1, inputs m, filters)   b (filters,)
        S (batch, floor((length + 2 p - d (kernel - 1) - 1) / s) + 1, filters)

    Backward is that of two convolutions, given delta = dL/dS, with q counting the channels of D::

        dL/dW[0] = sum_nt D[n, t]^T delta[n, t]        dL/db = sum_nt delta[n, t]
        E = dL/dD = delta W[0]^T
        dL/dV[i, 0, q] = sum_nt Z[n, t s + i d - p, floor(q / m)] E[n, t, q]
        dL/dZ[n, u, c] = sum of E[n, t, q] V[i, 0, q] over all t, i, q
                         with t s + i d - p = u, floor(q / m) = c

    Args:
        filters, kernel_size, stride, padding, dilation, multiplier: as for ``SeparableConv2D``.
        activation, use_bias, weight_init, bias_init: as there.

    >>> SeparableConv1D(8, 3, padding="same").output_shape((100, 2))
    (100, 8)
    """

    axes = 1


class SeparableConv2D(SeparableConvolution):
    """A kernel for each channel by itself, then a mixture at each position (Chollet, 2017).

    With few filters to each channel that takes about 1 / kernel^2 of the products of a ``Conv2D``.
    Forward, with stride s, dilation d, p zeros above and to the left of Z, multiplier m, and l
    counting the kernels of each channel k::

        D[n, r, c, k m + l] = sum_ij Z[n, r s + i d - p, c s + j d - p, k] V[i, j, 0, k m + l]
        S[n, r, c] = D[n, r, c] W[0, 0] + b

        Z (batch, height, width, inputs)
        V (kernel height, kernel width, 1, inputs m)   W (1, 1, inputs m, filters)   b (filters,)
        S (batch, floor((height + 2 p - d (kernel - 1) - 1) / s) + 1, ..., filters)

    Backward is that of two convolutions, given delta = dL/dS, with q counting the channels of D::

        dL/dW[0, 0] = sum_nrc D[n, r, c]^T delta[n, r, c]        dL/db = sum_nrc delta[n, r, c]
        E = dL/dD = delta W[0, 0]^T
        dL/dV[i, j, 0, q] = sum_nrc Z[n, r s + i d - p, c s + j d - p, floor(q / m)] E[n, r, c, q]
        dL/dZ[n, u, v, k] = sum of E[n, r, c, q] V[i, j, 0, q] over all r, c, i, j, q
                            with r s + i d - p = u, c s + j d - p = v, floor(q / m) = k

    Args:
        filters: number of output channels.
        kernel_size, stride, padding, dilation: those of the first step, as for ``Conv2D``.
        multiplier: kernels for each channel.
        activation: f, for f(S) as the output; as for ``Dense``.
        use_bias: whether to add ``b``.
        weight_init: draws ``V``, channel by channel, and ``W``.
        bias_init: draws ``b``.

    >>> SeparableConv2D(16, 3, stride=2, padding=1).output_shape((28, 28, 8))
    (14, 14, 16)
    """

    axes = 2
