"""CUDA source of a group of calls: a loop over items, or over rows with sums along them.

What a group makes for itself stays in registers: an item, or, of rows, as many items as a thread
has of one. A thread reads and writes up to 16 bytes at once, a pack of items that lie behind each
other; where these do not begin at such an address, one after another. Half precision is worked out
in float32, and rounded where it is cast or written. One warp goes through a row of up to 512
numbers, one block through a longer one; where no row is added up, warps go through stretches of it.

Columns are added up by each thread over the rows that it sees, then by each block, and then, by a
kernel of its own (``columns.py``), over the blocks: always in the same order.
"""

import hashlib
import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.backends.cupy.formulas import (
    FORMULAS,
    SUMS,
    TYPES,
    converted,
    literal,
    name_of,
    register,
)
from xpnn.backends.cupy.offsets import is_same_in_packs, lies_in_packs, offset
from xpnn.backends.recording.calls import Memory, View
from xpnn.backends.recording.kernels import KernelGroup
from xpnn.backends.recording.shapes import cast
from xpnn.backends.recording.walks import Walk

WARP, WARPS, MOST_THREADS = 32, 8, 1024
AT_ONCE = 512  # threads of a multiprocessor, at least: each has up to 128 registers
THREADS, BLOCKS = 256, 4096  # of a loop over items; so many blocks fill a GPU several times
LONGEST_OF_WARP, EACH = 512, 8  # numbers of a row for one warp; for each thread of a block
STRETCH = 4  # columns of a thread where no row is added up, or a pack of them
PACK, MOST_PACKS = 16, 16  # bytes that a thread reads at once, and how often for one pack of items
LEAST_PACKED = 1 << 14  # items of a domain: of fewer, there are too few threads
FILLED, ROWS_EACH = 1056, 4  # blocks that add up columns, and rows of each warp in them, at least


@dataclass(frozen=True)
class Kernel:
    """The source of a group, and what it is called with.

    Attributes:
        source: of a function ``name(arrays, count)`` behind ``PREAMBLE``; where there are packs,
            ``name(arrays, count, aligned)``.
        given: the views whose first items it gets the addresses of.
        made: those among them that it writes.
        columns: the results that are sums of columns.
        row: how many columns there are.
        count: of items, or of rows.
        count_is_int: whether it is counted in 32 bits.
        pack: how many items a thread reads and writes at once.
        packed: the views among ``given`` of which it does; ``aligned`` says whether each begins at
            a multiple of so many.
        threads: of a block, along both axes.
        blocks: how many, along both axes; along the second at most 65,535.
    """

    name: str
    source: str
    given: tuple[View, ...]
    made: tuple[View, ...]
    columns: tuple[View, ...]
    row: int
    count: int
    count_is_int: bool
    pack: int
    packed: tuple[View, ...]
    threads: tuple[int, int]
    blocks: tuple[int, int]

    def views(self) -> tuple[View, ...]:
        """What it reads and writes."""
        return (*self.given, *self.columns)

    def writes(self) -> tuple[View, ...]:
        """What it writes, in the end."""
        return (*self.made, *self.columns)


def kernel_of(
    group: KernelGroup,
    kept: set[Memory],
    over: Container[Memory] = (),
    laid: Mapping[Memory, View] | None = None,
) -> Kernel:
    """The kernel that a group is.

    Args:
        group: of walks.
        kept: what others read of its results.
        over: results that are written over what the kernel may read.
        laid: results that are written to other memory, and where.
    """
    writer = (_Rows if group.row else _Items)(group, kept, laid or {})
    writer.restrict = "" if any(one in over for one in group.writes()) else "__restrict__ "
    return writer.kernel()


