"""Which module of PyTorch corresponds to which layer, and what its arrays are called there."""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from xpnn.errors import ShapeError, XpnnError
from xpnn.layers import (
    Bidirectional,
    CrossAttention,
    Dense,
    Layer,
    MultiHeadAttention,
    Recurrent,
    TransformerBlock,
    TransformerDecoderBlock,
    WeightNorm,
)
from xpnn.layers.activated import Activated
from xpnn.layers.tying import ties
from xpnn.named_values import NamedValues
from xpnn.saving.partial import listed
from xpnn.saving.torch.feature_order import feature_orders
from xpnn.saving.torch.rules import Arrays, Rule, as_direction, rule_of

Names: TypeAlias = Mapping[str, str | Sequence[str]]
"""Their prefix to our layer: {"encoder.fc": "0.dense"}; to several layers for a stack of LSTMs."""


@dataclass(frozen=True)
class Part:
    """A layer with arrays.

    Attributes:
        name: its full name.
        rule: how its arrays are called in PyTorch and lie there.
        arrays: its parameters and state on the host, and what it is tied to.
        order: of its input features, see ``torch_rules``.
        before, behind: what stands around the names there.
    """

    name: str
    layer: Layer
    rule: Rule
    arrays: Arrays
    order: np.ndarray | None
    before: str = ""
    behind: str = ""

    def give(self) -> Arrays:
        """What the counterpart in PyTorch holds."""
        return self.rule.give(self.layer, self.arrays, self.order)

    def take(self, theirs: Arrays) -> Arrays:
        """What the layer holds, by full names, from what its counterpart holds."""
        ours = self.rule.take(self.layer, theirs, self.order)
        return {f"{self.name}.{key}": value for key, value in ours.items()}


@dataclass(frozen=True)
class Piece:
    """What corresponds to one module of torch.nn, or to one of the layers of a recurrent one."""

    name: str
    layer: Layer
    parts: tuple[Part, ...]

    @property
    def recurrent(self) -> bool:
        """Whether a module may hold several of these."""
        return isinstance(self.layer, Recurrent | Bidirectional)

    def full_name(self, part: Part, key: str, prefix: str, level: int) -> str:
        """What an array is called in their file."""
        number = f"_l{level}" if self.recurrent else ""
        local = f"{part.before}{key}{number}{part.behind}"
        return f"{prefix}.{local}" if prefix else local


class Location(NamedTuple):
    """A piece, the name of the module there, and which of its layers it is."""

    piece: Piece
    prefix: str
    level: int = 0

    def arrays(self) -> Iterator[tuple[Part, str, str, np.ndarray]]:
        """What its module holds: the part and its key, the full name there, and the value."""
        for part in self.piece.parts:
            for key, value in part.give().items():
                yield part, key, self.piece.full_name(part, key, self.prefix, self.level), value

    def names(self) -> list[str]:
        """The full names of the arrays there."""
        return [name for _, _, name, _ in self.arrays()]


def pieces_of(network: NamedValues, partial: bool = False, *, instead: str) -> list[Piece]:
    """The layers with arrays, in order.

    Args:
        partial: whether layers without a counterpart are left out.
        instead: what to do where there is one, for the error.

    Raises:
        XpnnError: one has no counterpart and ``partial`` is not set, or its features come in an
            order that cannot be told.
    """
    values, tied = network.numpy_arrays(), ties(network.root)
    orders = feature_orders(network.root)

    def part(name: str, layer: Layer, before: str = "", behind: str = "") -> Part:
        rule = rule_of(layer)
        if rule is None:
            raise XpnnError(f"layer {name!r}, {layer!r}, has no counterpart in torch.nn; {instead}")
        keys = {key: f"{name}.{key}" for key in (*layer.params, *layer.state)}
        keys |= {key: tied[f"{name}.{key}"] for key in layer.ties}
        arrays = {key: np.asarray(values[full]) for key, full in keys.items()}
        return Part(name, layer, rule, arrays, orders.get(name), before, behind)

    def found(layer: Layer, name: str) -> Iterator[Piece]:
        children = {f"{name}.{k}" if name else k: one for k, one in layer.children().items()}
        if isinstance(layer, Bidirectional):
            pairs = zip(children.items(), ("", "_reverse"), strict=True)
            yield Piece(name, layer, tuple(part(*one, behind=end) for one, end in pairs))
        elif isinstance(layer, TransformerBlock | TransformerDecoderBlock):
            inside = _block_names(layer, name)
            yield Piece(name, layer, tuple(part(*one, before=at) for at, one in inside.items()))
        elif isinstance(layer, WeightNorm):
            if rule_of(layer) or not partial:
                length, normed = part(name, layer), part(f"{name}.layer", layer.layer)
                normed = replace(normed, rule=as_direction(normed.rule))
                yield Piece(name, layer, (length, normed))
                yield from behind(layer.layer, normed.name)
        elif rule_of(layer) or (layer.params and not partial):
            yield Piece(name, layer, (part(name, layer),))
            yield from behind(layer, name)
        else:
            for key, child in children.items():
                yield from found(child, key)

    def behind(layer: Layer, name: str) -> Iterator[Piece]:
        """What an activation learns, which is a module of its own there."""
        if isinstance(layer, Activated) and layer.activation is not None:
            yield from found(layer.activation, f"{name}.activation")

    return list(found(network.root, ""))


