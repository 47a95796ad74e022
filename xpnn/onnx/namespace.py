"""The functions of the array API standard, as layers call them while they are traced.

Of constants NumPy works out the result; of stand-ins an operator of ONNX is noted, or a few.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import numpy as numpy_xp

from xpnn import numerics
from xpnn.errors import ExportError
from xpnn.onnx import dtypes, elementwise, indexing
from xpnn.onnx.dtypes import kind_of
from xpnn.onnx.elementwise import broadcast
from xpnn.onnx.sizes import Size, is_same
from xpnn.onnx.tape import Tape
from xpnn.onnx.traced import Traced, constant
from xpnn.trees import leaves
from xpnn.typing import Array, Namespace

UFUNCS = {"power": "pow", "invert": "bitwise_invert", "left_shift": "bitwise_left_shift"}
UFUNCS |= {"right_shift": "bitwise_right_shift", "absolute": "abs", "true_divide": "divide"}
UFUNCS |= {f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
"""What NumPy's ufuncs are called in the standard, where that is not their own name."""


class TracedNamespace:
    """Functions by name. What NumPy has and this has not is an ExportError."""

    bfloat16: Any
    part_of: Callable[..., Any]

    def __init__(self) -> None:
        self.tape = Tape(self)
        self.part_of = indexing.part_of
        for name, function in {**elementwise.functions(), **FUNCTIONS}.items():
            setattr(self, name, functools.partial(self._call, name, function))
        for name, function in CREATION.items():
            setattr(self, name, functools.partial(function, self))
        for name in ("finfo", "isdtype"):
            setattr(self, name, getattr(dtypes, name))
        for name in ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"):
            setattr(self, name, np.dtype(name))
        for name in ("uint8", "uint16", "uint32", "uint64"):
            setattr(self, name, np.dtype(name))
        for name in ("pi", "e", "inf", "nan", "newaxis", "iinfo", "can_cast"):
            setattr(self, name, getattr(numpy_xp, name))
        self.bfloat16, self.result_type = dtypes.bfloat16(), dtypes.result_dtype

    def _call(
        self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Any:
        """What stand-ins, or constants and a shape that is free, make; else what NumPy makes."""
        given = leaves(arguments)
        if any(isinstance(one, Traced) for one in given):
            return function(self, *arguments, **options)
        if function in SHAPED and any(isinstance(one, Size) for one in given):
            return function(self, *arguments, **options)
        by_numpy = BY_NUMPY[name] if name in BY_NUMPY else getattr(numpy_xp, name)
        return self.constant(by_numpy, *arguments, **options)

    def constant(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What NumPy makes of constants."""
        options.pop("device", None)
        made = function(*arguments, **options)
        if isinstance(made, tuple | list):
            return type(made)(constant(one, self.tape) for one in made)
        return constant(made, self.tape) if isinstance(made, np.ndarray | np.generic) else made

    def __getattr__(self, name: str) -> Any:
        if name in UFUNCS and UFUNCS[name] in vars(self):
            return getattr(self, UFUNCS[name])
        if name.startswith("_") or not hasattr(numpy_xp, name):
            raise AttributeError(f"the array API standard has no {name!r}")
        raise ExportError(f"there are no operators here for {name}; write it by other functions")


# Shapes -------------------------------------------------------------------------------------------


def reshape(xp: Namespace, x: Array, /, shape: Sequence[int], *, copy: Any = None) -> Array:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    tape, total, known = xp.tape, 1, 1
    for length in x.shape:
        total = total * length
    for length in shape:
        known = known if _is_rest(length) else known * length
    if any(map(_is_rest, shape)):
        shape = tuple(total // known if _is_rest(one) else one for one in shape)
    elif not is_same(total, known):
        raise ValueError(f"an array of shape {x.shape} has another size than {shape}")
    if _same_shape(x.shape, shape):
        return x
    return tape.emit("Reshape", [x, tape.new_shape(x.shape, shape)], shape, x.dtype)


def _is_rest(length: int) -> bool:
    return not isinstance(length, Size) and length == -1


def _same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(map(is_same, one, other))


def permute_dims(xp: Namespace, x: Traced, /, axes: Sequence[int]) -> Array:
    axes = [axis % x.ndim for axis in axes]
    maker = xp.tape.maker_of(x)
    if maker is not None and maker.operator == "Transpose":  # of which two are one, or none
        before = maker.attributes["perm"]
        x, axes = xp.tape.traced[maker.inputs[0]], [before[axis] for axis in axes]
    if axes == list(range(x.ndim)):
        return x
    return xp.tape.emit("Transpose", [x], [x.shape[axis] for axis in axes], x.dtype, perm=axes)


def matrix_transpose(xp: Namespace, x: Traced, /) -> Array:
    return permute_dims(xp, x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def moveaxis(xp: Namespace, x: Traced, source: Any, destination: Any, /) -> Array:
    sources = [one % x.ndim for one in _as_tuple(source)]
    places = [one % x.ndim for one in _as_tuple(destination)]
    axes = [axis for axis in range(x.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        axes.insert(place, axis)
    return permute_dims(xp, x, axes)


def expand_dims(xp: Namespace, x: Traced, /, *, axis: Any = 0) -> Array:
    axes = sorted(one % (x.ndim + len(_as_tuple(axis))) for one in _as_tuple(axis))
    shape = list(x.shape)
    for one in axes:
        shape.insert(one, 1)
    return xp.tape.emit("Unsqueeze", [x, np.asarray(axes, np.int64)], shape, x.dtype)


def squeeze(xp: Namespace, x: Traced, /, axis: Any) -> Array:
    axes = [one % x.ndim for one in _as_tuple(axis)]
    if not all(is_same(x.shape[one], 1) for one in axes):
        raise ValueError(f"axes {axes} of shape {x.shape} are not 1 long")
    shape = [length for one, length in enumerate(x.shape) if one not in axes]
    return xp.tape.emit("Squeeze", [x, np.asarray(axes, np.int64)], shape, x.dtype)


def broadcast_to(xp: Namespace, x: Array, /, shape: Sequence[int]) -> Array:
    shape = tuple(shape)
    if not _same_shape(broadcast(tuple(x.shape), shape), shape):
        raise ValueError(f"an array of shape {x.shape} does not fill {shape}")
    if _same_shape(x.shape, shape):
        return x
    own = (*(1,) * (len(shape) - x.ndim), *x.shape)
    wanted = [1 if is_same(a, b) else b for a, b in zip(own, shape, strict=True)]
    return xp.tape.emit("Expand", [x, xp.tape.shape(wanted)], shape, x.dtype)


def broadcast_arrays(xp: Namespace, *arrays: Array) -> list[Array]:
    shape = broadcast(*(tuple(one.shape) for one in arrays))
    return [xp.broadcast_to(one, shape) for one in arrays]


def concat(xp: Namespace, arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    if axis is None:
        arrays, axis = [xp.reshape(one, (-1,)) for one in arrays], 0
    dtype, axis = dtypes.result_dtype(*arrays), axis % arrays[0].ndim
    length: int = 0
    for one in arrays:
        length = length + one.shape[axis]
    first = arrays[0].shape
    for one in arrays[1:]:
        if not _same_shape(_without(first, axis), _without(one.shape, axis)):
            raise ValueError(f"arrays of shapes {first} and {one.shape} do not fit side by side")
    shape = (*first[:axis], length, *first[axis + 1 :])
    return xp.tape.emit(
        "Concat", [elementwise.as_dtype(xp, one, dtype) for one in arrays], shape, dtype, axis=axis
    )


def _without(shape: Sequence[int], axis: int) -> list[int]:
    return [length for one, length in enumerate(shape) if one != axis]


def stack(xp: Namespace, arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    axis %= arrays[0].ndim + 1
    return concat(xp, [xp.expand_dims(one, axis=axis) for one in arrays], axis=axis)


def unstack(xp: Namespace, x: Traced, /, *, axis: int = 0) -> tuple[Array, ...]:
    axis %= x.ndim
    before = (slice(None),) * axis
    return tuple(x[(*before, k)] for k in range(_fixed(x.shape[axis])))


def flip(xp: Namespace, x: Traced, /, *, axis: Any = None) -> Array:
    axes = range(x.ndim) if axis is None else [one % x.ndim for one in _as_tuple(axis)]
    back = slice(None, None, -1)
    return x[tuple(back if one in axes else slice(None) for one in range(x.ndim))]


def roll(xp: Namespace, x: Traced, /, shift: Any, *, axis: Any = None) -> Array:
    if axis is None:
        return xp.reshape(roll(xp, xp.reshape(x, (-1,)), shift, axis=0), x.shape)
    for one, by in zip(_as_tuple(axis), _as_tuple(shift), strict=True):
        before, by = (slice(None),) * (one % x.ndim), by % x.shape[one]
        x = xp.concat([x[(*before, slice(-by, None))], x[(*before, slice(None, -by))]], axis=one)
    return x


def tile(xp: Namespace, x: Traced, repetitions: Sequence[int], /) -> Array:
    count = max(x.ndim, len(repetitions))
    x = xp.reshape(x, (*(1,) * (count - x.ndim), *x.shape))
    times = (*(1,) * (count - len(repetitions)), *repetitions)
    shape = [a * b for a, b in zip(x.shape, times, strict=True)]
    return xp.tape.emit("Tile", [x, xp.tape.shape(times)], shape, x.dtype)


def tril(xp: Namespace, x: Traced, /, *, k: int = 0) -> Array:
    return xp.tape.emit("Trilu", [x, np.asarray(k, np.int64)], x.shape, x.dtype, upper=0)


def triu(xp: Namespace, x: Traced, /, *, k: int = 0) -> Array:
    return xp.tape.emit("Trilu", [x, np.asarray(k, np.int64)], x.shape, x.dtype, upper=1)


# Numbers ------------------------------------------------------------------------------------------


def astype(
    xp: Namespace, x: Traced, dtype: Any, /, *, copy: bool = True, device: Any = None
) -> Array:
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    return xp.tape.emit("Cast", [x], x.shape, dtype, to=dtype.name)


def asarray(
    xp: Namespace, x: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None
) -> Array:
    if isinstance(x, list | tuple):
        x = xp.stack([xp.asarray(one, dtype=dtype) for one in x])
    return x if dtype is None else xp.astype(x, dtype)


def matmul(xp: Namespace, a: Array, b: Array, /) -> Array:
    given, dtype = elementwise.in_one_dtype(a, b)
    first, second = (tuple(one.shape) for one in given)
    inner = first[-1], second[-2] if len(second) > 1 else second[0]
    if not is_same(*inner):
        raise ValueError(f"shapes {first} and {second} do not fit for a product of matrices")
    shape = (*broadcast(first[:-2], second[:-2]),) if max(len(first), len(second)) > 2 else ()
    shape += first[-2:-1] + (second[-1:] if len(second) > 1 else ())
    return xp.tape.emit("MatMul", given, shape, dtype)


def vecdot(xp: Namespace, a: Array, b: Array, /, *, axis: int = -1) -> Array:
    return xp.sum(a * b, axis=axis)


def take(xp: Namespace, x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    if axis is None:  # of all entries, as NumPy has it
        x, axis = xp.reshape(x, (-1,)), 0
    axis %= x.ndim
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return xp.tape.emit("Gather", [x, indices], shape, x.dtype, axis=axis)


def take_along_axis(xp: Namespace, x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    axis %= x.ndim
    sides = [(*one.shape[:axis], 1, *one.shape[axis + 1 :]) for one in (x, indices)]
    shape = broadcast(*sides)
    given = [
        xp.broadcast_to(one, (*shape[:axis], one.shape[axis], *shape[axis + 1 :]))
        for one in (x, indices)
    ]
    shape = (*shape[:axis], indices.shape[axis], *shape[axis + 1 :])
    return xp.tape.emit("GatherElements", given, shape, x.dtype, axis=axis)


def zeros_like(xp: Namespace, x: Traced, /, *, dtype: Any = None, device: Any = None) -> Array:
    return full_like(xp, x, 0, dtype=dtype)


def ones_like(xp: Namespace, x: Traced, /, *, dtype: Any = None, device: Any = None) -> Array:
    return full_like(xp, x, 1, dtype=dtype)


def full_like(
    xp: Namespace, x: Traced, /, fill_value: Any, *, dtype: Any = None, device: Any = None
) -> Array:
    return full(xp, x.shape, fill_value, dtype=x.dtype if dtype is None else dtype)


# Sums ---------------------------------------------------------------------------------------------


def _reduced(operator: str, narrow: bool = False) -> Callable[..., Array]:
    """A reduction by an operator; of few dtypes only where it is ``narrow``."""

    def reduce(
        xp: Namespace,
        x: Traced,
        /,
        *,
        axis: Any = None,
        dtype: Any = None,
        keepdims: bool = False,
    ) -> Array:
        axes = sorted(one % x.ndim for one in _axes(axis, x.ndim))
        if operator in ("ReduceSum", "ReduceProd"):
            whole = np.int64 if kind_of(x.dtype) in "bi" else x.dtype
            x = xp.astype(x, whole if dtype is None else dtype)
        elif operator == "ReduceMean" and kind_of(x.dtype) != "f":
            x = xp.astype(x, np.float64)
        if not axes:
            return x
        shape = [
            1 if one in axes else length
            for one, length in enumerate(x.shape)
            if keepdims or one not in axes
        ]
        given = [x, np.asarray(axes, np.int64)]
        return xp.tape.emit(operator, given, shape, x.dtype, keepdims=int(keepdims))

    return reduce


def any_(xp: Namespace, x: Traced, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    found = xp.max(xp.astype(xp.astype(x, bool), np.int32), axis=axis, keepdims=keepdims)
    return xp.astype(found, bool)


def all_(xp: Namespace, x: Traced, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    found = xp.min(xp.astype(xp.astype(x, bool), np.int32), axis=axis, keepdims=keepdims)
    return xp.astype(found, bool)


def var(
    xp: Namespace, x: Traced, /, *, axis: Any = None, correction: float = 0, keepdims: bool = False
) -> Array:
    squares = xp.square(x - xp.mean(x, axis=axis, keepdims=True))
    if not correction:
        return xp.mean(squares, axis=axis, keepdims=keepdims)
    count: int = 1
    for one in _axes(axis, x.ndim):
        count = count * x.shape[one]
    return xp.sum(squares, axis=axis, keepdims=keepdims) / (count - int(correction))


def std(xp: Namespace, x: Traced, /, **options: Any) -> Array:
    return xp.sqrt(xp.var(x, **options))


def _chosen(operator: str) -> Callable[..., Array]:
    def choose(
        xp: Namespace, x: Traced, /, *, axis: int | None = None, keepdims: bool = False
    ) -> Array:
        if axis is None:
            x, axis = xp.reshape(x, (-1,)), 0
        axis %= x.ndim
        shape = [
            1 if one == axis else length
            for one, length in enumerate(x.shape)
            if keepdims or one != axis
        ]
        options = {"axis": axis, "keepdims": int(keepdims)}
        return xp.tape.emit(operator, [x], shape, np.int64, **options)

    return choose


def cumulative_sum(
    xp: Namespace, x: Traced, /, *, axis: int | None = None, dtype: Any = None, **options: Any
) -> Array:
    if options.get("include_initial"):
        raise ExportError("a cumulative_sum here begins with the first entry; put 0 in front of it")
    axis = 0 if axis is None else axis % x.ndim
    whole = np.int64 if kind_of(x.dtype) in "bi" else x.dtype
    x = xp.astype(x, whole if dtype is None else dtype)
    return xp.tape.emit("CumSum", [x, np.asarray(axis, np.int64)], x.shape, x.dtype)


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else _as_tuple(axis)


def _as_tuple(axis: Any) -> tuple[int, ...]:
    return tuple(axis) if isinstance(axis, tuple | list) else (axis,)


def _fixed(length: int) -> int:
    """A length that has to be known."""
    if isinstance(length, Size):
        raise ExportError(
            f"an axis is gone through entry by entry whose length, {length}, is free; leave it out "
            f"of free"
        )
    return length


# Arrays from shapes -------------------------------------------------------------------------------


def full(
    xp: Namespace, shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None
) -> Array:
    shape = _as_tuple(shape)
    if isinstance(fill_value, Traced):
        value = fill_value if dtype is None else xp.astype(fill_value, dtype)
        return xp.broadcast_to(value, shape)
    value = np.asarray(fill_value, dtype=_floats(fill_value) if dtype is None else dtype)
    if not any(isinstance(one, Size) for one in shape):
        return constant(np.full(shape, value), xp.tape)
    return xp.tape.emit("Expand", [value, xp.tape.shape(shape)], shape, value.dtype)


def _floats(value: Any) -> Any:
    return np.float64 if isinstance(value, float) else None


def zeros(xp: Namespace, shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    return full(xp, shape, 0, dtype=np.float64 if dtype is None else dtype)


def ones(xp: Namespace, shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    return full(xp, shape, 1, dtype=np.float64 if dtype is None else dtype)


def arange(
    xp: Namespace,
    start: Any,
    /,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Array:
    start, stop = (0, start) if stop is None else (start, stop)
    limits = start, stop, step
    if not any(isinstance(one, Size | Traced) for one in limits):
        return constant(numpy_xp.arange(*limits, dtype=dtype), xp.tape)
    if not all(isinstance(one, int) for one in limits):
        raise ExportError(f"arange goes by integers here, got {limits}")
    ends = [elementwise.as_scalar(xp, one) for one in limits]
    count = (stop - start + step - (1 if step > 0 else -1)) // step
    counted = xp.tape.emit("Range", ends, (count,), np.int64)
    return xp.astype(counted, np.int64 if dtype is None else dtype)


def eye(xp: Namespace, *sizes: Any, **options: Any) -> Array:
    return xp.constant(numpy_xp.eye, *map(_fixed, sizes), **options)


def linspace(xp: Namespace, start: Any, stop: Any, /, num: int, **options: Any) -> Array:
    return xp.constant(numpy_xp.linspace, start, stop, _fixed(num), **options)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        *(reshape, permute_dims, matrix_transpose, moveaxis, expand_dims, squeeze, broadcast_to),
        *(broadcast_arrays, concat, stack, unstack, flip, roll, tile, tril, triu, astype, asarray),
        *(matmul, vecdot, take, take_along_axis, zeros_like, ones_like, full_like, var, std),
        cumulative_sum,
    )
}
FUNCTIONS |= {
    "sum": _reduced("ReduceSum"),
    "prod": _reduced("ReduceProd"),
    "mean": _reduced("ReduceMean"),
    "max": _reduced("ReduceMax"),
    "min": _reduced("ReduceMin"),
    "argmax": _chosen("ArgMax"),
    "argmin": _chosen("ArgMin"),
    "any": any_,
    "all": all_,
}
SHAPED = {broadcast_to, reshape, tile}
"""What makes stand-ins even of constants, where a shape is free."""

CREATION = {one.__name__: one for one in (full, zeros, ones, arange, eye, linspace)}
CREATION["empty"] = zeros


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return numerics.sigmoid(x.astype(np.float64), numpy_xp).astype(x.dtype)


BY_NUMPY: dict[str, Callable[..., Any]] = {"sigmoid": _sigmoid}
"""Of constants, what NumPy has no function for."""
