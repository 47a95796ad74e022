"""A loop as the text of a Python function, and what it is called with.

    def loop(first, last, per_block, rows, columns, a0, a1, v0, ...):
        for block in range(first, last):
            ...
            for i in range(start, stop):        # rows
                at = i * columns
                for j in range(columns):        # one for each sweep
                    k = at + j
                    t0 = a0[k] + v0[j]
                    a1[k] = t0

Shapes are arguments: one text, and what is compiled of it, serves arrays of all sizes. All arrays
are handed over flat, from their first item to their last. What a line may hold is
what `lowering` reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.backends.numpy.arena import Arrays
from xpnn.backends.numpy.loops.loop import Loop, Sweep
from xpnn.backends.numpy.loops.places import Place
from xpnn.backends.numpy.loops.steps import FORMULAS, TESTS, Load, Number, Step
from xpnn.backends.numpy.numbers import Numbers
from xpnn.backends.recording.calls import Slot, View
from xpnn.backends.recording.shapes import cast
from xpnn.backends.recording.stand_ins import address_of
from xpnn.backends.recording.walks import FOLDS

WRITTEN_OUT = (-1, 0, 0.5, 1, 2)  # constants that stand in the text; others are arguments
FOLD_LINES = {  # what stands before a sweep, in it and behind it
    "sum": ("{name} = {real}(0)", "{name} = plus({name}, {value})", None),
    "maximum": (
        "m{name} = low_rank_{real}({real}(nan))",
        "m{name} = higher(m{name}, rank_{real}({value}))",
        "{name} = of_rank_{real}(m{name})",
    ),
    "minimum": (
        "m{name} = rank_{real}({real}(nan))",
        "m{name} = lower(m{name}, low_rank_{real}({value}))",
        "{name} = of_rank_{real}(m{name})",
    ),
}


def letter(dtype: np.dtype[Any]) -> str:
    """The name of a dtype in the text."""
    return "b1" if dtype.char == "?" else f"{dtype.kind}{dtype.itemsize}"


@dataclass
class Written:
    """The text of a loop with its arguments behind the five that say how far it goes.

    Attributes:
        buffers: dtypes of the buffers of a row that the text uses, the last arguments but sums.
        sums: the steps whose partial sums are the last arguments, those of columns and of all.
        is_flat: whether it goes over all items in one line, and rows and columns say nothing.
    """

    source: str
    arguments: list[Any]
    buffers: list[np.dtype[Any]]
    sums: list[Step]
    is_flat: bool


def written(loop: Loop, arrays: Arrays, numbers: Numbers) -> Written:
    """The text of a loop over these arrays."""
    return _Writer(loop, arrays, numbers).write()


@dataclass
class _Writer:
    loop: Loop
    arrays: Arrays
    numbers: Numbers
    arguments: dict[Any, tuple[str, Any]] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)
    row_start: list[str] = field(default_factory=list)
    hoisted: dict[Any, str] = field(default_factory=dict)
    buffers: dict[Step, str] = field(default_factory=dict)

    def write(self) -> Written:
        loop = self.loop
        self.number_of = {step: k for k, step in enumerate(loop.steps)}
        self.sums = [step for step in loop.steps if step.kind in ("column sum", "total")]
        self.is_flat = self._is_flat()
        for sweep in loop.sweeps:
            for step in sweep.fills:
                self.buffers[step] = f"w{len(self.buffers)}"
        inner = [*self._row_steps(-1)]
        for number, sweep in enumerate(loop.sweeps):
            inner += self._sweep(number, sweep)
        body = self._flat(inner) if self.is_flat else self._rows(inner)
        sums = [f"q{k}" if step.kind == "total" else f"p{k}" for k, step in enumerate(self.sums)]
        names = [name for name, _ in self.arguments.values()]
        header = ["first", "last", "per_block", "rows", "columns", *names]
        header += [*self.buffers.values(), *sums]
        lines = [f"def loop({', '.join(header)}):", *_indented(self.above), *_indented(body)]
        return Written(
            "\n".join(lines) + "\n",
            [value for _, value in self.arguments.values()],
            [step.view.dtype for step in self.buffers],
            self.sums,
            self.is_flat,
        )

    def _is_flat(self) -> bool:
        if any(step.kind != "cells" for step in self.loop.steps):
            return False
        places = [(load.place, load.source.dtype) for load in self.loop.loads()]
        places += [(step.place, step.view.dtype) for step in self.loop.stored]
        return all(self._form(*one) in ("cells", "number") for one in places)

    def _form(self, place: Place, dtype: np.dtype[Any]) -> str:
        return place.form(self.loop.rows, self.loop.columns, dtype.itemsize)

    # The frame ------------------------------------------------------------------------------------

    def _flat(self, inner: list[str]) -> list[str]:
        return [
            "for block in range(first, last):",
            "    start = block * per_block",
            "    for j in range(start, min(start + per_block, rows * columns)):",
            *_indented(_indented(inner)),
        ]

    def _rows(self, inner: list[str]) -> list[str]:
        starts, ends, zeros = [], [], []
        for k, step in enumerate(self.sums):
            zero = f"{letter(step.view.dtype)}(0)"
            if step.kind == "total":
                starts.append(f"s{k} = {zero}")
                ends.append(f"q{k}[block] = s{k}")
            else:
                zeros.append(f"    p{k}[sums + j] = {zero}")
        if zeros:
            starts += ["sums = block * columns", "for j in range(columns):", *zeros]
        return [
            "for block in range(first, last):",
            "    start = block * per_block",
            *_indented(starts),
            "    for i in range(start, min(start + per_block, rows)):",
            "        at = i * columns",
            *_indented(_indented([*self.row_start, *inner])),
            *_indented(ends),
        ]

    def _row_steps(self, number: int) -> list[str]:
        """What is worked out once in a row, behind the sweep of that number."""
        lines = []
        for step in self.loop.steps:
            if step.is_of_rows and step.sweep == number:
                name = f"t{self.number_of[step]}"
                if step.kind == "row":
                    lines.append(f"{name} = {self._formula(step, {})}")
                else:
                    lines += self._fold_line(2, step)
                if step in self.loop.stored:
                    lines.append(f"{self._item(step.view, step.place)} = {name}")
        return lines

    def _sweep(self, number: int, sweep: Sweep) -> list[str]:
        starts: list[str] = []
        lines: list[str] = []
        names: dict[Any, str] = {}
        for step in (*sweep.read_back, *sweep.buffered):
            name = names[step] = f"t{self.number_of[step]}"
            place = f"{self.buffers[step]}[j]" if step in self.buffers else None
            lines.append(f"{name} = {place or self._item(step.view, step.place)}")
        for step in sweep.steps:
            lines += self._loads(step, names)
            if step.kind == "fold":
                starts += self._fold_line(0, step)
                lines += self._fold_line(1, step, self._formula(step, names))
            elif step.kind in ("column sum", "total"):
                k, value = self.sums.index(step), self._formula(step, names)
                total = step.kind == "total"
                lines.append(
                    f"s{k} = plus(s{k}, {value})" if total else f"p{k}[sums + j] += {value}"
                )
            else:
                name = names[step] = f"t{self.number_of[step]}"
                lines.append(f"{name} = {self._formula(step, names)}")
        lines += [f"{self.buffers[step]}[j] = {names[step]}" for step in sweep.fills]
        lines += [f"{self._item(step.view, step.place)} = {names[step]}" for step in sweep.stores]
        if self.is_flat:
            return lines
        lines.insert(0, "k = at + j")
        return [*starts, "for j in range(columns):", *_indented(lines), *self._row_steps(number)]

    def _fold_line(self, place: int, step: Step, value: str = "") -> list[str]:
        """The line of a sum or an extreme before its sweep, in it or behind it, if there is one."""
        line = FOLD_LINES[FOLDS[step.call.function]][place]
        name, real = f"t{self.number_of[step]}", letter(step.view.dtype)
        return [line.format(name=name, real=real, value=value)] if line else []

    # Values ---------------------------------------------------------------------------------------

    def _loads(self, step: Step, names: dict[Any, str]) -> list[str]:
        """Lines that read what a step reads from memory in each column."""
        lines = []
        for one in step.operands:
            if isinstance(one, Load) and one.key not in names:
                names[one.key] = self._of_row(one) or f"x{len(names)}"
                if names[one.key].startswith("x"):
                    lines.append(f"{names[one.key]} = {self._item(one.source, one.place)}")
        return lines

    def _of_row(self, load: Load) -> str | None:
        """The name of an item that all columns share, read before the row is; None if none is."""
        if load.place.step != 0 and self._form(load.place, load.source.dtype) != "column":
            return None
        key = "item", load.key
        if key not in self.hoisted:
            self.hoisted[key] = f"h{len(self.hoisted)}"
            item = self._item(load.source, load.place)
            lines = self.above if item.endswith("[0]") else self.row_start
            lines.append(f"{self.hoisted[key]} = {item}")
        return self.hoisted[key]

    def _formula(self, step: Step, names: dict[Any, str]) -> str:
        values: list[Any] = []
        for one, dtype in zip(step.operands, step.dtypes, strict=True):
            if isinstance(one, Number):
                values.append(self._number(one))
                continue
            own = one.view.dtype if isinstance(one, Step) else one.source.dtype
            value: str | None
            if isinstance(one, Step):
                value = f"t{self.number_of[one]}" if one.is_of_rows else names[one]
            else:
                value = names.get(one.key) or self._of_row(one)
            assert value is not None
            values.append(value if own == dtype else _converted(value, dtype))
        if step.kind in ("fold", "column sum", "total"):
            return values[0]
        function, made = step.call.function, step.view.dtype
        own = made if function in (cast, np.where) else step.dtypes[0]
        own = np.dtype(bool) if function in TESTS else own
        if function is cast:
            return _converted(values[0], made) if step.dtypes[0] != made else values[0]
        formula = FORMULAS[function].format(*values, real=letter(step.dtypes[0]))
        return formula if own == made else _converted(f"({formula})", made)

    def _number(self, number: Number) -> str:
        """A number of the text, or the name of one that is read above all loops."""
        value, dtype = number.value, number.dtype
        if not isinstance(value, Slot):
            if dtype.char == "?":
                return str(bool(value))
            if value in WRITTEN_OUT:
                return f"{letter(dtype)}({value})"
        key = "number", value if isinstance(value, Slot) else dtype.type(value).tobytes(), dtype
        if key not in self.hoisted:
            array = (
                self.numbers.array(value, dtype).reshape(1)
                if isinstance(value, Slot)
                else np.full(1, value, dtype)
            )
            self.hoisted[key] = self._read_above(key, array)
        return self.hoisted[key]

    def _read_above(self, key: Any, array: np.ndarray) -> str:
        argument = self._argument(key, "n", array)
        name = f"c{len(self.above)}"
        self.above.append(f"{name} = {argument}[0]")
        return name

    # Places ---------------------------------------------------------------------------------------

    def _item(self, source: Any, place: Place) -> str:
        """How the text reads or writes an item: in each column, or a name of what all share."""
        array = self.arrays[source] if isinstance(source, View) else source
        form, item = self._form(place, array.dtype), array.dtype.itemsize
        key = address_of(array), place._replace(offset=0), array.dtype
        if form == "cells":
            name = self._argument(key, "a", self._line_of(array, place))
            return f"{name}[{'j' if self.is_flat else 'k'}]"
        if form == "row":
            return f"{self._argument(key, 'v', self._line_of(array, place))}[j]"
        if form == "column":
            return f"{self._argument(key, 'r', self._line_of(array, place))}[i]"
        if form == "number":
            return self._argument(key, "o", self._line_of(array, place)) + "[0]"
        name = self._argument(key, "g", self._line_of(array, place))
        row = self._row_start(place, item)
        if place.step == 0:
            return f"{name}[{row}]"
        if place.step == item:
            return f"{name}[{row} + j]"
        step = self._argument(("step", place.step // item), "k", np.uint64(place.step // item))
        return f"{name}[{row} + j * {step}]"

    def _row_start(self, place: Place, item: int) -> str:
        """The name of where the row begins in an array whose rows do not lie evenly."""
        key = "starts", place.lead, item
        if key not in self.hoisted:
            starts = (place.row_starts() // item).astype(np.uint64)
            table = self._argument(key, "z", starts)
            self.hoisted[key] = f"y{table[1:]}"
            self.row_start.append(f"{self.hoisted[key]} = {table}[i]")
        return self.hoisted[key]

    def _argument(self, key: Any, prefix: str, value: Any) -> str:
        if key not in self.arguments:
            self.arguments[key] = f"{prefix}{len(self.arguments)}", value
        return self.arguments[key][0]

    def _line_of(self, array: np.ndarray, place: Place) -> np.ndarray:
        """All from the first item to the last, whatever lies between."""
        item = array.dtype.itemsize
        ends = sum((length - 1) * stride for length, stride in place.lead)
        ends += (self.loop.columns - 1) * place.step
        return as_strided(array, (ends // item + 1,), (item,))


def _converted(value: str, dtype: np.dtype[Any]) -> str:
    return f"({value} != 0)" if dtype.char == "?" else f"{letter(dtype)}({value})"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
