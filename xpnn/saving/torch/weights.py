"""The weights of PyTorch's layers, from a state_dict or a safetensors file, and into one.

PyTorch itself is not needed. Layers correspond to those of torch.nn as ``torch_rules`` says.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import ShapeError
from xpnn.layers.tying import ties
from xpnn.named_values import NamedValues
from xpnn.saving.model import FREE_SOME
from xpnn.saving.partial import LoadedWeights, listed
from xpnn.saving.tensor_file import TensorFile
from xpnn.saving.tensors import Tensor, write_tensors
from xpnn.saving.torch.pieces import (
    Location,
    Names,
    locations_by_name,
    locations_in_order,
    numbered,
    pieces_of,
)
from xpnn.saving.torch.rules import Arrays
from xpnn.saving.versions import CHECKPOINT, MODEL, TORCH, WEIGHTS, format_of, other_format
from xpnn.typing import Shape


def load_torch_weights(
    network: NamedValues,
    source: str | Path | Mapping[str, Any],
    names: Names | None = None,
    *,
    partial: bool = False,
) -> LoadedWeights:
    """Read the weights of a PyTorch model of the same layers.

    Axes are turned as xpnn has them. Behind convolutions and a Flatten, the features that a Dense
    reads are put in order. The two biases of an LSTM or RNN are added up.

    Args:
        network: of layers that correspond; changed in place.
        source: a safetensors file, or what ``module.state_dict()`` returns.
        names: which of their modules goes into which layer, ``{"encoder.fc": "0.dense"}``; a list
            of layers for the ``num_layers`` of a recurrent one. Unless given, both are matched in
            their order, for which a file has to number its modules as nn.Sequential does.
        partial: whether layers without a counterpart keep what they have, and modules without one
            are left out. So are those of which an array has another shape.

    Returns:
        What was taken, and what not: ``print`` it. What was taken or is missing has our names, all
        else theirs, and their shapes.

    Raises:
        ShapeError: an array is missing, unexpected, or of another shape, or nothing fits; nothing
            was loaded.
        XpnnError: a layer has no counterpart, or the order of its features cannot be told.
        FileError: the file is not a whole safetensors file.
        TypeError: ``source`` is neither; a module, for one.

    >>> import numpy as np
    >>> from xpnn import Dense, Network
    >>> net = Network([Dense(1)], input_shape=(2,))
    >>> theirs = {"0.weight": np.array([[2.0, 3.0]]), "0.bias": np.array([1.0])}
    >>> load_torch_weights(net, theirs).taken
    ('0.dense.weight', '0.dense.bias')
    >>> net.params["0.dense.weight"].tolist()  # with axes turned
    [[2.0], [3.0]]
    """
    advice = f"nothing was loaded; {FREE_SOME}"
    with network.backend.room_for("the weights that are read", advice):
        return _load(network, source, names, partial)


def _load(
    network: NamedValues, source: str | Path | Mapping[str, Any], names: Names | None, partial: bool
) -> LoadedWeights:
    theirs = _arrays(source)
    instead = "pass partial=True to leave it as it is, or take its arrays to network.load by hand"
    pieces = pieces_of(network, partial, instead=instead)
    if names is not None:
        locations = locations_by_name(pieces, names)
    else:
        in_order = list(theirs) if isinstance(source, Mapping) else sorted(theirs, key=_counted)
        locations = locations_in_order(pieces, in_order, trusted=isinstance(source, Mapping))
    found, other_shapes = locations, _other_shapes(locations, theirs) if partial else {}
    locations = [one for one in found if other_shapes.keys().isdisjoint(one.names())]
    _check_complete(locations, [piece.name for piece in pieces], theirs, partial)
    values: Arrays = {}
    for location in locations:
        there: dict[int, Arrays] = {}
        for part, key, name, _ in location.arrays():
            if name in theirs:
                there.setdefault(id(part), {})[key] = theirs[name]
        for part in location.piece.parts:
            values |= part.take(there.get(id(part), {}))
    _check_tied(values, ties(network.root))
    current = network.numpy_arrays()
    kept = {one.piece.name for one in locations}
    left = {part.name for one in found if one.piece.name not in kept for part in one.piece.parts}
    known = {name for one in found for name in one.names()}
    report = LoadedWeights(
        taken=tuple(name for name in current if name in values),
        missing=tuple(
            name
            for name in network.params
            if name not in values and name.rpartition(".")[0] not in left
        ),
        unknown=tuple(name for name in theirs if name not in known),
        other_shapes=other_shapes,
    )
    if partial and not report.taken:
        raise ShapeError(f"nothing was loaded, as nothing fits this network:\n{report}")
    network.load({**current, **{name: values[name] for name in report.taken}})
    return report


def _other_shapes(locations: list[Location], theirs: Arrays) -> dict[str, tuple[Shape, Shape]]:
    """What is there in another shape than is wanted: both, by their names."""
    return {
        name: (theirs[name].shape, value.shape)
        for location in locations
        for _, _, name, value in location.arrays()
        if name in theirs and theirs[name].shape != value.shape
    }


def save_torch_weights(
    network: NamedValues,
    path: str | Path,
    names: Names | None = None,
    *,
    like: Mapping[str, Any] | None = None,
) -> None:
    """Write a safetensors file that a PyTorch model of the same layers can load.

    There it is read by ``module.load_state_dict(safetensors.torch.load_file(path))``. Where several
    processes train the network, all call it, process 0 writes, and the others wait.

    Args:
        network: of layers that have a counterpart in torch.nn.
        path: of the file.
        names: their prefix to our layer, as for ``load_torch_weights``. Unless given, a layer gets
            its number, as nn.Sequential counts, where an activation is a module of its own.
        like: the ``module.state_dict()`` that the file is for, whose names and shapes it gets; both
            are matched in their order, or as ``names`` says.

    Raises:
        ShapeError: ``like`` holds other arrays than the network would give.
        TypeError: ``like`` is no state_dict.
        XpnnError: a layer has no counterpart, or the order of its features cannot be told.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> from xpnn import Dense, Network
    >>> from xpnn.saving import TensorFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_torch_weights(Network([Dense(2)], input_shape=(3,)), f"{folder}/small.safetensors")
    ...     with TensorFile(f"{folder}/small.safetensors") as file:
    ...         {name: entry.shape for name, entry in file.entries.items()}
    {'0.bias': (2,), '0.weight': (2, 3)}
    """
    if like is not None and not isinstance(like, Mapping):
        raise TypeError(
            f"wanted like to be a state_dict, arrays by name, got {type(like).__name__}; write "
            f"like=module.state_dict()"
        )
    network.write_once("save_torch_weights", lambda: _write(network, path, names, like))


def _write(
    network: NamedValues, path: str | Path, names: Names | None, like: Mapping[str, Any] | None
) -> None:
    with network.backend.room_for(f"copies to write into {path}", FREE_SOME):
        pieces = pieces_of(network, instead="write save_weights(network, path), which takes any")
        if names is not None:
            locations = locations_by_name(pieces, names)
        elif like is not None:
            locations = locations_in_order(pieces, list(like), trusted=True)
        else:
            numbers = numbered(network.root)
            locations = [Location(piece, numbers[piece.name]) for piece in pieces]
        if like is not None:
            _check_like(locations, like)
        tensors = {}
        for location in locations:
            for _, key, name, value in location.arrays():
                if like is not None and name not in like:
                    continue  # what a module may lack
                kept = value.dtype.kind in "iu" or key.startswith("running_")
                tensors[name] = Tensor(value.dtype.name if kept else network.dtype, value)
        write_tensors(path, tensors, {"format": TORCH})


def _check_like(locations: list[Location], like: Mapping[str, Any]) -> None:
    """Refuse a state_dict that would not take what the layers give."""
    shapes = {name: tuple(value.shape) for name, value in like.items()}
    given = set()
    for location in locations:
        for part, key, name, value in location.arrays():
            given.add(name)
            if shapes.get(name, value.shape) != value.shape:
                raise ShapeError(
                    f"like has the shape {shapes[name]} for {name!r}, and layer {part.name!r} "
                    f"gives {value.shape}; nothing was written"
                )
            if name not in shapes and key not in part.rule.optional:
                raise ShapeError(
                    f"like has no {name!r}, which layer {part.name!r} gives; nothing was written"
                )
    if left := [name for name in like if name not in given]:
        raise ShapeError(
            f"no layer gives {listed(left)}, which like has; say which module is which layer in "
            f"names={{'theirs': 'ours'}}; nothing was written"
        )


def _arrays(source: str | Path | Mapping[str, Any]) -> Arrays:
    if isinstance(source, Mapping):
        return {name: host_array(value) for name, value in source.items()}
    if not isinstance(source, str | PathLike):
        raise TypeError(
            f"wanted a safetensors file or a state_dict, got a {type(source).__name__}; write "
            f"load_torch_weights(network, module.state_dict())"
        )
    with TensorFile(source) as file:
        if format_of(file) in (MODEL, WEIGHTS, CHECKPOINT):
            raise other_format(file, TORCH)
        if "crc32" in file.metadata:
            file.check_sum()
        return file.read_all()


def _counted(name: str) -> list[tuple[bool, int, str]]:
    """What sorts "10.weight" behind "2.weight"."""
    counts = [(part.isascii() and part.isdecimal() and len(part) < 10) for part in name.split(".")]
    parts = zip(counts, name.split("."), strict=True)
    return [(not counts, int(part) if counts else 0, part) for counts, part in parts]


def _check_complete(
    locations: list[Location], pieces: list[str], theirs: Arrays, partial: bool
) -> None:
    """Refuse arrays that are missing, unexpected, or of another shape."""
    used = set()
    for location in locations:
        for part, key, name, value in location.arrays():
            used.add(name)
            if name not in theirs:
                if key in part.rule.optional:
                    continue
                raise ShapeError(
                    f"there is no {name!r}, which layer {part.name!r} wants; nothing was loaded"
                )
            if theirs[name].shape != value.shape:
                raise ShapeError(
                    f"{name!r} has the shape {theirs[name].shape}, and layer {part.name!r} wants "
                    f"{value.shape}; nothing was loaded"
                )
    left = [name for name in theirs if name not in used]
    taken = {location.piece.name for location in locations}
    alone = [name for name in pieces if name not in taken]
    if (left or alone) and not partial:
        what = f"no layer takes {listed(left)}" if left else f"nothing goes into {listed(alone)}"
        raise ShapeError(
            f"{what}; say which module goes where in names={{'theirs': 'ours'}}, or pass "
            f"partial=True to leave them out; nothing was loaded"
        )


def _check_tied(values: Arrays, tied: dict[str, str]) -> None:
    for name, source in tied.items():
        if name in values and source in values and not np.array_equal(values[name], values[source]):
            raise ShapeError(
                f"{name} is tied to {source}, but the two differ in what was given; nothing was "
                f"loaded"
            )
