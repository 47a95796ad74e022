"""Convolution and pooling as operators of ONNX, which want channels in front of positions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends.portable.sliding import Sliding
from xpnn.backends.portable.windows import Slide, cut_back, filled_up, over_padded, span
from xpnn.errors import ExportError
from xpnn.onnx.sizes import Size, is_same
from xpnn.onnx.tape import Tape
from xpnn.onnx.traced import Traced
from xpnn.typing import Array, Namespace


class TracedWindows(Sliding):
    """The part of the tracer that slides windows. Arrays come and go channels last."""

    tape: Tape

    @property
    def positions_first(self) -> bool:
        return False

    def pad(self, x: Array, axis: int, start: int, length: int, fill: float = 0.0) -> Array:
        before, after = start, length - start - x.shape[axis]
        if isinstance(before, Size) or isinstance(after, Size):
            raise ExportError(
                f"the padding of an axis depends on its length, {x.shape[axis]}, which is free; "
                f"leave the axis out of free"
            )
        first, last = max(-before, 0), max(-after, 0)
        if first or last:
            kept = slice(first, -last if last else None)
            x = x[(slice(None),) * axis + (kept, ...)]
        if before <= 0 and after <= 0:
            return x
        widths = np.zeros((2, x.ndim), dtype=np.int64)
        widths[:, axis] = max(before, 0), max(after, 0)
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        given = [x, widths.reshape(-1), np.asarray(fill, dtype=x.dtype)]
        return self.tape.emit("Pad", given, shape, x.dtype)

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        pads, taken = _pads(slides)
        Z = filled_up(Z, slides, taken, self)
        shape = (Z.shape[0], W.shape[-1], *(one.positions for one in slides))
        given = [channels_first(self.xp, Z), self._kernel(W), *([] if bias is None else [bias])]
        made = self.tape.emit(
            "Conv", given, shape, Z.dtype, **_options(slides, pads), dilations=_dilations(slides),
            group=groups,
        )  # fmt: skip
        return channels_last(self.xp, made)

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        lows, highs, more, taken = [], [], [], []
        for one in slides:
            high = one.extent - one.low - one.length
            fits = not isinstance(high, Size) and one.low >= 0 and -high < one.stride
            taken.append(one if fits else over_padded(one))
            lows.append(one.low if fits else 0)
            highs.append(max(high, 0) if fits else 0)
            more.append(max(-high, 0) if fits else 0)
        lengths = [one.length for one in taken]
        shape = (delta.shape[0], W.shape[-2] * groups, *lengths)
        given = [channels_first(self.xp, delta), self._kernel(W)]
        alone = taken == list(slides)
        if bias is not None and alone:
            given.append(bias)
        made = self.tape.emit(
            "ConvTranspose", given, shape, delta.dtype, **_options(slides, (lows, highs)),
            dilations=_dilations(slides), group=groups, output_padding=more,
        )  # fmt: skip
        dZ = cut_back(channels_last(self.xp, made), slides, taken, self)
        return dZ if bias is None or alone else dZ + bias

    def max_pool(self, Z: Array, slides: Sequence[Slide]) -> tuple[Array, Any]:
        pads, taken = _pads(slides)
        Z = filled_up(Z, slides, taken, self, fill=-np.inf)
        options = {**_options(slides, pads), "dilations": _dilations(slides)}
        return self._pooled("MaxPool", Z, slides, options), None

    def average_pool(self, Z: Array, slides: Sequence[Slide], count_padding: bool = False) -> Array:
        pads, taken = _pads(slides)
        if taken != list(slides) and not count_padding:
            raise ExportError(
                "the padding of a mean depends on the length of an axis, which is free; leave the "
                "axis out of free"
            )
        Z = filled_up(Z, slides, taken, self)
        options = {**_options(slides, pads), "count_include_pad": int(count_padding)}
        return self._pooled("AveragePool", Z, slides, options)

    def _pooled(
        self, operator: str, Z: Array, slides: Sequence[Slide], options: dict[str, Any]
    ) -> Array:
        Z = channels_first(self.xp, Z)
        shape = (*Z.shape[:2], *(one.positions for one in slides))
        return channels_last(self.xp, self.tape.emit(operator, [Z], shape, Z.dtype, **options))

    def _kernel(self, W: Array) -> Array:
        """(*window, inputs of one group, outputs) as (outputs, inputs of one group, *window)."""
        return self.xp.permute_dims(W, (W.ndim - 1, W.ndim - 2, *range(W.ndim - 2)))


def channels_first(xp: Namespace, Z: Array) -> Array:
    """(batch, *positions, channels) as (batch, channels, *positions)."""
    return xp.permute_dims(Z, (0, Z.ndim - 1, *range(1, Z.ndim - 1)))


def channels_last(xp: Namespace, Z: Traced) -> Array:
    """The way back of ``channels_first``."""
    return xp.permute_dims(Z, (0, *range(2, Z.ndim), 1))


def _pads(slides: Sequence[Slide]) -> tuple[tuple[list[int], list[int]], list[Slide]]:
    """Padding in front and behind of each axis; and the slides that it is enough for.

    Where it is not, what a slide is over has to be filled up first.
    """
    lows, highs, taken = [], [], []
    for one in slides:
        high = _high(one)
        lows.append(0 if high is None else one.low)
        highs.append(0 if high is None else high)
        taken.append(over_padded(one) if high is None else one)
    return (lows, highs), taken


def _high(slide: Slide) -> int | None:
    """The padding behind an axis with which ONNX finds as many positions; None if there is none."""
    rest = slide.extent - slide.low - slide.length
    for high in (rest, 0, slide.low):
        if isinstance(high, Size) or isinstance(slide.low, Size) or min(high, slide.low) < 0:
            continue
        reached = slide.length + slide.low + high - span(slide.size, slide.dilation)
        if is_same(reached // slide.stride + 1, slide.positions):
            return high
    return None


def _options(slides: Sequence[Slide], pads: tuple[Sequence[int], Sequence[int]]) -> dict[str, Any]:
    return {
        "kernel_shape": [one.size for one in slides],
        "strides": [one.stride for one in slides],
        "pads": [*pads[0], *pads[1]],
    }


def _dilations(slides: Sequence[Slide]) -> list[int]:
    return [one.dilation for one in slides]
