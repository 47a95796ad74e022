"""A network run once on stand-ins, and what is left of that as a graph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.errors import ExportError
from xpnn.layers import Layer
from xpnn.onnx.backend import Tracer
from xpnn.onnx.sizes import Size
from xpnn.onnx.tape import Body, Node, Value, value_of
from xpnn.onnx.traced import Traced
from xpnn.prediction import as_probabilities
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, State

if TYPE_CHECKING:
    from xpnn.network import Network

LENGTHS = 9973, 9974, None
"""How long the first free axis is for the time being, in one trace after the other.

Two numbers behind each other have no divisor in common, and no layer is made for so many. In the
last trace all are as the network was made, of one sample, so that a layer that does something else
for what is short is found.
"""


@dataclass
class Plan:
    """What of a network is traced.

    Attributes:
        free: for each input by name, names for its axes whose length is free; 0 is the batch.
        batch: how many samples come in, where that is fixed.
        names: of inputs and outputs in the graph, where they have others in the network.
        dtypes: of inputs and outputs, where they are not those of the network.
        probabilities: the loss for which outputs become probabilities, if any.
        past: how many positions there is room for, of a network that reads one at a time.
    """

    free: Mapping[str, Mapping[int, str]]
    batch: int = 1
    names: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    probabilities: Any = None
    past: int | None = None


@dataclass
class Graph:
    """What it takes and gives, its nodes, and its constants by name."""

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node]
    constants: dict[str, np.ndarray]


def trace(network: "Network", values: Mapping[str, np.ndarray], plan: Plan) -> Graph:
    """The graph of what a network does outside of training.

    Args:
        values: the parameters and the state that it has, on the host.

    Raises:
        ExportError: it does what there are no operators for, or goes by a length that is free.
    """
    first, *others = (_Run(network, values, plan, longest).graph() for longest in LENGTHS)
    for other in others:
        _check_same(first, other)
    return first


class _Run:
    """One trace of a copy of the network.

    Args:
        longest: how long the first free axis is, others are longer yet; or None, see ``LENGTHS``.
    """

    def __init__(
        self, network: "Network", values: Mapping[str, np.ndarray], plan: Plan, longest: int | None
    ):
        self.plan, self.longest = plan, longest
        self.tracer = Tracer()
        self.tape = self.tracer.tape
        self.network = network.blank_on(self.tracer)
        ends = [name for *_, name in network.inputs] + [name for _, name in network.outputs]
        self.tape.reserve(plan.names.get(name, name) for name in ends)
        own = {**self.network.params, **self.network.state}
        self.values = {name: self._taken(name, value, values) for name, value in own.items()}
        self.lengths: dict[str, Size] = {}
        self.inputs: list[Value] = []

    def _taken(self, name: str, own: Any, values: Mapping[str, np.ndarray]) -> Any:
        """A value of the network as a constant of its name, in its own dtype."""
        if not isinstance(own, np.ndarray):
            return values[name]
        array = self.tracer.from_numpy(np.asarray(values[name]).astype(own.dtype, copy=False))
        self.tape.named(name, array)
        return array

    def graph(self) -> Graph:
        network = self.network
        with network.holding(self.values, self.values), _noting_layers(network, self.tape):
            given = [self._input(number) for number in range(len(network.inputs))]
            layers = self._with_past(given[0].shape[0]) if self.plan.past else {}
            made = self._run(one_or_tuple(given))
            outputs = [
                (self._as_wanted(one, name), self.plan.names.get(name, name))
                for one, (_, name) in zip(made, network.outputs, strict=True)
            ]
            for name, (layer, before) in layers.items():
                new: State = layer.cache["past"]
                outputs += [
                    (self._whole(new[key]), f"{name}.{key}.after")
                    for key, one in before.items()
                    if new[key] is not one
                ]
        return self._left(outputs)

    def _run(self, given: Any) -> tuple[Array, ...]:
        made = self.network.root.forward(given)
        self.tape.layer = ""
        return as_tuple(as_probabilities(self.network, self.plan.probabilities)(made))

    # What comes in --------------------------------------------------------------------------------

    def _input(self, number: int) -> Traced:
        """The stand-in for an input, as the network takes it."""
        shape, takes, name = self.network.inputs[number]
        usual = "int64" if takes == "integers" else self.network.dtype
        dtype = self.plan.dtypes.get(name, usual)
        own = self.plan.names.get(name, name)
        lengths = [self.plan.batch, *shape]
        if self.plan.past:
            lengths[1] = 1
        made = self._arriving(own, lengths, dtype, self.plan.free.get(name, {}))
        if takes == "integers":
            wanted = dtype if dtype in ("int32", "int64") else "int64"  # as Gather wants them
        else:
            wanted = self.network.dtype
        return self.tracer.xp.astype(made, self.tracer.dtype(wanted))

    def _arriving(
        self, name: str, shape: Sequence[int], dtype: str, free: Mapping[int, str]
    ) -> Traced:
        """An input of the graph; free axes of one name are of one length."""
        lengths = list(shape)
        for axis, called in free.items():
            if called not in self.lengths:
                value = lengths[axis]
                if self.longest is not None:
                    value = self.longest + 30 * len(self.lengths)
                self.lengths[called] = Size.of_axis(value, called, name, axis)
            lengths[axis] = self.lengths[called]
        made = self.tape.graph_input(name, tuple(lengths), self.tracer.dtype(dtype))
        self.inputs.append(value_of(made))
        return made

    def _with_past(self, batch: int) -> dict[str, tuple[Layer, State]]:
        """The layers that remember positions, with what they remember as inputs of the graph."""
        assert self.plan.past is not None
        found: dict[str, tuple[Layer, State]] = {}
        for name, layer in self.network.walk():
            if not hasattr(layer, "empty_past"):
                continue
            past = {}
            for key, one in layer.empty_past(1, self.plan.past).items():
                shape = (batch, *one.shape[1:]) if one.ndim else ()
                free = {0: str(batch)} if one.ndim and isinstance(batch, Size) else {}
                past[key] = self._arriving(f"{name}.{key}", shape, one.dtype.name, free)
            layer.cache["past"] = dict(past)
            found[name] = layer, past
        return found

    # What goes out --------------------------------------------------------------------------------

    def _as_wanted(self, made: Array, name: str) -> Traced:
        if name not in self.plan.dtypes:
            return self._whole(made)
        wanted = self.tracer.dtype(self.plan.dtypes[name])
        return self._whole(self.tracer.xp.astype(made, wanted))

    def _whole(self, made: Array) -> Traced:
        """An output as something that the graph makes, which has no other name yet."""
        constant = not isinstance(made, Traced)
        if not constant and self.tape.maker_of(made) is not None:
            return made
        shape = made.shape
        return self.tape.emit("Identity", [made], shape, made.dtype, shared=False)

    def _left(self, outputs: Sequence[tuple[Traced, str]]) -> Graph:
        """The graph, of what its outputs need, under their names."""
        nodes = needed(self.tape.nodes, {made.name for made, _ in outputs})
        renamed: dict[str, str] = {}
        values = []
        for made, name in outputs:
            value = value_of(made)
            if made.name in renamed:  # given twice
                nodes.append(Node("Identity", [made.name], [name], {}, ""))
            else:
                renamed[made.name] = name
            values.append(Value(name, value.dtype, value.shape))
        nodes = [_renamed(node, renamed) for node in nodes]
        used = _names_used(nodes)
        constants = {name: one for name, one in self.tape.constants.items() if name in used}
        count = len(self.network.inputs)  # behind which is what layers remember, used or not
        inputs = self.inputs[:count] + [one for one in self.inputs[count:] if one.name in used]
        return Graph(inputs, values, nodes, constants)


@contextmanager
def _noting_layers(network: "Network", tape: Any) -> Iterator[None]:
    """Inside, the tape knows whose ``forward`` runs, and so do errors."""
    layers = [(name, layer) for name, layer in network.walk() if name]
    for name, layer in layers:
        vars(layer)["forward"] = _noted(name, layer.forward, tape)
    try:
        yield
    finally:
        for _, layer in layers:
            vars(layer).pop("forward", None)


def _noted(name: str, forward: Callable[..., Any], tape: Any) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        before, tape.layer = tape.layer, name
        try:
            return forward(*arguments, **options)
        except ExportError as error:
            if error.layer is None:
                raise ExportError(f"layer {name}: {error}", layer=name) from error
            raise
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ExportError(
                f"layer {name} cannot run on what stands for arrays: {error}; leave axes out of "
                f"free whose length it needs, and write the forward of a layer of yours by "
                f"functions of self.xp",
                layer=name,
            ) from error
        finally:
            tape.layer = before

    return run


# What is left -------------------------------------------------------------------------------------


def needed(nodes: Sequence[Node], wanted: set[str]) -> list[Node]:
    """The nodes that values of these names come from; of a ``Scan``, only what is looked at."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if not wanted.intersection(node.outputs):
            continue
        if node.body is not None:
            node = _narrowed(node, wanted)
        kept.append(node)
        wanted |= _names_used([node])
    return kept[::-1]


