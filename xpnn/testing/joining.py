"""A layer of several inputs or outputs as one of a single input, to be checked like others."""

import math
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.layers import Layer
from xpnn.layers.nodes import is_several, kinds_of
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Shape, Shapes


class SideBySide(Layer):
    """All numbers of the inputs of a sample in one row, and those of its outputs in another.

    Integers come as floats, which are rounded, so that they have no slope and their delta is 0.

    Args:
        layer: of any number of inputs and outputs.
        shapes: of one sample of its inputs.
    """

    def __init__(self, layer: Layer, shapes: Shapes):
        super().__init__()
        self.layer = layer
        self.shapes = shapes if is_several(shapes) else (shapes,)
        self.kinds = kinds_of(layer, len(self.shapes))

    def children(self) -> dict[str, Layer]:
        return {"joint": self.layer} if self.built else {}  # which may have been built before

    def output_shape(self, input_shape: Shape) -> Shape:
        made: Shapes = self.layer.output_shape(self._given(self.shapes))
        return (sum(math.prod(one) for one in (made if is_several(made) else (made,))),)

    def build(self, input_shape: Shape, backend: Backend, **options: Any) -> Shape:
        shape = super().build(input_shape, backend, **options)
        if not self.layer.built:
            self.layer.build(self._given(self.shapes), backend, **options)
        return shape

    def forward(self, Z: Array, training: bool = False) -> Array:
        xp, start, inputs = self.xp, 0, []
        for shape, kind in zip(self.shapes, self.kinds, strict=True):
            part = xp.reshape(Z[:, start : start + math.prod(shape)], (Z.shape[0], *shape))
            inputs.append(part if kind == "floats" else xp.astype(xp.round(part), xp.int32))
            start += math.prod(shape)
        outputs = as_tuple(self.layer.forward(self._given(inputs), training))
        self.cache["shapes"] = [one.shape for one in outputs]
        return self._in_rows(outputs)

    def backward(self, delta: Array) -> Array:
        xp, start, deltas = self.xp, 0, []
        for batch, *shape in self.cache["shapes"]:
            part = delta[:, start : start + math.prod(shape)]
            deltas.append(xp.reshape(part, (batch, *shape)))
            start += math.prod(shape)
        back = as_tuple(self.layer.backward(one_or_tuple(deltas)))
        widths = map(math.prod, self.shapes)
        return self._in_rows(
            [
                xp.zeros((delta.shape[0], width), dtype=delta.dtype, device=self.backend.device)
                if one is None
                else one
                for one, width in zip(back, widths, strict=True)
            ]
        )

    def _given(self, parts: Any) -> Any:
        return parts[0] if self.layer.arity == 1 else tuple(parts)

    def _in_rows(self, arrays: Any) -> Array:
        rows = [self.xp.reshape(one, (one.shape[0], -1)) for one in arrays]
        return self.xp.concat(rows, axis=-1)


def has_several(layer: Layer, shapes: Shapes) -> bool:
    """Whether there are several inputs or outputs."""
    return is_several(shapes) or layer.arity != 1 or is_several(layer.output_shape(shapes))


def in_rows(x: Any) -> np.ndarray:
    """Inputs of several arrays as ``SideBySide`` takes them."""
    return np.concatenate([np.reshape(one, (len(one), -1)) for one in x], axis=-1)
