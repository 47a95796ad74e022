"""The backend on which the layers of a network run while they are traced."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Unpack

import numpy as np

from xpnn.backends.portable.attention import Scoring
from xpnn.backends.portable.base import Backend
from xpnn.errors import ExportError
from xpnn.local_rows import Stretch
from xpnn.numerics import BARRED, widened
from xpnn.onnx.namespace import TracedNamespace
from xpnn.onnx.sizes import Size, is_same
from xpnn.onnx.tape import Body, Tape, Value, value_of
from xpnn.onnx.traced import Traced, constant
from xpnn.onnx.windows import TracedWindows
from xpnn.trees import leaves, tree_map
from xpnn.typing import Array, Namespace, Shape


class Tracer(TracedWindows, Backend):
    """Notes what layers do on a ``Tape``; what ONNX has operators for is one node each."""

    name = "onnx"
    library = "onnx"
    install = "pip install 'xpnn[onnx]'"
    array_type = "xpnn.onnx.traced:Traced"
    counters_on_device = True

    def __init__(self) -> None:
        super().__init__()
        self.tape: Tape = self.xp.tape

    def load_namespace(self) -> Namespace:
        return TracedNamespace()

    def owns(self, array: Any) -> bool:
        return isinstance(array, Traced | np.ndarray)

    def from_numpy(self, array: np.ndarray) -> Array:
        return constant(array, self.tape)

    def indices(self, count: int) -> Array:
        if isinstance(count, Size):
            return self.xp.arange(count, dtype=np.int32)
        return super().indices(count)

    # What ONNX has operators for ------------------------------------------------------------------

    def erfc(self, x: Array) -> Array:
        if not isinstance(x, Traced):
            return constant(super().erfc(x), self.tape)
        wide = widened(x, self.xp)
        erf: Array = self.tape.emit("Erf", [wide], wide.shape, wide.dtype)
        return self.xp.astype(1.0 - erf, x.dtype)

    def softmax(self, x: Array, barred: Array | None = None) -> Array:
        if not isinstance(x, Traced):
            return super().softmax(x, barred)
        wide = widened(x, self.xp)
        if barred is not None:
            wide = wide + self.xp.astype(barred, wide.dtype) * BARRED
        made = self.tape.emit("Softmax", [wide], wide.shape, wide.dtype, axis=wide.ndim - 1)
        return self.xp.astype(made, x.dtype)

    def log_softmax(self, x: Array) -> Array:
        if not isinstance(x, Traced):
            return super().log_softmax(x)
        x = widened(x, self.xp)
        return self.tape.emit("LogSoftmax", [x], x.shape, x.dtype, axis=x.ndim - 1)

    def prefers_weights(self, Q: Array, K: Array, V: Array, **scoring: Unpack[Scoring]) -> bool:
        """Always: to go by blocks is for whoever runs the graph to choose."""
        return True

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Any, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[Any, tuple[Array, ...]]:
        tape = self.tape
        initial = leaves(carry)
        with tape.body() as nodes:
            arriving = [tape.input("carried", tuple(one.shape), one.dtype) for one in initial]
            seen = [tape.input("step", tuple(one.shape[1:]), one.dtype) for one in inputs]
            order = iter(arriving)
            after, kept = step(tree_map(lambda _: next(order), carry), *seen)
            results = [self._own(one) for one in (*leaves(after), *kept)]
            _check_carried(arriving, results)
        length = inputs[0].shape[0]
        count = len(initial)
        shapes = [one.shape for one in results[:count]]
        shapes += [(length, *one.shape) for one in results[count:]]
        takes: list[Value] = [value_of(one) for one in (*arriving, *seen)]
        body = Body(takes, [value_of(one) for one in results], nodes)
        made = tape.emit_scan(body, initial, inputs, shapes, reverse)
        ends = iter(made[:count])
        return tree_map(lambda _: next(ends), after), tuple(made[count:])

    def _own(self, value: Array) -> Traced:
        """A value as one that a node of the body makes, and no other output is."""
        given = value if isinstance(value, Traced) else np.asarray(value)
        return self.tape.emit("Identity", [given], given.shape, given.dtype, shared=False)

    # What it does not do --------------------------------------------------------------------------

    def random_bits(
        self, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> NoReturn:
        raise ExportError(
            "random numbers are drawn outside of training, and the same ones for the same inputs "
            "an ONNX graph does not draw; leave the layer out of the network that is exported"
        )

    def random_mask(
        self, keep: float, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> NoReturn:
        self.random_bits(seed, draw, shape)


def _check_carried(before: Sequence[Traced], after: Sequence[Traced]) -> None:
    for one, other in zip(before, after, strict=False):
        same = one.ndim == other.ndim and all(map(is_same, one.shape, other.shape))
        if not same or one.dtype != other.dtype:
            raise ExportError(
                f"what is carried from step to step is {one.dtype} of shape {one.shape} before the "
                f"first, and {other.dtype} of shape {other.shape} after it; begin with the latter"
            )
