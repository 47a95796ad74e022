"""The calls of all layers in a step, listened to: what each is given, makes, and is handed back."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.backends.portable.windows import Slide
from xpnn.layers import Layer
from xpnn.layers.shadowing import shadowed
from xpnn.network import Network
from xpnn.trees import as_tuple
from xpnn.typing import Array, Arrays, Shape
from xpnn.xray.equations import equations_of
from xpnn.xray.views import AllSeen, LayerInfo, LayerView

CALL = ", call "
"""What stands between the name of a layer that is called several times and the number of a call."""


def on_host(array: Array, backend: Backend) -> np.ndarray:
    """A copy on the host, which nothing that comes later writes into."""
    return np.array(backend.to_numpy(array))


def input_names(network: Network) -> tuple[str, ...]:
    """What a network's inputs are called beside its layers: no two things have one name."""
    layers = {name for name, _ in network.walk()}
    names: list[str] = []
    for *_, name in network.inputs:
        while name in names or name.partition(CALL)[0] in layers:
            name = f"input {name}"
        names.append(name)
    return tuple(names)


class Call:
    """One call of a layer, and what was seen of it so far.

    Attributes:
        name: of the layer, as in ``network.walk()``.
        outer: the call in which this one was made, None for that of the root.
        sources: the names, without numbers of calls, or the calls, that have made what it reads.
        cached: what the layer and all inside of it keep for the way back of this call.
    """

    def __init__(self, name: str, layer: Layer, outer: "Call | None"):
        self.name, self.layer, self.outer = name, layer, outer
        self.sources: list[Call | str] = []
        self.inputs: tuple[np.ndarray, ...] = ()
        self.output: Any = None
        self.params: dict[str, np.ndarray] = {}
        self.kept: dict[str, np.ndarray] = {}
        self.cached: list[Any] = []
        self.delta: AllSeen = None
        self.passed: tuple[np.ndarray | None, ...] = ()
        self.grads: dict[str, np.ndarray] = {}