def _block_names(block: Layer, name: str) -> dict[str, tuple[str, Layer]]:
    """The layers of a block by their names in nn.TransformerEncoderLayer, or DecoderLayer."""
    learned = [(full, layer) for full, layer in block.walk(name) if layer.params]
    dense = [one for one in learned if isinstance(one[1], Dense)]
    attentions = [one for one in learned if isinstance(one[1], MultiHeadAttention)]
    norms = [one for one in learned if not isinstance(one[1], Dense | MultiHeadAttention)]
    named = {
        "multihead_attn." if isinstance(one[1], CrossAttention) else "self_attn.": one
        for one in attentions
    }
    named |= {f"linear{k}.": one for k, one in enumerate(dense, start=1)}
    return named | {f"norm{k}.": one for k, one in enumerate(norms, start=1)}


# Which is which -----------------------------------------------------------------------------------


def short(name: str) -> str:
    """The name of a layer as nn.Sequential would have it.

    >>> short("2.residual.body.0.dense")
    '2.body.0'
    """
    return re.sub(r"(\d+)\.[a-z]\w*", r"\1", name)


def numbered(root: Layer) -> dict[str, str]:
    """The names of all layers as nn.Sequential would have them, where activations are modules.

    >>> from xpnn import Dense, Network
    >>> network = Network([Dense(2, activation="prelu"), Dense(1)], (3,))
    >>> numbered(network.root)
    {'': '', '0.dense': '0', '0.dense.activation': '1', '1.dense': '2'}
    """
    found: dict[str, str] = {}

    def walk(layer: Layer, ours: str, theirs: str) -> None:
        found[ours] = theirs
        behind = 0  # activations in front of a child, that have numbers of their own there
        for key, child in layer.children().items():
            name, number = f"{ours}.{key}".lstrip("."), key.partition(".")[0]
            place = str(int(number) + behind) if number.isdecimal() else key
            walk(child, name, f"{theirs}.{place}".lstrip("."))
            inside = f"{name}.layer" if isinstance(child, WeightNorm) else name
            if place != key and f"{inside}.activation" in found:
                behind += 1
                found[f"{inside}.activation"] = f"{theirs}.{int(place) + 1}".lstrip(".")

    walk(root, "", "")
    return found


def locations_by_name(pieces: list[Piece], names: Names) -> list[Location]:
    """Where the pieces lie, as a user names it."""
    known = {short(piece.name): piece for piece in pieces} | {one.name: one for one in pieces}
    locations = []
    for prefix, ours in names.items():
        for level, name in enumerate([ours] if isinstance(ours, str) else ours):
            if name not in known:
                raise ShapeError(
                    f"names sends {prefix!r} to {name!r}, but the layers with arrays are "
                    f"{listed([piece.name for piece in pieces])}"
                )
            locations.append(Location(known[name], prefix, level))
    return locations


def locations_in_order(pieces: list[Piece], names: Sequence[str], trusted: bool) -> list[Location]:
    """Where each piece lies, where both come in the order in which data flow.

    Args:
        names: of their arrays.
        trusted: whether they are in that order anyway; if not, their modules have to be numbered.
    """
    left, locations = OrderedDict.fromkeys(names), list[Location]()  # whose first is found at once
    for piece in pieces:
        first = next(iter(left), None)
        location = (
            None if first is None else _location(piece, first, locations[-1] if locations else None)
        )
        if location is None:
            wanted = listed(Location(piece, "...").names())
            raise ShapeError(
                f"layer {piece.name!r} wants {wanted}, and next in order is {first or 'nothing'}; "
                f"say which module goes where in names={{'theirs': 'ours'}}"
            )
        if not trusted and not location.prefix.replace(".", "").isdigit():
            raise ShapeError(
                f"the file calls a module {location.prefix!r}, which does not tell its place in "
                f"the order; say which module goes where in names={{{location.prefix!r}: 'ours', "
                f"...}}; "
                f"ours are {listed([one.name for one in pieces])}"
            )
        for name in location.names():
            left.pop(name, None)
        locations.append(location)
    return locations


def _location(piece: Piece, first: str, before: Location | None) -> Location | None:
    """Where a piece lies if ``first`` is one of its arrays."""
    levels = [0] if before is None or not before.piece.recurrent else [0, before.level + 1]
    for level in levels if piece.recurrent else [0]:
        for local in sorted(Location(piece, "", level).names(), key=len, reverse=True):
            prefix = first.removesuffix(local).removesuffix(".")
            if f"{prefix}.{local}".lstrip(".") != first:
                continue
            if level == 0 or (before is not None and prefix == before.prefix):
                return Location(piece, prefix, level)
    return None
