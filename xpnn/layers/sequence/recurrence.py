"""The walk through time that all recurrent layers share, forward and back."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError, XpnnError
from xpnn.initializers import Initializer, claim, glorot_uniform, orthogonal, zeros
from xpnn.layers.base import Layer
from xpnn.layers.sequence.gates import by_gate, rows, transposed
from xpnn.numerics import product_over_rows, sum_over
from xpnn.typing import Array, Shape, State

Memory: TypeAlias = tuple[Array, ...]
"""What is carried from step to step: ``(h,)``, or ``(h, c)`` for LSTM, each (batch, units)."""


class Recurrent(Layer):
    """Base of the recurrent layers: the walk through time, forward and back.

    For inputs Z of shape (batch, time, features), the input's part of all steps is one product;
    only the memory's part has to wait for the step before::

        P   = Z W + b                                 for each gate (batch, time, units)
        U_t = h_(t-1) R                               for each gate (batch, units)
        h_t = step(P_t, U_t, h_(t-1))                 what each kind of layer defines

    Backward goes from the last step to the first (backpropagation through time, Werbos, 1990). With
    D_t = dL/dh_t, the sum of what comes from the output and from step t+1, each kind of layer turns
    D_t into dP_t, dU_t and the part of D_(t-1) that goes past the products. What D_t is multiplied
    with there, the slopes, is known for all steps before the walk begins::

        D_(t-1) = (that part) + dU_t R^T + delta_(t-1)
        dL/dW = sum_t Z_t^T dP_t      dL/dR = sum_t h_(t-1)^T dU_t      dL/db = sum of all dP_t
        dL/dZ = dP W^T

    Padding: where ``cache["mask"]`` (put there by ``Masked``) is False, the step is skipped: the
    memory stays as it is, the output is 0, and no gradient arises.

    Args:
        units: size of the memory and of the output.
        return_sequences: whether the output is that of all steps, (batch, time, units), or of the
            last one, (batch, units).
        reverse: read from the last step to the first; the "last" output is then that of step 0.
        truncate: cut the gradient after so many steps (truncated backpropagation through time,
            Williams and Peng, 1990): what happens in one stretch of ``truncate`` steps learns
            nothing from the stretches after it.
        stateful: the batch size of a stateful layer. In training it begins each batch with the
            memory that the batch before ended with, kept in ``state``, through which no gradient
            flows: batches that continue each other make up long sequences. Train with
            ``shuffle=False``, and call ``reset`` where new sequences begin. Prediction always
            begins with an empty memory.
        use_bias: whether to add ``b``.
        weight_init: draws ``W`` gate by gate.
        recurrent_init: draws ``R`` gate by gate.

    Raises:
        ShapeError: inputs are no sequences; from where a network is made.

    Parameters: ``weight`` (features, gates * units), ``recurrent_weight`` (units, gates * units),
    ``bias`` (gates * units,).

    >>> from xpnn import LSTM
    >>> LSTM(8, return_sequences=True, reverse=True, truncate=10).output_shape((20, 3))
    (20, 8)
    """

    fixed = ("units", "return_sequences", "stateful", "use_bias", "weight_init", "recurrent_init")
    gives = (-1.0, 1.0)

    gates: ClassVar[int] = 1
    memory: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        reverse: bool = False,
        truncate: int | None = None,
        stateful: int | None = None,
        use_bias: bool = True,
        weight_init: Initializer = glorot_uniform,
        recurrent_init: Initializer = orthogonal,
    ):
        super().__init__()
        for name, value in {"units": units, "truncate": truncate, "stateful": stateful}.items():
            if value is not None and value < 1:
                raise ValueError(f"{type(self).__name__} needs {name} of at least 1, got {value}")
        self.units, self.return_sequences, self.reverse = units, return_sequences, reverse
        self.truncate, self.stateful, self.use_bias = truncate, stateful, use_bias
        self.weight_init, self.recurrent_init = weight_init, recurrent_init

    # What a kind of recurrent layer defines -----------------------------------------------------

    def step(self, P: Array, U: Array, *memory: Array) -> tuple[Memory, Memory]:
        """One step: the memory after it, and what ``slopes`` wants beside h.

        ``P`` and ``U`` are (gates, batch, units).
        """
        raise NotImplementedError(f"{type(self).__name__} has to define step")

    def slopes(self, h: Array, *kept: Array) -> Memory:
        """What ``step_back`` reads, of all steps at once: (time, batch, units) each.

        Given h after each step, and what ``step`` kept, which may be written over ``in_step``.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define slopes")

    def step_back(self, D: Memory, *slopes: Array) -> tuple[Memory, Sequence[Array | None]]:
        """Given dL/d(memory after the step) and the step's slopes.

        Returns:
            (dU_t,), or (dU_t, dP_t) where they differ, each (batch, gates * units); and
            dL/d(memory before the step) but for the way by U_t, None standing for zeros.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define step_back")

    # Shapes and starting values -----------------------------------------------------------------

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise ShapeError(
                f"{self!r} wants inputs of shape (time, features), got {input_shape}; for single "
                f"numbers give the network input_shape=(time, 1), and inputs of shape "
                f"(batch, time, 1)"
            )
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        inputs, units = input_shape[-1], self.units
        draws = {
            "weight": [self.weight_init((inputs, units), rng) for _ in range(self.gates)],
            "recurrent_weight": [
                self.recurrent_init((units, units), rng) for _ in range(self.gates)
            ],
        }
        params = {name: np.concatenate(blocks, axis=1) for name, blocks in draws.items()}
        if self.use_bias:
            params["bias"] = zeros((self.gates * units,), rng)
        return params

    def init_state(self, input_shape: Shape) -> State:
        if self.stateful is None:
            return {}
        claim((self.stateful, len(self.memory) * self.units))
        return dict(zip(self.memory, self.empty_memory(self.stateful), strict=True))

    def empty_memory(self, batch: int) -> Memory:
        """The memory before the first step: zeros."""
        xp, shape = self.xp, (batch, self.units)
        dtype, device = self.params["weight"].dtype, self.backend.device
        return tuple(xp.zeros(shape, dtype=dtype, device=device) for _ in self.memory)

    def reset(self) -> None:
        """Empty the memory of a stateful layer."""
        if self.stateful is not None:
            self.state.update(zip(self.memory, self.empty_memory(self.stateful), strict=True))

    def empty_past(self, batch: int, length: int) -> State:
        """What ``generate`` carries from one position to the next."""
        if self.reverse:
            raise XpnnError(f"{self!r} begins at the end of a text, so it cannot write one")
        return dict(zip(self.memory, self.empty_memory(batch), strict=True))

    def multiply_adds(self, input_shape: Shape) -> int:
        time, features = input_shape
        return time * (features + self.units) * self.gates * self.units

    # Running ------------------------------------------------------------------------------------

    def forward(self, Z: Array, training: bool = False) -> Array:
        source = self._source(Z.shape[0], training)
        initial = None
        if source is not None:
            initial = tuple(self._in_dtype_of(Z, source[name]) for name in self.memory)
        outputs, final = self.run(Z, initial, self.cache.get("mask"))
        if source is not None:
            for name, new in zip(self.memory, final, strict=True):
                source[name] = self._in_dtype_of(source[name], new)
        return outputs if self.return_sequences else final[0]

    def _source(self, batch: int, training: bool) -> State | None:
        """Where the memory of the last call is kept, if this call goes on from there."""
        if "past" in self.cache:
            return self.cache["past"]
        if self.stateful is None or not training:
            return None
        self.check_batch(batch)
        return self.state

    @property
    def across_samples(self) -> bool:
        return self.stateful is not None

    def check_batch(self, size: int) -> None:
        if self.stateful not in (None, size):
            raise ShapeError(
                f"{self!r} carries the memory of {self.stateful} sequences from batch to batch, "
                f"got a batch of {size}; make all batches of one size"
            )

    def backward(self, delta: Array) -> Array | None:
        if self.return_sequences:
            return self.run_back(delta)[0]
        return self.run_back(None, (delta,))[0]

    def run(
        self, Z: Array, initial: Memory | None = None, mask: Array | None = None
    ) -> tuple[Array, Memory]:
        """Read whole sequences, from a given memory on.

        Args:
            Z: (batch, time, features), of any length of time.
            initial: the memory before the first step; zeros unless given.
            mask: (batch, time) booleans, False at the steps to skip.

        Returns:
            The outputs of all steps, (batch, time, units), and the memory after the last one.
        """
        xp = self.xp
        _check_run(self, Z, initial, mask)
        Z = self._in_order(Z)
        P = rows(xp, Z) @ by_gate(xp, self.params["weight"], self.gates)
        if self.use_bias:
            P += by_gate(xp, self.params["bias"][None, :], self.gates)
        P = xp.reshape(P, (self.gates, *Z.shape[:2], self.units))
        self.cache["R"] = by_gate(xp, self.params["recurrent_weight"], self.gates)
        if "recurrent_bias" in self.params:
            self.cache["q"] = by_gate(xp, self.params["recurrent_bias"][None, :], self.gates)
        here = [] if mask is None else [self._in_order(mask[:, :, None])]
        inputs = (xp.permute_dims(P, (1, 0, 2, 3)), *here)
        memory = self.empty_memory(Z.shape[1]) if initial is None else initial
        final, (h, *kept) = self.backend.scan(self._forth, memory, inputs)
        first = None if initial is None else initial[0]
        self.cache.update(Z=Z, here=here, first=first, h=h, kept=kept)
        outputs = xp.where(here[0], h, xp.zeros_like(h)) if here else h
        return self._by_sample(outputs), final

    def _forth(self, memory: Memory, P: Array, *here: Array) -> tuple[Memory, Memory]:
        """A step of ``run``: the memory after it, then h of it and what ``slopes`` wants."""
        U = memory[0] @ self.cache["R"]
        if "q" in self.cache:
            U += self.cache["q"]
        after, kept = self.step(P, U, *memory)
        if here:
            after = self._chosen(here[0], after, memory)
        return after, (after[0], *kept)

    def run_back(
        self, deltas: Array | None, final: Sequence[Array | None] = ()
    ) -> tuple[Array | None, Memory]:
        """The backward of ``run``: writes ``grads``.

        Args:
            deltas: dL/d(outputs), (batch, time, units); None for zeros.
            final: dL/d(memory after the last step); what is left out or None counts as zeros.

        Returns:
            dL/dZ and dL/d(initial memory).
        """
        xp = self.xp
        h = self.cache["h"]
        arriving = [] if deltas is None else [self._in_order(deltas)]
        none = (xp.zeros_like(h[0, ...]),) * len(self.memory)
        D = tuple(b if a is None else a for a, b in zip_longest(final, none))
        self.cache["RT"] = transposed(xp, self.params["recurrent_weight"], self.gates)
        slopes = self.slopes(h, *self.cache["kept"])
        if self.in_step:
            self.cache["kept"] = []
        self.cache["arriving"] = len(arriving)
        inputs = [*arriving, *self.cache["here"], *slopes]
        del slopes
        stretches: list[Memory] = []
        time = h.shape[0]
        length = self.truncate or time
        for start in range(0, time, length)[::-1]:
            inside = [one[start : min(start + length, time), ...] for one in inputs]
            D, products = self.backend.scan(self._back, D, inside, reverse=True)
            stretches.insert(0, products)
            D = none if start else D
        del inputs, inside
        joined = [self._joined(parts) for parts in zip(*stretches, strict=True)]
        del stretches, products
        return self._products_back(joined), D

    def _back(self, D: Memory, *seen: Array) -> tuple[Memory, Memory]:
        """A step of ``run_back``: D_(t-1), then dU_t and, where it differs, dP_t."""
        deltas, masks = self.cache["arriving"], len(self.cache["here"])
        delta, here, slopes = seen[:deltas], seen[deltas:][:masks], seen[deltas + masks :]
        arrived = (D[0] + delta[0], *D[1:]) if delta else D
        if here:
            arrived = self._chosen(here[0], arrived, tuple(map(self.xp.zeros_like, D)))
        products, past = self.step_back(arrived, *slopes)
        by_U = self.xp.sum(by_gate(self.xp, products[0], self.gates) @ self.cache["RT"], axis=0)
        past = (by_U if past[0] is None else past[0] + by_U, *past[1:])
        return past if not here else self._chosen(here[0], past, D), products

    def _products_back(self, products: list[Array]) -> Array | None:
        """The gradients of all parameters, each from one product over all steps; returns dL/dZ.

        Args:
            products: dU and, where it differs, dP of all steps; they are taken out of the list.
        """
        xp, Z, first = self.xp, self.cache["Z"], self.cache["first"]
        dU = rows(xp, products.pop(0))
        dP = rows(xp, products.pop()) if products else dU
        self.grads["weight"] = product_over_rows(rows(xp, Z), dP, xp)
        h, batch = rows(xp, self.cache["h"][:-1, ...]), Z.shape[1]
        dR = product_over_rows(h, dU[batch:, :], xp)
        if first is not None:
            dR = dR + product_over_rows(first, dU[:batch, :], xp)
        self.grads["recurrent_weight"] = dR
        if self.use_bias:
            self.grads["bias"] = sum_over(dP, xp, axis=0)
        if "recurrent_bias" in self.params:
            self.grads["recurrent_bias"] = sum_over(dU, xp, axis=0)
        if not self.passes_back:
            return None
        return self._by_sample(xp.reshape(dP @ self.params["weight"].T, Z.shape))

    def _in_order(self, Z: Array) -> Array:
        """(batch, time, ...) as (time, batch, ...) in the order of reading."""
        Z = self.xp.permute_dims(Z, (1, 0, 2))
        return self.xp.flip(Z, axis=0) if self.reverse else Z

    def _by_sample(self, S: Array) -> Array:
        """The way back from ``_in_order``."""
        S = self.xp.flip(S, axis=0) if self.reverse else S
        return self.xp.permute_dims(S, (1, 0, 2))

    def _in_dtype_of(self, other: Array, S: Array) -> Array:
        """``S`` as wide as ``other``: in mixed precision a memory is kept wider than it is used."""
        return self.xp.astype(S, other.dtype, copy=False)

    def _chosen(self, here: Array, new: Memory, old: Memory) -> Memory:
        """``new`` where there is a step, ``old`` where there is padding."""
        return tuple(self.xp.where(here, a, b) for a, b in zip(new, old, strict=True))

    def _joined(self, parts: Sequence[Array]) -> Array:
        return parts[0] if len(parts) == 1 else self.xp.concat(parts, axis=0)

    def _gates(self, S: Array) -> list[Array]:
        """Each gate's (batch, units) of (gates, batch, units)."""
        return [S[k, ...] for k in range(self.gates)]

    def __repr__(self) -> str:
        options = ("return_sequences", "reverse", "truncate", "stateful")
        given = [f", {name}={getattr(self, name)}" for name in options if getattr(self, name)]
        return f"{type(self).__name__}({self.units}{''.join(given)})"


def _check_run(layer: Recurrent, Z: Array, initial: Any, mask: Array | None) -> None:
    """Sequences, a memory to begin with, and a mask, as ``Recurrent.run`` reads them."""
    features = layer.params["weight"].shape[0]
    if Z.ndim != 3 or Z.shape[2] != features:
        raise ShapeError(
            f"{layer!r} reads (batch, time, {features}), got {tuple(Z.shape)}; build it for other "
            f"features, or give it these"
        )
    if initial is not None:
        several = isinstance(initial, tuple | list)
        found = [tuple(one.shape) for one in (initial if several else (initial,))]
        wanted = (Z.shape[0], layer.units)
        if not several or found != [wanted] * len(layer.memory):
            raise ShapeError(
                f"{layer!r} begins with a tuple of arrays, the memory ({', '.join(layer.memory)}), "
                f"each of shape {wanted}, got {', '.join(map(str, found))}"
                + ("" if several else " outside of a tuple")
            )
    if mask is not None and tuple(mask.shape) != tuple(Z.shape[:2]):
        raise ShapeError(
            f"{layer!r} wants a mask of shape {tuple(Z.shape[:2])}, a boolean for each step, got "
            f"{tuple(mask.shape)}"
        )
