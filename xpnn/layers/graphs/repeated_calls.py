"""Layers that are called several times: what each call keeps, and gradients that add up."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from xpnn.errors import ShapeError
from xpnn.initializers import zeros_for
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container
from xpnn.typing import Array

ANY_NUMBER = 2**62

Caches: TypeAlias = list[dict[str, Any]]
"""What a layer and all inside of it keep, in the order of ``walk``."""


def check_arrays(name: str, layer: Layer, given: Any) -> None:
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


def _all_calls(layer: Layer, given: Any) -> Iterator[tuple[Layer, Any]]:
    yield layer, given
    if isinstance(layer, Container):
        for inner, shape in layer.inner_calls(given):
            yield from _all_calls(inner, shape)


def kept_by(layer: Layer) -> Caches:
    """What a layer keeps, as it is now."""
    return [dict(one.cache) for _, one in layer.walk()]


def taken_from(layer: Layer) -> Caches:
    """What a layer keeps, taken away from it."""
    caches = kept_by(layer)
    layer.forget()
    return caches


def put_back(layer: Layer, caches: Caches) -> None:
    """Let a layer keep what it has kept before, in place of what it keeps now."""
    for (_, one), own in zip(layer.walk(), caches, strict=True):
        one.cache.clear()
        one.cache.update(own)


def grads_taken_from(layer: Layer) -> list[dict[str, Array]]:
    """The gradients of a layer and of all inside, taken away from them."""
    grads = [dict(one.grads) for _, one in layer.walk()]
    for _, one in layer.walk():
        one.grads.clear()
    return grads
