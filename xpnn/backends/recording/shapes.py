"""What a call would return, told by the shapes of its arguments alone.

A result is a blank array of the shape, the dtype and the order of axes that the call would give it.
Memory that nobody touches costs next to nothing, so a step of any size is recorded without a number
being worked out. How the axes of a result lie follows from how those of the operands do, not from
how long they are: so NumPy is asked for it on the corners of the operands, of two items along each
axis.

What has no rule here is called on the blank arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from xpnn.typing import Shape


def is_float(dtype: Any) -> bool:
    """Whether it is a float; NumPy counts bfloat16 among what it does not know."""
    return bool(dtype.kind == "f" or dtype.name == "bfloat16")


def blank(shape: Sequence[int], dtype: Any, order: Sequence[int] | None = None) -> np.ndarray:
    """An array without gaps whose axes lie in that order, the outermost first.

    Nothing is written to it, but for integers, which are 0: a call without a rule may look up rows.
    """
    make = np.empty if np.dtype(dtype).kind == "f" else np.zeros
    if order is None:
        return make(shape, dtype)
    return make([shape[axis] for axis in order], dtype).transpose(np.argsort(order))


def result_of(
    function: Callable[..., Any], method: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """A blank array, or several, in place of what ``function``, or that method of it, would return.

    Raises:
        ValueError, TypeError: what the function raises for such shapes and dtypes.
    """
    run = getattr(function, method) if method else function
    rule = _reduced if method == "reduce" else RULES.get(function)
    if rule is None and isinstance(function, np.ufunc) and function.signature is None:
        rule = _elementwise
    with np.errstate(all="ignore"):
        found = None if rule is None else rule(run, *arguments, **options)
        return run(*arguments, **options) if found is None else found


def check_written(ufunc: np.ufunc, arguments: tuple[Any, ...], target: np.ndarray) -> None:
    """Raise what the ufunc raises for a target of that shape and dtype, if it does."""
    shapes = [np.shape(one) for one in arguments]
    fits = _broadcast(*shapes, target.shape) == target.shape
    with np.errstate(all="ignore"):
        if fits:
            ufunc(*map(_corner, arguments), out=np.zeros_like(_corner(target)))
        else:
            ufunc(*arguments, out=target)


def _corner(one: Any) -> Any:
    """At most two items along each axis, in the same order in memory; a number as it is.

    They are copied, without gaps: before 2.2.2 NumPy crashes where integers with gaps between them
    are compared with a number outside of their dtype. Axes along which items are the same in memory
    stay such, as they say nothing about the order of a result.
    """
    one = np.asarray(one) if isinstance(one, list | tuple) else one
    if not isinstance(one, np.ndarray):
        return one
    corner = one[(slice(0, 2),) * one.ndim]
    different = tuple(slice(0, 2 if stride else 1) for stride in corner.strides)
    return np.broadcast_to(corner[different].copy(order="K"), corner.shape)


def _grown(corner: Any, shape: Shape) -> Any:
    """A blank array of that shape that lies as the corner does; a scalar as it is."""
    if not isinstance(corner, np.ndarray):
        return corner
    strides = corner.strides
    long = [axis for axis in range(corner.ndim) if shape[axis] > 1]
    order = sorted(long, key=lambda axis: -strides[axis])
    if order == long:
        return blank(shape, corner.dtype)
    short = [axis for axis in range(corner.ndim) if shape[axis] <= 1]
    return blank(shape, corner.dtype, [*short, *order])


def _broadcast(*shapes: Shape) -> Shape | None:
    """The common shape; None if there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


# Rules: (run, *arguments, **options) -> blank arrays, or None to call it after all ---------------


def _elementwise(run: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    shape = _broadcast(*map(np.shape, operands))
    if shape is None:
        return None
    found = run(*map(_corner, operands), **options)
    if isinstance(found, tuple):
        return tuple(_grown(one, shape) for one in found)
    return _grown(found, shape)


def _reduced(run: Callable[..., Any], a: Any, *rest: Any, **options: Any) -> Any:
    if not isinstance(a, np.ndarray) or options.keys() - {"axis", "dtype", "keepdims"}:
        return None
    axis = rest[0] if rest else options.get("axis", 0)
    every = range(a.ndim)
    gone = every if axis is None else normalize_axis_tuple(axis, a.ndim)
    found, kept = run(_corner(a), *rest, **options), options.get("keepdims", False)
    shape = [1 if k in gone else a.shape[k] for k in every if kept or k not in gone]
    return _grown(found, tuple(shape))


def _product(run: Callable[..., Any], a: Any, b: Any) -> Any:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return None
    inner = b.shape[-2:-1] or b.shape
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    if a.shape[-1:] != inner or batch is None:
        return None
    found = run(_corner(a), _corner(b))
    return _grown(found, (*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))


def _like_first(run: Callable[..., Any], a: Any, *rest: Any) -> Any:
    return _grown(run(_corner(a), *rest), a.shape)


def _reshaped(run: Callable[..., Any], a: Any, *rest: Any, **options: Any) -> Any:
    """A view, or a copy, which lies row by row."""
    if len(rest) != 1 or options:
        return None
    try:
        return np.reshape(a, *rest, copy=False)
    except ValueError:
        return np.reshape(blank(a.shape, a.dtype), *rest)


def _taken(run: Callable[..., Any], a: Any, indices: Any, **options: Any) -> Any:
    if options.keys() != {"axis"} or options["axis"] is None:
        return None
    axis = options["axis"] % a.ndim
    return blank((*a.shape[:axis], *np.shape(indices), *a.shape[axis + 1 :]), a.dtype)[()]


def _concatenated(
    run: Callable[..., Any], pieces: Sequence[Any], axis: int = 0, **options: Any
) -> Any:
    if options or axis is None or not all(isinstance(one, np.ndarray) for one in pieces):
        return None
    found = run(tuple(map(_corner, pieces)), axis=axis)
    axis %= found.ndim
    others = {(*one.shape[:axis], *one.shape[axis + 1 :]) for one in pieces}
    if len(others) > 1:
        return None
    (other,) = others
    length = sum(one.shape[axis] for one in pieces)
    return _grown(found, (*other[:axis], length, *other[axis:]))


def _stacked(run: Callable[..., Any], pieces: Sequence[Any], axis: int = 0, **options: Any) -> Any:
    shapes = {np.shape(one) for one in pieces}
    if options or len(shapes) > 1:
        return None
    found = run(tuple(map(_corner, pieces)), axis=axis)
    axis %= found.ndim
    (shape,) = shapes
    return _grown(found, (*shape[:axis], len(pieces), *shape[axis:]))


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in that dtype."""
    return array.astype(dtype)


RULES: dict[Any, Callable[..., Any]] = {
    np.where: _elementwise,
    np.clip: _elementwise,
    np.matmul: _product,
    cast: _like_first,
    np.reshape: _reshaped,
    np.take: _taken,
    np.concatenate: _concatenated,
    np.stack: _stacked,
}
