"""Layer: what forward and backward promise, and where a layer keeps its arrays."""

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn, Self, cast

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.arguments import KnownAttributes, checked
from xpnn.backends import Backend
from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import AssignmentError, NotBuiltError, OutOfMemory, XpnnError
from xpnn.initializers import check_room
from xpnn.layers.nodes import Kind, called, is_several
from xpnn.layers.registration import arguments_of, changeable
from xpnn.layers.regularization import Constraint, Penalty, check_reach
from xpnn.layers.replica import Replica
from xpnn.typing import Array, Namespace, Params, Range, Shape, Shapes, State
from xpnn.weak_methods import without_holding

ANY_NUMBER: Range = (-math.inf, math.inf)


def _as_flag(layer: "Layer", name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, got {value!r}")
    return value


def _as_rules(layer: "Layer", name: str, rules: Any) -> tuple[Penalty | Constraint, ...]:
    """A list of rules as a tuple, which does not change."""
    for rule in rules:
        if not isinstance(rule, Penalty | Constraint):
            raise TypeError(f"regularize takes rules such as L2(1e-4), got {rule!r}")
    return tuple(rules)


def _as_settled(layer: "Layer", name: str, value: Any) -> Any:
    """What is not changed any more once the layer is built."""
    if vars(layer).get("_backend") is not None:
        raise AssignmentError(
            f"{name} of {type(layer).__name__} is settled when its network is made; make another "
            f"network"
        )
    return value


class Layer(KnownAttributes):
    """One step of a network: ``forward`` computes its output, ``backward`` passes its delta back.

    A layer is described first and built later. ``Dense(10)`` knows its hyperparameters; ``build``,
    called by the network, gives it an input shape and a backend, and only then has it arrays.

    A new layer writes ``forward`` and ``backward``; where it changes the shape, ``output_shape``;
    where it learns, ``init_params``; where it carries something from batch to batch,
    ``init_state``; where it has elementwise rules, ``fuse``. It does its math on ``self.xp`` and
    keeps nothing but what it puts into these dictionaries. Other attributes are made in
    ``__init__``, or named in the class.

    Attributes:
        params: what is trained, such as ``{"weight": W, "bias": b}``.
        grads: dL/dparam under the same names, written by ``backward``.
        state: what is carried but not trained: dropout's draw counter, running means.
        cache: what ``forward`` kept for ``backward``; also what a curious reader looks into.
        parts_kept: of entries of ``cache`` that are lists, what their parts are, for readers.
        gives: between which numbers all outputs lie, such as (0.0, 1.0), so that a loss which takes
            them for something else is refused; None where that is not known.
        takes: whether the inputs are floats, cast to the network's dtype, or integers such as ids;
            a tuple that says it of each, for a layer of several inputs.
        arity: how many inputs there are; None for any number from two on. Where it is not 1,
            ``forward`` is given a tuple of arrays, and ``backward`` returns one; see ``Joint``.
        contexts: of a layer of several inputs, the numbers of those that are other sequences, all
            of which every position may look at; see ``generate``.
        dtype: of ``params``, by name.
        regularizers: what keeps the weights small; see ``regularize``.
        ties: layers whose array of that name this layer uses too: ``{"weight": embedding}``. What
            ``backward`` writes into ``grads`` under the name is added to that layer's gradient.
        trainable: set it to False to freeze this layer: gradients still pass, weights stay.
        fixed: arguments of the constructor that cannot be changed on a layer, as arrays were made
            for them, or shapes follow from them. All others act from the next step on.
        passes_back: a training step sets it to False on the layer that sees the data, whose
            dL/d(input) nobody reads; ``backward`` may then return None. A layer may ignore it.
        inspected: only of layers that keep more in ``cache`` for a reader than ``backward`` needs,
            and make it, True, in their ``__init__``: whether there may be a reader. Training steps
            and ``predict`` set it to False, as they clear all caches themselves.
        adds: the name of a term that this layer adds to the loss in training, if it adds one. Its
            ``forward`` then leaves the mean of the term over the batch in ``cache["term"]``, 0-d,
            and its ``backward`` adds ``term_factor`` times the derivative of that mean to what it
            returns and to its gradients. Histories list it by this name.
        term_factor: what a step multiplies all deltas by: its loss scale, or its share of a batch.
        in_step: whether this is a step, of training or evaluation: nobody looks at what layers
            keep, so what ``backward`` has read is forgotten right behind it.
        replica: in a step that several processes take together, each on its rows of a batch, what
            this layer sees of the others; None where there are none.

    >>> class Double(Layer):
    ...     def forward(self, Z, training=False):
    ...         return 2.0 * Z
    ...
    ...     def backward(self, delta):
    ...         return 2.0 * delta
    >>> from xpnn.testing import check_gradients
    >>> check_gradients(Double(), input_shape=(3,)).wrong
    False
    """

    takes: Kind | tuple[Kind, ...] = "floats"
    arity: ClassVar[int | None] = 1
    contexts: ClassVar[tuple[int, ...]] = ()
    gives: ClassVar[Range | None] = None
    adds: ClassVar[str | None] = None
    parts_kept: ClassVar[dict[str, tuple[str, ...]]] = {}
    term_factor: Any = 1.0
    _of_network = False  # whether it stands for a network that was called on nodes
    in_step = False
    replica: Replica | None = None
    _original: "Layer | None" = None  # with whose values its network lets it begin; see moving.py
    looked_at: ClassVar[dict[str, Any]] = {
        "trainable": _as_flag,
        "regularizers": _as_rules,
        **dict.fromkeys(("input_shape", "dtype", "ties"), _as_settled),
    }

    def __init_subclass__(cls, **options: Any) -> None:
        ours, own = cls.__module__.startswith("xpnn."), vars(cls)
        if not ours and own.keys() & {"forward", "rule", "gives"} and "output_range" not in own:
            cls.gives = own.get("gives")  # what the class that it is made from says no longer holds
            cls.output_range = Layer.output_range  # type: ignore[method-assign]
        if ours and "__init__" in own:
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        self._params: Params = {}
        self.grads: Params = {}
        self.state: State = {}
        self.cache: dict[str, Any] = {}
        self.regularizers: tuple[Penalty | Constraint, ...] = ()
        self.ties: dict[str, Layer] = {}
        self.trainable = True
        self.passes_back = True
        self.input_shape: Shape | None = None
        self.dtype, self.seed = "float32", 0
        self._backend: Backend | None = None
        self._fused: dict[str, Callable[..., Any]] = {}
        self._fused_for: list[tuple[str, Any]] = []

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

    def output_range(self, input_range: Range | None) -> Range | None:
        """Between which numbers outputs lie for inputs between such; None where it is not known."""
        return self.gives

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

    def check_ready(self) -> None:
        """Whether it knows all that it goes by; raises XpnnError if not. May wait for the device.

        Asked before data run through a network outside of a step.
        """

    @property
    def across_samples(self) -> bool:
        """Whether what becomes of a sample in training depends on others, of this batch or before.

        Processes that each have some of the samples refuse to train a layer of which that is so:
        say ``across_samples = True`` in the class. One that sums over all of them by ``replica``,
        or draws by ``Disturbance.random_bits``, is as in one process.
        """
        return False

    def check_batch(self, size: int) -> None:
        """Whether it can train on batches of so many samples; raises ShapeError if not."""

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        """This layer's elementwise rules as sweeps, by the names under which ``fused`` has them.

        Such as ``{"activate": elementwise(self.rule)}``. Called when the layer is built, and again
        when a hyperparameter has changed, as what is compiled holds the value that it had.
        """
        return {}

    def multiply_adds(self, input_shape: Shape) -> int:
        """How many multiplications with addition the forward pass of one sample takes."""
        return 0

    def inner_shapes(self, input_shape: Shape) -> list[Shape]:
        """Shapes of what a pass makes of one sample beside its output, where it may be larger.

        ``build`` refuses what is larger than any memory, before it is asked for.
        """
        return []

    def children(self) -> dict[str, "Layer"]:
        """The layers inside of this one, by name."""
        return {}

    def entries(self) -> list["Layer"]:
        """Those that see what comes in here, and may spare dL/d(input) where nobody reads it."""
        return [self]

    def arguments(self) -> dict[str, Any]:
        """The arguments that make another layer like this one; a model file holds them.

        They are those of the constructor, each read from the attribute of its name, or from where
        ``kept_as`` says. A layer that keeps them otherwise overrides this.
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
            if "_params" not in vars(layer):
                raise XpnnError(
                    f"the constructor of {type(layer).__name__} does not call that of Layer; write "
                    f"super().__init__() as its first line"
                )
            if layer.built and layer._of_network:
                raise XpnnError(
                    f"{layer!r} stands for a network that was called on nodes of two others, and "
                    f"the first of them has it now; call that network again on the nodes of this "
                    f"one, as in body(x): that is another copy of its values"
                )
            if layer.built:
                raise XpnnError(
                    f"this {type(layer).__name__} is already part of a network; a layer has one "
                    f"place, so make another one: {layer!r}"
                )
        output_shape = self.output_shape(input_shape)
        made: list[Shapes] = [input_shape, output_shape, *self.inner_shapes(input_shape)]
        for shapes in made:
            for shape in shapes if is_several(shapes) else (shapes,):
                check_room(shape)
        self.input_shape, self.dtype, self._backend = input_shape, dtype, backend
        self.seed = (seed << 32 | zlib.crc32(name.encode())) & (2**64 - 1)
        rng = Generator(Philox(SeedSequence([seed, zlib.crc32(name.encode())])))
        try:
            with backend.on_device():
                for key, value in self.init_params(input_shape, rng).items():
                    own = np.array(host_array(value))  # not what was given: training writes into it
                    self.params[key] = backend.asarray(own, dtype)
                self.state.update(self.init_state(input_shape))
        except Exception as error:
            if isinstance(error, XpnnError) or not backend.ran_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"wanted the arrays of {self!r} for inputs of shape {input_shape}, for which there "
                f"is no room ({error}); make the layer or its inputs smaller"
            ) from error
        self._fuse()
        return output_shape

    def move_in_place(self, backend: Backend) -> None:
        """From now on, have arrays on other devices of the same library; its network moves them."""
        self._backend = backend
        self.cache.clear()
        self.grads.clear()
        self._fuse()

    def _fuse(self) -> None:
        """Call ``fuse``, and note the hyperparameters that it was called with."""
        elementwise = self.backend.elementwise
        fused = self.fuse(lambda rule, *rest: elementwise(without_holding(rule), *rest))
        if not isinstance(fused, dict):
            raise XpnnError(
                f"fuse of {type(self).__name__} returned {fused!r}; return the sweeps by name, as "
                f"in {{'scale': elementwise(self.rule)}}, and call them as self.fused['scale']"
            )
        self._fused = fused
        self._fused_for = [(name, getattr(self, name)) for name in self.hyperparameters]

    def __call__(self, *nodes: Any) -> Any:
        """The node that this layer makes of others, in a network that is a graph; see ``Input``.

        Called again, on other nodes, it does the same with the same weights.

        Raises:
            TypeError: ``nodes`` are none; arrays go into ``forward``.
            ShapeError: the layer cannot take what they stand for.

        >>> from xpnn import Dense, Input
        >>> Dense(10)(Input((3,))).shape
        (10,)
        """
        return called(self, nodes)

    @property
    def built(self) -> bool:
        """Whether the layer has its arrays and a backend."""
        return self._backend is not None

    @property
    def backend(self) -> Backend:
        """Where the arrays are; raises NotBuiltError before ``build``, as ``params`` does."""
        return self._not_built() if self._backend is None else self._backend

    @property
    def xp(self) -> Namespace:
        """The array namespace that the layer's math runs on."""
        return self.backend.xp

    @property
    def params(self) -> Params:
        """What is trained, such as ``{"weight": W, "bias": b}``."""
        return self._not_built() if self._backend is None else self._params

    @property
    def fused(self) -> dict[str, Callable[..., Any]]:
        """The sweeps of ``fuse`` by name, for the hyperparameters as they are now."""
        if self._backend is None:
            self._not_built()
        for name, value in self._fused_for:
            if getattr(self, name) is not value:
                self._fuse()
                break
        return self._fused

    @property
    def hyperparameters(self) -> list[str]:
        """The names of the constructor's arguments that may be changed: all but the fixed."""
        kind = cast(type, type(self))
        return [name for name in changeable(kind) if name in vars(self)]

    def _not_built(self) -> NoReturn:
        raise NotBuiltError(
            f"{self!r} has no arrays yet; put it into a Network, or call "
            f"layer.build(input_shape, get_backend('numpy'))"
        )

    def regularize(self, *rules: Penalty | Constraint) -> Self:
        """Keep the weights of this layer, and of all inside, small; returns the layer itself.

        Penalties (``L1``, ``L2``) are added to the loss in training, constraints (``MaxNorm``) hold
        after every step. Both leave out parameters of a single axis: biases, scales of norms.

        Raises:
            ValueError: they would act on nothing; before the layer is built, ``Network`` says so.

        >>> from xpnn import L2, Dense, MaxNorm
        >>> Dense(10).regularize(L2(1e-4), MaxNorm(3.0)).regularizers
        (L2(0.0001), MaxNorm(3.0))
        """
        rules = _as_rules(self, "regularizers", rules)
        layers = [layer for _, layer in self.walk()]
        if self.built:
            check_reach(rules, layers)
        for layer in layers:
            layer.regularizers += rules
        return self

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Layer"]]:
        """This layer and all inside of it, each with its full name."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def forget(self) -> None:
        """Drop what ``forward`` kept, here and in all layers inside."""
        self.cache.clear()
        for layer in self.children().values():
            layer.forget()

    def clear(self) -> None:
        """Forget what ``forward`` and ``backward`` kept, here and in all layers inside."""
        for _, layer in self.walk():
            layer.cache.clear()
            layer.grads.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
