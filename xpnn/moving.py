"""From one network to another, on any backend: layers built anew, and values as they are there."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.layers import Layer
from xpnn.trees import Keys, TreeError, map_with_path

AnyLayer = TypeVar("AnyLayer", bound=Layer)

NOT_LOADED = (
    "nothing was loaded; make the network of the layers that the values are of, or of a file take "
    "what fits by xpnn.load_weights(network, path, partial=True)"
)


def unbuilt_copy(root: AnyLayer) -> AnyLayer:
    """A copy of ``root`` and of all layers inside, none of them built.

    Hyperparameters, as they are now, whether a layer is frozen, regularizers and ties between these
    layers are kept; arrays and the backend are not.
    """
    known: dict[int, Any] = {}
    for _, layer in root.walk():
        known |= {id(value): value for value in vars(layer).values() if _is_code(value)}
        if layer.built:
            kept = (layer.params, layer.grads, layer.state, layer.cache, layer._fused)
            known |= {id(layer.backend): None} | {id(one): {} for one in kept}
    return copy.deepcopy(root, known)


def copy_with_values(root: AnyLayer) -> AnyLayer:
    """An unbuilt copy that begins, where a network is made of it, with the values of ``root``.

    They are those that ``root`` has at that moment. Layers inside may be taken out one by one, and
    put into another network.
    """
    copied = unbuilt_copy(root)
    for (_, layer), (_, original) in zip(copied.walk(), root.walk(), strict=True):
        layer._original = original
    return copied


def take_values(root: Layer, backend: Backend) -> None:
    """Let layers that were just built, and are copies, begin with the values of their originals.

    Raises:
        ShapeError: a copy was built for inputs that need others.
    """
    for name, layer in root.walk():
        if (original := layer._original) is None:
            continue
        try:
            params = moved(original.params, layer.params, backend)
            state = moved(original.state, layer.state, backend)
        except ShapeError as error:
            raise ShapeError(
                f"layer {name} has the weights of a network in which its inputs were of shape "
                f"{original.input_shape}, and they are of shape {layer.input_shape} here: {error}"
            ) from None
        layer.params.update(params)
        layer.state.update(state)
        layer._original = None


def _is_code(value: Any) -> bool:
    """Whether it is a function, such as an initializer."""
    return callable(value) and not isinstance(value, Layer)


def moved(values: Any, like: Any, backend: Backend) -> Any:
    """Copies of ``values``, from any backend, in the kind, shape and dtype of ``like``.

    Args:
        values, like: arrays, counters, numbers, or dictionaries of such with the same keys.
        backend: where ``like`` lies.

    Raises:
        ShapeError: a key is missing or unknown, or a shape differs.
    """
    return copied_like(values, like, backend, take=backend.move)


def copied_like(values: Any, like: Any, backend: Backend, take: Callable[[Any], Any]) -> Any:
    """``moved``, with ``take`` to say which arrays are taken."""

    def copied(path: Keys, own: Any, value: Any) -> Any:
        name = str(path[-1]) if path else ""
        if isinstance(own, int | float):
            return _as_number(value, type(own), name)
        value = take(value)
        if value.shape != own.shape:
            raise ShapeError(
                f"{name} has the shape {tuple(own.shape)}, got {tuple(value.shape)}; {NOT_LOADED}"
            )
        return backend.xp.astype(value, own.dtype, copy=True)

    try:
        return map_with_path(copied, like, values)
    except TreeError as error:
        raise ShapeError(str(error)) from None


def _as_number(value: Any, kind: type, name: str) -> int | float:
    """A counter or another number, from a number or a 0-d array of any backend."""
    if shape := tuple(getattr(value, "shape", ())):
        raise ShapeError(f"{name} is a single number, got the shape {shape}; nothing was loaded")
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{name} is a single number, got {value!r}; nothing was loaded") from None
