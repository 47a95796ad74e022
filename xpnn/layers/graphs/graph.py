"""Graph: layers whose ways part and come together, each called on what others have made."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container
from xpnn.layers.graphs.definition import definition_of
from xpnn.layers.graphs.repeated_calls import (
    check_arrays,
    grads_taken_from,
    kept_by,
    put_back,
    taken_from,
)
from xpnn.layers.graphs.steps import (
    Place,
    Step,
    check_form,
    check_layers_called,
    check_names,
    shapes_of_results,
    steps_of,
)
from xpnn.layers.nodes import Kind, as_shape, is_several
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Range, Shape, Shapes

MOST_CALLS = 100_000
"""Graphs that call graphs that call graphs would soon have no end."""
MOST_KNOWN = 16
"""Shapes of inputs for which a graph remembers those of all values."""


class Graph(Container):
    """Layers that are called on inputs and on what other layers have made.

    Forward calls them in the order in which they were written, on values u, w, ... of nodes::

        v = f(u, w)                      values of nodes, f a layer

    Backward calls them in reverse: the delta of a value is the sum of what comes back from all that
    read it, and is whole once the first of its readers has been gone back through::

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
        check_form(inputs, calls)
        self.inputs = tuple((as_shape(shape), takes, name) for shape, takes, name in inputs)
        check_names([name for _, _, name in self.inputs], outputs)
        self.calls = tuple((number, tuple(sources)) for number, sources in calls)
        self.outputs = outputs
        kinds: tuple[Kind, ...] = tuple(takes for _, takes, _ in self.inputs)
        self.takes = one_or_tuple(kinds)
        ends = list(outputs.values()) if isinstance(outputs, dict) else outputs
        self.output_numbers = tuple(ends) if isinstance(ends, list) else as_tuple(ends)
        self.total_calls = self._counted_calls()
        found = steps_of(self.children(), self.inputs, self.calls, self.output_numbers)
        self.steps = tuple(found)
        self._learns: list[bool] = []
        self._known: dict[Shapes, list[Any]] = {}

    def _counted_calls(self) -> int:
        """How many calls a call of this graph is, with those of graphs inside each time.

        Raises:
            ValueError: there are more than anyone means.
        """
        numbers = [number for number, _ in self.calls]
        check_layers_called(self.layers, numbers)
        count = sum(1 + _calls_inside(self.layers[number]) for number in numbers)
        if count > MOST_CALLS:
            raise ValueError(
                f"a graph is at most {MOST_CALLS:,} calls, with those of graphs inside each time, "
                f"got {count:,}"
            )
        return count

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
        return cls(*definition_of(inputs, outputs))

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
            given = [shapes[one] for one in step.sources]
            shapes += shapes_of_results(step.name, step.layer, given)
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
                check_arrays(step.name, layer, given)
        self._learns = [
            any(one.params or one.ties for _, one in step.layer.walk()) for step in self.steps
        ]
        return shape

    # There and back -------------------------------------------------------------------------------

    def forward(self, Z: Arrays, training: bool = False) -> Arrays:
        values: list[Any] = list(as_tuple(Z))
        given = {step.layer: kept_by(step.layer) for step in self.steps if step.is_shared}
        for step in self.steps:
            layer = step.layer
            if step.is_shared:
                put_back(layer, given[layer])  # masks, from outside
            made = layer.forward(step.given(values), training)
            if step.is_shared:
                self.cache[step.name] = taken_from(layer)
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
                    grads_taken_from(step.layer)  # those of another batch
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
            put_back(layer, self.cache[step.name])
            before = grads_taken_from(layer)
        found = layer.backward(delta)
        if again:
            for (_, one), own in zip(layer.walk(), before, strict=True):
                for key, grad in own.items():
                    one.grads[key] = grad + one.grads[key] if key in one.grads else grad
        if self.in_step:
            layer.forget()
        if self.replica is not None:
            self.replica.passed(layer)
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


def _calls_inside(layer: Layer) -> int:
    """How many calls of graphs there are in a call of a layer."""
    if isinstance(layer, Graph):
        return layer.total_calls
    return sum(map(_calls_inside, layer.children().values()))
