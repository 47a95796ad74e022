"""Runs of elementwise calls as one compiled loop, by numba.

NumPy goes over memory once for each operation of a formula. Where such calls follow each other on
arrays of one size, a loop is written that does all of them for one item after the other, keeps what
lies between in registers, and is compiled. exp, tanh and their like stay with NumPy, which has
vector code for them.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from xpnn.backends.numpy.binding import Binder, Bound
from xpnn.backends.numpy.orders import lies_by_columns, stretch_of
from xpnn.backends.recording.calls import Call

OPERATIONS = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.negative: "-{}",
    np.sqrt: "sqrt({})",
    np.maximum: "maximum({}, {})",
    np.minimum: "minimum({}, {})",
}
FEWEST_CALLS = 3  # below, or on small arrays, calling the loop costs more than it saves
SMALL = 1024  # items
MOST_STRETCHES = 64  # of memory in one loop: hundreds take long to compile, and longer to run


def bind_fused(binder: Binder, calls: Sequence[Call]) -> list[Bound]:
    """What to run for the calls of a tape, runs of elementwise ones as one loop each."""
    bound: list[Bound] = []
    group = FusionGroup()
    for number, call in enumerate(calls):
        operation = _operation(binder, call)
        if operation is None or not group.accepts(operation):
            bound += group.bind(binder, number)
            group = FusionGroup()
        if operation is None:
            bound += binder.bind(call)
        else:
            group.add(operation, call)
    return bound + group.bind(binder, len(calls))


def _operation(binder: Binder, call: Call) -> list[np.ndarray] | None:
    """Target and operands of a call in floats over whole arrays of one shape, and numbers."""
    if call.method != "__call__" or call.function not in OPERATIONS:
        return None
    out = binder.target(call)
    arrays = [out, *binder.operands(call)]
    if lies_by_columns(out):
        arrays = [one.T for one in arrays]
    fits = (
        (one.ndim == 0 or one.shape == arrays[0].shape)
        and one.dtype == out.dtype
        and one.flags.c_contiguous
        for one in arrays
    )
    return arrays if out.ndim and out.dtype.char in "fd" and all(fits) else None


class FusionGroup:
    """Elementwise calls that follow each other, while they grow into a loop."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.operations: list[list[np.ndarray]] = []
        self.stretches: set[tuple[int, int]] = set()

    def accepts(self, arrays: list[np.ndarray]) -> bool:
        """Whether there is room for these arrays: all of one size, no two in part the same."""
        if self.operations and arrays[0].size != self.operations[0][0].size:
            return False
        stretches = self.stretches | set(map(stretch_of, arrays))
        apart = all(stop <= start for (_, stop), (start, _) in pairwise(sorted(stretches)))
        return apart and len(stretches) <= MOST_STRETCHES

    def add(self, arrays: list[np.ndarray], call: Call) -> None:
        """Take one more call."""
        self.calls.append(call)
        self.operations.append(arrays)
        self.stretches |= set(map(stretch_of, arrays))

    def bind(self, binder: Binder, end: int) -> list[Bound]:
        """The loop, or the calls by themselves if they are few; ``end`` is the next call."""
        size = self.operations[0][0].size if self.operations else 0
        if len(self.calls) < FEWEST_CALLS or size < SMALL:
            return [one for call in self.calls for one in binder.bind(call)]
        loop = Loop()
        for call, (out, *operands) in zip(self.calls, self.operations, strict=True):
            values = [loop.value(array) for array in operands]
            loop.assign(out, OPERATIONS[call.function].format(*values))
        for call, (out, *_) in zip(self.calls, self.operations, strict=True):
            (view,) = call.results
            if binder.plan.outlives(view.memory, end):
                loop.keep(out)
        return [loop.bound(size)]


class Loop:
    """The source of a loop, one line for each operation, and the arrays that it runs over."""

    def __init__(self) -> None:
        self.arrays: dict[int, tuple[str, np.ndarray]] = {}
        self.numbers: dict[int, tuple[str, np.ndarray]] = {}
        self.current: dict[int, str] = {}
        self.lines: list[str] = []
        self.kept: dict[int, str] = {}

    def value(self, array: np.ndarray) -> str:
        """The name of an array's item, read if it is not known yet; of a 0-d array's number."""
        address, known = stretch_of(array)[0], self.current
        if array.ndim == 0:
            return self.numbers.setdefault(address, (f"s{len(self.numbers)}", array))[0]
        if address not in known:
            self._assign(address, f"{self._array(address, array)}[i]")
        return known[address]

    def assign(self, array: np.ndarray, formula: str) -> None:
        """From here on, the items of an array are these."""
        self._assign(stretch_of(array)[0], formula)

    def keep(self, array: np.ndarray) -> None:
        """Write the items of an array to memory: they are read after the loop."""
        address = stretch_of(array)[0]
        self.kept[address] = self._array(address, array)

    def bound(self, size: int) -> Bound:
        """The compiled loop with its arrays."""
        arrays = [array.reshape(-1) for _, array in self.arrays.values()]
        numbers = [array.reshape(1) for _, array in self.numbers.values()]
        names = [name for name, _ in (*self.arrays.values(), *self.numbers.values())]
        stores = [f"{name}[i] = {self.current[address]}" for address, name in self.kept.items()]
        source = "\n".join(
            [
                f"def loop(n, {', '.join(names)}):",
                *(f"    {name} = {name}[0]" for name, _ in self.numbers.values()),
                "    for i in range(n):",
                *(f"        {line}" for line in (*self.lines, *stores)),
            ]
        )
        return partial(_compiled(source), size, *arrays, *numbers)

    def _array(self, address: int, array: np.ndarray) -> str:
        return self.arrays.setdefault(address, (f"a{len(self.arrays)}", array))[0]

    def _assign(self, address: int, formula: str) -> None:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {formula}")
        self.current[address] = name


@functools.lru_cache(maxsize=256)
def _compiled(source: str) -> Callable[..., None]:
    """The function ``loop`` of a source, compiled when it is first called."""
    import numba

    names = {"sqrt": np.sqrt, "maximum": np.maximum, "minimum": np.minimum}
    exec(source, names)  # made above, of names and operators alone
    return numba.njit(nogil=True, error_model="numpy")(names["loop"])
