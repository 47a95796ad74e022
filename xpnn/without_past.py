"""Layers that keep nothing from position to position, and whether they can do without."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator, Philox

from xpnn.backends import Backend
from xpnn.errors import ShapeError, XpnnError
from xpnn.layers import (
    Graph,
    Layer,
    Masked,
    Parallel,
    Recompute,
    Residual,
    Sequential,
    TransformerDecoderBlock,
    WeightNorm,
)
from xpnn.layers.graphs.parts import followers
from xpnn.layers.nodes import Kind, is_several, kinds_of
from xpnn.trees import one_or_tuple
from xpnn.typing import Array, Shape

if TYPE_CHECKING:
    from xpnn.network import Network

JOINED = {
    kind.forward
    for kind in (
        *(Sequential, Residual, Parallel, Masked, Recompute, WeightNorm, Graph),
        TransformerDecoderBlock,
    )
}
"""How containers run that are fit for writing wherever all layers inside are."""


def check_past(network: "Network", text: int) -> None:
    """Whether each layer keeps what it needs of the past, or needs none.

    Args:
        text: the number of the input that comes position by position.

    Raises:
        XpnnError: one goes by more than the newest position, and does not keep the others.
    """
    with network.backend.on_device(), network.holding(network.params, network.state):
        inputs = tuple(number == text for number in range(len(network.inputs)))
        for name, layer, grows in without_past("", network.root, inputs):
            if not alone_as_among_others(layer, network.backend, grows):
                raise XpnnError(
                    f"layer {name}: {layer!r} goes by more than the newest position, so it "
                    f"cannot write a text without remembering the others; use layers that keep "
                    f"a past, such as LSTM and causal attention, or give it an empty_past"
                )


def without_past(
    name: str, layer: Layer, grows: tuple[bool, ...] = (True,)
) -> Iterator[tuple[str, Layer, tuple[bool, ...]]]:
    """The layers that keep nothing from position to position, inner ones before outer ones.

    Args:
        grows: which of the inputs come position by position; the others are there as a whole.
    """
    if hasattr(layer, "empty_past"):
        return
    if isinstance(layer, Graph):
        yield from _without_past_in_graph(name, layer, grows)
    else:
        for key, child in layer.children().items():
            yield from without_past(_joined(name, key), child)
    if type(layer).forward not in JOINED:
        yield name, layer, grows


def _without_past_in_graph(
    name: str, graph: Graph, grows: tuple[bool, ...]
) -> Iterator[tuple[str, Layer, tuple[bool, ...]]]:
    """``_without_past`` of a graph, each layer with what grows of its inputs."""
    steps = followers(graph, [number for number, one in enumerate(grows) if one])
    for step, follows in steps:
        full, layer = _joined(name, step.name), step.layer
        wanted = tuple(number not in layer.contexts for number in range(len(follows)))
        if layer.contexts and follows != wanted:
            raise XpnnError(
                f"layer {full}: {layer!r} looks from the text at all of another sequence, so it "
                f"cannot write where that follows from the text itself; call it on what is made of "
                f"the text, and then on what is made of the other inputs alone"
            )
        keeps = any(hasattr(one, "empty_past") for _, one in layer.walk())
        if keeps and sum(other.layer is layer for other, _ in steps) > 1:
            raise XpnnError(
                f"layer {full}: {layer!r} is called several times on the text, but what it keeps "
                f"from position to position is that of one call; make a layer for each"
            )
        yield from without_past(full, layer, follows)


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def alone_as_among_others(
    layer: Layer, backend: Backend, grows: tuple[bool, ...] = (True,)
) -> bool:
    """Whether ``layer`` says the same of positions one by one as of all of them at once."""
    given: Any = layer.input_shape
    shapes, xp = given if is_several(given) else (given,), backend.xp
    time = next(shape[0] for shape, one in zip(shapes, grows, strict=True) if one)
    parts = [(1, *shape[1:]) if one else shape for shape, one in zip(shapes, grows, strict=True)]
    try:
        alone = layer.output_shape(one_or_tuple(parts))
        if alone[:1] != (1,) or layer.output_shape(given) != (time, *alone[1:]):
            return False
    except ShapeError:
        return False
    rng, kinds = Generator(Philox(0)), kinds_of(layer, len(shapes))
    samples = [
        _sample_of(shape, takes, layer, rng) for shape, takes in zip(shapes, kinds, strict=True)
    ]
    split = [
        xp.reshape(one, (time, 1, *one.shape[1:]))
        if grown
        else xp.broadcast_to(one[None, ...], (time, *one.shape))
        for one, grown in zip(samples, grows, strict=True)
    ]
    together = [one[None, ...] for one in samples]
    one_by_one, at_once = (
        np.nan_to_num(
            backend.to_numpy(layer.forward(one_or_tuple(inputs))), posinf=0, neginf=0
        ).reshape(time, *alone[1:])
        for inputs in (split, together)
    )
    rounding = 0.01 + 8 * float(xp.finfo(backend.dtype(layer.dtype)).eps)  # TF32 and two bytes
    return np.allclose(one_by_one, at_once, rtol=0, atol=rounding * np.abs(at_once).max())


def _sample_of(shape: Shape, takes: Kind, layer: Layer, rng: Generator) -> Array:
    """One sample of an input, to try a layer with."""
    backend = layer.backend
    if takes == "integers":
        return backend.xp.zeros(shape, dtype=backend.xp.int32, device=backend.device)
    # with a mean of its own for each position, which one that averages over them mixes up
    means = rng.standard_normal((*shape[:1], *[1] * len(shape[1:])))
    return backend.asarray(rng.standard_normal(shape) + means, layer.dtype)
