"""check_gradients: hand-written backprop held against differences of the forward pass."""

import copy
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.backends import Backend, get_backend
from xpnn.errors import GradientError
from xpnn.layers import Layer
from xpnn.network import Network
from xpnn.testing.differences import Point
from xpnn.testing.joining import SideBySide, has_several, in_rows
from xpnn.testing.mistakes import Evidence, likely_mistake, through
from xpnn.testing.report import GradientReport, GradientRow, worst
from xpnn.testing.subjects import LayerSubject, LossSubject, Subject
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Loss, Shape, Shapes

DRAWS = 6
NOISE = 0.1


def check_gradients(
    target: Layer | Network | Loss,
    input_shape: Shapes | None = None,
    backend: str | Backend | None = None,
    *,
    x: Any = None,
    targets: Any = None,
    batch: int = 3,
    training: bool = True,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradientReport:
    """Hold every gradient of a layer, a network or a loss against central differences.

    For L = sum(R * output), with a random R in the place of dL/d(output), each element w of each
    parameter and of the input is moved by a small h to both sides::

        dL/dw = (L(w + h) - L(w - h)) / 2h + O(h^2)

    All is done in float64, where differences are right to about 1e-9 and a wrong formula is not
    even right to 1e-2: hence the tolerance. The error of an element is::

        |given - numeric| / max(|given|, |numeric|, noise / tolerance)

    where ``noise`` is the rounding error that a difference may have, so that gradients near zero
    are not blamed for it. Parameters are moved by a little noise first: a bias of 0 or a scale of 1
    would hide mistakes. Where a kink (ReLU at 0, a tie in a maximum) lies within a step, input and
    noise are drawn again; a given float ``x`` is moved by 1e-3. Dropout draws the same mask in
    every evaluation. Afterwards the target is as it was.

    Args:
        target: a layer, built or not; a network; or a loss function with its options bound.
        input_shape: of one sample (of one prediction, for a loss), or a tuple of those of several
            inputs; needed where the target does not know it and ``x`` is not given.
        backend: where to run, NumPy unless given; a built target has its own.
        x: a batch of inputs (predictions, for a loss) to check at, normal draws unless given; a
            tuple of several, for a layer that joins them. Integers, such as an embedding's, have no
            gradient.
        targets: of the loss; unless given, random rows that sum to 1.
        batch: number of samples that are drawn.
        training: whether layers run in training mode.
        tolerance: the largest error that passes.
        seed: of all draws; equal on every backend.

    Returns:
        The largest error of each gradient; ``print`` it.

    Raises:
        GradientError: a gradient is wrong; the message is the report and names the likely mistake.
        ShapeError: the output of a layer is not of the shape that its ``output_shape`` says.

    >>> from xpnn.layers import Tanh
    >>> check_gradients(Tanh(), (4,)).wrong
    False
    """
    backend = _backend_of(target, backend)
    title = _title(target, backend)
    with backend.allow_float64(), backend.on_device():
        if x is None:
            _refuse_to_draw_integers(target)
        elif isinstance(x, tuple):
            x = tuple(_given(one, backend) for one in x)
        else:
            x = _given(x, backend)
        shape = _shape(target, input_shape, x)
        layer = getattr(target, "root", target)
        if isinstance(layer, Layer) and has_several(layer, shape):
            target = SideBySide(layer if layer.built else copy.deepcopy(layer), shape)
            shape, x = (sum(map(math.prod, target.shapes)),), None if x is None else in_rows(x)
            target.build(shape, backend, dtype="float64")
        drawn = (batch, *shape)
        subject = _subject(target, drawn if x is None else x.shape, backend, training, targets)
    report = _report(subject, title, x, drawn, tolerance, seed)
    if report.wrong:
        raise GradientError(str(report))
    return report


# What is checked, and where -----------------------------------------------------------------------


def _backend_of(target: Any, backend: str | Backend | None) -> Backend:
    if not isinstance(target, Network) and not (isinstance(target, Layer) and target.built):
        return get_backend(backend or "numpy")
    own = target.backend
    if backend is not None and get_backend(backend) is not own:
        raise ValueError(f"the target lives on {own}, so it is checked there; leave out backend")
    return own


def _given(x: Any, backend: Backend) -> np.ndarray:
    """A copy of a given batch on the host, floats in float64."""
    array = np.array(backend.to_numpy(backend.asarray(x)))
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _shape(target: Any, input_shape: Shapes | None, x: Any) -> Any:
    known = getattr(target, "input_shape", None) if isinstance(target, Layer | Network) else None
    came = None if x is None else one_or_tuple([one.shape[1:] for one in as_tuple(x)])
    for shape in (known, input_shape, came):
        if shape is not None:
            return tuple(shape)
    raise ValueError("check_gradients needs an input_shape, the shape of one sample, or a batch x")


def _refuse_to_draw_integers(target: Any) -> None:
    layer = target.root if isinstance(target, Network) else target
    if isinstance(layer, Layer) and "integers" in as_tuple(layer.takes):
        raise ValueError(f"{target!r} takes integers, which only you can choose: give them as x")


def _subject(target: Any, shape: Shape, backend: Backend, training: bool, targets: Any) -> Subject:
    if isinstance(target, Network):
        target = target.root
    if isinstance(target, Layer):
        if not target.built:
            target = copy.deepcopy(target)
            target.build(shape[1:], backend, dtype="float64")
        return LayerSubject(target, backend, training)
    if isinstance(target, type) or not callable(target):
        raise TypeError(
            f"check_gradients takes a layer such as Dense(3), a network or a loss function, got "
            f"{target!r}"
        )
    if targets is None:
        rows = np.random.default_rng(1).exponential(size=shape)
        return LossSubject(target, backend, rows / np.sum(rows, axis=-1, keepdims=True))
    return LossSubject(target, backend, _given(targets, backend))


def _title(target: Any, backend: Backend) -> str:
    if isinstance(target, Layer | Network):
        return f"{target!r} on {backend.spec}"
    options = dict(getattr(target, "keywords", {}))
    function = getattr(target, "func", target)
    name = getattr(function, "__name__", repr(function))
    return f"{name}{options or ''} on {backend.spec}"


def _report(
    subject: Subject, title: str, x: np.ndarray | None, drawn: Shape, tolerance: float, seed: int
) -> GradientReport:
    rng = np.random.default_rng(seed)
    culprits: tuple[str, ...] = ()
    with subject.lent():
        point, rows, draws = _examine(subject, x, drawn, tolerance, rng)
        if isinstance(subject, LayerSubject) and any(row.mistake for row in rows):
            culprits = tuple(_culprits(subject, point, tolerance, rng))
    for row in rows:
        if row.left_out == math.prod(row.shape) > 0:
            subject.complain(f"{row.name}: all elements lie on a kink, nothing was checked")
    notes = []
    if left := sum(row.left_out for row in rows):
        notes.append(
            f"{left} elements lie on a kink at all of {draws + 1} points and were left out"
        )
    elif draws:
        notes.append(f"moved {draws} times to get away from a kink")
    return GradientReport(title, tuple(rows), tuple(subject.faults), culprits, tuple(notes))


# The comparison -----------------------------------------------------------------------------------


def _examine(
    subject: Subject, x: np.ndarray | None, drawn: Shape, tolerance: float, rng: np.random.Generator
) -> tuple[Point, list[GradientRow], int]:
    """Check at one point after another, until one is free of kinks; the last one, and how many."""
    own = subject.params()
    for draw in range(DRAWS):
        values = {name: w + NOISE * rng.standard_normal(w.shape) for name, w in own.items()}
        values[subject.flow] = _inputs(x, drawn, draw, rng)
        point = Point(subject, values, rng)
        rows = _compare(point, tolerance)
        if any(row.mistake for row in rows) or not any(row.left_out for row in rows):
            break
    return point, rows, draw


def _inputs(x: np.ndarray | None, drawn: Shape, draw: int, rng: np.random.Generator) -> np.ndarray:
    if x is None:
        return rng.standard_normal(drawn)
    if x.dtype.kind != "f" or draw == 0:
        return x
    return x + 1e-3 * rng.standard_normal(x.shape)


def _compare(point: Point, tolerance: float) -> list[GradientRow]:
    """A row for each array, that of the input first."""
    subject, values = point.subject, point.values
    if not np.all(np.isfinite(point.start)):
        subject.complain("the forward pass gives values that are not finite")
        return []
    given = subject.gradients(values, point.delta)
    names = sorted(values, key=lambda name: name != subject.flow)
    return [
        _row(point, name, given[name], tolerance)
        for name in names
        if values[name].dtype.kind == "f"
    ]


def _row(point: Point, name: str, given: np.ndarray | None, tolerance: float) -> GradientRow:
    """One gradient against its differences."""
    shape = point.values[name].shape
    if given is None:
        words = "missing: backward returned None" if name[0] == "(" else "missing: not in grads"
        return GradientRow(name, shape, np.inf, (), np.nan, np.nan, words)
    jacobian, kinks = point.jacobian(name)
    numeric = through(jacobian, point.delta)
    if given.shape != shape:
        words = likely_mistake(_evidence(point, name, given, numeric, jacobian))
        return GradientRow(name, shape, np.inf, (), np.nan, np.nan, words)
    size = np.maximum(np.maximum(np.abs(given), np.abs(numeric)), point.noise / tolerance)
    errors = np.where(kinks, 0.0, np.abs(given - numeric) / size)
    for index in map(tuple, np.argwhere(~(errors <= tolerance))):
        if point.bends(name, index, numeric[index], tolerance * size[index]):
            kinks[index], errors[index] = True, 0.0
    at, words = worst(errors), ""
    if not errors[at] <= tolerance:
        words = likely_mistake(_evidence(point, name, given, numeric, jacobian))
    numbers = (float(errors[at]), at, float(numeric[at]), float(given[at]))
    return GradientRow(name, shape, *numbers, words, int(np.sum(kinks)))


def _evidence(
    point: Point, name: str, given: np.ndarray, numeric: np.ndarray, jacobian: np.ndarray
) -> Evidence:
    subject, values = point.subject, point.values
    flow = values[subject.flow]
    arrays = {"delta": point.delta, "the output": point.start}
    arrays |= {"the input" if key == subject.flow else key: v for key, v in values.items()}
    again = None
    if (
        name == subject.flow
        and isinstance(subject, LayerSubject)
        and flow.shape == point.start.shape
    ):
        again = functools.partial(_at_output, point)
    return Evidence(
        given, numeric, jacobian, point.delta, arrays, flow.shape[0], name == subject.flow, again
    )


def _at_output(point: Point) -> tuple[np.ndarray, np.ndarray]:
    """Differences and ``backward`` for the input gradient, with the output for an input."""
    subject = point.subject
    values = {**point.values, subject.flow: point.start}
    there = Point(subject, values, np.random.default_rng(0))
    there.delta = point.delta
    given = subject.gradients(values, point.delta)[subject.flow]
    numeric = through(there.jacobian(subject.flow)[0], point.delta)
    return numeric, np.zeros(0) if given is None else given


def _culprits(
    subject: LayerSubject, point: Point, tolerance: float, rng: np.random.Generator
) -> Iterator[str]:
    """The innermost layers that are wrong by themselves, at the inputs that they see."""
    inside = subject.inside(point.values)
    wrong: dict[str, str] = {}
    for name, layer, x in inside:
        if isinstance(x, tuple):
            layer, x = SideBySide(layer, tuple(one.shape[1:] for one in x)), in_rows(x)
            layer.build(x.shape[1:], subject.backend, dtype="float64")
        alone = LayerSubject(layer, subject.backend, subject.training)
        _, rows, _ = _examine(alone, x, (), tolerance, rng)
        mistakes = [f"{row.name}: {row.mistake}" for row in rows if row.mistake]
        if mistakes:
            wrong[name] = "; ".join(mistakes)
    for name, words in wrong.items():
        if not any(other.startswith(f"{name}.") for other in wrong):
            yield f"{name} is wrong when checked by itself: {words}"
    if inside and not wrong:
        yield "every layer inside is right by itself, so look at how their deltas are joined"
