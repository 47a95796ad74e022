"""How much memory a training step takes at its highest moment, for a batch of any size.

Steps are taken on two smaller batches. At one moment of a step nearly all arrays have sizes that
are linear in the batch, with what does not grow with it in front::

    bytes(moment, batch) = constant(moment) + slope(moment) batch
    peak(batch)          = max over moments of bytes(moment, batch)

Which moment is the highest differs from batch to batch: the update of many parameters for a small
one, the middle of the pass for a large one. So each stretch between two moments is followed by
itself. A moment is where a layer's forward or backward begins or ends: these come in the same
order whatever the batch.

What is compiled need not be linear: blocks of memory are chosen by size. So a backend that plans
memory ahead says what it plans for the batch in question (``CompiledStep.planned_bytes``): NumPy
for its replay, and JAX, where the step is compiled for that batch, and none is taken.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from xpnn.backends import Backend
from xpnn.backends.portable.compiled_step import CompiledStep

LEAST = 2  # samples of a part: a norm over a single one has nothing to normalize
MOMENTS = {"forward", "backward", "plan"}  # of a layer, and of a recording

Ready = tuple[Callable[[], Any], Callable[[], tuple[Any, ...]], CompiledStep | None]
"""Takes a step; tells the arguments of what the backend has compiled; and that, if it did."""


def peak_bytes(copy: Callable[[int], Ready], backend: Backend, batch: int, parts: int = 1) -> int:
    """The memory of all arrays at the highest moment of a training's first steps.

    It counts parameters, state, slots of the optimizer, the batch, and all that the steps make.

    Args:
        copy: makes ready a step on so many samples, with arrays that are used nowhere else.
        batch: samples a step.
        parts: in how many a batch is gone through, one after another.

    Raises:
        ShapeError: no step can be taken on so few samples.
        Exception: what the library raises where not even steps on the smallest batches fit into the
            device's memory.
    """
    sizes = probed_sizes(batch, parts)
    batch = -(-batch // parts) * parts
    while True:
        try:
            return _peak_from(sizes, copy, backend, batch)
        except Exception as error:
            smaller = probed_sizes(sizes[0], parts)
            if not backend.ran_out_of_memory(error) or smaller == sizes:
                raise
            error.__traceback__ = None  # its frames hold arrays
        backend.free_memory()
        sizes = smaller


def probed_sizes(batch: int, parts: int = 1) -> tuple[int, int]:
    """The sizes of two batches to learn from, a quarter and half of the one in question.

    Larger ones tell more truly what happens where a step does something else from a size on, such
    as to add up in blocks.

    Args:
        parts: in how many a batch is gone through; both sizes are multiples of it, as what a step
            does may depend on whether all parts are of one length.

    >>> probed_sizes(256), probed_sizes(256, 4), probed_sizes(100, 3), probed_sizes(1)
    ((64, 128), (64, 128), (24, 48), (2, 4))
    """
    first = max(batch // (4 * parts), LEAST) * parts
    return first, 2 * first


def _peak_from(
    sizes: tuple[int, int], copy: Callable[[int], Ready], backend: Backend, batch: int
) -> int:
    """The peak at a batch, from steps on batches of two sizes."""
    steps = (batch - sizes[1]) / (sizes[1] - sizes[0])
    with backend.on_device(), backend.overflowing():
        (small, less), (large, more) = (_tried(copy, size, backend) for size in sizes)
        *_, compiled = copy(sizes[0])
        planned = None
        if compiled is not None:
            planned = compiled.planned_bytes(small, large, steps, more[-1])
    if planned is None:
        return carried_on(less, more, steps)
    return max(planned, carried_on(less[:-1], more[:-1], steps))


def carried_on(small: Sequence[int], large: Sequence[int], steps: float) -> int:
    """The highest of all stretches at another batch, each on its line through what was seen.

    Args:
        small, large: the highest number of bytes in each stretch, for two batches. Where there are
            more stretches for one than for the other, the two are compared as a whole. None is
            taken to shrink: what a first step of all has loaded may be in the small one.
        steps: how far behind ``large`` the batch in question is, counted in what it takes from
            ``small`` to it.

    >>> carried_on([100, 20], [100, 40], 2), carried_on([100, 20], [100, 40], 6)
    (100, 160)
    """
    if len(small) != len(large):
        small, large = [max(small)], [max(large)]
    pairs = zip(small, large, strict=True)
    return max((other + round(max(other - one, 0) * steps) for one, other in pairs), default=0)


def _tried(copy: Callable[[int], Ready], size: int, backend: Backend) -> tuple[Any, list[int]]:
    """What is known of a step on a batch of a size, and what it takes from moment to moment."""
    known = None
    gc.collect()  # what lies in circles would be given back in the middle
    with backend.memory_watched() as peak:
        take, arguments, compiled = copy(size)
        peak()  # from here on: what it took to make the copy is none of it
        with moments(peak) as found:
            if compiled is not None:
                known = compiled.try_out(take, arguments)
            else:
                take()
                take()  # CuPy's pool no longer has the blocks that the first one was given
        del take, arguments, compiled
    return known, found


@contextmanager
def moments(peak: Callable[[], int]) -> Iterator[list[int]]:
    """A context in which ``peak`` is asked wherever a moment is.

    That is where a layer's forward or backward begins or ends, and where a recording is planned:
    what is behind that belongs to the compiled step.
    """
    found: list[int] = []

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and frame.f_code.co_name in MOMENTS:
            found.append(peak())

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield found
    finally:
        _set_profiler(before)
        found.append(peak())


def _set_profiler(profiler: Any) -> None:
    """Put back what ``sys.getprofile`` gave; cProfile's is no function before Python 3.12."""
    sys.setprofile(profiler if callable(profiler) else None)
    if hasattr(profiler, "enable"):
        profiler.enable()
