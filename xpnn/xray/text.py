"""A record as text: each equation, the same with the numbers put in, and what comes out."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.trees import as_tuple
from xpnn.xray.equations import is_of_shapes
from xpnn.xray.health import gates
from xpnn.xray.symbols import symbols_of
from xpnn.xray.views import LayerInfo, LayerView, Record, StepView

MOST = 12
"""Numbers of an array that is written out; of larger ones the text says what they are like."""

SYMBOL = re.compile(r"(?<![\w/'])(dL/d)?([A-Za-z]+)(\^T)?(?![\w\[(']|_)")
INDEX = re.compile(r"(?:\[.*\]|_[ijk]+)$")
REMARK = re.compile(r" {3,}.*")


def as_text(record: Record) -> str:
    """All steps in a line each, and the last of them in full.

    Forward from the first layer to the last, the loss, backward from the last to the first, and the
    update. Matrices are written row by row with semicolons between, numbers with four digits.
    """
    lines = [f"step {step.number}: loss {_number(step.loss)}" for step in record.steps]
    if record.steps:
        lines += _of_step(record, record.steps[-1])
    return "\n".join(lines)


def _of_step(record: Record, step: StepView) -> Iterator[str]:
    layers = [info for info in record.layers if info.name in step.layers]
    yield from ("", "forward")
    for info in layers:
        yield from _of_pass(info, step, info.forward)
        yield from _of_gates(info, step.layers[info.name])
    targets = ", ".join(map(_shown, as_tuple(step.targets)))
    yield from ("", f"loss: {record.loss_name}, {_number(step.loss)}, for targets {targets}")
    yield from (f"  {line}" for line in record.loss_equations)
    yield from ("", "backward")
    for info in reversed(layers):
        yield from _of_pass(info, step, info.backward)
    yield from ("", f"update: {record.optimizer}")
    for info in layers:
        yield from _of_update(step.layers[info.name])


def _of_pass(info: LayerInfo, step: StepView, equations: tuple[str, ...]) -> Iterator[str]:
    """The equations of a layer on the way there, or on the way back."""
    yield f"  {info.name}: {info.text}"
    arrays = symbols_of(step.layers[info.name], step, (*info.forward, *info.backward))
    for line in equations:
        if is_of_shapes(line):
            continue
        yield f"    {line}"
        symbol, sign, formula = REMARK.sub("", line).partition(" = ")
        if not sign:
            continue
        margin = " " * (4 + len(symbol))
        if (put_in := _put_in(formula, arrays)) is not None:
            yield f"{margin} = {put_in}"
        if (whole := INDEX.sub("", symbol)) in arrays:
            yield f"{margin} = {_shown(arrays[whole])}"


def _of_gates(info: LayerInfo, view: LayerView) -> Iterator[str]:
    shares = gates(info.kind, view.kept)
    if shares:
        each = ", ".join(f"{100 * share:.3g} % of {name}" for name, share in shares.items())
        yield f"    saturated: {each}"


def _of_update(view: LayerView) -> Iterator[str]:
    for name, change in view.updates.items():
        before, title = view.params[name], f"  {view.name}.{name}"
        if before.size <= MOST:
            after = _written(before + change)
            yield f"{title} = {_written(before)} + {_written(change)} = {after}"
        else:
            length, of = np.linalg.norm(change), np.linalg.norm(before)
            share = f", {_number(length / of)} of its own" if of else ""
            yield f"{title} {before.shape}: a change of length {_number(length)}{share}"


def _put_in(formula: str, arrays: dict[str, np.ndarray]) -> str | None:
    """A formula with arrays in place of symbols; None where it has none, or one is too large."""
    missing: list[str] = []

    def written(found: re.Match[str]) -> str:
        derivative, symbol, turned = found.groups(default="")
        array = arrays.get(derivative + symbol)
        if array is None or array.size > MOST or array.ndim > 2:
            is_symbol = len(symbol) == 1 or array is not None or derivative
            missing.extend([symbol] if is_symbol else [])
            return found[0]
        return _written(array.T if turned else array)

    text = SYMBOL.sub(written, formula)
    return None if missing or text == formula else text


def _shown(array: np.ndarray) -> str:
    if array.size <= MOST and array.ndim <= 2:
        return _written(array)
    wide = array.astype(np.float64)
    low, high, length = map(_number, (wide.min(), wide.max(), np.linalg.norm(wide)))
    return f"{array.shape}, from {low} to {high}, of length {length}"


def _written(array: np.ndarray) -> str:
    """``[1 0; 0.5 -1]``."""
    rows = array if array.ndim == 2 else [array.reshape(-1)]
    return f"[{'; '.join(' '.join(map(_number, row)) for row in rows)}]"


def _number(value: Any) -> str:
    return f"{float(value) + 0.0:.4g}"  # a zero without a sign
