"""A block that keeps its input alone, and works out the rest once more when it is needed."""

from typing import Any

from xpnn.layers.base import Layer
from xpnn.layers.containers import Sequential
from xpnn.typing import Array


class Recompute(Sequential):
    """``Sequential`` that trades time for memory (Chen et al., 2016, sections 4.1 and 4.3).

    Forward, for inputs Z (batch, ...), in training keeps Z and forgets what the layers f_1 to f_n
    inside have kept::

        S = f_n(...f_2(f_1(Z)))

    Backward, given delta = dL/dS, runs forward from Z again, as it was the first time, keeping what
    the layers read on their way back, and then hands delta back, with f' what a layer makes of it::

        dL/dZ = f_1'(... f_n'(delta))

    So a network of n layers in k such blocks holds k inputs and the activations of one block at a
    time, which for k near the square root of n is least, and takes one more forward pass: about a
    third more work. Dropout draws the same masks again, and running statistics, memories and
    counters move once for each batch: gradients equal those of ``Sequential``, bit for bit where
    the library's arithmetic is the same twice.

    In prediction it is ``Sequential``. In training nothing is to be found in the caches of the
    layers inside, neither after forward nor after backward.

    Args:
        layers: in the order in which data flows.

    >>> from xpnn.layers import Dense, ReLU
    >>> Recompute([Dense(64), ReLU(), Dense(3)]).output_shape((2,))
    (3,)
    """

    def forward(self, Z: Array, training: bool = False) -> Array:
        if not training:
            self.cache["given"] = None
            return super().forward(Z, training)
        inside = self._inside()
        given = [(dict(layer.cache), dict(layer.state)) for layer in inside]  # masks from outside
        S = super().forward(Z, training)
        for layer in inside:
            for name in layer.cache.keys() - {"term"}:  # which is read before backward
                del layer.cache[name]
        self.cache["Z"], self.cache["given"] = Z, given
        return S

    def backward(self, delta: Array) -> Array | None:
        given = self.cache["given"]
        if given is None:
            return super().backward(delta)
        inside = self._inside()
        after = [dict(layer.state) for layer in inside]
        self._put_back(given)
        # not before delta is there, and not what a compiler remembers of the first time
        Z, delta = self.backend.barrier(self.cache["Z"], delta)
        super().forward(Z, training=True)
        for layer, state in zip(inside, after, strict=True):
            layer.state.update(state)
        back = super().backward(delta)
        for layer in inside:
            layer.cache.clear()
        return back

    def _inside(self) -> list[Layer]:
        """The layers at every depth inside."""
        return [layer for _, layer in self.walk() if layer is not self]

    def _put_back(self, given: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Caches and state of the layers inside as they were before forward."""
        for layer, (cache, state) in zip(self._inside(), given, strict=True):
            layer.cache.clear()
            layer.cache.update(cache)
            layer.state.update(state)
