"""Graph: layers whose ways part and come together, each called on what others have made."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.initializers import check_room, zeros_for
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container
from xpnn.layers.nodes import Call, Input, Kind, Node, as_shape, check_count, is_several, kinds_of
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Range, Shape, Shapes

ANY_NUMBER = 2**62
MOST_CALLS = 100_000
"""Graphs that call graphs that call graphs would soon have no end."""
MOST_KNOWN = 16
"""Shapes of inputs for which a graph remembers those of all values."""

Place: TypeAlias = tuple[Shape, Kind, str]
"""An input: its shape, what it takes, and its name."""

Caches: TypeAlias = list[dict[str, Any]]
"""What a layer and all inside of it keep, in the order of ``walk``."""


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer. Values are numbered: the inputs, and then what each step makes.

    Attributes:
        name: of the layer in the graph; behind it which of its calls, where there are several.
        layer: what is called.
        sources: the numbers of what it reads.
        results: the numbers of what it makes.
        read_last: the numbers of what no later step reads.
        is_shared: whether the layer is called at other places, too.
    """

    name: str
    layer: Layer
    sources: tuple[int, ...]
    results: tuple[int, ...]
    read_last: tuple[int, ...]
    is_shared: bool

    def given(self, values: Sequence[Any]) -> Any:
        """What the layer is given, where there is something for each value."""
        return _together(self.layer, [values[number] for number in self.sources])


