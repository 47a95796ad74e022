"""Layers that read a sequence step by step and carry a memory from each step to the next."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.random import Generator

from xpnn.initializers import zeros
from xpnn.layers.base import Layer
from xpnn.layers.containers import Parallel
from xpnn.layers.sequence.recurrence import Memory, Recurrent
from xpnn.numerics import gate
from xpnn.typing import Array, Namespace, Range, Shape


class SimpleRNN(Recurrent):
    """The plain recurrent layer (Elman, 1990); equal to ``torch.nn.RNN``.

    Forward, for inputs Z of shape (batch, time, features)::

        S_t = Z_t W + b + h_(t-1) R         h_t = f(S_t)

        W (features, units)   R (units, units)   b (units,)   h_t (batch, units)

    Backward, from the last step to the first, with D_t = dL/dh_t, of which dS_t R^T goes to the
    step before::

        dS_t = D_t f'(S_t)                  f' = 1 - h^2 for tanh, (h > 0) for relu
        dL/dW = sum_t Z_t^T dS_t            dL/dR = sum_t h_(t-1)^T dS_t
        dL/db = sum of all dS_t             dL/dZ_t = dS_t W^T

    Args:
        units: size of the memory and of the output.
        activation: f, "tanh" or "relu".
        options: all others of ``LSTM``.

    >>> SimpleRNN(8).output_shape((20, 3))
    (8,)
    """

    def __init__(self, units: int, *, activation: Literal["tanh", "relu"] = "tanh", **options: Any):
        super().__init__(units, **options)
        if activation not in ("tanh", "relu"):
            raise ValueError(f"SimpleRNN knows activation='tanh' and 'relu', got {activation!r}")
        self.activation = activation

    def output_range(self, input_range: Range | None) -> Range | None:
        return (-1.0, 1.0) if self.activation == "tanh" else (0.0, math.inf)

    def rule(self, xp: Namespace, P: Array, U: Array) -> Array:
        """``f(S)``."""
        return xp.tanh(P + U) if self.activation == "tanh" else xp.maximum(P + U, 0.0)

    def slope(self, xp: Namespace, h: Array) -> Array:
        """``f'``, from the output."""
        return 1.0 - h * h if self.activation == "tanh" else xp.astype(h > 0, h.dtype)

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"step": elementwise(self.rule), "slopes": elementwise(self.slope)}

    def step(self, P: Array, U: Array, *memory: Array) -> tuple[Memory, Memory]:
        return (self.fused["step"](P[0, ...], U[0, ...]),), ()

    def slopes(self, h: Array, *kept: Array) -> Memory:
        return (self.fused["slopes"](h),)

    def step_back(self, D: Memory, *slopes: Array) -> tuple[Memory, Sequence[Array | None]]:
        return (D[0] * slopes[0],), (None,)


