"""What a network is made of, and what it takes to train it: parameters, memory and work.

``print(network.summary())`` shows the table; a program reads the fields of ``Summary``. Nothing is
estimated that can be measured: cached activations and gradients are counted in the arrays that a
real forward and backward leave behind.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.backends import Backend
from xpnn.html_tables import table
from xpnn.layers import Graph, Layer
from xpnn.layers.sliding.convolution import KernelLayer
from xpnn.peak import Ready, peak_bytes
from xpnn.trees import one_or_tuple, tree_map
from xpnn.typing import Array, Params, Shapes

if TYPE_CHECKING:
    from xpnn.network import Network
    from xpnn.optimizers import Optimizer

FEWER = "ask for a smaller batch, or make the network smaller"
HEADINGS = ("layer", "output shape", "reads", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Row:
    """One layer. Of a container, the numbers are those of all that is inside.

    In a graph each input has a row, too, and a layer that is called several times has one for each
    call; its parameters, and what is inside of it, are listed with the first.

    Attributes:
        name: in full, such as "1.residual.body.0.dense".
        depth: how many containers the layer lies in.
        output_shape: of one sample.
        params: how many numbers it learns or holds frozen.
        multiply_adds: multiplications with addition in the forward pass of one sample.
        reads: in a graph, the names of the inputs and layers that feed it, as its rows have them.
        call: which call of the layer it is, from 1, where a graph calls it several times.
        is_input: whether it is an input of a graph, and no layer.

    >>> from xpnn import Dense, Network, ReLU
    >>> row = Network([Dense(64), ReLU()], input_shape=(64,)).summary().rows[0]
    >>> row.name, row.output_shape, row.params
    ('0.dense', (64,), 4160)
    """

    name: str
    depth: int
    output_shape: Shapes
    params: int
    multiply_adds: int
    reads: tuple[str, ...] = ()
    call: int | None = None
    is_input: bool = False


@dataclass(frozen=True)
class Summary:
    """The rows of the table and the totals under it.

    Attributes:
        rows: one for each layer at every depth, containers before their contents; in a graph in the
            order in which layers are called, behind the inputs.
        params: how many parameters there are; a tied one counts once.
        trainable_params: how many of them training changes.
        param_bytes: memory of the parameters.
        grad_bytes: memory of the gradients that one backward pass writes.
        optimizer_bytes: memory of the optimizer's slots; None where no optimizer was given.
        cache_bytes_per_sample: memory that the layers keep between forward and backward, for each
            sample of a batch.
        multiply_adds: of the forward pass of one sample.
        batch: samples of what the peak was asked for of, if it was.
        peak_bytes: what that takes at its highest moment, with all of the above that it has.
        peak_of: "forward and backward", or "a step" of ``Trainer.summary``.
        missing: what would make it faster and is not there or not used, and what to do, if any.
        outputs: of a graph, (name, the input or layer that feeds it) for each output.

    >>> from xpnn import Dense, Network, ReLU
    >>> summary = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,)).summary()
    >>> summary.params, summary.multiply_adds
    (4810, 4736)
    """

    rows: tuple[Row, ...]
    params: int
    trainable_params: int
    param_bytes: int
    grad_bytes: int
    optimizer_bytes: int | None
    cache_bytes_per_sample: int
    multiply_adds: int
    missing: str | None = None
    batch: int | None = None
    peak_bytes: int | None = None
    peak_of: str = "forward and backward"
    outputs: tuple[tuple[str, str], ...] = ()

    @property
    def frozen_params(self) -> int:
        """How many parameters training leaves alone."""
        return self.params - self.trainable_params

    def __str__(self) -> str:
        lines = _aligned([HEADINGS, *map(_cells, self.rows)])
        line = "-" * max(map(len, lines))
        totals = (f"{name:<19} {value}" for name, value in self._totals())
        return "\n".join([lines[0], line, *lines[1:], line, *totals])

    def _repr_html_(self) -> str:
        """The same table in a notebook."""
        return layer_table("layers", self.rows, (f"{n}: {value}" for n, value in self._totals()))

    def _totals(self) -> Iterator[tuple[str, str]]:
        if self.outputs:
            yield "outputs", "; ".join(f"{name} from {source}" for name, source in self.outputs)
        yield (
            "parameters",
            f"{self.params:,} ({self.trainable_params:,} trainable, {self.frozen_params:,} frozen)",
        )
        yield "multiply-adds", f"{self.multiply_adds:,} a sample"
        yield "parameter memory", with_unit(self.param_bytes)
        yield "gradient memory", with_unit(self.grad_bytes)
        if self.optimizer_bytes is not None:
            yield "optimizer memory", with_unit(self.optimizer_bytes)
        yield "cached activations", f"{with_unit(self.cache_bytes_per_sample)} a sample"
        if self.peak_bytes is not None:
            peak = with_unit(self.peak_bytes)
            yield f"peak of {self.peak_of}", f"{peak} at a batch of {self.batch:,}"
        if self.missing is not None:
            yield "could be faster", self.missing


def summarize(
    network: "Network", optimizer: "Optimizer | None" = None, batch: int | None = None
) -> Summary:
    """Look through ``network``, which is left as it was: counters, caches and gradients too.

    Args:
        network: any network.
        optimizer: the one that will train it, for the memory that its slots take.
        batch: samples, to tell what ``forward`` and ``backward`` take at their highest moment.

    Returns:
        What ``network.summary()`` shows; ``print`` it.

    >>> from xpnn import Adam, Dense, Network, ReLU
    >>> summary = summarize(Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,)), Adam())
    >>> summary.params, summary.optimizer_bytes
    (4810, 38480)
    """
    if optimizer is not None and not hasattr(optimizer, "init"):
        raise TypeError(
            f"summary takes an optimizer, such as Adam(), or nothing, got {optimizer!r}"
        )
    backend = network.backend
    trainable = network.trainable()
    learned = {name: param for name, param in network.params.items() if name in trainable}
    with _untouched(network), backend.on_device():
        few, many = (_cached_bytes(network, batch) for batch in (2, 3))
        grad_bytes = bytes_of((layer.grads for _, layer in network.walk()), backend)
    convolves = any(isinstance(layer, KernelLayer) for _, layer in network.walk())
    return Summary(
        rows=tuple(_rows(network.root)),
        params=_count([network.params]),
        trainable_params=_count([learned]),
        param_bytes=bytes_of([network.params], backend),
        grad_bytes=grad_bytes,
        optimizer_bytes=None if optimizer is None else _slot_bytes(optimizer, network),
        cache_bytes_per_sample=many - few,
        multiply_adds=network.root.multiply_adds(network.input_shape),
        missing=backend.missing() if convolves else None,
        batch=batch,
        peak_bytes=None if batch is None else _peak_bytes(network, batch),
        outputs=_outputs(network.root),
    )


def network_table(network: "Network") -> str:
    """The layers of a network as HTML, with what costs no pass through it."""
    rows = tuple(_rows(network.root))
    params, trainable = network.params, network.trainable()
    learned = _count([{name: param for name, param in params.items() if name in trainable}])
    shapes = f"{network.input_shape} to {network.output_shape}"
    caption = f"{type(network).__name__} on {network.backend.spec}, {network.dtype}: {shapes}"
    note = f"parameters: {_count([params]):,}, of which {learned:,} are trained"
    ends = (f"output {name}: from {source}" for name, source in _outputs(network.root))
    return layer_table(caption, rows, [*ends, note])


def layer_table(caption: str, rows: Iterable[Row], notes: Iterable[str]) -> str:
    """Rows as an HTML table; without the column of what they read where no row has to say it."""
    lines = [*map(_cells, rows)]
    headings = [name if k < 3 else f">{name}" for k, name in enumerate(HEADINGS)]
    kept = [k for k, name in enumerate(HEADINGS) if name != "reads" or any(row[k] for row in lines)]
    return table(
        caption, [headings[k] for k in kept], [[row[k] for k in kept] for row in lines], notes
    )


def check_batch(batch: int) -> None:
    """Refuse a batch of no samples."""
    if batch < 1:
        raise ValueError(f"batch counts the samples of a step, at least 1, got {batch}")


def _peak_bytes(network: "Network", batch: int) -> int:
    """The highest moment of ``forward`` and ``backward``, with parameters, state and inputs."""
    check_batch(batch)
    backend = network.backend

    def copy(size: int) -> Ready:
        twin = network.to(backend)
        x = twin.asarray(_zeros(network, size))

        def take() -> None:
            zeros = [tree_map(backend.xp.zeros_like, twin.forward(x, training=True))]
            twin.backward(zeros.pop(), to_input=False)  # nobody here holds them meanwhile
            twin.root.clear()

        return take, lambda: (x,), None

    with network.at_rest(), backend.room_for("a copy and its passes", FEWER):
        return peak_bytes(copy, backend, batch)


# Looking into the layers --------------------------------------------------------------------------


def _rows(layer: Layer, prefix: str = "", depth: int = 0) -> Iterator[Row]:
    """The rows of what is inside of a layer."""
    if isinstance(layer, Graph):
        yield from _rows_of_graph(layer, prefix, depth)
        return
    for key, inside in layer.children().items():
        assert inside.input_shape is not None
        name = f"{prefix}.{key}" if prefix else key
        yield _row(inside, name, depth, inside.input_shape)
        yield from _rows(inside, name, depth + 1)


def _rows_of_graph(graph: Graph, prefix: str, depth: int) -> Iterator[Row]:
    assert graph.input_shape is not None
    start = f"{prefix}." if prefix else ""
    shapes, names = graph.all_shapes(graph.input_shape), graph.value_names
    for (_, _, name), shape in zip(graph.inputs, shapes, strict=False):
        yield Row(f"{start}{name}", depth, shape, 0, 0, is_input=True)
    for step in graph.steps:
        key, _, call = step.name.partition(", call ")
        row = _row(step.layer, start + key, depth, step.given(shapes))
        reads = tuple(names[number] for number in step.sources)
        if not call:
            yield replace(row, reads=reads)
        else:
            again = int(call) > 1
            yield replace(row, reads=reads, call=int(call), params=0 if again else row.params)
        if call in ("", "1"):
            yield from _rows(step.layer, start + key, depth + 1)


def _row(layer: Layer, name: str, depth: int, input_shape: Any) -> Row:
    params = _count(inside.params for _, inside in layer.walk())
    shape = layer.output_shape(input_shape)
    return Row(name, depth, shape, params, layer.multiply_adds(input_shape))


def _outputs(root: Layer) -> tuple[tuple[str, str], ...]:
    """The names of the outputs of a graph, and what feeds them."""
    if not isinstance(root, Graph):
        return ()
    names = root.value_names
    sources = (names[number] for number in root.output_numbers)
    return tuple(zip(root.output_names, sources, strict=True))


@contextmanager
def _untouched(network: "Network") -> Iterator[None]:
    """Put state, caches and gradients back in the end."""
    kinds = ("state", "cache", "grads")
    kept = [
        (getattr(layer, kind), dict(getattr(layer, kind)))
        for _, layer in network.walk()
        for kind in kinds
    ]
    try:
        yield
    finally:
        for own, before in kept:
            own.clear()
            own.update(before)


def _cached_bytes(network: "Network", batch: int) -> int:
    """Train on ``batch`` samples of zeros, but for the update; returns the size of all caches.

    What does not grow with the batch drops out between two batch sizes; the smallest is 2 because
    a normalisation over a single sample has nothing to normalise.
    """
    network.root.clear()
    outputs = network.forward(_zeros(network, batch), training=True)
    cached = bytes_of((layer.cache for _, layer in network.walk()), network.backend)
    network.backward(tree_map(network.backend.xp.zeros_like, outputs), to_input=False)
    return cached


def _zeros(network: "Network", batch: int) -> Any:
    """Inputs, of integers, which are also fit to look up embeddings."""
    return one_or_tuple([np.zeros((batch, *shape), np.int32) for shape, _, _ in network.inputs])


def _slot_bytes(optimizer: "Optimizer", network: "Network") -> int:
    """The size of the optimizer's slots, made for one parameter at a time and dropped again.

    Frozen parameters have slots too, so that they may be set free in the middle of a run.
    """
    backend, total = network.backend, 0
    for name, param in network.params.items():
        with backend.on_device():
            state = optimizer.init({name: param}, backend)
        slots = [value for value in state.values() if isinstance(value, dict)]
        total += bytes_of(slots, backend)
    return total


# Counting arrays ----------------------------------------------------------------------------------


def _arrays(value: Any) -> Iterator[Array]:
    """All arrays in nested dictionaries, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inside in value:
            yield from _arrays(inside)
    elif hasattr(value, "dtype") and hasattr(value, "shape"):
        yield value


