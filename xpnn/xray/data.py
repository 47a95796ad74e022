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
                                       "health": {"dead", "units", "saturated",
                                                  "gates": {name: share}},
                                       "windows": [{"size", "stride", "dilation", "low"}]}}}]}

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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.trees import as_tuple
from xpnn.xray.health import health
from xpnn.xray.mathml import as_mathml
from xpnn.xray.views import LayerInfo, LayerView, Record, StepView

FORMAT = 1
FILE = "xray.json"
"""What the data of a run that is followed are called in its folder."""
WHOLE, LEAST, IN_ALL = 4096, 256, 2_000_000
"""How many numbers of an array are shown: up to ``WHOLE`` of it, of arrays of images and of others
with more than two axes four times as many. Where there are so many arrays that these would be more
than ``IN_ALL`` numbers, it is fewer of each, down to ``LEAST``."""


Told = dict[tuple[StepView, int], dict[str, Any]]
"""What was told of steps, each with so many numbers of an array."""


def as_data(record: Record, told: Told | None = None) -> dict[str, Any]:
    """All of a record as dicts, lists, texts and numbers.

    Args:
        told: of a record that grows, what was told of its steps when it was shorter; it is brought
            up to date.
    """
    kinds = {one.name: one.kind for one in record.layers}
    kinds |= {str(one.inside): one.kind for one in record.layers if _ends_in(one)}
    most = _most_of_each(record.steps)
    told = {} if told is None else told
    steps = {(one, most): told.get((one, most)) for one in record.steps}
    told.clear()
    told.update({key: known or _of_step(key[0], kinds, most) for key, known in steps.items()})
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
        "steps": list(told.values()),
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


def _most_of_each(steps: Sequence[StepView]) -> int:
    """How many numbers of each array are shown, by how many arrays there are."""
    arrays = sum(len(_arrays_of(view)) for step in steps for view in step.layers.values())
    return min(WHOLE, max(LEAST, IN_ALL // max(arrays, 1)))


def _arrays_of(view: LayerView) -> list[np.ndarray]:
    """Those that are shown of a layer, but for its inputs, which others have made mostly."""
    by_name = (view.params, view.grads, view.updates, view.kept)
    named = [one for arrays in by_name for one in arrays.values()]
    return [*as_tuple(view.output), *as_tuple(view.delta), *named]


def _of_step(step: StepView, kinds: Mapping[str, str], most: int) -> dict[str, Any]:
    return {
        "number": step.number,
        "loss": step.loss if math.isfinite(step.loss) else None,
        "targets": _of_arrays(step.targets, most, None),
        "layers": {name: _of_view(view, kinds[name], most) for name, view in step.layers.items()},
    }


def _of_view(view: LayerView, kind: str, most: int) -> dict[str, Any]:
    samples = next((len(one) for one in view.inputs if one.ndim), None)
    return {
        "inputs": [_of_arrays(one, most, samples) for one in view.inputs],
        "output": _of_arrays(view.output, most, samples),
        "delta": _of_arrays(view.delta, most, samples),
        "passed": [_of_arrays(one, most, samples) for one in view.passed],
        "params": _by_name(view.params, most),
        "grads": _by_name(view.grads, most),
        "updates": _by_name(view.updates, most),
        "kept": _by_name(view.kept, most, samples),
        "health": health(view.output, kind, view.kept),
        "windows": [
            {"size": one.size, "stride": one.stride, "dilation": one.dilation, "low": one.low}
            for one in view.windows
        ],
    }


def _by_name(
    arrays: Mapping[str, np.ndarray], most: int, samples: int | None = None
) -> dict[str, Any]:
    return {name: array_data(one, most, samples) for name, one in arrays.items()}


def _of_arrays(arrays: Any, most: int, samples: int | None) -> Any:
    if isinstance(arrays, tuple):
        return [_of_arrays(one, most, samples) for one in arrays]
    return None if arrays is None else array_data(arrays, most, samples)


def array_data(array: np.ndarray, most: int = WHOLE, samples: int | None = None) -> dict[str, Any]:
    """An array as its statistics, and the numbers of it that are shown.

    Args:
        array: of numbers or booleans, of any shape.
        most: numbers that are shown of vectors and matrices; four times as many of other arrays.
        samples: how many there are in the batch. The first axis of so many positions is theirs, if
            there are more than two axes: of samples some are left out before places of images are.

    >>> found = array_data(np.asarray([[3.0, -4.0], [0.0, np.inf]]))
    >>> found["norm"], found["zeros"], found["first_nonfinite"]
    (5.0, 0.25, [1, 1])
    """
    stride = _strides(array.shape, most, samples)
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


def _strides(shape: tuple[int, ...], most: int, samples: int | None) -> list[int]:
    """Every how many-th position along each axis is shown: of samples, then of the longest axis."""
    stride = [1] * len(shape)
    several = len(shape) > 2
    most = 4 * most if several else most
    of_samples = shape.index(samples) if several and samples in shape else None

    def left(axis: int) -> int:
        return -(-shape[axis] // stride[axis])

    while math.prod(map(left, range(len(shape)))) > most:
        longest = max(range(len(shape)), key=lambda axis: (left(axis), axis))
        axis = of_samples if of_samples is not None and left(of_samples) > 1 else longest
        stride[axis] += 1
    return stride


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