class Graph(Container):
    """Layers that are called on inputs and on what other layers have made.

    Forward calls them in the order in which they were written. Backward calls them in reverse: the
    delta of a value is the sum of what comes back from all that read it, and is whole once the
    first of its readers has been gone back through::

        v = f(u, w)                      values of nodes, f a layer
        dL/du = sum over all f that read u of the part of f'(dL/dv) for u

    A layer that is called several times keeps what each call needs to go back, in
    ``cache["0.dense, call 2"]`` of the graph, and its gradients are the sums of those of its calls.

    ``Graph.of(inputs, outputs)`` makes one of nodes, as ``Network(inputs=..., outputs=...)`` does
    for you. The constructor has the same in numbers, as a file holds it. A graph is a layer: call
    it on nodes of another graph, or put it into a ``Sequential``.

    Args:
        layers: each layer once, in the order of first calls.
        inputs: (shape, "floats" or "integers", name) of each. Where there are several, the graph is
            given a tuple of arrays.
        calls: (number of the layer, numbers of the values that it reads) for each call, in an order
            in which they can run. The inputs are values 0, 1, ..., and each call makes the next.
        outputs: the number of the value that comes out; or a tuple of several, or a dict by name,
            which come out as a tuple.

    >>> from xpnn import Add, Dense, Input, Tanh
    >>> x = Input((3,))
    >>> h = Tanh()(Dense(4)(x))
    >>> Graph.of(x, Add()(Dense(4)(h), h)).output_shape((3,))
    (4,)
    """

    fixed: ClassVar[tuple[str, ...]] = ("layers", "inputs", "calls", "outputs")

    def __init__(
        self,
        layers: Sequence[Layer],
        inputs: Sequence[Place],
        calls: Sequence[tuple[int, tuple[int, ...]]],
        outputs: int | tuple[int, ...] | dict[str, int],
    ):
        super().__init__(layers)
        if not (_are_tuples(inputs, 3) and _are_tuples(calls, 2)):
            raise TypeError(
                f"Graph wants inputs as (shape, takes, name) of each, and calls as (number of the "
                f"layer, numbers of values) of each, got {inputs!r} and {calls!r}"
            )
        if not all(isinstance(sources, tuple | list) for _, sources in calls):
            raise TypeError(f"Graph wants the numbers of the values of each call, got {calls!r}")
        self.inputs = tuple((as_shape(shape), takes, name) for shape, takes, name in inputs)
        _check_names([name for _, _, name in self.inputs], outputs)
        self.total_calls = 0
        self.calls = tuple((number, tuple(sources)) for number, sources in calls)
        self.outputs = outputs
        kinds: tuple[Kind, ...] = tuple(takes for _, takes, _ in self.inputs)
        self.takes = one_or_tuple(kinds)
        ends = list(outputs.values()) if isinstance(outputs, dict) else outputs
        self.output_numbers = tuple(ends) if isinstance(ends, list) else as_tuple(ends)
        self.steps = tuple(self._numbered(kinds))
        self._learns: list[bool] = []
        self._known: dict[Shapes, list[Any]] = {}

    @property
    def arity(self) -> int:  # type: ignore[override]
        """How many inputs there are."""
        return len(self.inputs)

    @property
    def input_shapes(self) -> Shapes:
        """The shape of one sample, or a tuple of those of its parts."""
        return one_or_tuple([shape for shape, _, _ in self.inputs])

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the outputs in their order: given, or "output_0" and so on."""
        if isinstance(self.outputs, dict):
            return tuple(self.outputs)
        return tuple(f"output_{k}" for k in range(len(self.output_numbers)))

    @property
    def value_names(self) -> list[str]:
        """Of every value: that of the input, or of the step that makes it."""
        names = [name for _, _, name in self.inputs]
        for step in self.steps:
            many = len(step.results) > 1
            names += [
                f"{step.name}, output {k}" if many else step.name for k in range(len(step.results))
            ]
        return names

    @classmethod
    def of(cls, inputs: Any, outputs: Any) -> Self:
        """The graph between nodes.

        Args:
            inputs: a node of ``Input``, or several: a list, or a dict by name.
            outputs: a node, or several: a list, or a dict by name.

        Raises:
            TypeError: these are no nodes.
            ValueError: a node is named twice, an input is not read, or another one is.
        """
        starts, names = _input_nodes(inputs)
        ends = _nodes("outputs", outputs)
        calls = _calls_behind(ends)
        read = {node for call in calls for node in call.sources} | set(ends)
        for node in sorted(read, key=lambda one: one.number):
            if node.call is None and node not in starts:
                raise ValueError(
                    f"the outputs need {node!r}, which is not among the inputs; add it to inputs"
                )
        for node in starts:
            if node not in read:
                raise ValueError(f"{node!r} is not connected to any output; leave it out of inputs")
        layers = {id(call.layer): call.layer for call in calls}
        place = {layer: number for number, layer in enumerate(layers)}
        made = [*starts, *(node for call in calls for node in call.results)]
        number = {node: k for k, node in enumerate(made)}
        found = [number[node] for node in ends]
        by_name = dict(zip(outputs, found, strict=True)) if isinstance(outputs, Mapping) else None
        return cls(
            list(layers.values()),
            [(n.shape, n.takes, name) for n, name in zip(starts, names, strict=True)],
            [(place[id(c.layer)], tuple(number[node] for node in c.sources)) for c in calls],
            by_name or one_or_tuple(found),
        )

    def followers(self, inputs: Collection[int]) -> list[tuple[Step, tuple[bool, ...]]]:
        """The steps that read something made of these inputs, and which of their sources it is."""
        found, reached = [], set(inputs)
        for step in self.steps:
            follows = tuple(source in reached for source in step.sources)
            if any(follows):
                found.append((step, follows))
                reached.update(step.results)
        return found

    def parted(self, inputs: Sequence[int]) -> tuple["Graph", "Graph"]:
        """The same layers as two graphs: what goes without some inputs, and what follows from them.

        The first makes, of all other inputs, the values that the second reads beside ``inputs``.
        They serve to run the layers, which stay parts of this graph.
        """
        later = [step for step, _ in self.followers(inputs)]
        earlier = [step for step in self.steps if step not in later]
        made_later = {*inputs, *(number for step in later for number in step.results)}
        read = {*self.output_numbers, *(number for step in later for number in step.sources)}
        handed = sorted(read - made_later)
        others = [number for number in range(len(self.inputs)) if number not in inputs]
        return (
            self._part(others, earlier, handed),
            self._part([*inputs, *handed], later, self.output_numbers),
        )

    def _part(self, given: Sequence[int], steps: Sequence[Step], outputs: Sequence[int]) -> "Graph":
        """The graph of some steps, from values that are given to others."""
        layers = list(dict.fromkeys(step.layer for step in steps))
        numbers = [*given, *(number for step in steps for number in step.results)]
        place = {number: k for k, number in enumerate(numbers)}
        shapes, names = self.all_shapes(self.input_shapes), self.value_names
        kinds = [takes for _, takes, _ in self.inputs]
        kinds += ["floats"] * (len(shapes) - len(kinds))
        return Graph(
            layers,
            [(shapes[number], kinds[number], names[number]) for number in given],
            [(layers.index(s.layer), tuple(place[one] for one in s.sources)) for s in steps],
            tuple(place[number] for number in outputs),
        )

    def up_to(self, after: str | None) -> tuple[list[Input], Node]:
        """New inputs, and the node of what a call of these layers makes of them, for another graph.

        Args:
            after: the name of the layer, and of the call where there are several; None for what the
                last call reads.

        Raises:
            ValueError: there is no such call of one output, or it does not read all inputs.
        """
        wanted = self._value_after(after)
        starts = [Input(shape, takes=takes, name=name) for shape, takes, name in self.inputs]
        values: list[Node] = [*starts]
        for step in self.steps:
            values += as_tuple(step.layer(*(values[number] for number in step.sources)))
        node = values[wanted]
        read = {node, *(one for call in _calls_behind([node]) for one in call.sources)}
        if unread := [one.name for one in starts if one not in read]:
            raise ValueError(
                f"what lies before the head has to read all inputs, but {after or 'it'} does not "
                f"read {', '.join(map(str, unread))}; name another layer in after"
            )
        return starts, node

    def _value_after(self, after: str | None) -> int:
        """The number of what a call makes; None for what the call that makes the output reads."""
        makers = {step.name: step for step in self.steps if len(step.results) == 1}
        if after is not None and after not in makers:
            raise ValueError(
                f"wanted after to name a layer of one output, one of {', '.join(makers)}, got "
                f"{after!r}"
            )
        if after is not None:
            return makers[after].results[0]
        last = [step for step in self.steps if {*step.results} & {*self.output_numbers}]
        if len(self.output_numbers) > 1 or len(last) != 1 or len(last[0].sources) > 1:
            raise ValueError(
                f"a head takes the place of the last layer where that has one input and makes the "
                f"only output; name the layer that it reads in after, one of {', '.join(makers)}"
            )
        return last[0].sources[0]

    def _numbered(self, kinds: tuple[Kind, ...]) -> Iterator[Step]:
        """The calls as steps.

        Raises:
            ValueError: numbers that are none of a layer, or of a value that is there by then.
            ShapeError: layers that do not fit.
        """
        shapes = [shape for shape, _, _ in self.inputs]
        numbers = [number for number, _ in self.calls]
        numbered = all(_is_one_of(self.layers, number) for number in numbers)
        if not numbered or {*numbers} != {*range(len(self.layers))}:
            raise ValueError(f"wanted calls of layers 0 to {len(self.layers) - 1}, got {numbers}")
        self.total_calls = sum(1 + _calls_inside(self.layers[number]) for number in numbers)
        if self.total_calls > MOST_CALLS:
            raise ValueError(
                f"a graph is at most {MOST_CALLS:,} calls, with those of graphs inside each time, "
                f"got {self.total_calls:,}"
            )
        read = [*(sources for _, sources in self.calls), self.output_numbers]
        last = {value: k for k, sources in enumerate(read) for value in sources}
        keys, total, so_far = list(self.children()), Counter(numbers), Counter[int]()
        for k, (number, sources) in enumerate(self.calls):
            layer, name, many = self.layers[number], keys[number], total[number] > 1
            so_far[number] += 1
            name = f"{name}, call {so_far[number]}" if many else name
            if not all(_is_one_of(shapes, one) for one in sources):
                raise ValueError(
                    f"{name} is called on values {sources}, of which some are not there"
                )
            check_count(layer, len(sources))
            wanted = kinds_of(layer, len(sources))
            found = tuple(kinds[one] if one < len(kinds) else "floats" for one in sources)
            if found != wanted:
                raise ShapeError(f"{name} takes {wanted}, and is called on {found}")
            given = [shapes[one] for one in sources]
            made = _shapes_made(name, layer, given)
            results = tuple(range(len(shapes), len(shapes) + len(made)))
            shapes += made
            done = tuple(v for v in {*sources, *results} if last.get(v, k) == k)
            yield Step(name, layer, sources, results, done, many)
        if not all(_is_one_of(shapes, one) for one in self.output_numbers):
            raise ValueError(
                f"the outputs are values {self.output_numbers}, of which some are not there"
            )

    # Shapes ---------------------------------------------------------------------------------------

    def all_shapes(self, input_shape: Shapes) -> list[Any]:
        """The shape of every value: the inputs, and then what each step makes."""
        if input_shape not in self._known:  # or graphs of graphs would be gone through again
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            self._known[input_shape] = self._shapes_for(input_shape)
        return self._known[input_shape]

    def _shapes_for(self, input_shape: Shapes) -> list[Any]:
        shapes = list(input_shape) if is_several(input_shape) else [input_shape]
        if len(shapes) != len(self.inputs):
            raise ShapeError(f"wanted the shapes of {len(self.inputs)} inputs, got {input_shape}")
        for step in self.steps:
            shapes += _shapes_made(step.name, step.layer, [shapes[one] for one in step.sources])
        return shapes

    def _of_outputs(self, values: Sequence[Any]) -> Any:
        """What comes out, of something for each value."""
        return one_or_tuple([values[number] for number in self.output_numbers])

    def ends(self) -> list[Layer]:
        """The layers that make the outputs, in their order; the graph itself for an input."""
        makers = {number: step.layer for step in self.steps for number in step.results}
        return [makers.get(number, self) for number in self.output_numbers]

    def output_shape(self, input_shape: Shapes) -> Any:
        return self._of_outputs(self.all_shapes(input_shape))

    def inner_calls(self, input_shape: Shapes) -> list[tuple[Layer, Any]]:
        shapes = self.all_shapes(input_shape)
        return [(step.layer, step.given(shapes)) for step in self.steps]

    def child_shapes(self, input_shape: Shapes) -> list[Any]:
        first: dict[Layer, Any] = {}
        for layer, given in self.inner_calls(input_shape):
            first.setdefault(layer, given)
        return [first[layer] for layer in self.layers]

    def output_range(self, input_range: Any) -> Any:
        ranges: list[Range | None] = [input_range] * len(self.inputs)
        if isinstance(input_range, tuple) and len(self.inputs) > 1:
            ranges = list(input_range)
        for step in self.steps:
            found: Any = step.layer.output_range(step.given(ranges))
            ranges += [found] if len(step.results) == 1 else found or [None] * len(step.results)
        return self._of_outputs(ranges)

    def check_inputs(self, Z: Arrays) -> None:
        given = as_tuple(Z)
        for step in self.steps:
            if all(one < len(given) for one in step.sources):
                step.layer.check_inputs(step.given(given))

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        shape = super().build(input_shape, backend, seed=seed, name=name, dtype=dtype)
        for step, (layer, given) in zip(self.steps, self.inner_calls(input_shape), strict=True):
            if step.is_shared:
                _check_arrays(step.name, layer, given)
        self._learns = [
            any(one.params or one.ties for _, one in step.layer.walk()) for step in self.steps
        ]
        return shape

    # There and back -------------------------------------------------------------------------------

    def forward(self, Z: Arrays, training: bool = False) -> Arrays:
        values: list[Any] = list(as_tuple(Z))
        given = {step.layer: _kept(step.layer) for step in self.steps if step.is_shared}
        for step in self.steps:
            layer = step.layer
            if step.is_shared:
                _put_back(layer, given[layer])  # masks, from outside
            made = layer.forward(step.given(values), training)
            if step.is_shared:
                self.cache[step.name] = _taken(layer)
            if len(step.results) > 1 and not isinstance(layer, Graph):
                self.cache[f"{step.name}, outputs"] = [(one.shape, one.dtype) for one in made]
            values += made if len(step.results) > 1 else [made]
            del made
            for number in step.read_last:
                values[number] = None
        return self._of_outputs(values)

    def backward(self, delta: Arrays) -> Arrays | None:
        """Given dL/d(output), or a tuple of them, write ``grads`` and return dL/d(input) likewise.

        Where nothing comes back to an output, its delta may be None.
        """
        deltas: dict[int, Array] = {}
        self._add(deltas, self.output_numbers, as_tuple(delta))
        del delta
        wanted = self._wanted(to_input=self.passes_back)
        called: set[Layer] = set()
        for step, learns in zip(reversed(self.steps), reversed(self._learns), strict=True):
            back = tuple(deltas.pop(number, None) for number in step.results)
            reads = wanted.intersection(step.sources)
            if all(one is None for one in back):
                if step.layer not in called:
                    _taken_grads(step.layer)  # those of another batch
                continue
            if not (reads or learns):
                continue
            if any(one is None for one in back) and not isinstance(step.layer, Graph):
                back = self._filled_up(step, back)  # no other layer knows of such deltas
            found = self._gone_back(step, one_or_tuple(back), again=step.layer in called)
            called.add(step.layer)
            del back
            if found is not None:
                self._add(deltas, step.sources, as_tuple(found))
            del found
        return one_or_tuple([deltas.get(number) for number in range(len(self.inputs))])

    def _gone_back(self, step: Step, delta: Arrays, again: bool) -> Arrays | None:
        """What the layer of a step hands back; its gradients are added to those that it has."""
        layer, before = step.layer, []
        if step.is_shared:
            _put_back(layer, self.cache[step.name])
            before = _taken_grads(layer)
        found = layer.backward(delta)
        if again:
            for (_, one), own in zip(layer.walk(), before, strict=True):
                for key, grad in own.items():
                    one.grads[key] = grad + one.grads[key] if key in one.grads else grad
        if self.in_step:
            layer.forget()
        return found

    def _filled_up(self, step: Step, deltas: Sequence[Array | None]) -> tuple[Array, ...]:
        """The deltas of all outputs of a layer, zeros for those that nobody reads."""
        xp, device = self.xp, self.backend.device
        return tuple(
            xp.zeros(shape, dtype=dtype, device=device) if delta is None else delta
            for delta, (shape, dtype) in zip(
                deltas, self.cache[f"{step.name}, outputs"], strict=True
            )
        )

    def _add(self, deltas: dict[int, Array], numbers: Sequence[int], more: Sequence[Any]) -> None:
        """Add what comes back to the deltas of values."""
        for number, delta in zip(numbers, more, strict=True):
            if delta is not None:
                deltas[number] = deltas[number] + delta if number in deltas else delta

    def _wanted(self, to_input: bool) -> set[int]:
        """The values whose deltas somebody reads: an input, or a layer that learns."""
        wanted = set(range(len(self.inputs))) if to_input else set()
        for step, learns in zip(self.steps, self._learns, strict=True):
            if learns or wanted.intersection(step.sources):
                wanted.update(step.results)
        return wanted

    def entries(self) -> list[Layer]:
        wanted = self._wanted(to_input=False)
        inner = {step.layer for step in self.steps if wanted.intersection(step.sources)}
        firsts = dict.fromkeys(step.layer for step in self.steps if step.layer not in inner)
        return [self, *(entry for layer in firsts for entry in layer.entries())]

    def __repr__(self) -> str:
        inputs = ", ".join(name for _, _, name in self.inputs)
        return f"Graph([{', '.join(map(repr, self.layers))}], from {inputs})"


def _are_tuples(given: Any, length: int) -> bool:
    """Whether it is a list of tuples of that length."""
    return isinstance(given, tuple | list) and all(
        isinstance(one, tuple | list) and len(one) == length for one in given
    )


def _check_names(inputs: Sequence[Any], outputs: Any) -> None:
    """Whether inputs, and outputs that have names, are told apart by them.

    Raises:
        ValueError: there are none, or they are not.
    """
    for what, names in ("inputs", inputs), ("outputs", outputs):
        if isinstance(names, Sequence | Mapping) and not names:
            raise ValueError(f"a graph has {what}, got none; name a node")
    for name in (*inputs, *(outputs if isinstance(outputs, Mapping) else ())):
        if not (isinstance(name, str) and name):
            raise ValueError(f"wanted a text for a name, got {name!r}")
    _refuse_twice("inputs", inputs)


def _together(layer: Layer, given: Sequence[Any]) -> Any:
    """What a layer is given: one of a kind, or a tuple where it has several inputs."""
    return given[0] if layer.arity == 1 else tuple(given)


def _is_one_of(values: Sequence[Any], number: Any) -> bool:
    return type(number) is int and 0 <= number < len(values)


def _shapes_made(name: str, layer: Layer, given: Sequence[Any]) -> list[Any]:
    """The shapes that a layer makes of those of its inputs."""
    try:
        made = layer.output_shape(_together(layer, given))
    except ShapeError as error:
        raise ShapeError(f"layer {name}: {error}") from None
    shapes: list[Any] = list(made) if is_several(made) else [made]
    for shape in shapes:
        check_room(shape)  # as shapes that double at each call are soon numbers without an end
    return shapes


# Layers that are called several times -------------------------------------------------------------


def _check_arrays(name: str, layer: Layer, given: Any) -> None:
    """Whether a built layer, and all inside, have the arrays for a call on inputs of that shape.

    Raises:
        ShapeError: for its first call they were made otherwise.
    """
    for inner, shape in _all_calls(layer, given):
        if shape == inner.input_shape or not (inner.params or inner.state):
            continue
        with zeros_for(ANY_NUMBER), inner.backend.on_device():
            wanted = {**inner.init_params(shape, np.random.default_rng(0))}
            wanted |= inner.init_state(shape)
        for key, own in (inner.params | inner.state).items():
            if key in wanted and np.shape(wanted[key]) != np.shape(own):
                raise ShapeError(
                    f"layer {name}: wanted inputs of {inner!r} like those of its first call, "
                    f"{inner.input_shape}, for which its {key} is made, got {shape}; make another "
                    f"layer for these"
                )


def _calls_inside(layer: Layer) -> int:
    """How many calls of graphs there are in a call of a layer."""
    if isinstance(layer, Graph):
        return layer.total_calls
    return sum(map(_calls_inside, layer.children().values()))


def _all_calls(layer: Layer, given: Any) -> Iterator[tuple[Layer, Any]]:
    yield layer, given
    if isinstance(layer, Container):
        for inner, shape in layer.inner_calls(given):
            yield from _all_calls(inner, shape)


def _kept(layer: Layer) -> Caches:
    return [dict(one.cache) for _, one in layer.walk()]


def _taken(layer: Layer) -> Caches:
    """What a layer keeps, taken away from it."""
    kept = _kept(layer)
    layer.forget()
    return kept


def _put_back(layer: Layer, kept: Caches) -> None:
    for (_, one), own in zip(layer.walk(), kept, strict=True):
        one.cache.clear()
        one.cache.update(own)


def _taken_grads(layer: Layer) -> list[dict[str, Array]]:
    """The gradients of a layer and of all inside, taken away from them."""
    grads = [dict(one.grads) for _, one in layer.walk()]
    for _, one in layer.walk():
        one.grads.clear()
    return grads


# Nodes --------------------------------------------------------------------------------------------


def _input_nodes(inputs: Any) -> tuple[list[Input], list[str]]:
    """The inputs in their order, and their names."""
    nodes = _nodes("inputs", inputs)
    for node in nodes:
        if not isinstance(node, Input):
            raise TypeError(f"inputs are nodes of Input, got {node!r}; cut the graph at an Input")
    if isinstance(inputs, Mapping):
        names = list(inputs)
    else:
        single = "x" if len(nodes) == 1 else None
        names = [node.name or single or f"input_{k}" for k, node in enumerate(nodes)]
    _refuse_twice("inputs", names)
    return nodes, names


def _nodes(what: str, given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        for name in given:
            if not (isinstance(name, str) and name.isidentifier()):
                raise TypeError(f"{what} have names such as 'price', got {name!r}")
        nodes = list(given.values())
    else:
        nodes = list(given) if isinstance(given, list | tuple) else [given]
    if not nodes:
        raise ValueError(f"a graph has {what}, got none; name a node")
    for node in nodes:
        if not isinstance(node, Node):
            raise TypeError(
                f"{what} are nodes, such as Input((3,)) or Dense(2)(Input((3,))), got {node!r}"
            )
    _refuse_twice(what, nodes)
    return nodes


def _refuse_twice(what: str, given: Sequence[Any]) -> None:
    seen = set()
    for one in given:
        if one in seen:
            raise ValueError(f"{one!r} is named twice among the {what}; name it once")
        seen.add(one)


def _calls_behind(ends: Sequence[Node]) -> list[Call]:
    """All calls that have to run for these nodes, in the order in which they were written."""
    found: dict[Call, int] = {}
    left = list(ends)
    while left:
        node = left.pop()
        if node.call is not None and node.call not in found:
            found[node.call] = node.call.results[0].number
            left += node.call.sources
    return sorted(found, key=lambda call: found[call])
