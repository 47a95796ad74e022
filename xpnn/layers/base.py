"""Layer: what forward and backward promise, and where a layer keeps its arrays."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NoReturn, Self, cast

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.arguments import checked
from xpnn.backends import Backend
from xpnn.errors import NotBuiltError, OutOfMemory, XpnnError
from xpnn.initializers import check_room
from xpnn.layers.registration import arguments_of, hyperparameters_of
from xpnn.layers.regularization import Constraint, Penalty
from xpnn.typing import Array, Namespace, Params, Shape, State

CHOICES = ("trainable", "regularizers")


class Layer:
    """One step of a network: ``forward`` computes its output, ``backward`` passes its delta back.

    A layer is described first and built later. ``Dense(10)`` knows its hyperparameters; ``build``,
    called by the network, gives it an input shape and a backend, and only then has it arrays.

    A new layer writes ``forward`` and ``backward``; where it changes the shape, ``output_shape``;
    where it learns, ``init_params``; where it carries something from batch to batch,
    ``init_state``; where it has elementwise rules, ``fuse``. It does its math on ``self.xp`` and
    keeps nothing but what it puts into these four dictionaries:

    Attributes:
        params: what is trained, such as ``{"weight": W, "bias": b}``.
        grads: dL/dparam under the same names, written by ``backward``.
        state: what is carried but not trained: dropout's draw counter, running means.
        cache: what ``forward`` kept for ``backward``; also what a curious reader looks into.
        takes: whether the inputs are floats, cast to the network's dtype, or integers such as ids.
        dtype: of ``params``, by name.
        regularizers: what keeps the weights small; see ``regularize``.
        ties: layers whose array of that name this layer uses too: ``{"weight": embedding}``. What
            ``backward`` writes into ``grads`` under the name is added to that layer's gradient.
        trainable: set it to False to freeze this layer: gradients still pass, weights stay.
        changes: how many times, over all layers, a hyperparameter, ``trainable`` or
            ``regularizers`` was changed after ``build``: then training steps may have to be made
            anew.
        fused: names of the attributes that ``fuse`` has made, and will make again elsewhere.
        passes_back: a training step sets it to False on the layer that sees the data, whose
            dL/d(input) nobody reads; ``backward`` may then return None. A layer may ignore it.
    """

    takes: Literal["floats", "integers"] = "floats"
    changes: ClassVar[int] = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls) and cls.__module__.startswith("xpnn."):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    def __init__(self) -> None:
        self.params: Params = {}
        self.grads: Params = {}
        self.state: State = {}
        self.cache: dict[str, Any] = {}
        self.regularizers: tuple[Penalty | Constraint, ...] = ()
        self.ties: dict[str, Layer] = {}
        self.fused: set[str] = set()
        self.trainable = True
        self.passes_back = True
        self.backend: Backend | None = None
        self.input_shape: Shape | None = None
        self.dtype, self.seed = "float32", 0
        self.forward = self._not_built  # type: ignore[method-assign]  # until build takes it away

    def __setattr__(self, name: str, value: Any) -> None:
        """A hyperparameter that is changed after ``build`` is worked into the sweeps anew.

        A hyperparameter is an attribute with the name of a constructor's argument. Where sweeps
        are compiled, they hold the value that it had when they were made.
        """
        own, kind = self.__dict__, cast(type, type(self))
        changed = own.get("backend") is not None and own.get(name, value) is not value
        super().__setattr__(name, value)
        if changed and name in hyperparameters_of(kind):
            self.fuse(self.backend.elementwise)  # type: ignore[union-attr]
            Layer.changes += 1
        elif changed and name in CHOICES:
            Layer.changes += 1

    # What a kind of layer says about itself ---------------------------------------------------

    def forward(self, Z: Array, training: bool = False) -> Array:
        """The output for a batch ``Z`` of shape (batch, *input_shape)."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward")

    def backward(self, delta: Array) -> Array | None:
        """Given dL/d(output), write ``grads`` and return dL/d(input)."""
        raise NotImplementedError(f"{type(self).__name__} has to define backward")

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one output, given the shape of one input; raises ShapeError if unfit."""
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        """Starting values of ``params``, drawn on the host."""
        return {}

    def init_state(self, input_shape: Shape) -> State:
        """Starting values of ``state``; counters come from ``self.backend.counter()``."""
        return {}

    def check_inputs(self, Z: Array) -> None:
        """Look at the values of a whole data set, once; raises DataError. Waits for the device.

        ``Z`` may be a NumPy array, whatever the backend: data that stay on the host.
        """

    def check_batch(self, size: int) -> None:
        """Whether it can train on batches of so many samples; raises ShapeError if not."""

    def fuse(self, elementwise: Callable[..., Any]) -> None:
        """Turn this layer's elementwise rules into sweeps; called once, when it is built."""

    def multiply_adds(self, input_shape: Shape) -> int:
        """How many multiplications with addition the forward pass of one sample takes."""
        return 0

    def children(self) -> dict[str, "Layer"]:
        """The layers inside of this one, by name."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """The arguments that make another layer like this one; a model file holds them.

        They are those of the constructor, each read from the attribute of its name. A layer that
        keeps them otherwise overrides this.
        """
        return arguments_of(self)

    # What every layer can do ------------------------------------------------------------------

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        """Give the layer its arrays on ``backend``; returns its output shape.

        The starting weights depend on (seed, name) alone, so that they are the same on every
        backend and do not change when another layer is added.
        """
        for _, layer in self.walk():  # all of them first, so that nothing is left half built
            if layer.backend is not None:
                raise XpnnError(
                    f"this {type(layer).__name__} is already part of a network; a layer has one "
                    f"place, so make another one: {layer!r}"
                )
        output_shape = self.output_shape(input_shape)
        for shape in (input_shape, output_shape):
            check_room(shape)
        self.backend, self.input_shape, self.dtype = backend, input_shape, dtype
        del self.forward
        self.seed = (seed << 32 | zlib.crc32(name.encode())) & (2**64 - 1)
        rng = Generator(Philox(SeedSequence([seed, zlib.crc32(name.encode())])))
        try:
            with backend.on_device():
                for key, value in self.init_params(input_shape, rng).items():
                    own = np.array(value)  # training writes into it; what was given stays as it is
                    self.params[key] = backend.asarray(own, dtype)
                self.state.update(self.init_state(input_shape))
        except Exception as error:
            if isinstance(error, XpnnError) or not backend.ran_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"wanted the arrays of {self!r} for inputs of shape {input_shape}, for which there "
                f"is no room ({error}); make the layer or its inputs smaller"
            ) from error
        before = dict(vars(self))
        self.fuse(backend.elementwise)
        self.fused = {k for k, value in vars(self).items() if before.get(k) is not value}
        return output_shape

    @property
    def xp(self) -> Namespace:
        """The array namespace that the layer's math runs on."""
        return self._not_built() if self.backend is None else self.backend.xp

    def _not_built(self, *_: Any, **__: Any) -> NoReturn:
        """Stands in for ``forward`` until there is something to go forward with."""
        raise NotBuiltError(
            f"{self!r} has no arrays yet; put it into a Network, or call "
            f"layer.build(input_shape, get_backend('numpy'))"
        )

    def regularize(self, *rules: Penalty | Constraint) -> Self:
        """Keep the weights of this layer, and of all inside, small; returns the layer itself.

        Penalties (``L1``, ``L2``) are added to the loss in training, constraints (``MaxNorm``) hold
        after every step. Both leave out parameters of a single axis: biases, scales of norms.

        >>> from xpnn import L2, Dense, MaxNorm
        >>> Dense(10).regularize(L2(1e-4), MaxNorm(3.0)).regularizers
        (L2(0.0001), MaxNorm(3.0))
        """
        for rule in rules:
            if not isinstance(rule, Penalty | Constraint):
                raise TypeError(f"regularize takes rules such as L2(1e-4), got {rule!r}")
        for _, layer in self.walk():
            layer.regularizers += rules
        return self

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Layer"]]:
        """This layer and all inside of it, each with its full name."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def clear(self) -> None:
        """Forget what ``forward`` and ``backward`` kept, here and in all layers inside."""
        for _, layer in self.walk():
            layer.cache.clear()
            layer.grads.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
