"""Sequences of different lengths in one batch: padded to one length, and the padding skipped."""

from collections.abc import Iterable, Iterator, Sequence

from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container, Sequential
from xpnn.layers.sequence.attention import MultiHeadAttention
from xpnn.layers.sequence.cross_attention import CrossAttention
from xpnn.layers.sequence.recurrence import Recurrent
from xpnn.typing import Array, Shape


class Masked(Sequential):
    """Layers one after another, told which steps of their input are padding.

    Forward, for layers f_1 to f_n, with a mask (batch, time) that is True at the real steps. It is
    found in the input Z of this container, where the padding is still seen::

        mask = (Z != padding)                          for ids, (batch, time)
        mask = (any feature of Z != padding)           for vectors, (batch, time, features)
        S = f_n(...f_2(f_1(Z)))

    Backward, given delta = dL/dS, with f' what a layer makes of it::

        dL/dZ = f_1'(... f_n'(delta))

    The mask is put into ``cache["mask"]`` of every layer inside, at every depth. Recurrent layers
    skip the steps where it is False, attention does not look at them, and all other layers treat
    them like any step: what comes out there means nothing and belongs out of the loss, by a
    ``sample_weight`` of shape (batch, time).

    Args:
        layers: in the order in which data flows. The time axis must come unchanged to the last of
            those that read the mask.
        padding: the value that fills up short sequences.

    Raises:
        ShapeError: a layer that reads the mask is given another number of steps; from where a
            network is made.

    >>> from xpnn.layers import LSTM, Dense
    >>> Masked([LSTM(8), Dense(2)], padding=0.0).output_shape((20, 3))
    (2,)
    """

    def __init__(self, layers: Sequence[Layer], padding: float = 0):
        super().__init__(layers)
        self.padding = padding

    def output_shape(self, input_shape: Shape) -> Shape:
        *shapes, shape = self.all_shapes(input_shape)
        for layer, inputs in _all_readers(zip(self.layers, shapes, strict=True)):
            if inputs[0] != input_shape[0]:
                raise ShapeError(
                    f"the mask is that of {input_shape[0]} steps, but {layer!r} reads {inputs[0]} "
                    f"steps; put what changes their number behind it, or in front of Masked"
                )
        return shape

    def mask(self, Z: Array) -> Array:
        """(batch, time) booleans, True at the real steps."""
        real = self.padding != Z
        return real if Z.ndim == 2 else self.xp.any(real, axis=-1)

    def forward(self, Z: Array, training: bool = False) -> Array:
        mask = self.mask(Z)
        for _, layer in self.walk():
            layer.cache["mask"] = mask
        return super().forward(Z, training)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, padding={self.padding})"


def _readers(layer: Layer, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The layers that read the mask of ``layer``, each with the shape of its inputs."""
    if isinstance(layer, CrossAttention):  # whose mask is that of its context
        return
    if isinstance(layer, Recurrent | MultiHeadAttention):
        yield layer, input_shape
    elif isinstance(layer, Container):
        yield from _all_readers(layer.inner_calls(input_shape))


def _all_readers(calls: Iterable[tuple[Layer, Shape]]) -> Iterator[tuple[Layer, Shape]]:
    for layer, inputs in calls:
        if not isinstance(layer, Masked):  # which has a mask of its own
            yield from _readers(layer, inputs)
