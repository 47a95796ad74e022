"""Parts of arrays: what brackets mean, as operators of ONNX."""

from typing import Any

import numpy as np

from xpnn.errors import ExportError
from xpnn.onnx.sizes import Size
from xpnn.onnx.traced import Traced
from xpnn.typing import Array

TO_THE_END, TO_THE_FRONT = 2**62, -(2**62)
"""Where slices end that go to the last entry, or backwards to the first."""


def part_of(x: Array, key: Any) -> Array:
    """``x[key]``, of integers, slices, None, ``...``, or one array of integers along an axis."""
    tape = x.tape
    key = key if isinstance(key, tuple) else (key,)
    key = tuple(np.asarray(one) if isinstance(one, list | bool) else one for one in key)
    entries = _all_axes(key, x.ndim)
    axis, axes, starts, stops, steps, shape = 0, [], [], [], [], list(x.shape)
    for entry in entries:
        if entry is None:
            continue
        if isinstance(entry, slice) and entry != slice(None):
            start, stop, step, length = _span(entry, x.shape[axis])
            axes.append(axis)
            starts.append(start)
            stops.append(stop)
            steps.append(step)
            shape[axis] = length
        axis += 1
    if axes:
        given = [x, tape.shape(starts), tape.shape(stops), *_whole(axes, steps)]
        x = tape.emit("Slice", given, shape, x.dtype)
    return _picked(x, entries)


def _whole(*numbers: list[int]) -> list[np.ndarray]:
    return [np.asarray(one, dtype=np.int64) for one in numbers]


def _all_axes(key: tuple[Any, ...], ndim: int) -> list[Any]:
    """The key with one entry for each axis, and None for each new one."""
    taken = sum(one is not None and one is not Ellipsis for one in key)
    if taken > ndim:
        raise IndexError(f"an array of {ndim} axes has no {taken}")
    dots = sum(one is Ellipsis for one in key)
    rest = [slice(None)] * (ndim - taken)
    found: list[Any] = []
    for one in key if dots else (*key, Ellipsis):
        found += rest if one is Ellipsis else [one]
    return found


def _span(entry: slice, length: int) -> tuple[int, int, int, int]:
    """Start, stop and step of a slice, as ONNX has them, and how many entries it takes."""
    step = 1 if entry.step is None else entry.step
    if isinstance(step, Size):
        raise ExportError(f"an array is cut in steps of {step}, which is free; take a fixed number")
    if not any(isinstance(one, Size) for one in (entry.start, entry.stop, length)):
        start, stop, _ = entry.indices(length)
        count = len(range(start, stop, step))
        return start, stop if stop >= 0 else TO_THE_FRONT, step, count
    if step < 0:
        if entry.start is not None or entry.stop is not None:
            raise ExportError(
                "a part of a free axis is taken backwards; take it forwards, then flip"
            )
        return TO_THE_END, TO_THE_FRONT, step, (length - step - 1) // -step
    first = 0 if entry.start is None else entry.start
    last = length if entry.stop is None else entry.stop
    count = (last + length if last < 0 else last) - (first + length if first < 0 else first)
    stop = TO_THE_END if entry.stop is None else entry.stop
    return first, stop, step, (count + (step - 1)) // step


def _picked(x: Array, entries: list[Any]) -> Array:
    """What integers and arrays of integers pick from an array of slices, and new axes."""
    tape = x.tape
    arrays = [one for one in entries if isinstance(one, Traced | np.ndarray) and one.ndim]
    if len(arrays) > 1 or (arrays and not _are_side_by_side(entries)):
        raise ExportError(
            "several arrays of indices choose entries, or one and an integer with axes between; "
            "take them one axis at a time"
        )
    axis, new = 0, []
    for entry in entries:
        if entry is None:
            new.append(axis)
            axis += 1
        elif isinstance(entry, slice):
            axis += 1
        else:
            x = _gathered(tape, x, entry, axis - len(new))
            axis += getattr(entry, "ndim", 0)
    return tape.xp.expand_dims(x, axis=tuple(new)) if new else x


def _are_side_by_side(entries: list[Any]) -> bool:
    """Whether no slice or new axis is between integers and arrays, which else go to the front."""
    places = [k for k, one in enumerate(entries) if one is not None and not isinstance(one, slice)]
    return places[-1] - places[0] == len(places) - 1


def _gathered(tape: Any, x: Array, entry: Any, axis: int) -> Array:
    if getattr(entry, "dtype", None) == np.bool_:
        raise ExportError(
            "booleans choose entries, how many the graph cannot know; use self.xp.where"
        )
    if isinstance(entry, Size):
        entry = tape.emit("Squeeze", [tape.size(entry)], (), np.int64)
    elif not isinstance(entry, Traced):
        entry = np.asarray(entry, dtype=np.int64)
    shape = (*x.shape[:axis], *entry.shape, *x.shape[axis + 1 :])
    return tape.emit("Gather", [x, entry], shape, x.dtype, axis=axis)
