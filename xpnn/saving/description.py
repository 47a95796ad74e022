"""Layers as plain values that JSON can hold: what each is called, and what it was made from.

::

    {"kind": "Dense", "arguments": {"units": 10, "use_bias": true, ...}}      a layer, or a rule
    {"initializer": "normal", "arguments": {"spread": 0.02}}                  starting weights
    {"maker": {"kind": "LayerNorm", ...}}         what makes a layer whenever it is called
    {"tied to": 3}                                the layer that was described as number 3, from 0
    {"tuple": [...]}  {"dict": {...}}  {"number": "inf"}                      what JSON lacks

Numbers, texts, lists, true, false and null stand for themselves. ``xpnn.saving.making`` reads it.
"""

import functools
import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from xpnn import initializers
from xpnn.arguments import parameters_of
from xpnn.errors import XpnnError
from xpnn.layers import Graph, Lambda, Layer
from xpnn.layers.registration import arguments_of, name_of
from xpnn.named_values import NamedValues
from xpnn.saving.argument_types import is_initializer, makes_layers, types_of

PLAIN = {
    name: getattr(initializers, name)
    for name in (
        *("zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"),
        *("lecun_normal", "orthogonal"),
    )
}
MADE = {name: getattr(initializers, name) for name in ("constant", "normal", "uniform")}
"""Initializers, by the names that stand for them in files; the latter take a number."""


def describe(network: NamedValues) -> dict[str, Any]:
    """What a network is made of, but for its parameters and its state.

    Raises:
        XpnnError: a layer cannot be described; the message names it and says what to do.
    """
    describer, of_graph = Describer(network.root), isinstance(network.root, Graph)
    walked = list(network.walk())
    return {
        "input_shape": None if of_graph else list(network.input_shape),
        "dtype": network.dtype,
        "seed": int(network.seed),
        "layers": describer.layer(network.root)
        if of_graph
        else [describer.layer(layer) for layer in network.layers],
        "frozen": [name for name, layer in walked if not layer.trainable],
        "regularizers": {
            name: [describer.rule(rule, name) for rule in layer.regularizers]
            for name, layer in walked
            if layer.regularizers
        },
    }


class Describer:
    """Describes layers of one tree, in order, and knows which it has seen.

    Args:
        root: the tree.
        nested: whether layers inside of a layer are described with it, or named only.
    """

    def __init__(self, root: Layer, nested: bool = True):
        self._names = {id(layer): name for name, layer in root.walk()}
        self._nested = nested
        self._begun = 0
        self._numbers: dict[int, int] = {}

    def layer(self, layer: Layer) -> dict[str, Any]:
        """A layer with all inside of it."""
        kind = name_of(type(layer))
        if kind is None:
            own = type(layer).__name__
            if type(layer) is Lambda:
                raise XpnnError(
                    f"{self._named(layer)} is a Lambda, whose functions a file cannot hold; write "
                    f"class Own(Lambda), whose __init__ gives them to super().__init__(rule, "
                    f"slope), and decorate it with @xpnn.register('yourlib.Own')"
                )
            raise XpnnError(
                f"{self._named(layer)} is a {own}, a kind of layer that has no name in files; "
                f"decorate the class with @xpnn.register('yourlib.{own}')"
            )
        number = self._begun
        self._begun += 1
        inside = {id(one) for _, one in layer.walk()} - {id(layer)}
        fields = dict(self._arguments(layer, inside))
        self._numbers[id(layer)] = number
        return {"kind": kind, "arguments": fields}

    def rule(self, rule: Any, name: str) -> dict[str, Any]:
        """A penalty or a constraint of the layer of that name."""
        kind = name_of(type(rule))
        if kind is None:
            own = type(rule).__name__
            raise XpnnError(
                f"layer {name!r} is regularized by {rule!r}, which has no name in files; decorate "
                f"the class with @xpnn.register('yourlib.{own}')"
            )
        of_rule = getattr(rule, "arguments", lambda: arguments_of(rule))()
        return {
            "kind": kind,
            "arguments": {
                key: self._value(value, set(), f"the argument {key!r} of {rule!r}")
                for key, value in of_rule.items()
            },
        }

    def _named(self, layer: Layer) -> str:
        name = self._names.get(id(layer))
        return f"layer {name!r}" if name else repr(layer)

    def _arguments(self, layer: Layer, inside: set[int]) -> Iterator[tuple[str, Any]]:
        kind: Any = type(layer)
        wanted, parameters = types_of(kind), parameters_of(kind)
        for name, value in layer.arguments().items():
            where = f"the argument {name!r} of {self._named(layer)}"
            hint = wanted.get(name)
            if callable(value) and not isinstance(value, Layer):
                if is_initializer(name, hint) and not _known(value):
                    parameter = parameters.get(name)
                    if parameter is None or parameter.default is parameter.empty:
                        raise XpnnError(
                            f"{where}, {value!r}, cannot be put into a file and cannot be left out "
                            f"either; give it a default"
                        )
                    continue  # the weights are drawn already
                if makes_layers(hint, value):
                    yield name, self._maker(value, where)
                    continue
            yield name, self._value(value, inside, where)

    def _maker(self, value: Any, where: str) -> dict[str, Any]:
        made = value()
        if not isinstance(made, Layer):
            raise XpnnError(f"{where} makes {made!r}, wanted a layer")
        return {"maker": Describer(made).layer(made)}

    def _value(self, value: Any, inside: set[int], where: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            number = float(value)
            return number if math.isfinite(number) else {"number": str(number)}
        if isinstance(value, list) or _are_layers(value):
            return [self._value(one, inside, where) for one in value]
        if isinstance(value, tuple):
            return {"tuple": [self._value(one, inside, where) for one in value]}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self._value(one, inside, where) for key, one in value.items()}}
        if isinstance(value, Layer):
            return self._layer_inside(value, inside, where)
        if _known(value):
            return _initializer(value)
        raise XpnnError(
            f"{where} is {str(value)[:100]!r}, a {type(value).__name__}, which a file cannot hold; "
            f"it holds numbers, texts, None, lists, tuples, dictionaries, layers and the functions "
            f"of xpnn.initializers. Give the layer a method arguments() that returns such"
        )

    def _layer_inside(self, layer: Layer, inside: set[int], where: str) -> Any:
        if not self._nested:
            return {"layer": self._names.get(id(layer))}
        if id(layer) in inside:
            return self.layer(layer)
        if id(layer) not in self._numbers:
            raise XpnnError(
                f"{where} is {layer!r}, which a file cannot name: it names layers that stand "
                f"earlier in the same network and were given to it, or to a container, by you"
            )
        return {"tied to": self._numbers[id(layer)]}


def _are_layers(value: Any) -> bool:
    """Whether they are those of a container, which are a list in a file."""
    return isinstance(value, tuple) and value != () and all(isinstance(one, Layer) for one in value)


def _known(value: Any) -> bool:
    return _initializer(value) is not None


def _initializer(value: Any) -> dict[str, Any] | None:
    """An initializer of xpnn by its name, or None."""
    if isinstance(value, functools.partial) and not value.args:
        name = getattr(value.func, "__name__", "").removeprefix("_")
        if name in MADE and value.func is getattr(initializers, f"_{name}"):
            return {"initializer": name, "arguments": value.keywords}
        return None
    name = getattr(value, "__name__", None)
    known = isinstance(name, str) and PLAIN.get(name) is value
    return {"initializer": name, "arguments": {}} if known else None
