"""A recording as few launches: kernels that are generated, products by cuBLAS, all else as it is.

What nobody reads any more goes back to CuPy's pool, in the order of the calls.
"""

import functools
import operator
from collections.abc import Callable, Container, Sequence
from types import MethodType
from typing import Any, TypeAlias

import numpy as np

from xpnn.backends.cupy.accesses import listeners, tell
from xpnn.backends.cupy.columns import columns_kernel
from xpnn.backends.cupy.compiling import compile_together, compiled
from xpnn.backends.cupy.formulas import is_known
from xpnn.backends.cupy.generated import Kernel, kernel_of
from xpnn.backends.cupy.kernels import concat, stack
from xpnn.backends.cupy.products import multiply_into
from xpnn.backends.portable.base import Backend
from xpnn.backends.recording.calls import Call, Memory, NotRecordable, View
from xpnn.backends.recording.kernels import KernelGroup, KernelGroups
from xpnn.backends.recording.recording import Recording
from xpnn.backends.recording.shapes import cast
from xpnn.backends.recording.text import REDUCTIONS
from xpnn.backends.recording.walks import long_axes
from xpnn.trees import leaves, tree_map
from xpnn.typing import Array

Places: TypeAlias = dict[Memory, tuple[Memory, int]]
"""What is made at some byte of another memory."""


