"""What ``Network.to_onnx`` does: arguments looked at, a graph traced, checked and written."""

import math
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnn.errors import BackendUnavailable, ExportError, XpnnError
from xpnn.files import replacement
from xpnn.onnx.tracing import Plan, trace
from xpnn.onnx.writing import model_of
from xpnn.prediction import as_probabilities
from xpnn.without_past import check_past

if TYPE_CHECKING:
    from xpnn.network import Network

OPSETS = {"bfloat16": 22}
"""The lowest version of ONNX's operators that has all for a dtype, where that is not the usual."""

EXAMPLES = {
    "free": "{1: 'time'}",
    "names": "{'x': 'pixels'}",
    "dtypes": "{'x': 'uint8'}",
    "metadata": "{'licence': 'MIT'}",
}

LOWEST_OPSET = 18
LARGEST = 2**31 - 2**20  # bytes: what a file of protocol buffers may hold, and room for the nodes
DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
)


def export(
    network: "Network",
    path: str | Path,
    *,
    batch: str | int,
    free: Mapping[Any, Any],
    names: Mapping[str, str],
    dtypes: Mapping[str, str],
    opset: int | None,
    past: int | None,
    probabilities: Any,
    description: str,
    metadata: Mapping[str, str],
) -> None:
    """See ``Network.to_onnx``."""
    onnx = _library()
    version = _opset(onnx, opset, network.dtype)
    given = {"free": free, "names": names, "dtypes": dtypes, "metadata": metadata}
    for what, one in given.items():
        if not isinstance(one, Mapping):
            raise TypeError(f"{what} is a dict, such as {EXAMPLES[what]}, got {one!r}")
    for text in (*metadata.keys(), *metadata.values()):
        if not isinstance(text, str):
            raise TypeError(f"metadata is of texts by texts, got {text!r}; write str({text!r})")
    plan = Plan(
        _free_axes(network, batch, free, past),
        1 if isinstance(batch, str) else int(batch),
        _names(network, names),
        _dtypes(network, dtypes),
        probabilities,
        _room(network, past),
    )
    as_probabilities(network, probabilities)  # whether they are such
    network.check_ready()
    width = int(network.dtype[-2:]) // 8  # of "bfloat16", say
    total = width * sum(math.prod(one.shape) for one in network.params.values())
    if total > LARGEST:
        raise ExportError(
            f"an ONNX file holds up to 2 GiB, and the parameters of this network take {total:,} "
            f"bytes; save it, and export it in half precision: xpnn.load(path, dtype='float16')"
        )
    with network.at_rest():
        values = network.numpy_arrays()
    graph = trace(network, values, plan)
    model = model_of(graph, version, description=description, metadata=metadata)
    onnx.checker.check_model(model, full_check=True)
    with replacement(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def _library() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise BackendUnavailable(
            "to_onnx needs the package onnx, which is not installed; write pip install 'xpnn[onnx]'"
        ) from error
    return onnx


def _opset(onnx: Any, opset: int | None, dtype: str) -> int:
    lowest, highest = OPSETS.get(dtype, LOWEST_OPSET), onnx.defs.onnx_opset_version()
    if opset is None:
        return lowest
    if not lowest <= opset <= highest:
        raise ValueError(
            f"wanted an opset from {lowest} to {highest}, the lowest with all operators for "
            f"{dtype} and the highest that the installed onnx knows, got {opset}"
        )
    return opset


def _free_axes(
    network: "Network", batch: str | int, free: Mapping[Any, Any], past: int | None
) -> dict[str, dict[int, str]]:
    """The names of the free axes of each input, the batch among them."""
    if isinstance(batch, bool) or not ((isinstance(batch, str) and batch) or _is_count(batch)):
        raise ValueError(
            f"wanted batch to be a name for the free axis of samples, or how many samples there "
            f"are, got {batch!r}"
        )
    if free and past is not None:
        raise ValueError("with past, one position comes in at a time; leave free out")
    by_input = free
    if len(network.inputs) == 1 and all(isinstance(key, Integral) for key in free):
        by_input = {network.inputs[0][2]: free}
    shapes = {name: shape for shape, _, name in network.inputs}
    _check_known("free", by_input, shapes)
    for name, axes in by_input.items():
        if not isinstance(axes, Mapping):
            raise TypeError(
                f"free names axes, as in free={{1: 'time'}}, or those of each input, as in "
                f"free={{{name!r}: {{1: 'time'}}}}, got {free!r}"
            )
        for axis, called in axes.items():
            if axis not in range(1, len(shapes[name]) + 1) or not (
                called and isinstance(called, str)
            ):
                raise ValueError(
                    f"axes of {name} are counted with that of the batch, from 1 to "
                    f"{len(shapes[name])}, and have texts for names, got {axis!r}: {called!r}"
                )
    own = {0: batch} if isinstance(batch, str) else {}
    more = {
        name: {int(axis): called for axis, called in by_input[name].items()} for name in by_input
    }
    return {name: {**own, **more.get(name, {})} for name in shapes}


def _names(network: "Network", names: Mapping[str, str]) -> dict[str, str]:
    own = [name for *_, name in network.inputs] + [name for _, name in network.outputs]
    _check_known("names", names, own)
    taken = [names.get(name, name) for name in own]
    for name in taken:
        if not (isinstance(name, str) and name):
            raise TypeError(f"inputs and outputs have texts for names, got {name!r}")
        if taken.count(name) > 1:
            raise ValueError(
                f"two of the inputs and outputs would be called {name!r}; give one another name, "
                f"as in names={{{name!r}: 'other'}}"
            )
    return dict(names)


def _dtypes(network: "Network", dtypes: Mapping[str, str]) -> dict[str, str]:
    kinds = {name: takes for _, takes, name in network.inputs}
    _check_known("dtypes", dtypes, [*kinds, *(name for _, name in network.outputs)])
    for name, dtype in dtypes.items():
        known = DTYPES[1:6] if kinds.get(name) == "integers" else DTYPES
        if dtype not in known:
            raise ValueError(f"the dtype of {name} is one of {', '.join(known)}, got {dtype!r}")
    return dict(dtypes)


def _check_known(what: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"wanted {what} of {', '.join(known)}, got one of {name!r}")


def _room(network: "Network", past: int | None) -> int | None:
    """For how many positions there is room."""
    if past is None:
        return None
    if not _is_count(past):
        raise ValueError(f"past is for how many positions there is room, at least 1, got {past!r}")
    if len(network.inputs) > 1 or len(network.outputs) > 1:
        raise XpnnError(
            "a graph that remembers has one input, which is that of the text, and one output; "
            "export a network of several without past"
        )
    check_past(network, 0)
    return past


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) > 0
