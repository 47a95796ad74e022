"""A function of NumPy arrays, recorded when it first sees arguments of some shapes, then replayed.

What is left of a training step is a list of calls with operands and targets bound: no layer, no
shape and no allocation is looked at again. It is what a CUDA graph is to a GPU.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from xpnn.backends.numpy.arena import Arena, Arrays, aligned_bytes, array_in
from xpnn.backends.numpy.binding import Binder, bind_each
from xpnn.backends.numpy.cores import Cores
from xpnn.backends.numpy.loops.running import has_large_loops
from xpnn.backends.numpy.numbers import Numbers
from xpnn.backends.numpy.openblas import one_thread_a_product
from xpnn.backends.numpy.orders import Stretches, stretch_of
from xpnn.backends.numpy.products import BY_NUMPY, Multiply
from xpnn.backends.portable.compiled_step import CompiledStep
from xpnn.backends.recording.calls import Call, Memory, NotRecordable, Slot, View
from xpnn.backends.recording.larger import carried_on
from xpnn.backends.recording.recording import Recording
from xpnn.backends.recording.stand_ins import address_of
from xpnn.trees import Structure

Bind = Callable[[Sequence[Call], set[Memory]], list[Call]]


class Replayed(CompiledStep):
    """A function of nested dicts and tuples of arrays and numbers, replayed where it can be.

    A recording belongs to the shapes of all arguments and to the donated arrays themselves, which
    it writes over at every run. Arrays that are donated for the first time get a recording of their
    own. Donated arrays are written over behind the last call that may raise an error: one that does
    leaves them as they were.

    Args:
        step: pure: what it returns depends on its arguments alone, and it changes nothing else.
        donate: positions of arguments whose arrays may be written over. The first results take the
            place of the donated arguments, in their order, and lie in the same memory.
        bind: of the calls of a recording makes those to bind: each by itself, or loops of several.
        required: whether a step that cannot be replayed is a CompileError.
        cores: on which large loops and products run in parts; None for the calling thread, and
            what the library of NumPy's products does.
        multiply: what does the products.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        bind: Bind = bind_each,
        required: bool = False,
        cores: Cores | None = None,
        multiply: Multiply = BY_NUMPY,
    ):
        super().__init__(step, donate, required)
        self.bind, self.arena, self.cores, self.multiply = bind, Arena(), cores, multiply

    def make(self, arguments: tuple[Any, ...]) -> "Program":
        return Program(
            *(self.step, arguments, self.donate, self.arena, self.bind, self.cores, self.multiply)
        )

    def try_out(
        self, take: Callable[[], Any], arguments: Callable[[], tuple[Any, ...]]
    ) -> Recording | None:
        take()
        return self.units[0].recording if self.units else None

    def planned_bytes(self, small: Any, large: Any, steps: float, last: int) -> int | None:
        """What the plan for a larger batch has more, on top of what there was."""
        found = small and large and carried_on(small, large, steps)
        return last + self._bytes_of(found) - self._bytes_of(large) if found else None

    def _bytes_of(self, recording: Recording) -> int:
        """What is there when a replay begins: arguments, copies of some, and all blocks."""
        blocks: list[Memory] = []
        recording.plan(self.bind(recording.calls, recording.kept), blocks)
        paths = recording.form.paths
        lent = [one for k, one in recording.views.items() if paths[k][0] not in self.donate]
        return sum(one.nbytes for one in (*recording.views.values(), *lent, *blocks))


