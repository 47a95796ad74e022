"""Calls of a tape with their operands and targets bound, ready to run: nothing is looked up again.

Most calls write straight into the memory that their result was given. Python numbers become 0-d
arrays of the dtype that the call would convert them to, which saves that conversion at every run;
those that change are written before the calls that read them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnn.backends.numpy.arena import Arrays
from xpnn.backends.numpy.attention import attention, attention_gradients
from xpnn.backends.numpy.cores import Cores
from xpnn.backends.numpy.layout import laid_by_columns
from xpnn.backends.numpy.loops.loop import Loop, run_loop
from xpnn.backends.numpy.loops.running import bound_loop
from xpnn.backends.numpy.numbers import Numbers
from xpnn.backends.numpy.orders import as_equal_rows, lies_by_columns
from xpnn.backends.numpy.products import BY_NUMPY, Multiply, Products
from xpnn.backends.numpy.reductions import EXTREMES, reduction
from xpnn.backends.recording.calls import Call, Memory, Slot, View, kind_of, outer_first
from xpnn.backends.recording.joins import laid_as_joined
from xpnn.backends.recording.shapes import cast
from xpnn.trees import getter, leaves, tree_map

Bound = Callable[[], Any]

FEW = 1024  # items: a constant array of them is read faster than a number, in most calls
FAST_WITH_NUMBERS = (np.floor_divide, np.power)  # which have ways of their own for a number
FEW_TO_PUT = 4096  # items: up to so many, putmask takes half of the time of copyto
LARGE_TAKE = 65_536  # bytes, for which a second look at the indices pays
CACHED = 32_768  # items: an array of them stays in the cache while others go by


class Binder:
    """Binds calls to their arrays and numbers."""

    def __init__(
        self,
        arrays: Arrays,
        numbers: Numbers,
        cores: Cores | None = None,
        multiply: Multiply = BY_NUMPY,
    ):
        self.arrays, self.plan, self.numbers = arrays, arrays.plan, numbers
        self.cores, self.products = cores, Products(cores, multiply)
        self._filled: dict[Any, np.ndarray] = {}
        self._scratch: dict[Any, np.ndarray] = {}

    def bind(self, call: Call) -> list[Bound]:
        """What to run for one call."""
        special = SPECIAL.get(call.function)
        if special is not None:
            bound = special(self, call)
            if bound is not None:
                return bound
        if call.method == "__call__" and getattr(call.function, "nout", 0) == 1:
            return self.elementwise(call)
        if call.method == "reduce":
            return reduction(self, call)
        if all(isinstance(one, Slot) for one in call.results):
            return [self.count(call)]
        return [self.any_function(call)]

    def array(self, leaf: Any) -> Any:
        """An argument of a call as the call reads it, if it is not a number that changes."""
        return self.arrays[leaf] if isinstance(leaf, View) else leaf

    def target(self, call: Call) -> np.ndarray:
        """Where a call writes its only result."""
        (view,) = call.results
        return self.arrays[view]

    # Kinds of calls -------------------------------------------------------------------------------

    def elementwise(self, call: Call) -> list[Bound]:
        """A ufunc that writes into its target."""
        if call.function.signature is not None:  # such as np.vecdot, which is not elementwise
            return [partial(call.function, *self.operands(call), out=self.target(call))]
        out, *operands = self.with_filled_constants(call)
        copies, operands = self.with_repeated_row(operands, out)
        if call.function in EXTREMES:  # which deprecate a target by position
            return [*copies, partial(call.function, *operands, out=out)]
        return [*copies, partial(call.function, *operands, out)]

    def with_filled_constants(self, call: Call) -> list[np.ndarray]:
        """Target and operands of a ufunc, constants as arrays where that is faster.

        It is so beside few items, and in a maximum or minimum, which takes three times as long with
        a number. All are flattened then, if they lie alike. Beside many items the constant is one
        row for all rows of the others: it stays in the cache, where a whole array would not.
        """
        out, operands = self.target(call), self.operands(call)
        constants = [
            k
            for k, (one, mark) in enumerate(zip(operands, call.arguments, strict=True))
            if one.ndim == 0 and not isinstance(mark, Slot | View)
        ]
        few = out.size <= FEW and call.function not in FAST_WITH_NUMBERS
        if not constants or not (few or call.function in EXTREMES):
            return [out, *operands]
        rows = as_equal_rows([out, *operands], CACHED)
        out, *operands = rows or (out, *operands)
        for k in constants:
            value = operands[k]
            operands[k] = (
                self.filled(value, out.shape[-1:]) if rows else self.filled_like(out, value)
            )
        return [out, *operands]

    def with_repeated_row(
        self, operands: list[np.ndarray], out: np.ndarray
    ) -> tuple[list[Bound], list[np.ndarray]]:
        """Operands with copies in place of a row that all rows of small arrays meet.

        NumPy takes three times as long for an operand that it has to repeat as for a whole array.

        Returns:
            What makes the copies, to be run first, and the operands.
        """
        order = outer_first(out)
        alike = [one.transpose(order) for one in (out, *operands) if one.shape == out.shape]
        smaller = [k for k, one in enumerate(operands) if one.ndim and one.shape != out.shape]
        if len(smaller) != 1 or not 0 < out.size <= CACHED:
            return [], operands
        (k,) = smaller
        repeated = np.broadcast_to(operands[k], out.shape).transpose(order)
        row = repeated
        while row.ndim and (row.strides[0] == 0 or len(row) == 1):
            row = row[0]
        if not (1 < row.size < out.size and row.flags.c_contiguous):
            return [], operands
        if not all(one.flags.c_contiguous for one in alike):
            return [], operands
        copies = self.scratch(repeated.shape, row.dtype)
        first = np.zeros(out.size // row.size, np.intp)
        make = partial(row.reshape(1, -1).take, first, 0, copies.reshape(len(first), -1), "clip")
        turned = copies.transpose(np.argsort(order))
        return [make], [*operands[:k], turned, *operands[k + 1 :]]

    def filled(self, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """An array of that shape with one constant in it, made once."""
        key = (value.dtype, value.tobytes(), shape)
        if key not in self._filled:
            self._filled[key] = np.full(shape, value)
        return self._filled[key]

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Memory for what the very next call reads, the same for all of that shape and dtype."""
        if (shape, dtype) not in self._scratch:
            self._scratch[shape, dtype] = np.empty(shape, dtype)
        return self._scratch[shape, dtype]

    def filled_like(self, array: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The same, in the order of axes in which another array lies: one walk serves both."""
        order = outer_first(array)
        filled = self.filled(value, tuple(array.shape[axis] for axis in order))
        return filled.transpose(np.argsort(order))

    def operands(self, call: Call) -> list[np.ndarray]:
        """The arguments of a ufunc, numbers as 0-d arrays of the dtype that it computes in."""
        kinds = [kind_of(one) for one in call.arguments]
        if not any(kind is int or kind is float for kind in kinds):
            return [np.asarray(self.array(one)) for one in call.arguments]
        dtypes = call.function.resolve_dtypes((*kinds, None))
        return [
            self.numbers.array(one, dtype)
            if isinstance(one, Slot)
            else np.asarray(one, dtype)
            if kind is int or kind is float
            else np.asarray(self.array(one))
            for one, kind, dtype in zip(call.arguments, kinds, dtypes, strict=False)
        ]

    def count(self, call: Call) -> Bound:
        """A function of Python numbers alone."""
        marks = leaves(call.arguments)
        indices = [
            one.number if isinstance(one, Slot) else self.numbers.constant(one) for one in marks
        ]
        count, first = len(call.results), call.results[0].number
        assert [slot.number for slot in call.results] == [*range(first, first + count)]
        followers, values = self.numbers.set_together(first, first + count), self.numbers.values
        function, read = call.function, getter(indices)

        def run() -> None:
            found = function(*read(values))
            found = (found,) if call.returns_one else found
            if len(found) != count:
                raise ValueError(f"wanted {count} numbers of {function}, got {len(found)}")
            values[first : first + count] = found
            for array, index in followers:
                array[()] = values[index]

        return run

    def any_function(self, call: Call) -> Bound:
        """A function that makes arrays of its own, whose values are copied."""
        arguments, options = (
            tree_map(self.array, call.arguments),
            tree_map(self.array, call.options),
        )
        if any(isinstance(one, Slot) for one in leaves((arguments, options))):
            run = partial(self._with_numbers, call.function, arguments, options)
        else:
            run = partial(call.function, *arguments, **options)
        targets = [self.array(one) for one in call.results]  # None for what is a view
        return partial(self._store, run, targets)

    def _with_numbers(self, function: Any, arguments: Any, options: Any) -> Any:
        def value(leaf: Any) -> Any:
            return self.numbers.values[leaf.number] if isinstance(leaf, Slot) else leaf

        return function(*tree_map(value, arguments), **tree_map(value, options))

    def _store(self, run: Bound, targets: Sequence[Any]) -> None:
        for target, result in zip(targets, leaves(run()), strict=True):
            if isinstance(target, Slot):
                self.numbers.set(target.number, result)
            elif target is not None:
                np.copyto(target, result)


def bind_each(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The calls to bind, each by itself."""
    return laid_as_joined(laid_by_columns(calls, kept), kept)


# Calls with a way of their own --------------------------------------------------------------------


def _matmul(binder: Binder, call: Call) -> list[Bound] | None:
    """Products of two matrices by ``dot``, which asks less; a stack times a matrix as one."""
    if any(isinstance(one, Slot) for one in call.arguments):
        return None
    (a, b), out = map(binder.array, call.arguments), binder.target(call)
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous and out.flags.c_contiguous:
        a, out = a.reshape(-1, a.shape[-1]), out.reshape(-1, out.shape[-1])
    if a.ndim == b.ndim == 2 and a.dtype == b.dtype == out.dtype:
        if out.flags.c_contiguous:
            return [binder.products.matrices(a, b, out)]
        if lies_by_columns(out):
            return [binder.products.matrices(b.T, a.T, out.T)]
    return [binder.products.stack(a, b, out)]


def _cast(binder: Binder, call: Call) -> list[Bound]:
    return [partial(np.copyto, binder.target(call), binder.array(call.arguments[0]), "unsafe")]


def _take(binder: Binder, call: Call) -> list[Bound] | None:
    if len(call.arguments) != 2 or set(call.options) != {"axis"}:
        return None
    if not isinstance(call.arguments[0], View | np.ndarray) or call.options["axis"] is None:
        return None
    array, indices = map(binder.array, call.arguments)
    axis, out = call.options["axis"], binder.target(call)
    if out.nbytes < LARGE_TAKE:
        return [partial(array.take, indices, axis, out)]
    return [partial(_take_unbuffered, array, indices, axis, out)]


def _take_unbuffered(array: np.ndarray, indices: np.ndarray, axis: int, out: np.ndarray) -> None:
    """``take``, which fills memory of its own first where it has to look at each index."""
    if indices.min() >= 0 and indices.max() < array.shape[axis]:
        array.take(indices, axis, out, "clip")
    else:
        array.take(indices, axis, out)


def _where(binder: Binder, call: Call) -> list[Bound] | None:
    """One of the two everywhere, then the other over it where the condition holds."""
    if call.options:
        return None
    condition, yes, no = map(binder.array, call.arguments)
    out = binder.target(call)
    other = partial(out.fill, no) if np.ndim(no) == 0 else partial(np.copyto, out, no)
    if out.size <= FEW_TO_PUT and np.shape(condition) == np.shape(yes) == out.shape:
        rows = [one.T if lies_by_columns(out) else one for one in (out, condition, yes)]
        if all(one.flags.c_contiguous for one in rows):
            return [other, partial(np.putmask, *rows)]
    return [other, partial(np.copyto, out, yes, "same_kind", condition)]


def _join(binder: Binder, call: Call) -> list[Bound] | None:
    """Pieces side by side, but for those that were made in their place."""
    parts = call.placements()
    left = [(piece, place) for piece, place in parts if not _in_place(binder, piece, place)]
    if not parts:
        return None
    if len(left) == len(parts) > 1 and not call.stacks_along_first_axis():
        pieces, *axis = call.arguments
        where = axis[0] if axis else call.options.get("axis", 0)
        arrays = [binder.array(piece) for piece in pieces]
        if call.function is np.stack:
            arrays = [np.expand_dims(array, where) for array in arrays]
        return [partial(np.concatenate, arrays, where, binder.target(call))]
    return [
        partial(np.copyto, binder.arrays[place], binder.array(piece))
        for piece, place in left
        if place.nbytes
    ]


def _in_place(binder: Binder, piece: Any, place: View) -> bool:
    return isinstance(piece, View) and binder.plan.made_in_place(piece, place)


def _into_targets(binder: Binder, call: Call) -> list[Bound]:
    """A function that takes the arrays for its results as ``out``."""
    arguments = tree_map(binder.array, call.arguments)
    return [partial(call.function, *arguments, out=[binder.array(one) for one in call.results])]


def _loop(binder: Binder, call: Call) -> list[Bound]:
    assert isinstance(call, Loop)
    return bound_loop(call, binder.arrays, binder.numbers, binder.cores)


SPECIAL: dict[Any, Callable[[Binder, Call], list[Bound] | None]] = {
    np.matmul: _matmul,
    cast: _cast,
    np.reshape: _join,
    np.take: _take,
    np.where: _where,
    np.concatenate: _join,
    np.stack: _join,
    attention: _into_targets,
    attention_gradients: _into_targets,
    run_loop: _loop,
}