class Calls:
    """Listens to a network while one batch goes there and back.

    Args:
        network: whose layers are watched.
        scale: by which all that comes back is too large.
    """

    def __init__(self, network: Network, scale: float = 1.0):
        self.network, self.scale = network, scale
        self.calls: list[Call] = []  # in the order in which they began
        self._running: list[Call] = []
        self._open: dict[Layer, list[Call]] = {}  # those that are still to be gone back through
        self._makers: dict[int, list[tuple[Call | None, Call | str]]] = {}
        self._arrays: list[Any] = []  # so that no other one gets the identity of one that is gone
        self._goes_back = False
        self._before = self._values()

    def _values(self) -> dict[str, np.ndarray]:
        return {name: on_host(one, self._backend) for name, one in self.network.params.items()}

    @property
    def _backend(self) -> Backend:
        return self.network.backend

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, calls of layers are noted."""
        methods: list[tuple[Layer, str, Callable[..., Any]]] = []
        for name, layer in self.network.walk():
            there, back = layer.forward, layer.backward
            methods.append((layer, "forward", partial(self._forward, name, layer, there)))
            methods.append((layer, "backward", partial(self._backward, layer, back)))
        with shadowed(methods):
            yield

    # There and back -----------------------------------------------------------------------------

    def _forward(
        self,
        name: str,
        layer: Layer,
        run: Callable[..., Any],
        inputs: Arrays,
        *rest: Any,
        **named: Any,
    ) -> Arrays:
        if self._goes_back:  # what was forgotten is worked out again
            made = run(inputs, *rest, **named)
            if (again := self._call_of(layer)) is not None:
                again.cached = _cached(layer)
            return made
        call = Call(name, layer, self._running[-1] if self._running else None)
        given = as_tuple(inputs)
        if call.outer is None:
            self._note(given, call, input_names(self.network))
        call.sources = [source for one in given for source in self._sources(one, call)]
        call.inputs = tuple(on_host(one, self._backend) for one in given)
        call.params = {key: on_host(one, self._backend) for key, one in layer.params.items()}
        self.calls.append(call)
        self._open.setdefault(layer, []).append(call)
        self._running.append(call)
        try:
            made = run(inputs, *rest, **named)
        finally:
            self._running.pop()
        call.output = self._seen(made)
        call.cached, call.kept = _cached(layer), self._kept(layer, [*given, *as_tuple(made)])
        self._note(as_tuple(made), call.outer, [call] * len(as_tuple(made)))
        return made

    def _backward(
        self, layer: Layer, run: Callable[..., Any], delta: Arrays, *rest: Any, **named: Any
    ) -> Arrays | None:
        self._goes_back, call = True, self._call_of(layer)
        if call is None:
            return run(delta, *rest, **named)
        call.delta = self._seen(delta, self.scale)
        back = run(delta, *rest, **named)
        found = self._seen(back, self.scale)
        call.passed = found if isinstance(found, tuple) else (found,) * len(call.inputs)
        call.grads = {key: self._seen(one, self.scale) for key, one in layer.grads.items()}
        self._open[layer].remove(call)
        return back

    def _call_of(self, layer: Layer) -> Call | None:
        """The call that a layer goes back through: the last, of those of which it has the cache.

        None where it was gone back through each of its calls before: a layer around it may do that
        several times.
        """
        still_open, cached = self._open.get(layer, []), _cached(layer)
        same = [one for one in still_open if _are_same(one.cached, cached)]
        return next(reversed(same or still_open), None)

    # What is seen -------------------------------------------------------------------------------

    def _seen(self, arrays: Any, scale: float = 1.0) -> Any:
        """Copies on the host, without the factor that all that comes back has."""
        if isinstance(arrays, tuple):
            return tuple(self._seen(one, scale) for one in arrays)
        if arrays is None:
            return None
        found = on_host(arrays, self._backend)
        return found if scale == 1.0 else found.astype(np.float32) / np.float32(scale)

    def _kept(self, layer: Layer, known: list[Any]) -> dict[str, np.ndarray]:
        """The arrays of a layer's cache, but for those that went in or came out."""
        seen = {id(one) for one in known}
        kept: dict[str, np.ndarray] = {}
        for name, one in _named_entries(layer):
            if self._backend.owns(one) and id(one) not in seen:
                kept[name] = on_host(one, self._backend)
                seen.add(id(one))
        return kept

    # Who feeds whom -----------------------------------------------------------------------------

    def _note(self, arrays: tuple[Array, ...], scope: Call | None, makers: Any) -> None:
        """Remember what has made arrays, for the layers that one call is made of."""
        for one, maker in zip(arrays, makers, strict=True):
            self._makers.setdefault(id(one), []).append((scope, maker))
            self._arrays.append(one)

    def _sources(self, array: Array, call: Call) -> list["Call | str"]:
        """What has made an array: beside the call, or else beside one of those around it."""
        makers, scope = self._makers.get(id(array), []), call.outer
        while makers:
            beside = [maker for where, maker in makers if where is scope]
            if beside:
                return beside[-1:]
            if scope is None:
                break
            scope = scope.outer
        return []

    # All of it ----------------------------------------------------------------------------------

    def seen(self) -> tuple[tuple[LayerInfo, ...], dict[str, LayerView]]:
        """What the layers are, and what was seen of them; the step is to have been taken."""
        after = self._values()
        changes = {name: after[name] - before for name, before in self._before.items()}
        calls = [call for call in self.calls if call.outer is not None]
        names = _numbered(calls)
        infos, views = [], {}
        for call in calls:
            kind: Any = type(call.layer)
            name = names[call]
            outer = names.get(call.outer) if call.outer is not None else None
            sources = [one if isinstance(one, str) else names[one] for one in call.sources]
            forward, backward = equations_of(kind)
            about = kind.__name__, repr(call.layer), tuple(dict.fromkeys(sources)), outer
            infos.append(LayerInfo(name, *about, forward, backward))
            passed = call.passed or (None,) * len(call.inputs)
            own = {key: f"{call.name}.{key}" for key in call.params}
            updates = {key: changes[full] for key, full in own.items() if full in changes}
            views[name] = LayerView(
                *(name, call.inputs, call.output, call.delta, passed),
                *(call.params, call.grads, updates, call.kept, _windows(call)),
            )
        return tuple(infos), views


def _windows(call: Call) -> tuple[Slide, ...]:
    """How the layer's window slides over its input, if its output has the places of the window."""
    slides: Callable[[Shape], Sequence[Slide]] | None = getattr(call.layer, "slides", None)
    if slides is None or len(call.inputs) != 1 or not isinstance(call.output, np.ndarray):
        return ()
    found = tuple(slides(call.inputs[0].shape[1:-1]))
    places = tuple(one.positions for one in found)
    return found if places == call.output.shape[1:-1] else ()


def _named_entries(layer: Layer) -> Iterator[tuple[str, Any]]:
    """What is in a layer's cache, entries of lists by names of their own."""
    for name, value in layer.cache.items():
        if isinstance(value, tuple | list):
            names = layer.parts_kept.get(name, ())
            if len(names) != len(value):
                names = tuple(f"{name}.{k}" for k in range(len(value)))
            yield from zip(names, value, strict=True)
        else:
            yield name, value


def _cached(layer: Layer) -> list[Any]:
    """All that a layer and those inside of it keep."""
    return [value for _, one in layer.walk() for value in one.cache.values()]


def _are_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(lambda a, b: a is b, some, others))


def _numbered(calls: list[Call]) -> dict[Call, str]:
    """The names of calls: those of their layers, with a number where there are several."""
    total, so_far, names = Counter(call.name for call in calls), Counter[str](), {}
    for call in calls:
        so_far[call.name] += 1
        number = f"{CALL}{so_far[call.name]}" if total[call.name] > 1 else ""
        names[call] = call.name + number
    return names