class _Items:
    """Writes a loop over items."""

    restrict = "__restrict__ "

    def __init__(self, group: KernelGroup, kept: set[Memory], laid: Mapping[Memory, View]):
        self.group, self.kept, self.laid = group, kept, laid
        self.given: dict[tuple[Memory, int, str], str] = {}
        self.views: list[View] = []
        self.columns: list[View] = []
        self.written: set[str] = set()
        self.values: dict[Memory, str] = {}
        self.loads: dict[tuple[str, str], str] = {}
        self.head: list[str] = []  # what is done for a pack before its items, for each item, behind
        self.lines: list[str] = []
        self.tail: list[str] = []
        self.packed: set[str] = set()
        self.pack = _pack(group, kept)
        self.count = 0
        self.index = "int" if _reach(group, laid) < 2**30 else "long long"

    def kernel(self) -> Kernel:
        for walk in self.group.walks_in_order():
            self.lines.append(self.assigned(walk, self.formula(walk)))
        for walk in self.group.walks_in_order():  # behind all that is read: it may be written over
            self.store(walk)
        index, first = self.index, "i0" if self.pack > 1 else "i"
        threads = f"({index})blockDim.x{f' * {self.pack}' if self.pack > 1 else ''}"
        start = f"(blockIdx.x * ({index})blockDim.x + threadIdx.x)"
        start = f"{start} * {self.pack}" if self.pack > 1 else start
        numbers = [f"const {index} i = i0 + e;"] if self._use("i") else []
        body = [
            f"const {index} step = gridDim.x * {threads};",
            f"for ({index} {first} = {start}; {first} < count; {first} += step) {{",
            *(f"    {line}" for line in self.in_packs(numbers)),
            "}",
        ]
        blocks = min(-(-self.group.items // (THREADS * self.pack)), BLOCKS)
        return self.finished("items", body, self.group.items, (THREADS, 1), (blocks, 1))

    def _use(self, number: str) -> bool:
        """Whether the lines of an item use a variable of that name."""
        return any(re.search(rf"\b{number}\b", line) for line in self.lines)

    def in_packs(self, numbers: list[str]) -> list[str]:
        """What is done for a pack: the lines once for each item, whose numbers are said first."""
        if self.pack == 1:
            return self.lines
        return [
            *self.head,
            "#pragma unroll",
            f"for (int e = 0; e < {self.pack}; ++e) {{",
            *(f"    {line}" for line in (*numbers, *self.lines)),
            "}",
            *self.tail,
        ]

    def finished(
        self,
        kind: str,
        body: list[str],
        count: int,
        threads: tuple[int, int],
        blocks: tuple[int, int],
    ) -> Kernel:
        parameters = [
            f"{'' if name in self.written else 'const '}{TYPES[char]}* {self.restrict}{name}"
            for (_, _, char), name in self.given.items()
        ]
        parameters += [
            f"{register(view.dtype)}* __restrict__ sums{number}"
            for number, view in enumerate(self.columns)
        ]
        parameters.append(f"const {self.index} count")
        if self.pack > 1:
            parameters.append("const bool aligned")
        inside = "\n".join(f"    {line}" for line in body)
        text = f"({', '.join(parameters)}) {{\n{inside}\n}}\n"
        together = math.prod(threads)  # so that registers suffice for them, and for a few blocks
        bounds = f"__launch_bounds__({together}, {max(AT_ONCE // together, 1)})"
        name = f"xpnn_{kind}_{hashlib.sha256((bounds + text).encode()).hexdigest()[:12]}"
        source = f'extern "C" __global__ void {bounds} {name}{text}'
        made = tuple(view for view in self.views if self.pointer(view) in self.written)
        arrays = tuple(self.views), made, tuple(self.columns)
        row, as_int = self.group.row or 1, self.index == "int"
        packed = tuple(view for view in self.views if self.pointer(view) in self.packed)
        packs = self.pack, packed
        return Kernel(name, source, *arrays, row, count, as_int, *packs, threads, blocks)

    # Values -----------------------------------------------------------------------------------

    def assigned(self, walk: Walk, formula: str) -> str:
        """The line in which a walk's result gets its name."""
        self.count += 1
        name = self.values[walk.result.memory] = f"v{self.count}"
        return f"const {register(walk.result.dtype)} {name} = {formula};"

    def formula(self, walk: Walk) -> str:
        """What a walk makes, of values and constants."""
        call, result = walk.call, walk.result.dtype
        if call.function is np.reshape:
            return self.value(walk, walk.operands[0])
        if call.function is cast:
            return converted(self.value(walk, walk.operands[0]), walk.operands[0].dtype, result)
        pairs = zip(walk.operands, walk.dtypes, strict=True)
        given = [self.operand(walk, one, dtype) for one, dtype in pairs]
        if call.function is np.where:
            return "{} ? {} : {}".format(*given)
        return FORMULAS[name_of(call)].format(*given)

    def operand(self, walk: Walk, one: Any, dtype: Any) -> str:
        """An operand in the dtype that the call computes in."""
        if not isinstance(one, View):
            return literal(one, dtype)
        value = self.value(walk, one)
        same = register(one.dtype) == register(dtype)
        return value if same else f"({converted(value, one.dtype, dtype)})"

    def value(self, walk: Walk, view: View) -> str:
        """The name of what a walk reads there."""
        if view.memory in self.values:
            return self.values[view.memory]
        pointer = self.pointer(view)
        if self.pack > 1 and lies_in_packs(view, walk.shape, self.pack):
            pack = self.loaded_pack(pointer, offset(view, walk.shape, "i0"))
            return self.loaded(pack, "e", view.dtype)
        if self.pack > 1 and is_same_in_packs(view, walk.shape, self.pack):
            return self.loaded(pointer, offset(view, walk.shape, "i0"), view.dtype, self.head)
        return self.loaded(pointer, offset(view, walk.shape, "i"), view.dtype)

    def loaded(self, pointer: str, at: str, dtype: Any, lines: list[str] | None = None) -> str:
        """The name of an item of an array, read once, in these lines or in those of each item."""
        if (pointer, at) not in self.loads:
            self.count += 1
            self.loads[pointer, at] = f"v{self.count}"
            lines = self.lines if lines is None else lines
            lines.append(f"const {register(dtype)} v{self.count} = {pointer}[{at}];")
        return self.loads[pointer, at]

    def loaded_pack(self, pointer: str, at: str) -> str:
        """The items of a pack that begins there, read at once."""
        self.packed.add(pointer)
        if (pointer, at) not in self.loads:
            self.count += 1
            self.loads[pointer, at] = f"pack{self.count}.items"
            load = f"xpnn_load<{self.pack}>({pointer} + {at}, aligned)"
            self.head.append(f"const auto pack{self.count} = {load};")
        return self.loads[pointer, at]

    def pointer(self, view: View) -> str:
        """The parameter that points at a view's first item."""
        key = view.memory, view.offset, view.dtype.char
        if key not in self.given:
            self.given[key] = f"p{len(self.given)}"
            self.views.append(view)
        return self.given[key]

    def store(self, walk: Walk) -> None:
        """Write a result to memory, if others read it."""
        if walk.result.memory not in self.kept:
            return
        view = self.laid.get(walk.result.memory, walk.result)
        pointer, value = self.pointer(view), self.values[walk.result.memory]
        self.written.add(pointer)
        if self.pack == 1 or not lies_in_packs(view, walk.shape, self.pack):
            self.lines.append(f"{pointer}[{offset(view, walk.shape, 'i')}] = {value};")
            return
        self.packed.add(pointer)
        self.head.append(f"xpnn_pack<{TYPES[walk.result.dtype.char]}, {self.pack}> of_{pointer};")
        self.lines.append(f"of_{pointer}.items[e] = {value};")
        at = f"{pointer} + {offset(view, walk.shape, 'i0')}"
        self.tail.append(f"xpnn_store<{self.pack}>({at}, of_{pointer}, aligned);")


class _Rows(_Items):
    """Writes a loop over rows: items in phases, with what is known of the whole row in between."""

    def __init__(self, group: KernelGroup, kept: set[Memory], laid: Mapping[Memory, View]):
        super().__init__(group, kept, laid)
        self.row, self.per_row = group.row or 1, group.per_row()
        whole = any(walk.kind == "fold" for walk in group.walks.values())
        self.width = self.row if whole else min(self.row, WARP * max(STRETCH, self.pack))
        self.by_warp = self.width <= LONGEST_OF_WARP
        self.threads = WARP
        if not self.by_warp:
            self.threads = min(-(-self.row // (WARP * EACH)) * WARP, MOST_THREADS)
        self.packs = -(-self.width // (self.threads * self.pack))  # of a thread, of one row
        self.each = self.packs * self.pack
        self.registers: list[str] = []
        self.body: list[str] = []

    def kernel(self) -> Kernel:
        for walk in self.group.walks_in_order():
            if walk.kind == "fold":
                self._add_sum(walk)
            elif walk.kind == "column sum":
                self._add_columns(walk)
            elif walk.result.memory in self.per_row:
                self._add_row(walk)
            else:
                self._add_items(walk)
        self._end_phase()
        rows, side_by_side = self.group.items // self.row, WARPS if self.by_warp else 1
        first, step = "blockIdx.y", "gridDim.y"
        if self.by_warp:
            first, step = f"{first} * {WARPS} + threadIdx.y", f"{step} * {WARPS}"
        body = [
            *self._zeros(),
            f"for ({self.index} r = {first}; r < count; r += {step}) {{",
            *(f"    {line}" for line in (*self.registers, *self.body)),
            "}",
            *self._ends(),
        ]
        stretches, most = -(-self.row // self.width), BLOCKS
        if self.columns:
            side_by_side, most = side_by_side * ROWS_EACH, max(FILLED // stretches, 1)
        blocks = stretches, min(-(-rows // side_by_side), most)
        return self.finished(
            "rows", body, rows, (self.threads, WARPS if self.by_warp else 1), blocks
        )

    # Sums of columns --------------------------------------------------------------------------

    def _add_columns(self, walk: Walk) -> None:
        kind, value = register(walk.result.dtype), self.value(walk, walk.operands[0])
        self.lines.append(f"columns{len(self.columns)}[k] += ({kind}){value};")
        self.columns.append(walk.made)

    def _zeros(self) -> list[str]:
        """What columns are added up in."""
        return [
            f"{register(view.dtype)} columns{number}[{self.each}] = {{}};"
            for number, view in enumerate(self.columns)
        ]

    def _ends(self) -> list[str]:
        """What is written of them when all rows have been seen: one row for each block."""
        lines = []
        for number, view in enumerate(self.columns):
            total = f"columns{number}[k]"
            if self.by_warp:
                total = f"xpnn_over_warps({total})"
            where = f"sums{number}[({self.index})blockIdx.y * {self.row} + j]"
            lines += [
                "#pragma unroll",
                f"for (int k = 0; k < {self.each}; ++k) {{",
                f"    const int j = {self._column()};",
                f"    const {register(view.dtype)} total = {total};",
                f"    if (threadIdx.y == 0 && {self._is_inside('j')}) {where} = total;",
                "}",
            ]
        return lines

    def _column(self, pack: str = "") -> str:
        """The column of the thread's k-th item of a row, or of the first of that pack."""
        start = f" + blockIdx.x * {self.width}" if self.width < self.row else ""
        if self.pack == 1:
            return f"threadIdx.x + {pack or 'k'} * {self.threads}{start}"
        first = f"(threadIdx.x + {pack or f'k / {self.pack}'} * {self.threads}) * {self.pack}"
        return f"{first}{'' if pack else f' + k % {self.pack}'}{start}"

    def _is_inside(self, column: str) -> str:
        """Whether a thread has a column there; the last stretch may be shorter."""
        start = f" - (int)blockIdx.x * {self.width}" if self.width < self.row else ""
        inside = f"{column}{start} < {self.width}"
        return inside if self.row % self.width == 0 else f"{inside} && {column} < {self.row}"

    # Rows -------------------------------------------------------------------------------------

    def _add_items(self, walk: Walk) -> None:
        formula = self.formula(walk)
        name = self.values[walk.result.memory] = self.kept_for_row(walk.result.dtype)
        self.lines.append(f"{name} = {formula};")
        self.store(walk)

    def _add_row(self, walk: Walk) -> None:
        self._end_phase()
        line = self.assigned(walk, self.formula(walk))
        self.lines.append(line)
        self._end_row(walk)

    def _add_sum(self, walk: Walk) -> None:
        both, none = SUMS[walk.call.function]
        kind = register(walk.result.dtype)
        value = self.value(walk, walk.operands[0])
        self.count += 1
        part = f"part{self.count}"
        self.lines.append(f"{part} = {both}({part}, ({kind}){value});")
        self.body.append(f"{kind} {part} = {none};")
        self._end_phase()
        over = f"xpnn_over_warp({part}, {both}<{kind}>)"
        if not self.by_warp:
            over = f"xpnn_over_block({part}, {both}<{kind}>, ({kind}){none})"
        self.lines.append(self.assigned(walk, over))
        self._end_row(walk)

    def _end_row(self, walk: Walk) -> None:
        """Lines that are done once for the row, and one of them stored."""
        memory = walk.result.memory
        self.body += self.lines
        self.lines = []
        if memory in self.kept:
            pointer = self.pointer(walk.made)
            self.written.add(pointer)
            self.body.append(f"if (threadIdx.x == 0) {pointer}[r] = {self.values[memory]};")

    def _end_phase(self) -> None:
        """A loop over the items that a thread has of the row."""
        if self.lines:
            each, zero = ("k", "") if self.pack == 1 else ("c", "0")
            lines = self.in_packs(
                [
                    f"const int k = c * {self.pack} + e;",
                    *(["const int j = j0 + e;"] if self._use("j") else []),
                    *([f"const {self.index} i = i0 + e;"] if self._use("i") else []),
                ]
            )
            self.body += [
                "#pragma unroll",
                f"for (int {each} = 0; {each} < {self.packs}; ++{each}) {{",
                f"    const int j{zero} = {self._column(each)};",
                f"    if ({self._is_inside(f'j{zero}')}) {{",
                f"        const {self.index} i{zero} = r * {self.row} + j{zero};",
                *(f"        {line}" for line in lines),
                "    }",
                "}",
            ]
        self.head, self.lines, self.tail = [], [], []

    def kept_for_row(self, dtype: Any) -> str:
        """A register for each item that a thread has of the row."""
        self.count += 1
        self.registers.append(f"{register(dtype)} v{self.count}[{self.each}];")
        return f"v{self.count}[k]"

    def value(self, walk: Walk, view: View) -> str:
        if view.memory in self.values:
            return self.values[view.memory]
        pointer = self.pointer(view)
        if walk.kind == "cells" and walk.items != self.group.items:
            return self.loaded(pointer, offset(view, walk.shape, "r"), view.dtype)
        in_packs = self.pack > 1 and lies_in_packs(view, walk.shape, self.pack)
        zero = "0" if in_packs else ""
        if walk.columns != self.row:
            at = offset(view, walk.shape, f"i{zero}")
        else:
            rows = view._replace(shape=view.shape[:-1], strides=view.strides[:-1])
            at, step = offset(rows, walk.shape[:-1], "r"), view.strides[-1] // view.dtype.itemsize
            if step:
                at = f"{at} + j{zero}{f' * {step}' if step != 1 else ''}".removeprefix("0 + ")
        if in_packs:
            return self._loaded_items(self.loaded_pack(pointer, at), "e", view.dtype)
        return self._loaded_items(pointer, at, view.dtype)

    def _loaded_items(self, pointer: str, at: str, dtype: Any) -> str:
        key = pointer, f"{at} for each k"  # as what is read once for a row has another name
        if key not in self.loads:
            name = self.loads[key] = self.kept_for_row(dtype)
            self.lines.append(f"{name} = {pointer}[{at}];")
        return self.loads[key]


def _pack(group: KernelGroup, kept: set[Memory]) -> int:
    """How many items a thread reads and writes at once: of the widest dtype, 16 bytes."""
    if group.items < LEAST_PACKED:
        return 1
    walks = [walk for walk in group.walks.values() if walk.items == group.items]
    made = {walk.result.memory for walk in walks}
    for pack in (8, 4, 2):
        if (group.row or group.items) % pack or (group.row and group.row < WARP * pack):
            continue
        packed = {
            (view.memory, view.offset): view.dtype.itemsize
            for walk in walks
            for view in walk.operands
            if isinstance(view, View) and view.memory not in made
            if lies_in_packs(view, walk.shape, pack)
        }
        cells = [walk.result for walk in walks if walk.kind == "cells"]
        stored = [view for view in cells if view.memory in kept]
        packed |= {(view.memory, view.offset): view.dtype.itemsize for view in stored}
        if packed and max(packed.values()) * pack <= PACK and len(packed) <= MOST_PACKS:
            return pack
    return 1


def _reach(group: KernelGroup, laid: Mapping[Memory, View]) -> int:
    """How many items lie between the first and the last that the group reads or writes."""
    views = [view for call in group.calls.values() for view in call.views()]
    views += [laid[memory] for memory in group.writes() if memory in laid]
    return max(group.items, *(view.memory.nbytes // view.dtype.itemsize for view in views))
