"""Convolution: its products, written out for any library.

With r, c counting positions and i, j entries of the kernel, for one group, and Z filled up::

    S[r, c] = sum_ij Z[r s + i d, c s + j d] W[i, j]                       window_taps, correlate
    dL/dW[i, j] = sum_rc Z[r s + i d, c s + j d]^T delta[r, c]             kernel_gradient
    dL/dZ[r s + i d, c s + j d] += delta[r, c] W[i, j]^T                   spread

``spread`` is the transpose of ``correlate``: forward and backward of a transposed convolution are
these same functions, with the roles of Z and delta exchanged.

Inside, kernels are (groups, entries, inputs, outputs), with the entries of the window in row-major
order; arrays are (groups, *positions, batch, channels of one group). What comes out is a view of
that with the batch first, which the next convolution turns back at no cost.
"""

import math
from collections.abc import Callable, Sequence

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import (
    Slide,
    batch_first,
    entries,
    fold,
    in_one_piece,
    padded,
    positions_first,
)
from xpnn.numerics import add_up, largest_divisor, product_over_rows, sum_over
from xpnn.typing import Array, Namespace, Shape

SHORTEST = 512  # rows of one of the products that a longer one is cut into
MOST_SAMPLES = 256  # of a kernel's gradient that a library works out in one go
FEW_CHANNELS = 6  # below, one product for all entries of the kernel beats one for each: measured


