"""A record as plain data, in the form in which a page holds it as JSON.

::

    {"format": 1, "title": "...", "backend": "numpy", "dtype": "float32",
     "loss_name": "...", "loss_equations": [MathML], "loss_equations_text": [...],
     "optimizer": "...", "inputs": ["x"],
     "layers": [{"name", "kind", "text", "from": [names], "inside": name or null,
                 "forward": [MathML], "backward": [MathML],
                 "forward_text": [...], "backward_text": [...]}],
     "steps": [{"number": 1, "loss": 0.5, "targets": ARRAY,
                "layers": {"0.dense": {"inputs": [ARRAY], "output": ARRAY, "delta": ARRAY,
                                       "passed": [ARRAY or null], "params": {name: ARRAY},
                                       "grads": {...}, "updates": {...}, "kept": {...},
                                       "health": {"dead", "units", "saturated"}}}}]}

An ARRAY has its shape and dtype, statistics of all its finite numbers, which are null where there
are none, and numbers to show: all, or every so many-th along each axis::

    {"shape": [..], "dtype": "float32", "min", "max", "mean", "std", "norm",
     "zeros": the share of exact zeros, "nonfinite": how many are NaN or infinite,
     "first_nonfinite": the index of the first of them or null,
     "shown": the shape of what is shown, "stride": [..], "data": base64 of float32, little-endian}

Where a layer has several outputs, there is a list of arrays in place of one, of which those of
``delta`` may be null. "from" names layers, or inputs of the network.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.xray.health import health
from xpnn.xray.mathml import as_mathml
from xpnn.xray.views import LayerInfo, LayerView, Record, StepView

FORMAT = 1
WHOLE = 4096
"""Arrays of up to so many numbers are shown whole."""
LONGEST, FURTHER = 64, 8
"""Positions that are shown of a larger one, along the two axes that are looked at, and others."""


def as_data(record: Record) -> dict[str, Any]:
    """All of a record as dicts, lists, texts and numbers."""
    kinds = {one.name: one.kind for one in record.layers}
    kinds |= {str(one.inside): one.kind for one in record.layers if _ends_in(one)}
    return {
        "format": FORMAT,
        "title": record.title,
        "backend": record.backend,
        "dtype": record.dtype,
        "loss_name": record.loss_name,
        "loss_equations": [as_mathml(line) for line in record.loss_equations],
        "loss_equations_text": list(record.loss_equations),
        "optimizer": record.optimizer,
        "inputs": list(record.inputs),
        "layers": [_of_layer(one) for one in record.layers],
        "steps": [_of_step(one, kinds) for one in record.steps],
    }


def _ends_in(info: LayerInfo) -> bool:
    """Whether it is the activation in which the layer around it ends."""
    return info.inside is not None and info.name == f"{info.inside}.activation"


def _of_layer(info: LayerInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind,
        "text": info.text,
        "from": list(info.feeds_from),
        "inside": info.inside,
        "forward": [as_mathml(line) for line in info.forward],
        "backward": [as_mathml(line) for line in info.backward],
        "forward_text": list(info.forward),
        "backward_text": list(info.backward),
    }


def _of_step(step: StepView, kinds: Mapping[str, str]) -> dict[str, Any]:
    return {
        "number": step.number,
        "loss": step.loss if math.isfinite(step.loss) else None,
        "targets": _of_arrays(step.targets),
        "layers": {name: _of_view(view, kinds[name]) for name, view in step.layers.items()},
    }


def _of_view(view: LayerView, kind: str) -> dict[str, Any]:
    return {
        "inputs": [_of_flow(one) for one in view.inputs],
        "output": _of_flow(view.output),
        "delta": _of_flow(view.delta),
        "passed": [_of_flow(one) for one in view.passed],
        "params": _by_name(view.params),
        "grads": _by_name(view.grads),
        "updates": _by_name(view.updates),
        "kept": _by_name(view.kept),
        "health": health(view.output, kind),
    }


def _by_name(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: array_data(one) for name, one in arrays.items()}


def _of_flow(arrays: Any) -> Any:
    """What flows between layers, whose last axis is that of channels."""
    return _of_arrays(arrays, channels_last=True)


def _of_arrays(arrays: Any, channels_last: bool = False) -> Any:
    if isinstance(arrays, tuple):
        return [_of_arrays(one, channels_last) for one in arrays]
    return None if arrays is None else array_data(arrays, channels_last)


def array_data(array: np.ndarray, channels_last: bool = False) -> dict[str, Any]:
    """An array as its statistics, and the numbers of it that are shown.

    Args:
        array: of numbers or booleans, of any shape.
        channels_last: whether it may be of images: of four axes or more the last is then one of
            those along which few positions are shown.

    >>> found = array_data(np.asarray([[3.0, -4.0], [0.0, np.inf]]))
    >>> found["norm"], found["zeros"], found["first_nonfinite"]
    (5.0, 0.25, [1, 1])
    """
    stride = _strides(array.shape, channels_last)
    shown = array[tuple(slice(None, None, step) for step in stride)]
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(shown, dtype="<f4")
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        **_statistics(array),
        "shown": list(shown.shape),
        "stride": stride,
        "data": base64.b64encode(numbers.tobytes()).decode("ascii"),
    }


def _strides(shape: tuple[int, ...], channels_last: bool) -> list[int]:
    if math.prod(shape) <= WHOLE:
        return [1] * len(shape)
    behind = int(channels_last and len(shape) >= 4)
    looked_at = range(len(shape) - 2 - behind, len(shape) - behind)
    most = [LONGEST if axis in looked_at else FURTHER for axis in range(len(shape))]
    if len(shape) == 1:
        most = [WHOLE]
    return [-(-length // limit) for length, limit in zip(shape, most, strict=True)]


def _statistics(array: np.ndarray) -> dict[str, Any]:
    numbers = array.astype(np.float64)
    finite = np.isfinite(numbers)
    bad = int(numbers.size - np.count_nonzero(finite))
    first = [int(one) for one in np.argwhere(~finite)[0]] if bad else None
    known = numbers[finite]
    found = dict.fromkeys(("min", "max", "mean", "std", "norm"))
    if known.size:
        with np.errstate(over="ignore", invalid="ignore"):
            values = known.min(), known.max(), known.mean(), known.std(), np.linalg.norm(known)
        finite_or_none = [float(one) if np.isfinite(one) else None for one in values]
        found = dict(zip(found, finite_or_none, strict=True))
    zeros = float(np.mean(numbers == 0)) if numbers.size else 0.0
    return {**found, "zeros": zeros, "nonfinite": bad, "first_nonfinite": first}