def _count(dicts: Iterable[Params]) -> int:
    """How many numbers there are, each array counted once."""
    distinct = {id(array): array for array in _arrays(list(dicts))}
    return sum(math.prod(array.shape) for array in distinct.values())


def bytes_of(dicts: Iterable[Mapping[str, Any]], backend: Backend) -> int:
    """The bytes behind all arrays; what several of them share counts once."""
    owners = {id(owner): owner for owner in map(_owner, _arrays(list(dicts)))}
    return sum(math.prod(one.shape) * _item_bytes(one, backend) for one in owners.values())


def _owner(array: Array) -> Array:
    """The array whose memory ``array`` is a view of, or itself; ``_base`` is PyTorch's name."""
    base = getattr(array, "base", None)
    base = getattr(array, "_base", None) if base is None else base
    return _owner(base) if hasattr(base, "dtype") else array


def _item_bytes(array: Array, backend: Backend) -> int:
    xp, dtype = backend.xp, array.dtype
    if dtype == xp.bool:
        return 1
    return int(xp.iinfo(dtype).bits if xp.isdtype(dtype, "integral") else xp.finfo(dtype).bits) // 8


# Drawing the table --------------------------------------------------------------------------------


def _cells(row: Row) -> tuple[str, ...]:
    return (
        "  " * row.depth + _own_name(row),
        str(row.output_shape),
        "; ".join(row.reads),
        "" if row.is_input else f"{row.params:,}" if row.call in (None, 1) else "as in call 1",
        "" if row.is_input else f"{row.multiply_adds:,}",
    )


def _own_name(row: Row) -> str:
    """The name within its container, and which call it is."""
    *_, number, kind = ("", *row.name.split("."))
    own = f"{number}.{kind}" if number.isdigit() else kind
    return own if row.call is None else f"{own}, call {row.call}"


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell: text to the left, the two of numbers to the right.

    Where no layer has to say what it reads, as in a chain, that column is left out.
    """
    columns = [c for c in zip(*lines, strict=True) if c[0] != "reads" or any(c[1:])]
    padded = []
    for left, column in enumerate(columns, start=-len(columns)):
        width = max(map(len, column))
        padded.append([f"{cell:>{width}}" if left >= -2 else f"{cell:<{width}}" for cell in column])
    return ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def with_unit(size: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> with_unit(407080), with_unit(12)
    ('407.1 kB', '12 B')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
