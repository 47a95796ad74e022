"""A backend on which steps are recorded for another one, from shapes alone.

What is written down are the calls of the portable forms, under NumPy's names, as NumPy's functions
are those that stand-ins take. What the other backend has kernels of its own for, such as
convolutions, is one call each of its own method.

NumPy has no bfloat16. A step in it is written down in float16, whose numbers go with float32 and
with Python's in the same way, under the limits of bfloat16; ``Recording.rename_dtype`` then gives
it its name.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Unpack

import numpy as np

from xpnn.backends.portable.attention import Scoring, by_name, in_order
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.random_words import within
from xpnn.backends.portable.windows import Slide
from xpnn.backends.recording import shapes
from xpnn.backends.recording.calls import NotRecordable
from xpnn.backends.recording.shapes import blank
from xpnn.backends.recording.stand_ins import Recorded, value_of
from xpnn.backends.recording.tape import recordable
from xpnn.local_rows import Stretch
from xpnn.typing import Array, Namespace, Shape
from xpnn.weak_methods import without_holding

HALVES = "float16", "bfloat16"
KEPT_SCORES = 1 << 25  # of a layer: 128 MiB in float32, to keep which saves 5 % of a GPT's time


class Recorder(Backend):
    """Stands for ``target`` while a step of a network that is built on it is recorded.

    Parameters of any size are joined: whoever runs the recording lets them lie side by side.

    Attributes:
        half: the name of the half precision that was asked for, if any was.
    """

    name = "recorder"
    library = "numpy"
    install = ""
    array_type = "numpy:ndarray"
    counters_on_device = True
    joint_size = math.inf

    def __init__(self, target: Backend):
        super().__init__()
        self.target, self.half = target, ""
        self.spec, self.deterministic = target.spec, target.deterministic
        self.side_by_side, self.stacks = target.side_by_side, target.stacks
        self.attention_from = target.attention_from

    def load_namespace(self) -> Namespace:
        from array_api_compat import numpy as xp

        laid = {"stack": _in_order(np.stack), "concat": _in_order(np.concatenate)}
        return SimpleNamespace(**{**vars(xp), **laid, "finfo": without_holding(self._finfo)})

    @property
    def positions_first(self) -> bool:
        return self.target.positions_first

    def dtype(self, name: str) -> Any:
        if name not in HALVES:
            return super().dtype(name)
        if self.half not in ("", name):
            raise NotRecordable("float16 and bfloat16 are in one step")
        self.half = name
        return np.dtype(np.float16)

    def _finfo(self, dtype: Any, /) -> Any:
        """The limits of a dtype; of float16 those of what it stands for."""
        if self.half == "bfloat16" and np.dtype(dtype) == np.float16:
            return self.target.xp.finfo(self.target.dtype("bfloat16"))
        return np.finfo(dtype)

    def blank_for(self, array: Array) -> np.ndarray:
        """What stands for an array of the other backend.

        Raises:
            NotRecordable: it is of the other half precision than the step.
        """
        name = array.dtype.name
        return blank(array.shape, self.dtype(name) if name in HALVES else array.dtype)

    def owns(self, array: Any) -> bool:
        return isinstance(array, Recorded | np.ndarray)

    def from_numpy(self, array: np.ndarray) -> Array:
        return array

    def joint_groups(self, arrays: Mapping[str, Array]) -> list[list[str]]:
        """All of one group: in a recording joining costs nothing."""
        return [list(arrays)] if arrays else []

    # What the other backend has kernels for -------------------------------------------------------

    def _own(self, name: str, result_of: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the other backend, as one call, with the form of its result."""
        return recordable(getattr(self.target, name), result_of)

    def all_sum(
        self, array: Array, communicator: Communicator, behind: Array | None = None
    ) -> Array:
        run = self._own("all_sum", lambda *_: blank(array.shape, array.dtype))
        return run(array, communicator, behind)

    def start_all_sum(
        self,
        array: Array,
        communicator: Communicator,
        number: int,
        behind: Array | None = None,
    ) -> Array:
        run = self._own("start_all_sum", lambda *_: blank((1,), np.uint8))
        return run(array, communicator, number, behind)

    def finish_all_sum(
        self, token: Array, communicator: Communicator, number: int, shape: Shape, dtype: Any
    ) -> Array:
        run = self._own("finish_all_sum", lambda *_: blank(shape, dtype))
        return run(token, communicator, number, shape, dtype)

    def random_bits(
        self, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        run = self._own("random_bits", lambda *_: blank(shape, np.uint32))
        return run(seed, draw, shape, *within(stretch))

    def random_mask(
        self, keep: float, seed: int, draw: Any, shape: Shape, stretch: Stretch | None = None
    ) -> Array:
        run = self._own("random_mask", lambda *_: blank(shape, bool))
        return run(keep, seed, draw, shape, *within(stretch))

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        run = self._own("scatter_add", lambda *_: blank(array.shape, array.dtype))
        return run(array, indices, updates)

    def erfc(self, x: Array) -> Array:
        return self._own("erfc", lambda x: blank(x.shape, x.dtype))(x)

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self.positions_first:
            return super().convolve(Z, W, slides, groups, bias)
        shape = (Z.shape[0], *(one.positions for one in slides), W.shape[-1])
        run = self._own("convolve", lambda *_: blank(shape, Z.dtype))
        return run(Z, W, tuple(slides), groups, bias)

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self.positions_first:
            return super().convolve_input_gradient(delta, W, slides, groups, bias)
        shape = (delta.shape[0], *(one.length for one in slides), W.shape[-2] * groups)
        run = self._own("convolve_input_gradient", lambda *_: blank(shape, delta.dtype))
        return run(delta, W, tuple(slides), groups, bias)

    def convolve_kernel_gradient(
        self, Z: Array, delta: Array, slides: Sequence[Slide], groups: int = 1
    ) -> Array:
        if self.positions_first:
            return super().convolve_kernel_gradient(Z, delta, slides, groups)
        window = tuple(one.size for one in slides)
        shape = (*window, Z.shape[-1] // groups, delta.shape[-1])
        run = self._own("convolve_kernel_gradient", lambda *_: blank(shape, Z.dtype))
        return run(Z, delta, tuple(slides), groups)

    def prefers_weights(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> bool:
        """Few of them in float32, as their rows are fused; else as the other backend does."""
        few = math.prod(Q.shape[:3]) * K.shape[2] <= KEPT_SCORES
        if few and np.finfo(Q.dtype).bits >= 32:
            return super().prefers_weights(Q, K, V, **scoring)
        behind = by_name(*map(value_of, in_order(**scoring)))
        return self.target.prefers_weights(*map(value_of, (Q, K, V)), **behind)

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array]:
        def results(Q: Array, K: Array, V: Array, *_: Any) -> tuple[Array, Array]:
            shape = self.target.statistics_shape(Q, K, V, **scoring)
            return _heads_side_by_side(Q), blank(shape, np.result_type(Q.dtype, np.float32))

        run = recordable(functools.partial(_attention, self.target), results)
        return run(Q, K, V, *in_order(**scoring))

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Array,
        dA: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array, Array]:
        given = Q, K, V, A, statistics, dA, *in_order(**scoring)
        if Q.shape == K.shape == V.shape:
            batch, heads, time, d = Q.shape
            joint_shape = batch, time, 3, heads, d
            joined = functools.partial(_joint_attention_gradients, self.target)
            joint = recordable(joined, lambda *_: blank(joint_shape, Q.dtype))(*given)
            dQ, dK, dV = (self.xp.permute_dims(joint[:, :, k], (0, 2, 1, 3)) for k in range(3))
            return dQ, dK, dV

        def results(*_: Any) -> tuple[Array, ...]:
            return tuple(map(_heads_side_by_side, (Q, K, V)))

        run = recordable(functools.partial(_attention_gradients, self.target), results)
        found: tuple[Array, Array, Array] = run(*given)
        return found


def _in_order(function: Callable[..., Any]) -> Callable[..., Array]:
    """``stack`` or ``concat``, whose result lies in the order of its axes, as CuPy's does."""

    def result_of(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        made = shapes.result_of(function, "", (arrays,), {"axis": axis})
        return blank(made.shape, made.dtype)

    def joined(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        for one in arrays:
            if isinstance(one, Recorded):
                form = functools.partial(result_of, axis=axis)
                made: Array = one.tape.call(function, (arrays,), {"axis": axis}, result_of=form)
                return made
        return function(arrays, axis=axis)

    return joined


def _attention(target: Backend, Q: Array, K: Array, V: Array, *scoring: Any) -> tuple[Array, Array]:
    return target.attention(Q, K, V, **by_name(*scoring))


def _attention_gradients(
    target: Backend,
    Q: Array,
    K: Array,
    V: Array,
    A: Array,
    statistics: Array,
    dA: Array,
    *scoring: Any,
) -> tuple[Array, Array, Array]:
    return target.attention_gradients(Q, K, V, A, statistics, dA, **by_name(*scoring))


def _joint_attention_gradients(target: Backend, *given: Any) -> Array:
    """The gradients of Q, K and V side by side, (batch, time, 3, heads, d)."""
    xp = target.xp
    gradients = _attention_gradients(target, *given)
    return target.stack([xp.permute_dims(one, (0, 2, 1, 3)) for one in gradients], axis=2)


def _heads_side_by_side(x: Array) -> Array:
    """An array like ``x`` whose features of all heads lie behind each other."""
    batch, heads, time, d = x.shape
    return blank((batch, heads, time, d), x.dtype, (0, 2, 1, 3))