class LSTM(Recurrent):
    """Long short-term memory with a forget gate (Gers et al., 2000); equal to ``torch.nn.LSTM``.

    Forward, for inputs Z of shape (batch, time, features), with S_t cut into four blocks of
    columns, in PyTorch's order i, f, g, o, and s the sigmoid::

        S_t = Z_t W + b + h_(t-1) R
        i = s(S_i)     f = s(S_f)     g = tanh(S_g)     o = s(S_o)
        c_t = f c_(t-1) + i g
        h_t = o tanh(c_t)

        W (features, 4 units)   R (units, 4 units)   b (4 units,)   c_t, h_t (batch, units)

    Backward, with D = dL/dh_t, C = dL/dc_t from step t+1, and E all that reaches c_t::

        E = C + D a_c                       a_c = o (1 - tanh(c_t)^2)
        dS_i = E a_i                        a_i = g i (1 - i)
        dS_f = E a_f                        a_f = c_(t-1) f (1 - f)
        dS_g = E a_g                        a_g = i (1 - g^2)
        dS_o = D a_o                        a_o = tanh(c_t) o (1 - o)
        dL/dc_(t-1) = E f                   dL/dh_(t-1) = dS R^T
        dL/dW = sum_t Z_t^T dS_t            dL/dR = sum_t h_(t-1)^T dS_t
        dL/db = sum of all dS_t             dL/dZ_t = dS_t W^T

    The forget gate's bias starts at 1, so that a new network remembers (Jozefowicz et al., 2015).
    PyTorch has two biases, of which only the sum counts: copied weights are
    ``weight_ih.T``, ``weight_hh.T`` and ``bias_ih + bias_hh``.

    Args:
        units: size of the memory and of the output.
        return_sequences, reverse, truncate, stateful: as for ``Recurrent``.
        use_bias, weight_init, recurrent_init: as there.

    >>> LSTM(8, return_sequences=True).output_shape((20, 3))
    (20, 8)
    """

    gates = 4
    memory = ("h", "c")
    parts_kept: ClassVar[dict[str, tuple[str, ...]]] = {
        "kept": ("c before", "i", "g", "o", "tanh c", "f")
    }

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        params = super().init_params(input_shape, rng)
        if self.use_bias:
            params["bias"][self.units : 2 * self.units] = 1.0
        return params

    def rule(
        self, xp: Namespace, S_i: Array, S_f: Array, S_g: Array, S_o: Array, c: Array
    ) -> tuple[Array, ...]:
        """h_t, c_t, and what the slopes are made of."""
        i, f, g, o = gate(S_i, xp), gate(S_f, xp), xp.tanh(S_g), gate(S_o, xp)
        c = f * c + i * g
        squashed = xp.tanh(c)
        return o * squashed, c, i, g, o, squashed, f

    def slope_rule(
        self, xp: Namespace, c: Array, i: Array, g: Array, o: Array, squashed: Array, f: Array
    ) -> tuple[Array, ...]:
        """a_c, a_i, a_f, a_g, a_o, from c_(t-1) and what ``rule`` kept."""
        a_c, a_g = o * (1.0 - squashed * squashed), i * (1.0 - g * g)
        return a_c, g * i * (1.0 - i), c * f * (1.0 - f), a_g, squashed * o * (1.0 - o)

    def back_rule(
        self, xp: Namespace, D: Array, C: Array, f: Array,
        a_c: Array, a_i: Array, a_f: Array, a_g: Array, a_o: Array,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The four blocks of dS, and dL/dc_(t-1)."""
        E = C + D * a_c
        return E * a_i, E * a_f, E * a_g, D * a_o, E * f

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "step": elementwise(self.rule),
            "slopes": elementwise(self.slope_rule),
            "slopes over": elementwise(self.slope_rule, range(5)),
            "step_back": elementwise(self.back_rule),
        }

    def step(self, P: Array, U: Array, *memory: Array) -> tuple[Memory, Memory]:
        before = memory[1]
        h, c, *kept = self.fused["step"](*self._gates(P + U), before)
        return (h, c), (before, *kept)

    def slopes(self, h: Array, *kept: Array) -> Memory:
        sweep = self.fused["slopes over" if self.in_step else "slopes"]
        return (kept[-1], *sweep(*kept))

    def step_back(self, D: Memory, *slopes: Array) -> tuple[Memory, Sequence[Array | None]]:
        *blocks, C = self.fused["step_back"](*D, *slopes)
        return (self.xp.concat(blocks, axis=1),), (None, C)


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., 2014), equal to ``torch.nn.GRU``.

    Forward, for inputs Z of shape (batch, time, features), with P_t and U_t cut into three blocks
    of columns, in PyTorch's order r, z, n, and s the sigmoid::

        P_t = Z_t W + b      U_t = h_(t-1) R + q
        r = s(P_r + U_r)     z = s(P_z + U_z)     n = tanh(P_n + r U_n)
        h_t = (1 - z) n + z h_(t-1)

        W (features, 3 units)   R (units, 3 units)   b, q (3 units,)   h_t (batch, units)

    This is the variant of PyTorch and cuDNN, in which r resets the product U_n, after it was made;
    the paper's r resets the h_(t-1) that goes into it. Backward, with D = dL/dh_t::

        dP_n = D a_n                        a_n = (1 - z) (1 - n^2)
        dU_n = dP_n r
        dP_r = dU_r = dU_n a_r              a_r = U_n (1 - r)
        dP_z = dU_z = D a_z                 a_z = (h_(t-1) - n) z (1 - z)
        dL/dh_(t-1) = D z + dU R^T
        dL/dW = sum_t Z_t^T dP_t            dL/dR = sum_t h_(t-1)^T dU_t
        dL/db = sum of all dP_t             dL/dq = sum of all dU_t
        dL/dZ_t = dP_t W^T

    q is the parameter ``recurrent_bias``. Weights copied from PyTorch are
    ``weight_ih.T``, ``weight_hh.T``, ``bias_ih`` and ``bias_hh``.

    Args:
        units: size of the memory and of the output.
        return_sequences, reverse, truncate, stateful: as for ``Recurrent``.
        use_bias, weight_init, recurrent_init: as there.

    >>> GRU(8).output_shape((20, 3))
    (8,)
    """

    gates = 3
    parts_kept: ClassVar[dict[str, tuple[str, ...]]] = {"kept": ("h before", "n", "U_n", "r", "z")}

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        params = super().init_params(input_shape, rng)
        if self.use_bias:
            params["recurrent_bias"] = zeros((3 * self.units,), rng)
        return params

    def rule(self, xp: Namespace, *blocks_and_h: Array) -> tuple[Array, ...]:
        """h_t, and what the slopes are made of."""
        P_r, P_z, P_n, U_r, U_z, U_n, h = blocks_and_h
        r, z = gate(P_r + U_r, xp), gate(P_z + U_z, xp)
        n = xp.tanh(P_n + r * U_n)
        return n + z * (h - n), n, r, z

    def slope_rule(
        self, xp: Namespace, h: Array, n: Array, U_n: Array, r: Array, z: Array
    ) -> tuple[Array, ...]:
        """a_n, a_r, a_z, from h_(t-1), U_n and what ``rule`` kept."""
        rest = 1.0 - z
        return rest * (1.0 - n * n), U_n * (1.0 - r), (h - n) * z * rest

    def back_rule(
        self, xp: Namespace, D: Array, r: Array, z: Array, a_n: Array, a_r: Array, a_z: Array
    ) -> tuple[Array, ...]:
        """The blocks of dP and the last one of dU, and what passes to h_(t-1) beside U."""
        dP_n = D * a_n
        dU_n = dP_n * r
        return dU_n * a_r, D * a_z, dP_n, dU_n, D * z

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "step": elementwise(self.rule),
            "slopes": elementwise(self.slope_rule),
            "slopes over": elementwise(self.slope_rule, range(3)),
            "step_back": elementwise(self.back_rule),
        }

    def step(self, P: Array, U: Array, *memory: Array) -> tuple[Memory, Memory]:
        h, n, r, z = self.fused["step"](*self._gates(P), *self._gates(U), *memory)
        return (h,), (*memory, n, U[2, ...], r, z)

    def slopes(self, h: Array, *kept: Array) -> Memory:
        sweep = self.fused["slopes over" if self.in_step else "slopes"]
        return (*kept[3:], *sweep(*kept))

    def step_back(self, D: Memory, *slopes: Array) -> tuple[Memory, Sequence[Array | None]]:
        xp = self.xp
        dP_r, dP_z, dP_n, dU_n, past = self.fused["step_back"](*D, *slopes)
        dU = xp.concat([dP_r, dP_z, dU_n], axis=1)
        return (dU, xp.concat([dP_r, dP_z, dP_n], axis=1)), (past,)


