"""The weights of a model of Keras, into a network of the same layers. Keras is not needed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.errors import ShapeError, XpnnError
from xpnn.layers import Bidirectional, Layer
from xpnn.named_values import NamedValues
from xpnn.saving.keras.file import Module, read_modules
from xpnn.saving.keras.rules import KINDS, Rule, rule_of
from xpnn.saving.model import FREE_SOME
from xpnn.saving.partial import LoadedWeights, listed
from xpnn.saving.torch.pieces import short
from xpnn.typing import Shape


class Unit(NamedTuple):
    """A layer that corresponds to one of Keras', and its full name."""

    name: str
    layer: Layer
    rule: Rule


def load_keras_weights(
    network: NamedValues,
    path: str | Path,
    names: Mapping[str, str] | None = None,
    *,
    partial: bool = False,
) -> LoadedWeights:
    """Read the weights of a Keras model of the same layers, from a .keras or .weights.h5 file.

    Both count features and channels last, so that arrays lie alike, but for kernels of transposed
    and depthwise convolutions, and the gates of a GRU, which are put in order. Arguments are not
    read: ``BatchNormalization`` and ``LayerNormalization`` have an epsilon of 1e-3 unless told
    otherwise, so write ``BatchNorm(epsilon=1e-3)``.

    Args:
        network: of layers that correspond; changed in place.
        path: of what ``model.save("model.keras")`` or ``model.save_weights("model.weights.h5")``
            wrote with Keras 3.
        names: which of their layers goes into which of ours, ``{"conv2d_1": "3.conv2d"}``: by
            its name in Keras, or by the path of its group in the file. Unless given, the layers of
            each kind are matched in their order.
        partial: whether layers without a counterpart keep what they have, and theirs are left out.
            So are those of which an array has another shape.

    Returns:
        What was taken, and what not: ``print`` it. What was taken or is missing has our names, all
        else their paths.

    Raises:
        ShapeError: an array is missing, unexpected, or of another shape, or nothing fits; nothing
            was loaded.
        XpnnError: a layer has no counterpart, or h5py is not installed.
        FileError: it is no file of Keras 3, or is damaged.
    """
    with network.backend.room_for(f"the arrays of {path}", f"nothing was loaded; {FREE_SOME}"):
        modules, in_order = read_modules(path, KINDS)
        units = list(_units(network.root, "", partial))
        pairs = _by_name(units, modules, names) if names else _in_order(units, modules, in_order)
        return _load(network, units, modules, pairs, partial)


def _units(layer: Layer, name: str, partial: bool) -> Iterator[Unit]:
    """The layers with arrays, in order."""
    rule = rule_of(layer)
    if rule is not None:
        yield Unit(name, layer, rule)
    elif layer.params and not partial:
        raise XpnnError(
            f"layer {name!r}, {layer!r}, has no counterpart in Keras; pass partial=True to leave "
            f"it as it is, or take its arrays to network.load by hand"
        )
    if not isinstance(layer, Bidirectional):
        for key, child in layer.children().items():
            yield from _units(child, f"{name}.{key}" if name else key, partial)


Pairs = list[tuple[Unit, Module]]


def _by_name(units: list[Unit], modules: list[Module], names: Mapping[str, str]) -> Pairs:
    ours = {short(one.name): one for one in units} | {one.name: one for one in units}
    theirs = {one.name: one for one in modules} | {one.path: one for one in modules}
    for one, name in names.items():
        if one not in theirs:
            there = listed([module.path for module in modules])
            raise ShapeError(f"names has {one!r}, but the file has arrays in {there}")
        if name not in ours:
            here = listed([unit.name for unit in units])
            raise ShapeError(
                f"names sends {one!r} to {name!r}, but the layers with arrays are {here}"
            )
    return [(ours[name], theirs[one]) for one, name in names.items()]


def _in_order(units: list[Unit], modules: list[Module], known: bool) -> Pairs:
    """The first of each kind, the second, and so on."""
    if not known:
        _check_one_place(modules)
    left, pairs = list(modules), Pairs()
    for unit in units:
        found = next((one for one in left if one.kind in unit.rule.kinds), None)
        if found is not None:
            left.remove(found)
            pairs.append((unit, found))
    return pairs


def _check_one_place(modules: list[Module]) -> None:
    """Refuse a kind in several groups of a file that does not tell the order of these."""
    places: dict[str, str] = {}
    for one in modules:
        place = one.path.rpartition("/")[0]
        if places.setdefault(one.kind, place) != place:
            raise ShapeError(
                f"the file has a {one.kind} in {places[one.kind]!r} and one in {place!r}, and does "
                f"not tell which comes first; read a file of model.save('model.keras'), or say "
                f"which goes where in names={{'theirs': 'ours'}}; nothing was loaded"
            )


def _load(
    network: NamedValues, units: list[Unit], modules: list[Module], pairs: Pairs, partial: bool
) -> LoadedWeights:
    current = network.numpy_arrays()
    values: dict[str, np.ndarray] = {}
    other_shapes: dict[str, tuple[Shape, Shape]] = {}
    for unit, module in pairs:
        found, wrong = _taken(unit, module, current)
        if wrong and not partial:
            name, (shape, wanted) = next(iter(wrong.items()))
            raise ShapeError(
                f"layer {unit.name!r} wants {wanted} for {name}, and {module.path} in the file "
                f"gives {shape}; nothing was loaded"
            )
        other_shapes |= {f"{module.path} for {name}": pair for name, pair in wrong.items()}
        values |= {} if wrong else found
    paired = {one.name for one, _ in pairs}, {one.path for _, one in pairs}
    alone = [one.name for one in units if one.name not in paired[0]]
    unknown = [one.path for one in modules if one.path not in paired[1]]
    if (alone or unknown) and not partial:
        what = (
            f"nothing goes into {listed(alone)}" if alone else f"no layer takes {listed(unknown)}"
        )
        raise ShapeError(
            f"{what}; say which goes where in names={{'theirs': 'ours'}}, or pass partial=True to "
            f"leave them out; nothing was loaded"
        )
    report = LoadedWeights(
        taken=tuple(name for name in current if name in values),
        missing=tuple(name for name in network.params if name not in values),
        unknown=tuple(unknown),
        other_shapes=other_shapes,
    )
    if partial and not report.taken:
        raise ShapeError(f"nothing was loaded, as nothing fits this network:\n{report}")
    network.load({**current, **values})
    return report


def _taken(
    unit: Unit, module: Module, current: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Shape, Shape]]]:
    """What a layer takes of one of Keras', by full names, and what is of another shape."""
    try:
        ours = unit.rule.take(unit.layer, module.arrays)
    except ValueError as error:
        raise ShapeError(
            f"layer {unit.name!r} cannot take {module.path}: {error}; nothing was loaded"
        ) from None
    sizes = [sum(value.size for value in some.values()) for some in (module.arrays, ours)]
    if sizes[0] > sizes[1]:
        raise ShapeError(
            f"{module.path} holds {sizes[0]:,} numbers, of which layer {unit.name!r} would take "
            f"{sizes[1]:,}; make that with a bias, for one; nothing was loaded"
        )
    found = {f"{unit.name}.{key}": value for key, value in ours.items()}
    wrong = {
        name: (value.shape, np.shape(current[name]))
        for name, value in found.items()
        if value.shape != np.shape(current[name])
    }
    return found, wrong