class Convolutions(Sliding):
    """The part of a backend that slides kernels: a convolution, and what comes back through it.

    Arrays are channels last, (batch, *positions, channels), along any number of axes. A kernel is
    (*window, channels of one group, filters). How it slides along each axis a ``Slide`` says: what
    is padded, how long arrays are on either side.
    """

    side_by_side: int
    stacks: int

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        """A kernel slid over ``Z``; for one axis, with stride s, dilation d and low padding p::

            S[n, t] = sum_i Z[n, t s + i d - p] W[i] + b

        Args:
            Z: (batch, *lengths, channels).
            W: (*window, channels / groups, filters).
            slides: one for each axis.
            groups: runs of channels and filters that see nothing of each other.
            bias: (filters,).

        Returns:
            (batch, *positions, filters). Half precision is added up in float32.
        """
        xp = self.xp
        taps = window_taps(inward(xp, Z, groups), slides, self)
        return outward(xp, correlate(xp, taps, split_kernel(xp, W, groups), slides), bias)

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        """dL/dZ of ``convolve``; with a bias, the forward of a transposed convolution.

        ::

            dL/dZ[n, u] = sum of delta[n, t] W[i]^T over all t, i with t s + i d - p = u, + b

        Args:
            delta: (batch, *positions, filters).
            W: (*window, channels / groups, filters).
            slides: one for each axis.
            groups: as for ``convolve``.
            bias: (channels,).

        Returns:
            (batch, *lengths, channels).
        """
        xp = self.xp
        K = split_kernel(xp, W, groups)
        return outward(xp, spread(inward(xp, delta, groups), K, slides, self), bias)

    def convolve_kernel_gradient(
        self, Z: Array, delta: Array, slides: Sequence[Slide], groups: int = 1
    ) -> Array:
        """dL/dW of ``convolve``; for one axis::

            dL/dW[i] = sum_nt Z[n, t s + i d - p]^T delta[n, t]

        Args:
            Z: (batch, *lengths, channels).
            delta: (batch, *positions, filters).
            slides: one for each axis.
            groups: as for ``convolve``.

        Returns:
            (*window, channels / groups, filters).
        """
        xp, window = self.xp, tuple(slide.size for slide in slides)
        inputs, outputs = Z.shape[-1] // groups, delta.shape[-1]
        taps = window_taps(inward(xp, Z, groups), slides, self)
        shape = (groups, math.prod(window), inputs, outputs // groups)
        dW = kernel_gradient(taps, inward(xp, delta, groups), shape, self)
        return join_kernel(xp, dW, (*window, inputs, outputs))


def over_parts(
    gradient: Callable[[Array, Array], Array], Z: Array, delta: Array, most_rows: int, xp: Namespace
) -> Array:
    """dL/dW by a library that adds up rows one after another: over parts of the batch, then these.

    With terms of one sign, parts of so many samples, and of ``most_rows`` as each library has it,
    were seen to be off by up to 4 in 100,000. In one go it is 2 in 1,000 at two million rows.
    """
    batch = delta.shape[0]
    rows = math.prod(delta.shape[:-1])
    parts = min(max(math.ceil(rows / most_rows), math.ceil(batch / MOST_SAMPLES)), batch)
    if parts < 2:
        return gradient(Z, delta)
    size = math.ceil(batch / parts)
    cuts = [slice(start, start + size) for start in range(0, batch, size)]
    total = add_up((gradient(Z[cut, ...], delta[cut, ...]) for cut in cuts), xp)
    return xp.astype(total, Z.dtype, copy=False)


def inward(xp: Namespace, Z: Array, groups: int) -> Array:
    """(batch, *positions, channels) as the products want it."""
    return split_groups(xp, positions_first(xp, Z), groups)


def outward(xp: Namespace, S: Array, bias: Array | None) -> Array:
    """The way back of ``inward``, plus a bias; ``S`` has just been made."""
    S = join_groups(xp, S)
    if bias is not None:
        shape = S.shape
        S = xp.reshape(S, (*shape[:-2], math.prod(shape[-2:])))
        S += xp.tile(bias, (shape[-2],))  # the batch's rows as one: short ones are slow to add
        S = xp.reshape(S, shape)
    return batch_first(xp, S)


def turned_kernel(xp: Namespace, W: Array, groups: int) -> Array:
    """The kernel of the way back: (*window, inputs / groups, outputs) with channels exchanged."""
    if groups == 1:
        return xp.matrix_transpose(W)
    *window, inputs, outputs = W.shape
    W = xp.reshape(W, (*window, inputs, groups, outputs // groups))
    axes = range(len(window))
    W = xp.permute_dims(W, (*axes, len(window) + 2, len(window) + 1, len(window)))
    return xp.reshape(W, (*window, outputs // groups, groups * inputs))


def split_groups(xp: Namespace, Z: Array, groups: int) -> Array:
    """(*positions, batch, channels) as (groups, *positions, batch, channels of one group)."""
    Z = xp.reshape(Z, (*Z.shape[:-1], groups, Z.shape[-1] // groups))
    return in_one_piece(xp, xp.permute_dims(Z, (Z.ndim - 2, *range(Z.ndim - 2), Z.ndim - 1)))


def join_groups(xp: Namespace, S: Array) -> Array:
    """The way back of ``split_groups``."""
    S = xp.permute_dims(S, (*range(1, S.ndim - 1), 0, S.ndim - 1))
    return xp.reshape(S, (*S.shape[:-2], math.prod(S.shape[-2:])))


def split_kernel(xp: Namespace, W: Array, groups: int) -> Array:
    """(*window, inputs of one group, outputs) as (groups, entries, inputs, outputs of one)."""
    *window, inputs, outputs = W.shape
    W = xp.reshape(W, (math.prod(window), inputs, groups, outputs // groups))
    return xp.permute_dims(W, (2, 0, 1, 3))


def join_kernel(xp: Namespace, K: Array, shape: Shape) -> Array:
    """The way back of ``split_kernel``."""
    return xp.reshape(xp.permute_dims(K, (1, 2, 0, 3)), shape)


def window_taps(Z: Array, slides: Sequence[Slide], backend: Convolutions) -> list[Array]:
    """What lies under the entries of the kernel: each (groups, rows, positions, channels).

    Where channels are few, or the backend has them side by side, all entries come as one, side by
    side in the channels. Otherwise they are views where the library can do that, one for each
    entry, and the kernel's size costs no memory.
    """
    xp, groups, channels = backend.xp, Z.shape[0], Z.shape[-1]
    size = math.prod(Z.shape) * math.prod(slide.size for slide in slides)
    few, axes = channels < FEW_CHANNELS or size <= backend.side_by_side, len(slides)
    if few:
        Z = in_one_piece(xp, xp.permute_dims(Z, (0, axes + 2, *range(1, axes + 2))))
    for axis, slide in enumerate(slides, start=1 + few):
        Z = padded(Z, axis, slide, backend)
    taps = [Z]
    for axis, slide in enumerate(slides, start=1 + few):
        taps = [one for tap in taps for one in entries(tap, axis, slide)]
    if few:
        shape = (groups, 1, channels * len(taps), math.prod(taps[0].shape[2:]))
        columns = xp.reshape(xp.concat(taps, axis=1), shape)
        return [xp.matrix_transpose(columns)]
    *rows, last = (slide.positions for slide in slides)
    shape = (groups, math.prod(rows), last * Z.shape[-2], channels)
    return [xp.reshape(tap, shape) for tap in taps]


def correlate(xp: Namespace, taps: Sequence[Array], K: Array, slides: Sequence[Slide]) -> Array:
    """``S``, from what ``window_taps`` found, as (groups, *positions, batch, outputs)."""
    groups, outputs = K.shape[0], K.shape[-1]
    K = xp.reshape(K, (groups, len(taps), -1, outputs))
    S = add_up((tap @ _entry(K, k) for k, tap in enumerate(taps)), xp)
    S = xp.astype(S, K.dtype, copy=False)
    return xp.reshape(S, (groups, *(slide.positions for slide in slides), -1, outputs))


def kernel_gradient(
    taps: Sequence[Array], delta: Array, shape: Shape, backend: Convolutions
) -> Array:
    """``dL/dW``, from what ``window_taps`` found, as (groups, entries, inputs, outputs)."""
    xp, (groups, stacks, positions, _) = backend.xp, taps[0].shape
    parts = largest_divisor(positions, min(positions // SHORTEST, backend.stacks // stacks))

    def stacked(x: Array) -> Array:
        return xp.reshape(x, (groups, stacks * parts, positions // parts, x.shape[-1]))

    rows = stacked(xp.reshape(delta, (groups, stacks, positions, delta.shape[-1])))
    products = [product_over_rows(stacked(tap), rows, xp) for tap in taps]
    if products[0].shape[1] > 1:
        products = [sum_over(one, xp, axis=1, keepdims=True) for one in products]
    return xp.reshape(products[0] if len(products) == 1 else xp.concat(products, axis=1), shape)


def spread(delta: Array, K: Array, slides: Sequence[Slide], backend: Convolutions) -> Array:
    """``dL/dZ`` as (groups, *positions, batch, inputs)."""
    xp, (groups, *positions, batch, outputs) = backend.xp, delta.shape
    stacks = () if groups == 1 else (groups, math.prod(positions[:-1]))
    rows = xp.reshape(delta, (*stacks, -1, outputs))
    K = xp.matrix_transpose(K)

    def product(entry: int) -> Array:
        return xp.reshape(rows @ _entry(K, entry), (groups, *positions, batch, K.shape[-1]))

    return _folded(product, 0, 0, slides, backend)


def _folded(
    product: Callable[[int], Array],
    axis: int,
    entry: int,
    slides: Sequence[Slide],
    backend: Convolutions,
) -> Array:
    """The products of the kernel's entries from ``entry`` on, put back along ``axis`` and behind.

    No function inside of ``spread``: one that calls itself would hold the arrays of its caller.
    """
    if axis == len(slides):
        return product(entry)
    size = slides[axis].size
    parts = [_folded(product, axis + 1, entry * size + k, slides, backend) for k in range(size)]
    return fold(parts, axis + 1, slides[axis], backend)


def _entry(K: Array, k: int) -> Array:
    """One entry of the kernel, a plain matrix where there is one group: the fastest product."""
    return K[0, k, ...] if K.shape[0] == 1 else K[:, k, None, ...]