class Program:
    """What runs in place of a recorded step, on CuPy's current stream.

    Args:
        recording: made on a ``Recorder`` for the backend.
        backend: on whose arrays it runs.

    Raises:
        NotRecordable: there is something in the recording that this cannot run.
    """

    def __init__(self, recording: Recording, backend: Backend):
        self.recording, self.backend = recording, backend
        if recording.slots:
            raise NotRecordable("a number that changes is kept on the host")
        grouping = KernelGroups(recording, is_known)
        groups = grouping.in_order()
        self.results = grouping.results
        given = {view.memory for view in recording.views.values()}
        given_or_kept = given | {one.memory for one in self.results if isinstance(one, View)}
        over = _written_over(groups, grouping.aliases)
        laid, joining = _laid_as_joined(groups, given_or_kept)
        self.steps: list[Kernel | Call] = [
            kernel_of(group, grouping.shared, over.keys(), laid) if group.walks else group.call
            for group in groups
            if group not in joining
        ]
        places = _places(self.steps, given)
        safe = over.keys() & _made_last(self.steps, over.keys())
        self._places = places | {new: (old, 0) for new, old in over.items()}
        self._safe_places = places | {new: (over[new], 0) for new in safe}
        self._dropped = _dropped(
            self.steps, {one.memory for one in self.results if isinstance(one, View)}
        )
        with backend.on_device():
            self._constants = {
                memory: backend.from_numpy(array) for memory, array in grouping.constants.items()
            }
            # what is not to be had ends it here, before any has run
            _compile([step for step in self.steps if isinstance(step, Kernel)])
            for step in self.steps:
                if isinstance(step, Call):
                    _function_of(step, backend)

    def arranged(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments where the program reads them: those that it has joined side by side.

        Arrays that do not lie so, or not in the order of their axes, are copied.
        """
        import cupy

        form, views = self.recording.form, self.recording.views
        given = form.flatten(arguments)
        for k in views:
            if not given[k].flags.c_contiguous:
                given[k] = given[k].copy()
        for joint in self.recording.joints:
            parts = {k: view for k, view in views.items() if view.memory is joint}
            starts = {given[k].data.ptr - view.offset for k, view in parts.items()}
            if len(starts) > 1:
                memory = cupy.cuda.alloc(joint.nbytes)
                for k, view in parts.items():
                    own = cupy.ndarray(view.shape, view.dtype, memory + view.offset)
                    own[...] = given[k]
                    given[k] = own
        arranged: tuple[Any, ...] = form.rebuild(given)
        return arranged

    def __call__(self, *arguments: Any) -> Any:
        """What the step returns, parameters and slots written over.

        Args:
            arguments: as ``arranged`` returns them.
        """
        return self._run(arguments, self._places)

    def rehearse(self, *arguments: Any) -> Any:
        """The same, but that nothing is written over before all memory is had that it takes."""
        return self._run(arguments, self._safe_places)

    def _run(self, arguments: tuple[Any, ...], places: "Places") -> Any:
        given = self.recording.form.flatten(arguments)
        pointers = {memory: array.data for memory, array in self._constants.items()}
        for k, view in self.recording.views.items():
            pointers[view.memory] = given[k].data - view.offset
        arrays = Arrays(pointers, places)
        for step, dropped in zip(self.steps, self._dropped, strict=True):
            if isinstance(step, Kernel):
                _launch(step, arrays)
            else:
                _call(step, arrays, self.backend)
            if listeners:
                _tell(step, arrays)
            for memory in dropped:
                pointers.pop(memory, None)
        return self.recording.result_form.rebuild(self._in_place(arrays, given))[0]

    def _in_place(self, arrays: "Arrays", given: list[Any]) -> list[Any]:
        """The results, those that replace an argument where it lies."""
        results = [arrays[one] if isinstance(one, View) else one for one in self.results]
        for k, old in enumerate(self.recording.replaced):
            if old is not None:
                if results[k].data.ptr != given[old].data.ptr:
                    given[old][...] = results[k]
                results[k] = given[old]
        return results


class Arrays:
    """The arrays of one run, by where they lie in a recording."""

    def __init__(self, pointers: dict[Memory, Any], places: Places):
        import cupy

        self._cupy, self._pointers, self._places = cupy, pointers, places

    def __getitem__(self, view: View) -> Array:
        pointer = self._pointers[view.memory] + view.offset
        return self._cupy.ndarray(view.shape, view.dtype, pointer, view.strides)

    def __setitem__(self, view: View, array: Array) -> None:
        """What a function has made; copied where it has a place, or does not lie as recorded."""
        fits = array.dtype == view.dtype and _lies_alike(array, view)
        if fits and view.memory not in self._places:
            self._pointers[view.memory] = array.data
        else:
            self.make(view.memory)
            self[view][...] = array

    def make(self, memory: Memory) -> None:
        """Bytes for what will lie there: its place in another memory, or memory of its own.

        They are there already where another part of them was made before.
        """
        if memory in self._pointers:
            return
        if memory in self._places:
            outer, start = self._places[memory]
            if outer not in self._pointers:
                self.make(outer)
            self._pointers[memory] = self._pointers[outer] + start
        else:
            self._pointers[memory] = self._cupy.cuda.alloc(memory.nbytes)

    def has_place(self, view: View, outer: Memory, start: int) -> bool:
        """Whether it lies at that byte of another memory from the start."""
        return self._places.get(view.memory) == (outer, start)


def _lies_alike(array: Array, view: View) -> bool:
    pairs = zip(view.shape, array.strides, view.strides, strict=True)
    return all(length == 1 or one == other for length, one, other in pairs)


def _written_over(
    groups: Sequence[KernelGroup], aliases: dict[Memory, Memory]
) -> dict[Memory, Memory]:
    """Which results are made where the argument lies that each takes the place of.

    It has to be read for the last time by the kernel that makes the result, item over item, or
    before it. A kernel that goes by rows reads some of them again when it has written others.
    """
    last = {memory: number for number, group in enumerate(groups) for memory in group.reads()}
    found = {}
    for number, group in enumerate(groups):
        for result in group.writes() if group.walks and group.row is None else ():
            old = aliases.get(result)
            if old is None or last.get(old, -1) > number:
                continue
            if group.reads_in_order(old):
                found[result] = old
    return found


def _laid_as_joined(
    groups: Sequence[KernelGroup], kept: set[Memory]
) -> tuple[dict[Memory, View], set[KernelGroup]]:
    """Where kernels write what is only made to be joined, but for first axes; who would join it.

    Args:
        kept: what is read before or behind all of them.
    """
    readers: dict[Memory, set[KernelGroup]] = {}
    makers: dict[Memory, KernelGroup] = {}
    for group in groups:
        for memory in group.reads():
            readers.setdefault(memory, set()).add(group)
        makers |= dict.fromkeys(group.writes(), group)
    laid: dict[Memory, View] = {}
    joining = set()
    for group in groups:
        if group.walks or group.call.function not in (np.concatenate, np.stack):
            continue
        pairs = group.call.placements()
        if group.call.stacks_along_first_axis() or not pairs or not pairs[0][1].memory.nbytes:
            continue
        pieces = [piece.memory for piece, _ in pairs if isinstance(piece, View)]
        if len({*pieces}) == len(pairs) and all(
            _is_laid(makers.get(piece.memory), *pair)
            and piece.memory not in kept
            and readers[piece.memory] <= {group, makers[piece.memory]}
            for pair in pairs
            for piece in pair[:1]
        ):
            laid |= {piece.memory: long_axes(place) for piece, place in pairs}
            joining.add(group)
    return laid, joining


def _is_laid(maker: KernelGroup | None, piece: View, place: View) -> bool:
    """Whether the kernel that makes an array can write it to its place instead, item by item."""
    if maker is None or not piece.is_whole or piece.dtype != place.dtype:
        return False
    return any(
        walk.result.memory is piece.memory
        and walk.kind == "cells"
        and walk.items == maker.items
        and walk.shape == long_axes(piece).shape
        for walk in maker.walks.values()
    )


def _made_last(steps: Sequence[Kernel | Call], over: Container[Memory]) -> set[Memory]:
    """What is made behind the last step that takes memory for something else than ``over``."""
    made: set[Memory] = set()
    for step in reversed(steps):
        own = {view.memory for view in step.writes()}
        if isinstance(step, Call) or step.columns or not all(memory in over for memory in own):
            break
        made |= own
    return made


def _places(steps: Sequence[Kernel | Call], given: set[Memory]) -> Places:
    """What is made to be put behind other arrays, and where it then lies: it is made there."""
    places: Places = {}
    made = {view.memory for step in steps for view in step.writes()} - given
    for step in steps:
        if isinstance(step, Kernel) or not step.stacks_along_first_axis():
            continue
        (joint,), start = step.results, 0
        for piece in step.arguments[0]:
            if isinstance(piece, View) and piece.is_whole and piece.memory in made - places.keys():
                places[piece.memory] = joint.memory, start
            start += piece.nbytes
    return places


def _dropped(steps: Sequence[Kernel | Call], kept: set[Memory]) -> list[list[Memory]]:
    """For each step what nobody reads behind it."""
    last = {view.memory: number for number, step in enumerate(steps) for view in step.views()}
    dropped: list[list[Memory]] = [[] for _ in steps]
    for memory, number in last.items():
        if memory not in kept:
            dropped[number].append(memory)
    return dropped


def _tell(step: Kernel | Call, arrays: Arrays) -> None:
    name = step.name if isinstance(step, Kernel) else step.function.__name__
    tell(name, [arrays[view] for view in step.views()], [arrays[view] for view in step.writes()])


def _launch(kernel: Kernel, arrays: Arrays) -> None:
    """A kernel, and what adds up its columns over its blocks."""
    import cupy

    for view in (*kernel.made, *kernel.columns):
        arrays.make(view.memory)
    count = np.int32(kernel.count) if kernel.count_is_int else np.int64(kernel.count)
    given = [arrays[view] for view in kernel.given]
    shape = kernel.blocks[1], kernel.row
    sums = [cupy.empty(shape, "d" if view.dtype.char == "d" else "f") for view in kernel.columns]
    function = compiled(kernel.source)
    counts = [count] if kernel.pack == 1 else [count, _begin_with_packs(kernel, arrays)]
    function(kernel.blocks, kernel.threads, (*given, *sums, *counts))
    if sums:
        targets = [arrays[view] for view in kernel.columns]
        pairs = [one for pair in zip(sums, targets, strict=True) for one in pair]
        blocks = -(-kernel.row // 32), len(sums)
        compiled(_adding_up(kernel)[0])(blocks, (32, 32), (*pairs, *map(np.int32, shape)))


def _begin_with_packs(kernel: Kernel, arrays: Arrays) -> np.bool_:
    """Whether what it reads in packs begins at addresses where it may."""
    return np.bool_(
        not any(
            arrays[view].data.ptr % (kernel.pack * view.dtype.itemsize) for view in kernel.packed
        )
    )


def _adding_up(kernel: Kernel) -> tuple[str, str]:
    """The source and the name of what adds up its columns."""
    return columns_kernel(tuple(view.dtype.char for view in kernel.columns))


def _compile(kernels: Sequence[Kernel]) -> None:
    """With what adds up their columns."""
    names = {one.source: one.name for one in kernels}
    compile_together(names | dict(_adding_up(one) for one in kernels if one.columns))


def _call(call: Call, arrays: Arrays, backend: Backend) -> None:
    def value(leaf: Any) -> Any:
        return arrays[leaf] if isinstance(leaf, View) else leaf

    if call.function is np.matmul:
        (view,) = call.results
        arrays.make(view.memory)
        a, b = map(value, call.arguments)
        if multiply_into(a, b, arrays[view]):
            return
    if call.stacks_along_first_axis():
        _join(call, arrays)
        return
    function = _function_of(call, backend)
    made = function(*tree_map(value, call.arguments), **tree_map(value, call.options))
    for mark, one in zip(call.results, leaves(made), strict=True):
        if isinstance(mark, View):
            arrays[mark] = one


def _join(call: Call, arrays: Arrays) -> None:
    """Arrays behind each other: those that do not lie there from the start are copied."""
    (joint,), start, missing = call.results, 0, []
    pieces = [piece for piece in call.arguments[0] if piece.nbytes]
    for piece in pieces:
        if not arrays.has_place(piece, joint.memory, start):
            missing.append((start // joint.dtype.itemsize, arrays[piece].reshape(-1)))
        start += piece.nbytes
    if len(missing) == len(pieces):
        arrays[joint] = concat([array for _, array in missing]).reshape(joint.shape)
        return
    whole = arrays[joint].reshape(-1)
    for at, array in missing:
        whole[at : at + array.size] = array


def _function_of(call: Call, backend: Backend) -> Callable[..., Any]:
    """What CuPy has for a call of NumPy's; a method of the backend is its own."""
    import cupy

    own: dict[Any, Callable[..., Any]] = {
        np.matmul: operator.matmul,
        np.concatenate: concat,
        np.stack: stack,
        cast: cupy.ndarray.astype,
        operator.getitem: operator.getitem,
    }
    function = call.function
    if call.method == "reduce":
        if function.__name__ not in REDUCTIONS:
            raise NotRecordable(f"CuPy is not asked for reductions by {function.__name__}")
        return functools.partial(_reduced, backend, function)
    if function in own:
        return own[function]
    if isinstance(function, MethodType | functools.partial):  # of the backend
        is_scatter = getattr(function, "__name__", "") == "scatter_add"
        return functools.partial(_scattered, function) if is_scatter else function
    found: Callable[..., Any] | None = getattr(cupy, function.__name__, None)
    if found is None:
        raise NotRecordable(f"CuPy has no {function.__name__}")
    return found


def _scattered(scatter_add: Callable[..., Array], array: Array, *rest: Array) -> Array:
    """Into a copy, as the array is read at every run."""
    return scatter_add(array.copy(), *rest)


def _reduced(backend: Backend, ufunc: Any, array: Array, **options: Any) -> Array:
    """A sum or an extreme over some axes."""
    import cupy

    axis, keepdims = options.get("axis", 0), options.get("keepdims", False)
    if ufunc is np.add and axis == tuple(range(array.ndim - 1)) and not keepdims:
        total: Array = backend.sums(None, features=True)(array)
        return total
    if ufunc is np.add:
        return backend.xp.sum(array, axis=axis, dtype=options.get("dtype"), keepdims=keepdims)
    return getattr(cupy, REDUCTIONS[ufunc.__name__])(array, axis=axis, keepdims=keepdims)
