"""A training step as a CUDA graph: captured once for each shape of a batch, then replayed.

A replay launches all kernels of a step at once, without Python between them. They read and write
fixed memory: that of the parameters, the optimizer's slots and the counters, which are donated, a
buffer for each input, and a memory pool of the step's own for all that lies between.
"""

import ctypes
import functools
import logging
import sys
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xpnn.backends.cupy.accesses import listeners, tell
from xpnn.backends.cupy.communicator import captured_beside
from xpnn.backends.cupy.cudnn import Plan, keeping_plans
from xpnn.backends.cupy.products import Products
from xpnn.backends.portable.compiled_step import (
    MOST_UNITS,
    CompiledStep,
    NotCompilable,
    successors,
)
from xpnn.backends.portable.garbage import no_garbage_collected
from xpnn.trees import Structure, leaves, tree_map

logger = logging.getLogger("xpnn")

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
FORBIDDEN = range(900, 909)  # cudaErrorStreamCaptureUnsupported to ...CaptureWrongThread
IN_WORDS = "stream is capturing", "during stream capture"  # what CuPy itself forbids
LOADED = "an argument, put where a graph reads it"
RELAXED = 2  # cudaStreamCaptureModeRelaxed: the pool may ask for memory meanwhile


class CapturedStep(CompiledStep):
    """A pure step of nested dicts and tuples of arrays, as a graph for each form of its arguments.

    The first call of a form runs kernel by kernel, and the second one, too, but where graphs are
    captured: a rehearsal, in which cuBLAS loads its kernels. The third one is captured. Before the
    second and the third, CuPy's pool gives back what the call before has left in it.

    Args:
        step: what it returns depends on its arguments alone, but for constants that it makes once.
        donate: positions of arguments that are written over. The first results take their place,
            in their order.
        held: positions of arguments that mostly are the same arrays from call to call: read where
            they lie, while others are copied into buffers.
        required: whether a step that cannot be captured is a CompileError.
        fused: makes the ``Program`` that is captured in place of the step, from its arguments.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
        fused: Callable[[tuple[Any, ...]], Any] | None = None,
    ):
        super().__init__(step, donate, required)
        self.fused, self.asked = fused, True if fused is None else "fused"
        self.held = frozenset(held)
        self.seen: dict[Any, Any] = {}  # forms, the last one last: the step or program to capture

    def make(self, arguments: tuple[Any, ...]) -> "Graph | None":
        """A graph of the step; where memory runs out, once more without all other graphs."""
        key = _form_key(arguments)
        step = self.seen.get(key)
        if step is None:
            return None
        _give_back()
        if self.fused is not None:
            arguments = step.arranged(arguments)
        given = step, arguments, self.donate, self.held, self.context, key
        try:
            return Graph(*given)
        except MemoryError:
            self._forget()
        try:
            return Graph(*given)
        except MemoryError as error:
            self._forget()
            raise NotCompilable(f"a graph needs memory of its own, and {error}") from error

    def call_by_call(self, arguments: tuple[Any, ...]) -> Any:
        if self.refusal is not None:
            return super().call_by_call(arguments)
        key = _form_key(arguments)
        if key is None or key not in self.seen:
            _tell("a step", arguments, self.donate)
            results = super().call_by_call(arguments)
            self._note(key, None)
        else:
            _give_back()
            made: Any = self.step
            run = self.step
            if self.fused is not None:
                try:
                    made = self.fused(arguments)
                except NotCompilable as reason:
                    self.refuse(reason)
                run, arguments = made.rehearse, made.arranged(arguments)
            results = self.context.rehearse(run, arguments, self.donate)
            self._note(key, made)
        return results

    def _note(self, key: Any, made: Any) -> None:
        """A form has run, with what is to be captured, if it was rehearsed; few are remembered."""
        self.seen.pop(key, None)
        self.seen[key] = made
        if len(self.seen) > MOST_UNITS:
            del self.seen[next(iter(self.seen))]

    def try_out(self, take: Callable[[], Any], arguments: Callable[[], tuple[Any, ...]]) -> None:
        for _ in range(3):  # kernel by kernel, as a rehearsal, captured
            take()

    @functools.cached_property
    def context(self) -> "CaptureContext":
        """Where the step is captured."""
        return CaptureContext()

    def _forget(self) -> None:
        """Free the memory of all graphs."""
        self.units = []
        self.context.pool.free_all_blocks()


def _give_back() -> None:
    """Give what CuPy's own pool keeps free back to the device; waits for it.

    A step that ran kernel by kernel has left as much as it takes. The pool has free blocks for each
    stream, and so a rehearsal could not use them, nor could a graph, which has a pool of its own.
    """
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()


def _tell(what: str, arguments: tuple[Any, ...], donate: Container[int]) -> None:
    """Say that the current stream reads all arguments, and writes over donated ones."""
    if listeners:
        donated = [one for number, one in enumerate(arguments) if number in donate]
        tell(what, leaves(arguments), leaves(donated))


def _form_key(arguments: tuple[Any, ...]) -> Any:
    """What arguments of one form have in common; None where they cannot be part of a graph."""
    form = Structure(arguments)
    leaves = [
        (one.shape, one.dtype.char) if hasattr(one, "dtype") else one
        for one in form.flatten(arguments)
    ]
    key = (tuple(form.paths), tuple(leaves))
    try:
        hash(key)
    except TypeError:
        return None
    return key


class CaptureContext:
    """Where graphs are captured: a stream, a memory pool and a cuBLAS handle of their own.

    Plans of cuDNN that were captured live as long, as they own kernels that the graphs launch.

    A pool of CuPy's that is merely dropped never gives its free blocks back to the device. So it is
    emptied when the last graph is gone, and the arrays of the graphs before it, whatever order
    Python's garbage collector takes them in.
    """

    def __init__(self) -> None:
        import cupy

        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool, self.trials = cupy.cuda.MemoryPool(_allocated), cupy.cuda.MemoryPool()
        self.products = Products(self.stream)
        self.plans: set[Plan] = set()
        self._kept: dict[int, list[Any]] = {}
        own = self._kept, self.pool, self.trials, cupy.cuda.Device()
        weakref.finalize(self, _emptied, *own).atexit = False

    def keep(self, arrays: list[Any], graph: "Graph") -> list[Any]:
        """The list that holds arrays of the pool as long as the graph lives."""
        self._kept[id(graph)] = arrays
        weakref.finalize(graph, self._kept.pop, id(graph), None).atexit = False
        return arrays

    def rehearse(
        self, step: Callable[..., Any], arguments: tuple[Any, ...], donate: Container[int] = ()
    ) -> Any:
        """What the step returns when it is called here, so that cuBLAS has loaded its kernels.

        It has a pool of its own, out of which new results are copied, as a small one keeps all of
        the block that it was cut from. So the copies are not cut from those of CuPy's pool either
        that are left of the step before: for another stream it has others.
        """
        import cupy

        arrays = [one for one in leaves(arguments) if isinstance(one, cupy.ndarray)]
        given = {one.data.mem.ptr for one in arrays}

        def kept(leaf: Any) -> Any:
            if not isinstance(leaf, cupy.ndarray) or leaf.data.mem.ptr in given:
                return leaf
            copy = leaf.copy()
            tell("a result of a rehearsal, copied", [leaf], [copy])
            return copy

        self.trials.free_all_blocks()
        with (
            _on(self.stream),
            self.products.instead_of_cupy(),
            cupy.cuda.using_allocator(self.trials.malloc),
        ):
            _tell("a rehearsal", arguments, donate)
            results = step(*arguments)
        with _on(_beside(cupy.cuda.get_current_stream().ptr, cupy.cuda.Device().id)):
            results = tree_map(kept, results)
        self.trials.free_all_blocks()
        return results

    def capture(self, function: Callable[[], Any]) -> tuple[Any, Any]:
        """What ``function`` launches, as a graph that did not run yet, and what it returns.

        Raises:
            NotCompilable: it does what CUDA or CuPy forbid while a stream is captured.
        """
        import cupy

        with (
            self.stream,
            self.products.instead_of_cupy(),
            cupy.cuda.using_allocator(self.pool.malloc),
            captured_beside(),
            keeping_plans(self.plans),
            no_garbage_collected(),
            _refused_by_cuda(),
        ):
            self.stream.begin_capture(RELAXED)
            try:
                results = function()
            except BaseException:
                self._drop_capture()
                raise
            return self.stream.end_capture(), results

    def _drop_capture(self) -> None:
        """End a capture that failed; what it says of the stream's state adds nothing."""
        import cupy

        try:
            self.stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError:
            logger.debug("the stream was left by a failed capture", exc_info=True)


