"""A whole network in one file: what it is made of, its parameters and its state."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, FileError, XpnnError
from xpnn.files import out_of_memory
from xpnn.initializers import zeros_for
from xpnn.layers import Graph, Layer, Sequential
from xpnn.layers.registration import name_of
from xpnn.named_values import NamedValues
from xpnn.saving.attachments import attachments_text, read_attachments
from xpnn.saving.description import Describer, describe
from xpnn.saving.making import Plan, plan_from
from xpnn.saving.tensor_file import Entry, TensorFile, strict_json
from xpnn.saving.tensors import dtype_name, tensor, write_tensors
from xpnn.saving.versions import MODEL, MODEL_UPGRADES, MODEL_VERSION, upgraded, version_of

AnyNetwork = TypeVar("AnyNetwork", bound=NamedValues)

FREE_SOME = "free some memory, such as that of other programs"

MAX_DESCRIPTION = 2_000_000
"""Characters of JSON; what 10,000 layers need."""


def save(network: NamedValues, path: str | Path) -> None:
    """What ``Network.save`` does."""
    with network.at_rest():
        text = json.dumps(describe(network), allow_nan=False)
        if len(text) > MAX_DESCRIPTION:
            layers = len(network.all_layers)
            raise XpnnError(f"the network has too many layers for a file: {layers:,}")
        _check_made_again(network, text)
        metadata = {"format": MODEL, "version": str(MODEL_VERSION), "network": text}
        if attached := attachments_text(network.attachments):
            metadata["attachments"] = attached
        write_values(network, path, metadata)


def write_values(network: NamedValues, path: str | Path, metadata: dict[str, str]) -> None:
    """Write all parameters and state, by name and in their own dtypes."""
    with network.at_rest(), network.backend.room_for(f"copies to write into {path}", FREE_SOME):
        values = {**network.params, **network.state}
        tensors = {name: tensor(value, network.backend) for name, value in values.items()}
        write_tensors(path, tensors, metadata)


def read_model(
    path: str | Path, make: Callable[..., AnyNetwork], dtype: str | None = None
) -> AnyNetwork:
    """What ``xpnn.load`` does.

    Args:
        path: of the file.
        make: a network from layers, their input shape, and ``seed`` and ``dtype`` by name.
        dtype: in place of that in the file.
    """
    with _naming(path), TensorFile(path) as file:
        version = version_of(file, MODEL, MODEL_VERSION)
        file.check_sum()
        attachments = read_attachments(file.metadata.get("attachments", ""))
        network = _built(plan_from(_description(file, version)), file.elements, make, dtype)
        with network.backend.room_for(f"the arrays of {path}", FREE_SOME):
            network.load(_values(file, network, exact=dtype is None))
    network.attachments.update(attachments)
    return network


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """What is wrong with a file says with which."""
    try:
        yield
    except FileError as error:
        said = str(error)
        raise FileError(said if str(path) in said else f"{path}: {said}") from error
    except MemoryError as error:
        raise error if isinstance(error, XpnnError) else out_of_memory(path) from error


def _built(
    plan: Plan, elements: int, make: Callable[..., AnyNetwork], dtype: str | None
) -> AnyNetwork:
    """The network that a file plans, which holds so many numbers."""
    try:
        with zeros_for(elements):
            network = make(plan.layers, plan.input_shape, seed=plan.seed, dtype=dtype or plan.dtype)
        plan.choose(network.root)
    except (BackendUnavailable, FileError):
        raise
    except Exception as error:  # whatever layers make of arguments that do not fit together
        raise FileError(
            f"its layers cannot be built: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    return network


def _description(file: TensorFile, version: int) -> dict[str, Any]:
    text = file.metadata.get("network", "")
    if len(text) > MAX_DESCRIPTION:
        raise FileError(f"its description has {len(text):,} characters, too many")
    try:
        description = strict_json(text)
    except ValueError as error:
        raise FileError(f"its description is not JSON: {str(error)[:200]}") from None
    return upgraded(description, version, MODEL_VERSION, MODEL_UPGRADES)


def _values(file: TensorFile, network: NamedValues, exact: bool) -> dict[str, np.ndarray]:
    """The arrays of the file, in the dtypes of the network; ``exact`` if those have to be equal."""
    own = {**network.params, **network.state}
    check_names(own, file)
    for name, value in own.items():
        _check_entry(name, value, file.entries[name], exact)
    arrays = file.read_all()
    return {name: fitted(name, arrays[name], value) for name, value in own.items()}


def check_names(own: dict[str, Any], file: TensorFile) -> None:
    """Refuse a file that does not hold exactly these arrays."""
    missing, unknown = sorted(own.keys() - file.entries), sorted(file.entries.keys() - own)
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)[:300]}" if missing else ""
        more = f"has {', '.join(unknown)[:300]} besides" if unknown else ""
        raise FileError(f"it {' and '.join(filter(None, (wrong, more)))}; nothing was loaded")


def _check_entry(name: str, value: Any, entry: Entry, exact: bool) -> None:
    shape, dtype = tuple(getattr(value, "shape", ())), dtype_name(value)
    if entry.shape != shape:
        raise FileError(f"{name} has the shape {entry.shape}, and its layer wants {shape}")
    counts = "int" in dtype
    if counts != ("int" in entry.dtype) or (exact and not counts and dtype != entry.dtype):
        raise FileError(f"{name} is of dtype {entry.dtype}, and its layer wants {dtype}")


def fitted(name: str, values: np.ndarray, like: Any) -> np.ndarray:
    """Integers in the dtype of ``like``, which may be narrower; all else as it is."""
    dtype = dtype_name(like)
    if "int" not in dtype:
        return values
    if values.dtype.kind not in "iu":
        raise FileError(f"{name} counts, and so holds integers, got {values.dtype}")
    kept = np.iinfo(dtype)
    if values.size and not (kept.min <= int(values.min()) and int(values.max()) <= kept.max):
        raise FileError(f"{name} does not fit into {dtype}, the widest integers here")
    return values.astype(dtype)


# Before a file is written -------------------------------------------------------------------------


def _check_made_again(network: NamedValues, text: str) -> None:
    """Make the layers from their description and compare them with those that are there.

    Raises:
        XpnnError: one differs; the message names it.
    """
    try:
        plan = plan_from(json.loads(text))
    except FileError as error:
        raise XpnnError(f"what a file would hold cannot be loaded again: {error}") from error
    twin = plan.layers if isinstance(plan.layers, Graph) else Sequential(plan.layers)
    ours, theirs = dict(network.walk()), dict(twin.walk())
    if ours.keys() != theirs.keys():
        names = sorted(ours.keys() ^ theirs.keys())
        raise XpnnError(f"made again from their arguments, layers differ: {', '.join(names)[:300]}")
    describers = Describer(network.root, nested=False), Describer(twin, nested=False)
    for name, layer in ours.items():
        _check_same(name, layer, theirs[name], describers)
    _check_arrays(network, twin)


def _check_same(
    name: str, layer: Layer, other: Layer, describers: tuple[Describer, Describer]
) -> None:
    kinds = {name_of(type(one)) or type(one) for one in (layer, other)}
    if len(kinds) > 1:
        raise XpnnError(
            f"layer {name!r} is a {type(layer).__name__}, but made again from its arguments a "
            f"{type(other).__name__}"
        )
    if not name or name_of(type(layer)) is None:
        return
    one, again = (
        describer.layer(x)["arguments"]
        for describer, x in zip(describers, (layer, other), strict=True)
    )
    if changed := sorted(key for key in one.keys() & again if one[key] != again[key]):
        key = changed[0]
        raise XpnnError(
            f"layer {name!r} has {key}={one[key]!r}, but made again from the arguments of the "
            f"layer around it {key}={again[key]!r}; a value that was changed inside of a layer is "
            f"lost in a file: put it together from single layers"
        )


def _check_arrays(network: NamedValues, twin: Layer) -> None:
    own = {**network.params, **network.state}
    room = sum(math.prod(getattr(value, "shape", ())) for value in own.values())
    try:
        with zeros_for(room):
            twin.build(network.input_shape, get_backend("numpy"))
    except Exception as error:
        raise XpnnError(f"made again from its arguments, a layer fails: {error}") from error
    made = {
        f"{name}.{key}": value
        for name, layer in twin.walk()
        for key, value in {**layer.params, **layer.state}.items()
    }
    for name in own.keys() | made:
        ours, theirs = (tuple(getattr(of.get(name), "shape", ())) for of in (own, made))
        if name not in own or name not in made or ours != theirs:
            raise XpnnError(
                f"{name} has the shape {ours if name in own else 'of nothing'}, but that of a "
                f"layer made again from its arguments is "
                f"{theirs if name in made else 'missing'}; let the shapes of what a layer learns "
                f"depend on its arguments and its input shape alone"
            )
    for name, param in network.params.items():
        if dtype_name(param) != network.dtype:
            raise XpnnError(
                f"{name} is of dtype {dtype_name(param)} in a network of dtype {network.dtype}; "
                f"network.load(network.numpy_arrays()) brings all to the latter"
            )
