"""What is written down while the layers run on stand-ins: the nodes of an ONNX graph.

Nodes name values by texts. Constants, of which the parameters are some, lie apart. The body of a
``Scan`` is a list of nodes of its own, which may use what was there before it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnn.onnx.sizes import Axis, Quotient, Size, Terms, is_same
from xpnn.onnx.traced import Traced
from xpnn.typing import Namespace


@dataclass
class Value:
    """An input of a graph, an output of one, or one of its values in between.

    Attributes:
        shape: texts for the lengths that are free.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


@dataclass
class Body:
    """What a ``Scan`` does at each step."""

    inputs: list[Value]
    outputs: list[Value]
    nodes: list["Node"]


@dataclass
class Node:
    """One operator of ONNX, called once.

    Attributes:
        layer: the name of the layer that called it.
    """

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    layer: str
    body: Body | None = None


@dataclass
class Scope:
    """The nodes of a graph, or of a body in it."""

    nodes: list[Node] = field(default_factory=list)
    known: dict[Any, Traced] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)


class Tape:
    """The graph that is being written down.

    Args:
        xp: the functions by which stand-ins are worked with.

    Attributes:
        constants, traced: by their names; and the stand-ins.
        layer: the name of the one whose ``forward`` runs.
    """

    def __init__(self, xp: Namespace):
        self.xp = xp
        self.constants: dict[str, np.ndarray] = {}
        self.traced: dict[str, Traced] = {}
        self.layer = ""
        self._scopes = [Scope()]
        self._constant_names: dict[Any, str] = {}
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    @property
    def nodes(self) -> list[Node]:
        """Those of the graph itself."""
        return self._scopes[0].nodes

    # Values ---------------------------------------------------------------------------------------

    def fresh_name(self, wanted: str) -> str:
        """``wanted``, or with a number behind it where that is taken."""
        name, count = wanted, self._counts.get(wanted, 0)
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._counts[wanted] = count
        self._taken.add(name)
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Let nothing have these names but inputs and outputs of the graph."""
        self._taken.update(names)

    def graph_input(self, name: str, shape: tuple[int, ...], dtype: Any) -> Traced:
        """The stand-in for an input of the graph, of just that name."""
        return self._stand_in(name, shape, dtype)

    def input(self, name: str, shape: tuple[int, ...], dtype: Any) -> Traced:
        """The stand-in for an input of a body."""
        return self._stand_in(self.fresh_name(name), shape, dtype)

    def named(self, name: str, array: np.ndarray) -> None:
        """Let a constant go by that name; it is not written into from here on."""
        array.flags.writeable = False
        self._constant_names[id(array)] = self.fresh_name(name)
        self.constants[self._constant_names[id(array)]] = array

    def constant(self, array: np.ndarray) -> str:
        """The name of a constant, as it is now: equal ones have one name."""
        if id(array) in self._constant_names:
            return self._constant_names[id(array)]
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self._constant_names:
            self._constant_names[key] = self.fresh_name("constant")
            self.constants[self._constant_names[key]] = np.array(array)
        return self._constant_names[key]

    def name_of(self, value: Any) -> str:
        """How nodes call a value: a stand-in, a constant, or the name itself."""
        if isinstance(value, str):
            return value
        if isinstance(value, Traced):
            return value.name
        return self.constant(value if isinstance(value, np.ndarray) else np.asarray(value))

    # Nodes ----------------------------------------------------------------------------------------

    def emit(
        self,
        operator: str,
        inputs: Sequence[Any],
        shape: Any,
        dtype: Any,
        *,
        shared: bool = True,
        **attributes: Any,
    ) -> Traced:
        """Note an operator with one output, of that shape.

        Args:
            shared: whether it is noted once, however often it is called on the same.
        """
        names = [self.name_of(one) for one in inputs]
        key = operator, tuple(names), repr(attributes)
        for scope in self._scopes:
            if shared and key in scope.known:
                return scope.known[key]
        made = self._stand_in(self._output_name(operator), tuple(shape), np.dtype(dtype))
        self._add(Node(operator, names, [made.name], attributes, self.layer))
        self._scopes[-1].known[key] = made
        return made

    def maker_of(self, value: Traced) -> Node | None:
        """The node that a value comes from, in the graph or body that is being written."""
        return self._scopes[-1].makers.get(value.name)

    def _add(self, node: Node) -> None:
        self._scopes[-1].nodes.append(node)
        self._scopes[-1].makers.update(dict.fromkeys(node.outputs, node))

    def _stand_in(self, name: str, shape: tuple[int, ...], dtype: Any) -> Traced:
        self.traced[name] = Traced(self, name, shape, np.dtype(dtype))
        return self.traced[name]

    def _output_name(self, operator: str) -> str:
        return self.fresh_name(f"{self.layer}/{operator}" if self.layer else operator)

    @contextmanager
    def body(self) -> Iterator[list[Node]]:
        """Inside, nodes are noted in the list that it gives."""
        self._scopes.append(Scope())
        try:
            yield self._scopes[-1].nodes
        finally:
            self._scopes.pop()

    def emit_scan(
        self, body: Body, initial: Sequence[Any], inputs: Sequence[Any], shapes: Any, reverse: bool
    ) -> list[Traced]:
        """Note a ``Scan``: what the body carries to the end, and what it gives, stacked."""
        kept = len(body.outputs) - len(initial)
        outputs = [
            self._stand_in(self._output_name("Scan"), shape, value.dtype)
            for shape, value in zip(shapes, body.outputs, strict=True)
        ]
        attributes: dict[str, Any] = {"num_scan_inputs": len(inputs)}
        if reverse:
            attributes["scan_input_directions"] = [1] * len(inputs)
            attributes["scan_output_directions"] = [1] * kept
        names = [self.name_of(one) for one in (*initial, *inputs)]
        made = [one.name for one in outputs]
        self._add(Node("Scan", names, made, attributes, self.layer, body))
        return outputs

    # Lengths --------------------------------------------------------------------------------------

    def size(self, size: int) -> Traced | np.ndarray:
        """A length as integers of shape (1,)."""
        if not isinstance(size, Size):
            return np.asarray([size], dtype=np.int64)
        inner, self._scopes = self._scopes[1:], self._scopes[:1]  # once, in front of a Scan
        try:
            return self._total(size.terms)
        finally:
            self._scopes += inner

    def _total(self, terms: Terms) -> Any:
        total: Any = None
        for atoms, count in terms:
            product: Any = None
            for atom in atoms:
                factor = self._atom(atom)
                product = factor if product is None else product * factor
            if product is None:
                product = np.asarray([count], dtype=np.int64)
            elif count != 1:
                product = product * np.asarray([count], dtype=np.int64)
            total = product if total is None else total + product
        return total

    def _atom(self, atom: Axis | Quotient) -> Any:
        if isinstance(atom, Axis):
            start, end = atom.axis, atom.axis + 1
            return self.emit("Shape", [atom.source], (1,), np.int64, start=start, end=end)
        pair = self._total(atom.dividend), self._total(atom.divisor)
        return pair[0] // pair[1] if atom.operation == "//" else pair[0] % pair[1]

    def shape(self, shape: Sequence[int]) -> Traced | np.ndarray:
        """Lengths as one array of integers."""
        if not any(isinstance(one, Size) for one in shape):
            return np.asarray(shape, dtype=np.int64)
        parts = [self.size(one) for one in shape]
        if len(parts) == 1:
            return parts[0]
        return self.emit("Concat", parts, (len(parts),), np.int64, axis=0)

    def new_shape(self, old: Sequence[int], new: Sequence[int]) -> Traced | np.ndarray:
        """What ``Reshape`` wants: 0 for a length that stays where it is, -1 for one of the rest."""
        wanted: list[int] = []
        for axis, length in enumerate(new):
            if not isinstance(length, Size):
                wanted.append(length)
            elif axis < len(old) and is_same(length, old[axis]):
                wanted.append(0)
            else:
                wanted.append(length if -1 in wanted else -1)
        if 0 in new:  # a length of no entries, which would be read as one that stays
            wanted = list(new)
        return self.shape(wanted)


def texts_of(shape: Sequence[int]) -> tuple[int | str, ...]:
    """A shape whose free lengths are texts."""
    return tuple(str(one) if isinstance(one, Size) else int(one) for one in shape)


def value_of(traced: Traced) -> Value:
    """A stand-in, as graphs name their inputs and outputs."""
    return Value(traced.name, traced.dtype, texts_of(traced.shape))