class Program:
    """The calls of one recording, bound to memory, with the arguments that it was recorded for."""

    def __init__(
        self,
        step: Callable[..., Any],
        arguments: tuple[Any, ...],
        donate: frozenset[int],
        arena: Arena,
        bind: Bind,
        cores: Cores | None = None,
        multiply: Multiply = BY_NUMPY,
    ):
        self.form = Structure(arguments)
        given = self.form.flatten(arguments)
        donated = [path[0] in donate for path in self.form.paths]
        self.leaves = _own_arrays(given, donated)

        recording = self.recording = Recording(step, self.form, self.leaves, donate)
        self.result_form, views = recording.result_form, recording.views
        calls = bind(recording.calls, recording.kept)
        plan = recording.plan(calls, arena.blocks)
        arrays = Arrays(plan, self._fix(recording), arena)
        self._numbers = Numbers(recording.number_count)
        # without large loops, products are better done by the threads of their own library
        cores = cores if has_large_loops(calls) else None
        binder = Binder(arrays, self._numbers, cores, multiply)
        with _numbers_have_to_fit():
            self._calls = [bound for call in plan.calls for bound in binder.bind(call)]
        self._alone = one_thread_a_product if binder.products.are_split else nullcontext
        self._settle(recording, arrays)

        self._donated = [(k, self.leaves[k]) for k in views if donated[k]]
        self.form_key = [
            (one.shape, one.dtype) if _is_array(one) else type(one) for one in self.leaves
        ]
        self._lent = [
            (k, self.leaves[k], self.leaves[k].shape, self.leaves[k].dtype)
            for k in views
            if not donated[k]
        ]
        self._slots = [(k, slot.number) for k, slot in recording.slots.items()]
        self._constant = [k for k in range(len(given)) if k not in views | recording.slots]
        with _numbers_have_to_fit():
            for k, slot in self._slots:
                self._numbers.set(slot, given[k])

    def _fix(self, recording: Recording) -> dict[Memory, np.ndarray]:
        """The bytes of all arguments; joint ones are moved together, unless they are already."""
        joints: dict[Memory, dict[int, View]] = {joint: {} for joint in recording.joints}
        fixed = {}
        for k, view in recording.views.items():
            if view.memory in joints:
                joints[view.memory][k] = view
            else:
                fixed[view.memory] = self.leaves[k].reshape(-1).view(np.uint8)
        for joint, views in joints.items():
            fixed[joint] = _shared_bytes([self.leaves[k] for k in views], list(views.values()))
            for k, view in views.items():
                array = array_in(fixed[joint], view)
                if address_of(array) != address_of(self.leaves[k]):
                    np.copyto(array, self.leaves[k])
                    self.leaves[k] = array
        return fixed

    def _settle(self, recording: Recording, arrays: Arrays) -> None:
        """Find where the results lie, and copy those that are not made in place of arguments."""
        self._returned: list[Any] = list(recording.results)
        self._copied: list[tuple[int, np.ndarray]] = []
        self._counted = [
            (k, one.number) for k, one in enumerate(recording.results) if isinstance(one, Slot)
        ]
        for k, (one, old) in enumerate(zip(recording.results, recording.replaced, strict=True)):
            if not isinstance(one, View | np.ndarray):
                continue
            made = arrays[one] if isinstance(one, View) else one
            if old is None:
                self._copied.append((k, made))
                continue
            own = self._returned[k] = self.leaves[old]
            view, aliased = recording.views[old], arrays.plan.aliased
            if not (isinstance(one, View) and (one == view or one.memory in aliased)):
                self._calls.append(partial(np.copyto, own, made))

    def load(self, arguments: tuple[Any, ...]) -> bool:
        """Put arguments where the calls read them; False if the program is not for them."""
        try:
            given = self.form.flatten(arguments)
        except (LookupError, TypeError):
            return False
        own = self.leaves
        for k, array in self._donated:
            if given[k] is not array:
                return False
        for k in self._constant:
            if type(given[k]) is not type(own[k]) or given[k] != own[k]:
                return False
        for k, _, shape, dtype in self._lent:
            one = given[k]
            if not isinstance(one, np.ndarray) or one.shape != shape or one.dtype != dtype:
                return False
        for k, _ in self._slots:
            if type(given[k]) is not type(own[k]):
                return False
        try:
            for k, slot in self._slots:
                self._numbers.set(slot, given[k])
        except OverflowError:  # too large for the dtype that calls convert it to
            return False
        for k, array, _, _ in self._lent:
            array[...] = given[k]  # of small arrays in half of the time that np.copyto takes
        return True

    def run(self) -> Any:
        """All calls in their order; the results, of which donated ones lie where they lay."""
        with self._alone():
            for call in self._calls:
                call()
        results = self._returned.copy()
        for k, slot in self._counted:
            results[k] = self._numbers.values[slot]
        for k, array in self._copied:
            results[k] = array.copy() if array.ndim else array[()]
        return self.result_form.rebuild(results)[0]


@contextmanager
def _numbers_have_to_fit() -> Iterator[None]:
    """Refuse what NumPy compares by itself: integers outside of the dtype of an array."""
    try:
        yield
    except OverflowError as error:
        raise NotRecordable(f"a number is too large for its dtype: {error}") from error


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray)


def _own_arrays(leaves: list[Any], donated: list[bool]) -> list[Any]:
    """Arrays that may be written to: those that were donated, copies of the others."""
    own: list[Any] = []
    adopted = Stretches()
    for leaf, mine in zip(leaves, donated, strict=True):
        if _is_array(leaf):
            if type(leaf) not in (np.ndarray, np.memmap):
                raise NotRecordable(f"an argument is a {type(leaf).__name__}")
            free = mine and leaf.flags.writeable and leaf.flags.c_contiguous
            if not (free and adopted.add(*stretch_of(leaf))):
                leaf = np.array(leaf, order="C")
        own.append(leaf)
    return own


def _shared_bytes(arrays: list[np.ndarray], views: list[View]) -> np.ndarray:
    """The bytes that arrays share as the views say, or fresh ones where they do not yet."""
    nbytes = views[0].memory.nbytes
    starts = {address_of(array) - view.offset for array, view in zip(arrays, views, strict=True)}
    bases = {id(_base(array)) for array in arrays}
    if len(starts) == len(bases) == 1:
        base = _base(arrays[0])
        offset = starts.pop() - address_of(base)
        if base.dtype == np.uint8 and 0 <= offset <= base.nbytes - nbytes:
            return base[offset : offset + nbytes]
    return aligned_bytes(nbytes)


def _base(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
