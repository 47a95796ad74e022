"""Batches that others make: loaders, generators, data sets of Hugging Face.

What of a batch are inputs, targets and weights is told by their places or by their names::

    (x, y)   (x, y, sample_weight)   {"x": x, "y": y}   {"image": x, "label": y}   {"size": a, ...}
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.backends.registry import class_recognizing
from xpnn.errors import DataError

TARGETS = ("y", "label", "labels", "target", "targets")
WEIGHTS = ("sample_weight", "weight", "weights")
"""What targets and weights are called in batches by name."""


def is_dataset(source: Any) -> bool:
    """Whether it is a data set of Hugging Face's package ``datasets``, which is not imported."""
    known = type(source).__module__.partition(".")[0] == "datasets"
    return known and hasattr(source, "with_format") and hasattr(source, "iter")


def refuse_several(source: Any) -> None:
    """Raise DataError for several data sets of Hugging Face, as a DatasetDict has by name."""
    if isinstance(source, Mapping) and type(source).__module__.partition(".")[0] == "datasets":
        names = [*map(str, source)] or ["train"]
        raise DataError(
            f"wanted one data set, got several, {', '.join(names)}; pass one of them, such as "
            f"dataset[{names[0]!r}]"
        )


def has_length(dataset: Any) -> bool:
    """Whether rows of a data set can be taken by their numbers; streamed ones have none."""
    return hasattr(dataset, "__len__")


def is_array(values: Any) -> bool:
    """Whether it is an array or a table, of any library, rather than something that gives batches.

    Not all arrays have a shape: PyTorch's nested tensors raise an error when they are asked.
    """
    if is_dataset(values):  # which has a shape, too
        return False
    return class_recognizing(values) is not None or hasattr(values, "shape")


def gives_batches(source: Any) -> bool:
    """Whether it is gone through batch by batch, as a loader, rather than taken for inputs."""
    refuse_several(source)
    if is_dataset(source):
        return True
    if is_array(source) or isinstance(source, Mapping | Sequence | str | bytes):
        return False
    if any(hasattr(source, name) for name in ("__array__", "__dlpack__", "__array_interface__")):
        return False
    return isinstance(source, Iterable) or callable(source)


def batches_of(dataset: Any, size: int, rows: np.ndarray | None = None) -> Iterator[dict[str, Any]]:
    """Batches of a data set of Hugging Face: arrays by the names of its columns.

    They are in the format that the data set was given, as by ``with_format("torch")``; NumPy's
    arrays unless it was given one.

    Args:
        size: rows in a batch.
        rows: their numbers, in the order in which they are wanted; all as they come, unless given.
    """
    given = getattr(dataset, "format", None) or {}
    formatting = getattr(dataset, "_formatting", None)  # of streamed ones
    kind = given.get("type") if given else getattr(formatting, "format_type", None)
    dataset = dataset.with_format("numpy") if kind in (None, "python") else dataset
    if rows is None:
        yield from dataset.iter(batch_size=size)
        return
    for start in range(0, len(rows), size):
        yield dataset[rows[start : start + size].tolist()]


def parts_by_name(
    batch: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights of a batch by name; targets and weights may be None.

    Inputs are found by their names; of a network with one input, by "x", or as the one that is
    neither target nor weight. Targets are found by the names of the outputs, or, of a network with
    one output, as "y", "label", "labels", "target" or "targets"; weights as "sample_weight",
    "weight" or "weights".

    Args:
        inputs, outputs: the names of those of the network.

    Raises:
        DataError: an input is missing, or something is left over.

    >>> parts_by_name({"image": 1, "label": 2}, ["x"], ["output_0"])
    (1, 2, None)
    >>> parts_by_name({"size": 1, "color": 2, "y": 3, "weight": 4}, ["size", "color"], ["output_0"])
    ({'size': 1, 'color': 2}, 3, 4)
    """
    left = dict(batch)
    x: Any = None
    if all(name in left for name in inputs):
        x = {name: left.pop(name) for name in inputs}
    elif "x" in left:
        x = left.pop("x")
    y: Any = None
    if all(name in left for name in outputs):
        y = {name: left.pop(name) for name in outputs}
    weight = _taken(left, WEIGHTS)
    y = _taken(left, TARGETS) if y is None else y
    if x is None and len(inputs) == len(left) == 1:
        x = left.popitem()[1]
    if x is None or left:
        wanted = f"{', '.join(inputs)}" if len(inputs) > 1 else f"{inputs[0]!r}, or one other name,"
        targets = f"{', '.join(outputs)}" if len(outputs) > 1 else f"one of {', '.join(TARGETS)}"
        raise DataError(
            f"wanted a batch with inputs by the names {wanted} and targets by {targets}, got "
            f"{', '.join(map(str, batch)) or 'nothing'}; rename them, leave the others out, or "
            f"make each batch a tuple (x, y)"
        )
    if isinstance(x, dict) and len(x) == 1:
        x = next(iter(x.values()))
    if isinstance(y, dict) and len(y) == 1:
        y = next(iter(y.values()))
    return x, y, weight


def _taken(left: dict[str, Any], names: Sequence[str]) -> Any:
    """What is there under one of the names, and is no longer left; None if there is none."""
    there = [name for name in names if name in left]
    return left.pop(there[0]) if there else None


def inputs_of(batch: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The inputs of a batch, in which targets may be, as in those that are trained on."""
    if isinstance(batch, Mapping):
        return parts_by_name(batch, inputs, outputs)[0]
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        return batch[0]
    return batch
