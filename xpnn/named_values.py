"""The arrays of a tree of layers, under names such as "2.residual.body.0.dense.weight"."""

import difflib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, overload

from xpnn.agreeing import done_by_first
from xpnn.backends import Backend, Communicator
from xpnn.errors import ShapeError, XpnnError
from xpnn.freezing import layers_of, matched, set_trained, trained
from xpnn.layers import Graph, Layer, Sequential
from xpnn.layers.regularization import Rules, is_regularized
from xpnn.layers.replica import Replica
from xpnn.layers.tying import joined
from xpnn.moving import NOT_LOADED, copied_like
from xpnn.training_lock import TrainingLock
from xpnn.typing import Params, Shape, State

Refs = list[tuple[str, dict[str, Any], str]]
"""Where each array lies: its full name, the dictionary of its layer and the key there."""


class NamedValues:
    """The part of a network that knows its parameters and its state by name."""

    backend: Backend
    root: Sequential | Graph
    input_shape: Any
    dtype: str
    seed: int
    attachments: dict[str, Any]
    _ties: dict[str, str]
    _lock: TrainingLock
    _trained_by: Communicator | None = None
    """The processes that train it together."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in the order in which data flows."""
        return self.root.layers

    def __len__(self) -> int:
        """How many layers there are in ``layers``."""
        return len(self.layers)

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Layer, ...]: ...

    def __getitem__(self, key: int | str | slice) -> Layer | tuple[Layer, ...]:
        """A layer by its place in ``layers``, or at any depth by its name; several for a slice.

        Raises:
            IndexError, KeyError: there is none.

        >>> from xpnn import Dense, Network, ReLU
        >>> network = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,))
        >>> network[-1], network["0.dense"], network[1:]
        (Dense(10), Dense(64), (ReLU(), Dense(10)))
        """
        if not isinstance(key, str):
            return self.layers[key]
        by_name = dict(self.walk())
        if key not in by_name:
            names = list(by_name)[1:]
            close = difflib.get_close_matches(key, names, n=3, cutoff=0.3) or names[:3]
            raise KeyError(f"there is no layer {key!r}; wanted one such as {', '.join(close)}")
        return by_name[key]

    @functools.cached_property
    def all_layers(self) -> list[Layer]:
        """The layers at every depth, containers before their contents."""
        return [layer for _, layer in self.walk()]

    def walk(self) -> Iterator[tuple[str, Layer]]:
        """Every layer at every depth with its full name, containers before their contents."""
        yield from self.root.walk()

    def check_layers(self) -> None:
        """Whether the layers are those that the network was made of.

        Raises:
            XpnnError: one that keeps others inside of it keeps other ones now.
        """
        known = {id(layer) for layer in self.all_layers}
        now = {id(layer): name for name, layer in self.walk()}
        if now.keys() != known:
            added = [name for one, name in now.items() if one not in known]
            what = f"put in as {added[0]}" if added else "taken out"
            raise XpnnError(
                f"layers were {what} behind the network's back, whose shapes and parameters are "
                f"those of before; make another network of them"
            )

    def check_ready(self) -> None:
        """Whether all layers know what they go by; see ``Layer.check_ready``."""
        for layer in self.all_layers:
            layer.check_ready()

    # Parameters and state by name -------------------------------------------------------------

    @property
    def params(self) -> Params:
        """All parameters, such as ``params["0.dense.weight"]``. Set it to replace their values."""
        return {name: own[key] for name, own, key in self.param_refs}

    @params.setter
    def params(self, values: Params) -> None:
        _check_shapes(values, self.param_refs)
        _spread(values, self.param_refs)

    @property
    def state(self) -> State:
        """All that layers carry from batch to batch: draw counters, running means."""
        return {name: own[key] for name, own, key in self.state_refs}

    @state.setter
    def state(self, values: State) -> None:
        _spread(values, self.state_refs)

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
        return trained(self.root)

    def freeze(self, *patterns: str) -> list[str]:
        """Keep what patterns match as it is: gradients still pass, weights stay.

        A pattern matches names of layers, as in ``walk()``, or of parameters, with ``*`` for any
        characters, dots too. A layer is frozen whole, with all that is inside of it, by its
        ``trainable``, from the next step on.

        Args:
            patterns: such as "0.*"; all is frozen without one.

        Returns:
            The names of the layers whose parameters are frozen by them.

        Raises:
            ValueError: a pattern matches nothing that learns, or only some parameters of a layer;
                nothing was changed.

        >>> from xpnn import Dense, Network, ReLU
        >>> net = Network([Dense(8), ReLU(), Dense(2)], input_shape=(3,))
        >>> net.freeze("0.*")
        ['0.dense']
        >>> sorted(net.trainable())
        ['2.dense.bias', '2.dense.weight']
        """
        found = matched(self.root, patterns) if patterns else {*self.params}
        set_trained(self.root, self.trainable() - found)
        return layers_of(self.root, found)

    def unfreeze(self, *patterns: str) -> list[str]:
        """Let what patterns match be trained again; as for ``freeze``.

        Of a container that is frozen, what they do not match stays frozen.
        """
        found = matched(self.root, patterns) if patterns else {*self.params}
        set_trained(self.root, self.trainable() | found)
        return layers_of(self.root, found)

    def regularizers(self) -> Rules:
        """The rules for each trained parameter that has some; see ``Layer.regularize``."""
        trained = self.trainable()
        return {
            f"{name}.{key}": layer.regularizers
            for name, layer in self._leaves
            for key, param in layer.params.items()
            if layer.regularizers and f"{name}.{key}" in trained and is_regularized(param)
        }

    @functools.cached_property
    def _leaves(self) -> list[tuple[str, Layer]]:
        """The layers with arrays, by name."""
        return [(n, one) for n, one in self.walk() if one.params or one.state or one.ties]

    @functools.cached_property
    def _inspected(self) -> list[Any]:
        """The layers that keep something for readers."""
        return [layer for layer in self.all_layers if "inspected" in vars(layer)]

    @functools.cached_property
    def _entries(self) -> list[Layer]:
        """The layers that see what comes in; see ``Layer.entries``."""
        return self.root.entries()

    @functools.cached_property
    def param_refs(self) -> Refs:
        """Where the parameters lie, in the order of ``params``."""
        return self._refs("params")

    @functools.cached_property
    def state_refs(self) -> Refs:
        """Where the state lies, in the order of ``state``."""
        return self._refs("state")

    def _refs(self, kind: str) -> Refs:
        return [
            (f"{name}.{key}", getattr(layer, kind), key)
            for name, layer in self._leaves
            for key in getattr(layer, kind)
        ]

    def in_training(self) -> AbstractContextManager[None]:
        """For ``with``: this thread trains the network; XpnnError where another one does."""
        return self._lock.in_training()

    def at_rest(self) -> AbstractContextManager[None]:
        """For ``with``: no other thread changes the values; XpnnError where one trains them."""
        return self._lock.at_rest()

    def write_once(self, place: str, write: Callable[[], None]) -> None:
        """Write a file; where several processes train this network process 0 does, and all wait.

        Args:
            place: who writes, one of ``agreeing.PLACES``.
        """
        with self.at_rest():
            done_by_first(self._trained_by, place, write)

    def load(self, values: dict[str, Any]) -> None:
        """Replace parameters and state by copies of ``values``, arrays of any library by name.

        Raises:
            ShapeError: a name is missing or unknown, or a shape differs; nothing is changed.
            DataError: values that are no numbers, or on another device (DeviceError); nothing is
                changed.
        """
        if not isinstance(values, Mapping):
            raise TypeError(
                f"wanted arrays by name, as network.numpy_arrays() gives them, got a "
                f"{type(values).__name__}; read a file by xpnn.load or load_weights"
            )
        own = {**self.params, **self.state}
        self._check_names(values)
        with self.backend.on_device():
            fresh = copied_like(values, own, self.backend, take=self.backend.asarray)
        self.params, self.state = fresh, fresh

    def check_fit(self, shapes: Mapping[str, Shape]) -> None:
        """Refuse names and shapes that ``load`` would refuse, before there are values.

        Raises:
            ShapeError: see ``load``.
        """
        self._check_names(shapes)
        for name, value in {**self.params, **self.state}.items():
            if shapes[name] != (wanted := tuple(getattr(value, "shape", ()))):
                raise ShapeError(f"{name} has the shape {wanted}, got {shapes[name]}; {NOT_LOADED}")

    def _check_names(self, values: Mapping[str, Any]) -> None:
        own = {**self.params, **self.state}
        if missing := own.keys() - values.keys():
            raise ShapeError(f"no values came for {', '.join(sorted(missing))}; {NOT_LOADED}")
        if unknown := values.keys() - own.keys():
            raise ShapeError(
                f"this network has no {', '.join(sorted(unknown))}, only {', '.join(own)}; "
                f"{NOT_LOADED}"
            )

    def numpy_arrays(self) -> dict[str, Any]:
        """Copies of all parameters and state on the host, by name: what ``load`` takes."""
        arrays = {**self.params, **self.state}
        return {
            name: value if isinstance(value, int | float) else self.backend.to_numpy(value).copy()
            for name, value in arrays.items()
        }

    @contextmanager
    def uninspected(self) -> Iterator[None]:
        """Inside, layers keep nothing for readers, as their caches are cleared behind it."""
        before = [layer.inspected for layer in self._inspected]
        for layer in self._inspected:
            layer.inspected = False
        try:
            yield
        finally:
            for layer, was in zip(self._inspected, before, strict=True):
                layer.inspected = was

    @contextmanager
    def holding(
        self, params: Params, state: State, replica: Replica | None = None
    ) -> Iterator[None]:
        """Lend the layers other arrays for a step, and clear what they kept on the way out.

        So a training step is a function of arrays alone, and nothing that a compiler traced
        outlives the trace. Where other processes take the same step on other rows, layers see them
        by a ``replica``.
        """
        kept_params, kept_state, within = self.params, self.state, self.root.in_step
        lock, trained_in = self._lock, self._lock.trained_in
        try:
            lock.trained_in = threading.get_ident()
            _spread(params, self.param_refs)  # as setting params does, at less cost for each step
            _spread(state, self.state_refs)
            self._set_in_step(True)
            if replica is not None:
                self._lend(replica)
            with self.uninspected():
                yield
        finally:
            self._set_in_step(within)
            if replica is not None:
                self._take_back()
            _spread(kept_params, self.param_refs)
            _spread(kept_state, self.state_refs)
            lock.trained_in = trained_in
            for layer in self.all_layers:
                layer.cache.clear()
                layer.grads.clear()

    def _lend(self, replica: Replica) -> None:
        for layer in self.all_layers:
            vars(layer)["replica"] = replica

    def _take_back(self) -> None:
        for layer in self.all_layers:
            vars(layer).pop("replica", None)

    def _set_in_step(self, within: bool) -> None:
        for layer in self.all_layers:
            if within:
                vars(layer)["in_step"] = True
            else:  # it is nothing that a layer was made with, and that a checkpoint would hold
                vars(layer).pop("in_step", None)


def _check_shapes(values: dict[str, Any], refs: Refs) -> None:
    for name, own, key in refs:
        shape = getattr(values.get(name, own[key]), "shape", None)
        if shape is None:
            raise TypeError(
                f"wanted an array for {name}, got a {type(values[name]).__name__}; nothing was "
                f"changed. network.load(values) takes lists, and arrays of any library"
            )
        if shape != own[key].shape:
            raise ShapeError(
                f"{name} has the shape {tuple(own[key].shape)}, got {tuple(shape)}; nothing was "
                f"changed. Values go into a network of the same layers"
            )


def _spread(values: dict[str, Any], refs: Refs) -> None:
    """Put each value where its name belongs; nothing is changed if one is missing."""
    for name, _, _ in refs:
        if name not in values:
            raise ShapeError(f"no value came for {name!r}; nothing was changed")
    for name, own, key in refs:
        own[key] = values[name]
