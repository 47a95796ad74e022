"""Layers made from their description, which may come from a file that somebody has tampered with.

Only classes that are registered are ever called, with plain values. How much there is to make is
bounded; what constructors refuse, and whatever else goes wrong in them, is a ``FileError``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xpnn.arguments import parameters_of
from xpnn.errors import FileError
from xpnn.layers import Graph, Layer
from xpnn.layers.containers import check_places
from xpnn.layers.registration import KINDS
from xpnn.layers.regularization import Constraint, Penalty
from xpnn.saving.argument_types import is_of_type, types_of
from xpnn.saving.description import MADE, PLAIN
from xpnn.typing import Shape

MAX_LAYERS = 10_000
MAX_DEPTH = 50
"""Of lists, layers and values in each other; a layer in the list of another one adds two."""


@dataclass(frozen=True)
class Plan:
    """What a description says: the arguments of a network, and choices by the name of a layer.

    A graph has the shapes of its inputs itself.
    """

    layers: list[Layer] | Graph
    input_shape: Shape | None
    dtype: str
    seed: int
    frozen: list[str]
    regularizers: dict[str, tuple[Penalty | Constraint, ...]]

    def choose(self, root: Layer) -> None:
        """Freeze and regularize the layers below ``root`` that this names."""
        named = dict(root.walk())
        for name in (*self.frozen, *self.regularizers):
            if name not in named:
                raise FileError(f"it speaks of a layer {name[:100]!r}, which is not there")
        for name in self.frozen:
            named[name].trainable = False
        for name, rules in self.regularizers.items():
            named[name].regularizers = rules


def plan_from(description: Any) -> Plan:
    """Make the layers of a description.

    Raises:
        FileError: it is not one, or says what cannot be made.
    """
    layers, input_shape, dtype, seed, frozen, regularizers = _fields(
        description, "layers", "input_shape", "dtype", "seed", "frozen", "regularizers"
    )
    maker = Maker()
    shape = None if input_shape is None else tuple(_checked(input_shape, list, "input_shape"))
    if not all(type(n) is int and n > 0 for n in shape or ()):
        raise FileError(f"input_shape is a list of positive integers, got {_short(input_shape)}")
    if (shape is None) != isinstance(layers, dict):
        raise FileError("it has an input_shape beside a graph, or a list of layers without one")
    if _checked(seed, int, "seed") < 0:
        raise FileError("the seed is below 0")
    rules = {
        name: tuple(maker.made(rule, Penalty | Constraint) for rule in _checked(own, list, name))
        for name, own in _checked(regularizers, dict, "regularizers").items()
    }
    return Plan(
        layers=maker.made(layers, Graph)
        if shape is None
        else [maker.made(layer, Layer) for layer in _checked(layers, list, "layers")],
        input_shape=shape,
        dtype=_checked(dtype, str, "dtype"),
        seed=seed,
        frozen=[_checked(name, str, "frozen") for name in _checked(frozen, list, "frozen")],
        regularizers=rules,
    )


class Maker:
    """Makes layers in the order of their description, so that later ones may be tied to them."""

    def __init__(self) -> None:
        self._layers: list[Layer | None] = []
        self._count = 0

    def made(self, field: Any, wanted: Any, depth: int = 0) -> Any:
        """What ``{"kind": ..., "arguments": ...}`` describes, an object of a class ``wanted``."""
        name, fields = _fields(field, "kind", "arguments")
        kind = self._kind(name, wanted)
        self._count += 1
        if self._count > MAX_LAYERS:
            raise FileError(f"it has more than {MAX_LAYERS} layers")
        number = len(self._layers)
        if issubclass(kind, Layer):
            self._layers.append(None)
        arguments = dict(self._arguments(kind, name, _checked(fields, dict, name), depth))
        try:
            made = kind(**arguments)
            if issubclass(kind, Layer):
                check_places(made)
        except Exception as error:  # whatever a constructor makes of values that were not meant
            why = f"{type(error).__name__}: {str(error)[:300]}"
            raise FileError(f"no {name} can be made of what it says: {why}") from error
        if issubclass(kind, Layer):
            self._layers[number] = made
        return made

    def _kind(self, name: Any, wanted: Any) -> type:
        kind = KINDS.get(_checked(name, str, "kind"))
        if kind is None:
            raise FileError(
                f"it holds a {name[:100]!r}, which is not known here; import the module that "
                f"registers this name with xpnn.register, or update xpnn if it should be part of it"
            )
        if not issubclass(kind, wanted):
            what = {Layer: "layer", Graph: "graph"}.get(wanted, "regularizer")
            raise FileError(f"it has a {name!r} where a {what} belongs")
        return kind

    def _arguments(
        self, kind: type, name: str, fields: dict[str, Any], depth: int
    ) -> Iterator[tuple[str, Any]]:
        known = parameters_of(kind)
        checked = types_of(kind) if kind.__module__.startswith("xpnn.") else {}
        for key, field in fields.items():
            if key not in known:
                raise FileError(f"{name} has no argument {key[:100]!r}; a newer xpnn may have it")
            value = self._value(field, depth + 1)
            if not is_of_type(value, checked.get(key, Any)):
                raise FileError(f"the argument {key!r} of {name} cannot be {_short(value)}")
            yield key, value

    def _value(self, field: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise FileError(f"it is nested more than {MAX_DEPTH} deep")
        if field is None or isinstance(field, bool | int | float | str):
            return field
        if isinstance(field, list):
            return [self._value(one, depth + 1) for one in field]
        if not field.keys() - {"kind", "arguments"}:
            return self.made(field, Layer, depth)
        if field.keys() == {"initializer", "arguments"}:
            return self._initializer(field["initializer"], field["arguments"])
        key, content = next(iter(field.items()))
        if len(field) > 1 or key not in _SPECIAL:
            raise FileError(f"it has a value that makes no sense, {_short(field)}")
        return getattr(self, _SPECIAL[key])(content, depth)

    def _initializer(self, name: Any, arguments: Any) -> Any:
        _checked(name, str, "initializer")
        _checked(arguments, dict, "arguments")
        if name in PLAIN and not arguments:
            return PLAIN[name]
        numbers = [value for value in arguments.values() if type(value) in (int, float)]
        try:
            if len(numbers) == len(arguments):
                return MADE[name](**arguments)
        except (KeyError, TypeError, OverflowError):
            pass
        raise FileError(f"it names an initializer that xpnn does not have, {_short(name)}")

    def _tuple(self, content: Any, depth: int) -> tuple[Any, ...]:
        return tuple(self._value(one, depth + 1) for one in _checked(content, list, "tuple"))

    def _dict(self, content: Any, depth: int) -> dict[str, Any]:
        items = _checked(content, dict, "dict").items()
        return {key: self._value(one, depth + 1) for key, one in items}

    def _number(self, content: Any, depth: int) -> float:
        if content not in ("inf", "-inf", "nan"):
            raise FileError(f"it has a number that is none, {_short(content)}")
        return float(content)

    def _tied(self, content: Any, depth: int) -> Layer:
        number = _checked(content, int, "tied to")
        layer = self._layers[number] if 0 <= number < len(self._layers) else None
        if layer is None:
            raise FileError(
                f"it has a layer that is tied to number {number}, which is not before it"
            )
        return layer

    def _maker(self, content: Any, depth: int) -> "LayerMaker":
        made = LayerMaker(content, depth)
        made()  # so that what is wrong is found out now
        return made


_SPECIAL = {
    "tuple": "_tuple",
    "dict": "_dict",
    "number": "_number",
    "tied to": "_tied",
    "maker": "_maker",
}


class LayerMaker:
    """Makes a layer, the same again whenever it is called: ``norm=LayerNorm`` out of a file."""

    makes_layers = True

    def __init__(self, description: dict[str, Any], depth: int):
        self.description, self.depth = description, depth

    def __call__(self) -> Layer:
        layer: Layer = OneMaker().made(self.description, Layer, self.depth)
        return layer

    def __repr__(self) -> str:
        return f"LayerMaker({self.description!r})"


class OneMaker(Maker):
    """A maker of what is called several times, and so may not multiply what it calls itself."""

    def _maker(self, content: Any, depth: int) -> LayerMaker:
        raise FileError("it has a maker of layers inside of another one")


def _fields(field: Any, *names: str) -> list[Any]:
    if not isinstance(field, dict) or field.keys() != set(names):
        raise FileError(f"wanted a dictionary of {', '.join(names)}, got {_short(field)}")
    return [field[name] for name in names]


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FileError(f"{name[:100]!r} is a {kind.__name__}, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    """The beginning of a value, however large it is."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
