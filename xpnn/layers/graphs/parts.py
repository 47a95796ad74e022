"""Parts of a graph: what follows from some inputs and what does not, and what a head is put on."""

from collections.abc import Collection, Sequence

from xpnn.layers.graphs.definition import calls_behind
from xpnn.layers.graphs.graph import Graph
from xpnn.layers.graphs.steps import Step
from xpnn.layers.nodes import Input, Node
from xpnn.trees import as_tuple


def followers(graph: Graph, inputs: Collection[int]) -> list[tuple[Step, tuple[bool, ...]]]:
    """The steps that read something made of these inputs, and which of their sources it is."""
    found, reached = [], set(inputs)
    for step in graph.steps:
        follows = tuple(source in reached for source in step.sources)
        if any(follows):
            found.append((step, follows))
            reached.update(step.results)
    return found


def parted(graph: Graph, inputs: Sequence[int]) -> tuple[Graph, Graph]:
    """The layers of a graph as two: what goes without some inputs, and what follows from them.

    The first makes, of all other inputs, the values that the second reads beside ``inputs``.
    They serve to run the layers, which stay parts of that graph.
    """
    later = [step for step, _ in followers(graph, inputs)]
    earlier = [step for step in graph.steps if step not in later]
    made_later = {*inputs, *(number for step in later for number in step.results)}
    read = {*graph.output_numbers, *(number for step in later for number in step.sources)}
    handed = sorted(read - made_later)
    others = [number for number in range(len(graph.inputs)) if number not in inputs]
    return (
        _part(graph, others, earlier, handed),
        _part(graph, [*inputs, *handed], later, graph.output_numbers),
    )


def _part(
    graph: Graph, given: Sequence[int], steps: Sequence[Step], outputs: Sequence[int]
) -> Graph:
    """The graph of some steps, from values that are given to others."""
    layers = list(dict.fromkeys(step.layer for step in steps))
    numbers = [*given, *(number for step in steps for number in step.results)]
    place = {number: k for k, number in enumerate(numbers)}
    shapes, names = graph.all_shapes(graph.input_shapes), graph.value_names
    kinds = [takes for _, takes, _ in graph.inputs]
    kinds += ["floats"] * (len(shapes) - len(kinds))
    return Graph(
        layers,
        [(shapes[number], kinds[number], names[number]) for number in given],
        [(layers.index(s.layer), tuple(place[one] for one in s.sources)) for s in steps],
        tuple(place[number] for number in outputs),
    )


def up_to(graph: Graph, after: str | None) -> tuple[list[Input], Node]:
    """New inputs, and the node of what a call in a graph makes of them, for another one.

    Args:
        after: the name of the layer, and of the call where there are several; None for what the
            last call reads.

    Raises:
        ValueError: there is no such call of one output, or it does not read all inputs.
    """
    wanted = _value_after(graph, after)
    starts = [Input(shape, takes=takes, name=name) for shape, takes, name in graph.inputs]
    values: list[Node] = [*starts]
    for step in graph.steps:
        values += as_tuple(step.layer(*(values[number] for number in step.sources)))
    node = values[wanted]
    read = {node, *(one for call in calls_behind([node]) for one in call.sources)}
    if unread := [one.name for one in starts if one not in read]:
        raise ValueError(
            f"what lies before the head has to read all inputs, but {after or 'it'} does not "
            f"read {', '.join(map(str, unread))}; name another layer in after"
        )
    return starts, node


def _value_after(graph: Graph, after: str | None) -> int:
    """The number of what a call makes; None for what the call that makes the output reads."""
    makers = {step.name: step for step in graph.steps if len(step.results) == 1}
    if after is not None and after not in makers:
        raise ValueError(
            f"wanted after to name a layer of one output, one of {', '.join(makers)}, got {after!r}"
        )
    if after is not None:
        return makers[after].results[0]
    last = [step for step in graph.steps if {*step.results} & {*graph.output_numbers}]
    if len(graph.output_numbers) > 1 or len(last) != 1 or len(last[0].sources) > 1:
        raise ValueError(
            f"a head takes the place of the last layer where that has one input and makes the "
            f"only output; name the layer that it reads in after, one of {', '.join(makers)}"
        )
    return last[0].sources[0]
