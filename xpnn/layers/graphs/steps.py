"""What a graph is made of, in numbers: found to be whole, and its calls as steps."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from xpnn.errors import ShapeError
from xpnn.initializers import check_room
from xpnn.layers.base import Layer
from xpnn.layers.nodes import Kind, check_count, is_several, kinds_of
from xpnn.typing import Shape

Place: TypeAlias = tuple[Shape, Kind, str]
"""An input: its shape, what it takes, and its name."""


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
        return together(self.layer, [values[number] for number in self.sources])


def check_form(inputs: Any, calls: Any) -> None:
    """Whether inputs and calls are the tuples that a graph is made of; raises TypeError if not."""
    if not (_are_tuples(inputs, 3) and _are_tuples(calls, 2)):
        raise TypeError(
            f"Graph wants inputs as (shape, takes, name) of each, and calls as (number of the "
            f"layer, numbers of values) of each, got {inputs!r} and {calls!r}"
        )
    if not all(isinstance(sources, tuple | list) for _, sources in calls):
        raise TypeError(f"Graph wants the numbers of the values of each call, got {calls!r}")


def check_layers_called(layers: Sequence[Layer], numbers: Sequence[int]) -> None:
    """Whether calls are of these layers, and each is called; raises ValueError if not."""
    numbered = all(_is_one_of(layers, number) for number in numbers)
    if not numbered or {*numbers} != {*range(len(layers))}:
        raise ValueError(f"wanted calls of layers 0 to {len(layers) - 1}, got {numbers}")


def _are_tuples(given: Any, length: int) -> bool:
    """Whether it is a list of tuples of that length."""
    return isinstance(given, tuple | list) and all(
        isinstance(one, tuple | list) and len(one) == length for one in given
    )


def check_names(inputs: Sequence[Any], outputs: Any) -> None:
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
    refuse_twice("inputs", inputs)


def together(layer: Layer, given: Sequence[Any]) -> Any:
    """What a layer is given: one of a kind, or a tuple where it has several inputs."""
    return given[0] if layer.arity == 1 else tuple(given)


def _is_one_of(values: Sequence[Any], number: Any) -> bool:
    return type(number) is int and 0 <= number < len(values)


def shapes_of_results(name: str, layer: Layer, given: Sequence[Any]) -> list[Any]:
    """The shapes that a layer makes of those of its inputs."""
    try:
        made = layer.output_shape(together(layer, given))
    except ShapeError as error:
        raise ShapeError(f"layer {name}: {error}") from None
    shapes: list[Any] = list(made) if is_several(made) else [made]
    for shape in shapes:
        check_room(shape)  # as shapes that double at each call are soon numbers without an end
    return shapes


def refuse_twice(what: str, given: Sequence[Any]) -> None:
    seen = set()
    for one in given:
        if one in seen:
            raise ValueError(f"{one!r} is named twice among the {what}; name it once")
        seen.add(one)


def steps_of(
    layers: Mapping[str, Layer],
    inputs: Sequence[Place],
    calls: Sequence[tuple[int, tuple[int, ...]]],
    outputs: tuple[int, ...],
) -> Iterator[Step]:
    """The calls of a graph as steps.

    Args:
        layers: by their names in the graph, in their order.
        inputs, calls: as ``Graph`` takes them.
        outputs: the numbers of the values that come out.

    Raises:
        ValueError: there are numbers of values that are not there by then.
        ShapeError: layers do not fit.
    """
    shapes: list[Any] = [shape for shape, _, _ in inputs]
    kinds = [takes for _, takes, _ in inputs]
    read = [*(sources for _, sources in calls), outputs]
    last = {value: k for k, sources in enumerate(read) for value in sources}
    named, so_far = list(layers.items()), Counter[int]()
    total = Counter(number for number, _ in calls)
    for k, (number, sources) in enumerate(calls):
        (name, layer), many = named[number], total[number] > 1
        so_far[number] += 1
        name = f"{name}, call {so_far[number]}" if many else name
        if not all(_is_one_of(shapes, one) for one in sources):
            raise ValueError(f"{name} is called on values {sources}, of which some are not there")
        check_count(layer, len(sources))
        wanted = kinds_of(layer, len(sources))
        found = tuple(kinds[one] if one < len(kinds) else "floats" for one in sources)
        if found != wanted:
            raise ShapeError(f"{name} takes {wanted}, and is called on {found}")
        made = shapes_of_results(name, layer, [shapes[one] for one in sources])
        results = tuple(range(len(shapes), len(shapes) + len(made)))
        shapes += made
        done = tuple(v for v in {*sources, *results} if last.get(v, k) == k)
        yield Step(name, layer, sources, results, done, many)
    if not all(_is_one_of(shapes, one) for one in outputs):
        raise ValueError(f"the outputs are values {outputs}, of which some are not there")