def _narrowed(node: Node, wanted: set[str]) -> Node:
    """A ``Scan`` without what it stacks for nobody."""
    assert node.body is not None
    carried = len(node.inputs) - node.attributes["num_scan_inputs"]
    keep = [k for k, name in enumerate(node.outputs) if k < carried or name in wanted]
    outputs = [node.body.outputs[k] for k in keep]
    inner = needed(node.body.nodes, {one.name for one in outputs})
    attributes = dict(node.attributes)
    if "scan_output_directions" in attributes:
        attributes["scan_output_directions"] = [1] * (len(keep) - carried)
    body = Body(node.body.inputs, outputs, inner)
    names = [node.outputs[k] for k in keep]
    return Node(node.operator, node.inputs, names, attributes, node.layer, body)


def _names_used(nodes: Sequence[Node]) -> set[str]:
    """What nodes read, those of bodies too."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.inputs)
        if node.body is not None:
            found |= _names_used(node.body.nodes)
    return found


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    body = node.body
    if body is not None:
        body = Body(body.inputs, body.outputs, [_renamed(one, names) for one in body.nodes])
    inputs = [names.get(one, one) for one in node.inputs]
    outputs = [names.get(one, one) for one in node.outputs]
    return Node(node.operator, inputs, outputs, node.attributes, node.layer, body)


def _check_same(first: Graph, second: Graph) -> None:
    """Whether the graph is the same, however long what is free was for the time being.

    Raises:
        ExportError: a layer has made a constant of it.
    """
    count = max(len(first.nodes), len(second.nodes))
    for k in range(count):
        one, other = (graph.nodes[min(k, len(graph.nodes) - 1)] for graph in (first, second))
        same = one == other and all(
            _is_equal(first.constants[name], second.constants[name])
            for name in _names_used([one])
            if name in first.constants
        )
        if not same:
            name = one.layer or other.layer
            who = f"layer {name}" if name else "what becomes of the outputs"
            raise ExportError(
                f"{who} goes by the length of an axis that is free as a plain number, or chooses "
                f"by it what to do; let it use the shape of what it is given, as in Z.shape[0], "
                f"or leave the axis out of free; that of the batch has a length with batch=1",
                layer=name,
            )


def _is_equal(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )
