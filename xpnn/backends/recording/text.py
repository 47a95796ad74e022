"""A recording as text: what comes in, one line for each call, what goes out.

A call makes arrays, ``a1``, ``a2`` and so on, and numbers, ``n1``, ``n2``; dtype and shape stand
behind it. What is read in another way than it was made is a view: ``a1.T``, ``a1[0, 2:4]``,
``a1.reshape(6, 4).T``, ``a1.transpose(0, 2, 1)``, or, where none of these describes it,
``a1.strided(offset, shape, strides)``, which counts items. Arguments that lie behind each other are
read together as ``first..last``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, Slot, View
from xpnn.backends.recording.recording import Recording
from xpnn.trees import Keys

OPERATORS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "matmul": "@",
    "floor_divide": "//",
    "power": "**",
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "left_shift": "<<",
    "right_shift": ">>",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "pow": "**",
}
REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_or": "any",
    "logical_and": "all",
}
FEW = 4  # numbers of a constant that are written out
WIDTH = 72  # of the first column, at most


class Listing:
    """A recording with names for what comes in and goes out.

    Args:
        recording: of any step.
        given: names of arguments, by the keys that lead to them.
        returned: names of results, by the keys that lead to them in ``(results,)``.
    """

    def __init__(
        self, recording: Recording, given: Mapping[Keys, str], returned: Mapping[Keys, str]
    ):
        self.recording = recording
        self._given, self._returned = given, returned

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def lines(self) -> list[str]:
        """The text, line by line."""
        recording, names = self.recording, _Names()
        inputs = []
        for k, path in enumerate(recording.form.paths):
            name = self._given.get(path, _dotted(path))
            if k in recording.views:
                view = recording.views[k]
                names.take(view, name)
                inputs.append((name, _form(view)))
            elif k in recording.slots:
                names.numbers[recording.slots[k].number] = name
                inputs.append((name, recording.slots[k].kind.__name__))
        calls = [_line(call, names) for call in recording.calls]
        outputs = [
            (self._returned.get(path, _dotted(path[1:])), names.text(one))
            for path, one in zip(recording.result_form.paths, recording.results, strict=True)
        ]
        return [
            f"given {len(inputs)}",
            *_columns("    {}", inputs),
            f"calls {len(calls)}",
            *_columns("    {}", calls),
            f"returns {len(outputs)}",
            *(f"    {name} = {text}" for name, text in outputs),
        ]


class _Names:
    """Names of the arrays and numbers that the lines before have made."""

    def __init__(self) -> None:
        self.numbers: dict[int, str] = {}
        self._arrays: dict[Memory, list[tuple[View, str]]] = {}
        self._made = self._counted = 0

    def take(self, view: View, name: str) -> None:
        """Give an array its name; memory may hold several behind each other."""
        self._arrays.setdefault(view.memory, []).append((view, name))

    def made(self, one: Any) -> str:
        """The name of what a call makes."""
        if isinstance(one, Slot):
            self._counted += 1
            self.numbers[one.number] = f"n{self._counted}"
        elif one.memory not in self._arrays:
            self._made += 1
            self.take(one, f"a{self._made}")
        return self.text(one)

    def text(self, leaf: Any) -> str:
        """An argument of a call, or what it makes."""
        if isinstance(leaf, View):
            return self._view(leaf)
        if isinstance(leaf, Slot):
            return self.numbers[leaf.number]
        if isinstance(leaf, np.ndarray | np.generic):
            few = leaf.size <= FEW
            return f"{leaf.dtype}({leaf.tolist()})" if few else f"constant({_form(leaf)})"
        if isinstance(leaf, tuple | list):
            return f"[{', '.join(map(self.text, leaf))}]"
        if isinstance(leaf, slice):
            ends = (
                (leaf.start, leaf.stop) if leaf.step is None else (leaf.start, leaf.stop, leaf.step)
            )
            return ":".join("" if one is None else str(one) for one in ends)
        return str(leaf)

    def _view(self, view: View) -> str:
        """The array that it lies in, or all of those, and how it is seen."""
        stop = view.offset + view.nbytes
        lying = sorted(self._arrays[view.memory], key=lambda pair: pair[0].offset)
        inside = [
            (whole, name)
            for whole, name in lying
            if whole.offset < stop and view.offset < whole.offset + max(whole.nbytes, 1)
        ]
        if len(inside) > 1 and _is_packed(view):
            return f"{inside[0][1]}..{inside[-1][1]}"
        whole, name = (inside or lying)[0]
        return name + _seen(view, whole)


def _named(function: Any) -> str:
    """What a function is called; of one inside of another, the outer one."""
    function = getattr(function, "func", function)
    name = getattr(function, "__qualname__", None) or function.__name__
    return str(name).partition(".<locals>")[0].rpartition(".")[2].strip("_")


def _line(call: Call, names: _Names) -> tuple[str, str]:
    """A call with what it makes, and the form of that."""
    name = _named(call.function)
    arguments = [names.text(one) for one in call.arguments]
    if call.method == "reduce":
        name = REDUCTIONS.get(name, f"{name}.reduce")
    elif name in OPERATORS and len(arguments) == 2:
        arguments = [f" {OPERATORS[name]} ".join(arguments)]
        name = ""
    options = [
        f"{key}={names.text(one)}"
        for key, one in call.options.items()
        if one is not None and one is not False
    ]
    made = [one for one in call.results if one is not None]
    targets = ", ".join(map(names.made, made))
    forms = ", ".join(_form(one) if isinstance(one, View) else one.kind.__name__ for one in made)
    text = ", ".join([*arguments, *options])
    place = " in place" if call.in_place else ""
    return f"{targets} = {f'{name}({text})' if name else text}", forms + place


def _seen(view: View, whole: View) -> str:
    """How a view sees an array."""
    if view == whole:
        return ""
    if view.dtype != whole.dtype:
        return f".view({view.dtype}){_strided(view, whole.offset)}"
    axes, seen = _axes(whole), _axes(view)
    if view.offset == whole.offset and sorted(axes) == sorted(seen):
        return _turned([axes.index(axis) for axis in seen])
    return _sliced(view, whole) or _reshaped(view, whole) or _strided(view, whole.offset)


def _sliced(view: View, whole: View) -> str | None:
    """By an index or a slice along each axis, if it is that; the axes in their order."""
    rest, left, parts = view.offset - whole.offset, _axes(view), []
    for length, step in _axes(whole):
        if step <= 0:
            return None
        start, rest = divmod(rest, step)
        if left and left[0][1] == step and start + left[0][0] <= length:
            (count, _), *left = left
            parts.append(":" if count == length else f"{start}:{start + count}")
        else:
            parts.append(str(start))
    while parts and parts[-1] == ":":
        parts.pop()
    return None if rest or left or not parts else f"[{', '.join(parts)}]"


def _reshaped(view: View, whole: View) -> str | None:
    """A stretch of the array in another shape, if it is that."""
    seen = _axes(view)
    outer_first = sorted(range(len(seen)), key=lambda k: (-seen[k][1], k))
    shape = tuple(view.shape[k] for k in outer_first)
    lying = view._replace(shape=shape, strides=tuple(view.strides[k] for k in outer_first))
    if not (_is_packed(lying) and _is_packed(whole)):
        return None
    start, count = view.offset - whole.offset, view.nbytes
    size, stretch = view.dtype.itemsize, ""
    if count != whole.nbytes:
        flat = "" if len(whole.shape) == 1 else ".reshape(-1)"
        stretch = f"{flat}[{start // size}:{(start + count) // size}]"
    order = [outer_first.index(k) for k in range(len(seen))]
    shaped = f".reshape({', '.join(map(str, shape))})" if not stretch or len(shape) != 1 else ""
    return f"{stretch}{shaped}{_turned(order)}"


def _axes(view: View) -> list[tuple[int, int]]:
    return list(zip(view.shape, view.strides, strict=True))


def _turned(order: list[int]) -> str:
    if order == sorted(order):
        return ""
    return ".T" if order == [1, 0] else f".transpose({', '.join(map(str, order))})"


def _strided(view: View, start: int) -> str:
    size = view.dtype.itemsize
    strides = tuple(step // size for step in view.strides)
    return f".strided({(view.offset - start) // size}, {view.shape}, {strides})"


def _is_packed(view: View) -> bool:
    step = view.dtype.itemsize
    for length, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True


def _form(one: Any) -> str:
    return f"{one.dtype} {one.shape}"


def _dotted(path: Keys) -> str:
    return ".".join(map(str, path))


def _columns(pattern: str, rows: list[tuple[str, str]]) -> list[str]:
    """Lines of two columns."""
    width = max((min(len(first), WIDTH) for first, _ in rows), default=0)
    return [pattern.format(f"{first:<{width}}  {second}") for first, second in rows]
