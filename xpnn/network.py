"""Network: layers in order, bound to one backend; parameters and state by name."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from xpnn.backends import Backend, get_backend
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.layers import Container, Layer, Sequential
from xpnn.layers.embedding import as_ids
from xpnn.layers.regularization import Rules
from xpnn.layers.tying import joined, ties
from xpnn.summary import Summary, summarize
from xpnn.typing import Array, Params, Shape, State

FLOATS = ("float16", "bfloat16", "float32", "float64")


class Network:
    """Layers, one after another, with their arrays on one backend.

    The backend belongs to the network and never to the process: two networks on two backends live
    side by side.

    Args:
        layers: in the order in which data flows.
        input_shape: of one sample, without the batch axis: (64,) or (28, 28, 1).
        backend: "numpy", "cupy", "torch", "jax", ... with an optional device after a colon, or a
            Backend; see ``get_backend``.
        seed: of the starting weights and of dropout's masks; one seed means the same of both on
            every backend.
        dtype: of parameters and of all that is computed from them.

    Raises:
        ShapeError: the layers do not fit each other; the message names the layer.
        BackendUnavailable: the backend does not work here.

    >>> from xpnn import Dense, Network, ReLU
    >>> net = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,))
    >>> sorted(net.params)
    ['0.dense.bias', '0.dense.weight', '2.dense.bias', '2.dense.weight']
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        backend: str | Backend = "numpy",
        *,
        seed: int = 0,
        dtype: str = "float32",
    ):
        if dtype not in FLOATS:
            raise ValueError(f"dtype is one of {', '.join(FLOATS)}, got {dtype!r}")
        input_shape = _as_shape(input_shape)
        root = Sequential(layers)
        root.output_shape(input_shape)  # layers that do not fit fail before a library is imported
        self.backend = get_backend(backend)
        self.backend.dtype(dtype)
        self.root, self.input_shape = root, input_shape
        self.seed, self.dtype = seed, dtype
        self.output_shape = root.build(input_shape, self.backend, seed=seed, dtype=dtype)
        self._ties = ties(root)
        self._known_places: dict[str, list[tuple[str, dict[str, Any], str]]] = {}

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order in which data flows."""
        return self.root.layers

    @functools.cached_property
    def all_layers(self) -> list[Layer]:
        """The layers at every depth, containers before their contents."""
        return [layer for _, layer in self.walk()]

    def walk(self) -> Iterator[tuple[str, Layer]]:
        """Every layer at every depth with its full name, containers before their contents."""
        yield from self.root.walk()

    # Parameters and state by name -------------------------------------------------------------

    @property
    def params(self) -> Params:
        """All parameters, such as ``params["0.dense.weight"]``. Set it to replace their values."""
        return self._collect("params")

    @params.setter
    def params(self, values: Params) -> None:
        self._spread("params", values)

    @property
    def state(self) -> State:
        """All that layers carry from batch to batch: draw counters, running means."""
        return self._collect("state")

    @state.setter
    def state(self, values: State) -> None:
        self._spread("state", values)

    @property
    def grads(self) -> Params:
        """The gradients that the last ``backward`` left, under the names of ``params``."""
        found = {
            f"{name}.{key}": grad
            for name, layer in self._leaves
            for key, grad in layer.grads.items()
        }
        return joined(found, self._ties)

    def trainable(self) -> set[str]:
        """The names of the parameters that training changes: not those of frozen layers.

        What is inside of a frozen layer is frozen with it.
        """
        frozen = [name for name, layer in self.walk() if not layer.trainable]
        return {
            f"{name}.{key}"
            for name, layer in self._leaves
            if not any(name == one or name.startswith(f"{one}." if one else "") for one in frozen)
            for key in layer.params
        }

    def regularizers(self) -> Rules:
        """The rules for each trained parameter that has some; see ``Layer.regularize``."""
        trained = self.trainable()
        return {
            f"{name}.{key}": layer.regularizers
            for name, layer in self._leaves
            for key, param in layer.params.items()
            if layer.regularizers and f"{name}.{key}" in trained and len(param.shape) > 1
        }

    @functools.cached_property
    def _leaves(self) -> list[tuple[str, Layer]]:
        """The layers with arrays, by name."""
        return [(n, one) for n, one in self.walk() if one.params or one.state or one.ties]

    def _places(self, kind: str) -> list[tuple[str, dict[str, Any], str]]:
        """Where each array lies: its full name, the dictionary of its layer and the key there."""
        if kind not in self._known_places:
            self._known_places[kind] = [
                (f"{name}.{key}", getattr(layer, kind), key)
                for name, layer in self._leaves
                for key in getattr(layer, kind)
            ]
        return self._known_places[kind]

    def _collect(self, kind: str) -> dict[str, Any]:
        return {name: own[key] for name, own, key in self._places(kind)}

    def _spread(self, kind: str, values: dict[str, Any]) -> None:
        places = self._places(kind)
        for name, _, _ in places:
            if name not in values:
                raise ShapeError(f"no value came for {name!r}; nothing was changed")
        for name, own, key in places:
            own[key] = values[name]

    def load(self, values: dict[str, Any]) -> None:
        """Replace parameters and state by copies of ``values``, arrays of any library by name.

        Raises:
            ShapeError: a name is missing or unknown, or a shape differs; nothing is changed.
        """
        own = {**self.params, **self.state}
        if missing := own.keys() - values.keys():
            raise ShapeError(f"no values came for {', '.join(sorted(missing))}; nothing was loaded")
        if unknown := values.keys() - own.keys():
            raise ShapeError(
                f"this network has no {', '.join(sorted(unknown))}, only {', '.join(own)}; "
                f"nothing was loaded"
            )
        fresh = {name: self._like(name, own[name], values[name]) for name in own}
        self.params, self.state = fresh, fresh

    def _like(self, name: str, own: Any, value: Any) -> Any:
        """A copy of ``value`` in the kind of ``own``: a counter, or an array of that shape."""
        if isinstance(own, int | float):
            return type(own)(value)
        value = self.backend.asarray(value)
        if value.shape != own.shape:
            raise ShapeError(
                f"{name} has the shape {tuple(own.shape)}, got {tuple(value.shape)}; "
                f"nothing was loaded"
            )
        return self.backend.xp.astype(value, own.dtype, copy=True)

    def numpy_arrays(self) -> dict[str, Any]:
        """Copies of all parameters and state on the host, by name: what ``load`` takes."""
        arrays = {**self.params, **self.state}
        return {
            name: value if isinstance(value, int | float) else self.backend.to_numpy(value).copy()
            for name, value in arrays.items()
        }

    @contextmanager
    def holding(self, params: Params, state: State) -> Iterator[None]:
        """Lend the layers other arrays for a while, and clear what they kept on the way out.

        So a training step is a function of arrays alone, and nothing that a compiler traced
        outlives the trace.
        """
        kept_params, kept_state = self.params, self.state
        try:
            self.params, self.state = params, state
            yield
        finally:
            self.params, self.state = kept_params, kept_state
            self.root.clear()

    # Running it ---------------------------------------------------------------------------------

    def asarray(self, x: Any) -> Array:
        """A batch of inputs, of any library, as this network's backend and dtype want it.

        Integers that are looked up, such as an embedding's ids, stay integers.

        Raises:
            ShapeError: ``x`` is not of shape (batch, *input_shape).
            DataError: ``x`` holds floats, but the first layer takes integers.
        """
        x = self.backend.asarray(x)
        if tuple(x.shape[1:]) != self.input_shape or x.ndim == 0:
            raise ShapeError(
                f"wanted inputs of shape {_with_batch(self.input_shape)}, got {tuple(x.shape)}"
                + self._shape_hint(tuple(x.shape))
            )
        if self.root.takes == "integers":
            return as_ids(x, self.backend)
        return self.backend.asarray(x, self.dtype)

    def admit(self, x: Any) -> Array:
        """``asarray``, and a look at the values, once for a whole data set; waits for the device.

        Raises:
            ShapeError: ``x`` is not of shape (batch, *input_shape).
            DataError: the first layer cannot use the values; ids out of range, for one.
        """
        x = self.asarray(x)
        self.root.check_inputs(x)
        return x

    def _shape_hint(self, shape: Shape) -> str:
        if shape == self.input_shape:
            return "; for a single sample add the batch axis: x[None, ...]"
        return "; reshape the inputs, or give the network another input_shape"

    def forward(self, x: Any, training: bool = False) -> Array:
        """The outputs for a batch of inputs; the layers keep what ``backward`` needs.

        Args:
            x: (batch, *input_shape), of any library.
            training: whether layers such as Dropout act.
        """
        with self.backend.on_device():
            return self.root.forward(self.asarray(x), training)

    def backward(self, delta: Array, to_input: bool = True) -> Array | None:
        """Hand ``delta``, dL/d(output), back through the layers, which write their ``grads``.

        Args:
            delta: of the shape of the last ``forward``'s output.
            to_input: whether dL/d(input) is wanted; without it, the product of the layer that sees
                the data is saved, which in a small network is a third of the step.

        Returns:
            dL/d(input), or None.
        """
        entry = self._entry_layer()
        entry.passes_back = to_input
        try:
            with self.backend.on_device():
                return self.root.backward(delta)
        except KeyError as error:
            if any(layer.cache for _, layer in self.walk()):
                raise
            raise XpnnError(
                "backward needs what forward kept, and nothing is kept; call "
                "network.forward(x, training=True) first"
            ) from error
        finally:
            entry.passes_back = True

    def _entry_layer(self) -> Layer:
        """The first layer with parameters, where it lies on the one way that all data takes."""
        layer: Layer = self.root
        while isinstance(layer, Sequential) and layer.layers:
            with_params = (one for one in layer.layers if any(x.params for _, x in one.walk()))
            layer = next(with_params, layer.layers[0])
        return Layer() if isinstance(layer, Container) else layer

    def predict(self, x: Any, batch_size: int = 256) -> Array:
        """The outputs for any number of inputs, ``batch_size`` at a time, in prediction mode.

        Returns an array of the network's own library, on its device.
        """
        if batch_size < 1:
            raise ValueError(f"predict needs a batch_size of at least 1, got {batch_size}")
        x = self.admit(x)
        count = x.shape[0]
        if count == 0:
            raise DataError("wanted at least one input, got none")
        with self.backend.on_device():
            parts = [
                self.root.forward(x[start : min(start + batch_size, count), ...])
                for start in range(0, count, batch_size)
            ]
            self.root.clear()
            return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts, axis=0)

    def __call__(self, x: Any) -> Array:
        """The outputs for a batch of inputs, in prediction mode."""
        return self.forward(x)

    def summary(self, optimizer: Any = None) -> Summary:
        """A table of the layers: shapes, parameters, bytes and work; print it to read it."""
        return summarize(self, optimizer)

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Network([{inside}], input_shape={self.input_shape}, backend={self.backend.spec!r})"


def _as_shape(shape: Any) -> Shape:
    shape = (shape,) if isinstance(shape, Integral) else tuple(shape)
    if not all(isinstance(n, Integral) and int(n) > 0 for n in shape):
        raise ValueError(
            f"input_shape is the shape of one sample, positive integers without the batch axis, "
            f"got {shape}"
        )
    return tuple(map(int, shape))


def _with_batch(shape: Shape) -> str:
    return f"(batch, {', '.join(map(str, shape))})" if shape else "(batch,)"