class Bidirectional(Parallel):
    """A recurrent layer beside a second one of its kind that reads from the end (Schuster, 1997).

    Forward, for inputs Z of shape (batch, time, features), with f the layer and g the reverse one,
    joined along the last axis, or added up::

        S = [f(Z), g(Z)]                    S = f(Z) + g(Z)

    Backward, given delta = dL/dS, which is cut at the same place into d_1 and d_2, or goes to both
    as a whole, with f' and g' what these layers make of it::

        dL/dZ = f'(d_1) + g'(d_2)

    It is equal to PyTorch's ``bidirectional=True``. Without ``return_sequences`` each gives its own
    last output: that of the reverse layer belongs to step 0.

    Args:
        layer: describes both; it becomes the one that reads forward.
        merge: "concatenate" or "sum".

    >>> from xpnn import LSTM
    >>> Bidirectional(LSTM(8)).output_shape((20, 3))
    (16,)
    """

    fixed = (*Parallel.fixed, "layer")

    def __init__(self, layer: Recurrent, merge: Literal["concatenate", "sum"] = "concatenate"):
        if not isinstance(layer, Recurrent):
            raise TypeError(f"Bidirectional takes a recurrent layer such as LSTM(8), got {layer!r}")
        if layer.stateful:
            raise ValueError("Bidirectional has no next batch to carry a memory to from step 0")
        backward = copy.deepcopy(layer)
        backward.reverse = not layer.reverse
        super().__init__([layer, backward], merge)

    def arguments(self) -> dict[str, Any]:
        return {"layer": self.layers[0], "merge": self.merge}

    def children(self) -> dict[str, Layer]:
        return dict(zip(("forward", "backward"), self.layers, strict=True))

    def __repr__(self) -> str:
        return f"Bidirectional({self.layers[0]!r})"