@contextmanager
def _on(stream: Any) -> Iterator[None]:
    """A context in which work goes to that stream, in its turn between that of the one around."""
    import cupy

    outside = cupy.cuda.get_current_stream()
    stream.wait_event(outside.record())
    try:
        with stream:
            yield
    finally:
        outside.wait_event(stream.record())


@functools.cache
def _beside(stream: int, device: int) -> Any:
    """A second stream for one of a device, by its address.

    What CuPy's pool has for it is handed out in the order of that one alone. The stream of a
    context will not do: when it is gone, another may have its address, and so its memory, at once.
    """
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


def _emptied(kept: dict[int, list[Any]], pool: Any, trials: Any, device: Any) -> None:
    """Give all memory of the pools back to their device; nobody may read the arrays any more."""
    for arrays in kept.values():
        arrays.clear()
    with device:
        pool.free_all_blocks()
        trials.free_all_blocks()


@contextmanager
def _refused_by_cuda() -> Iterator[None]:
    """A context in which what is forbidden during a capture is NotCompilable.

    CUDA says so by error codes of its own, CuPy in the words of a plain RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError and CUDA's are such
        if getattr(error, "status", None) in FORBIDDEN or any(
            one in str(error) for one in IN_WORDS
        ):
            raise NotCompilable(str(error)) from error
        raise


def _allocated(size: int) -> Any:
    """Memory for the pool of a context; MemoryError if there is none.

    CuPy's own allocator raises another error, at which the pool gives all its free blocks back to
    the device and tries again. But these are what graphs captured earlier work in.
    """
    import cupy

    try:
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status != OUT_OF_MEMORY:
            raise
        raise MemoryError(f"a graph asked for {size:,} bytes more: {error}") from error


def count_launches(function: Callable[[], Any]) -> int:
    """How many kernels, copies and matrix products ``function`` launches on the current device.

    It is called twice: once as it is, so that kernels are compiled and constants made, and once
    captured, which runs nothing, and whose graph has as many nodes.
    """
    function()
    graph, _ = CaptureContext().capture(function)
    return nodes_of(graph)


def nodes_of(graph: Any) -> int:
    """How many kernels, copies and other nodes a CUDA graph has."""
    count = ctypes.c_size_t()
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    status = driver.cuGraphGetNodes(ctypes.c_void_p(graph.graph), None, ctypes.byref(count))
    if status:
        raise RuntimeError(f"the nodes of a graph could not be counted: CUDA error {status}")
    return count.value


class Graph:
    """One captured step, with the memory that it reads and writes."""

    def __init__(
        self,
        step: Callable[..., Any],
        arguments: tuple[Any, ...],
        donate: frozenset[int],
        held: frozenset[int],
        context: CaptureContext,
        key: Any = None,
    ):
        import cupy

        self.form, self.context, self.form_key = Structure(arguments), context, key
        self.recording = getattr(step, "recording", None)  # of a program, what it was made of
        given = self.form.flatten(arguments)
        numbers = [path[0] for path in self.form.paths]
        arrays = [isinstance(leaf, cupy.ndarray) for leaf in given]
        self._arrays = [k for k, is_array in enumerate(arrays) if is_array]
        self._constants = [k for k, is_array in enumerate(arrays) if not is_array]
        self._held = {k for k in self._arrays if numbers[k] in held}
        self._donated = [k for k in self._arrays if numbers[k] in donate]
        self.leaves = list(given)
        for k in self._arrays:
            own = numbers[k] in donate and given[k].flags.c_contiguous
            if not own and k not in self._held:
                self.leaves[k] = cupy.array(given[k], order="C")
                tell(LOADED, [given[k]], [self.leaves[k]])
        self._addresses = {k: self.leaves[k].data.ptr for k in self._arrays}
        self._memory = {self.leaves[k].data.mem.ptr for k in self._arrays}
        self.graph, results = context.capture(lambda: self._captured(step, donate))
        self.results = context.keep(results, self)

    def _captured(self, step: Callable[..., Any], donate: frozenset[int]) -> list[Any]:
        """Run the step on the fixed memory, and put results back to where the next step reads."""
        import cupy

        results = (step(*self.form.rebuild(self.leaves)),)
        self.result_form = Structure(results)
        new = self.result_form.flatten(results)
        olds = [
            old if old in self._addresses else None
            for old in successors(self.form, self.result_form, donate)
        ]
        self._fresh = [
            k for k, old in enumerate(olds) if old is None and isinstance(new[k], cupy.ndarray)
        ]
        taken = set(self._addresses.values())
        moves = [
            (self.leaves[old], new[k].copy() if new[k].data.ptr in taken else new[k])
            for k, old in enumerate(olds)
            if old is not None and new[k].data.ptr != self._addresses[old]
        ]
        for own, array in moves:
            if own.shape != array.shape or own.dtype != array.dtype:
                raise NotCompilable("what is returned in place of an argument differs in form")
            own[...] = array
        return [
            one if old is None else self.leaves[old] for one, old in zip(new, olds, strict=True)
        ]

    def load(self, arguments: tuple[Any, ...]) -> bool:
        """Put arguments where the graph reads them; False if the graph is not for them."""
        import cupy

        try:
            given = self.form.flatten(arguments)
        except (LookupError, TypeError):
            return False
        own = self.leaves
        for k in self._constants:
            if type(given[k]) is not type(own[k]) or given[k] != own[k]:
                return False
        for k in self._arrays:
            one = given[k]
            if not isinstance(one, cupy.ndarray):
                return False
            if one.shape != own[k].shape or one.dtype != own[k].dtype:
                return False
            if k in self._held and not self._lies_there(k, one):
                return False
        moved = [  # copies of what one of these writes could change before it is read
            (k, given[k].copy() if given[k].data.mem.ptr in self._memory else given[k])
            for k in self._arrays
            if not self._lies_there(k, given[k])
        ]
        for k, one in moved:
            tell(LOADED, [one], [own[k]])
            own[k][...] = one
        return True

    def _lies_there(self, k: int, array: Any) -> bool:
        """Whether the graph reads this very array."""
        return array.data.ptr == self._addresses[k] and array.strides == self.leaves[k].strides

    def run(self) -> Any:
        """Launch on the current stream; results that replace nothing are copied out."""
        import cupy

        results = self.results.copy()
        for k in self._fresh:  # before the launch: if there is no memory for them, nothing happened
            results[k] = cupy.empty_like(results[k])
        if listeners:
            written = [self.leaves[k] for k in self._donated]
            tell("a graph", self.leaves, [*written, *(self.results[k] for k in self._fresh)])
        self.graph.launch()
        self._copied_out(results)
        return self.result_form.rebuild(results)[0]

    def _copied_out(self, results: list[Any]) -> None:
        """Fill new results from where the graph has written them."""
        for k in self._fresh:
            tell("a result, copied out of a graph", [self.results[k]], [results[k]])
            results[k][...] = self.results[k]
