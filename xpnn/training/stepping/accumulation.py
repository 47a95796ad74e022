"""A batch gone through in parts, whose gradients are added up: the memory of a part is enough."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from xpnn.backends import Backend
from xpnn.layers.replica import Replica
from xpnn.local_rows import part_sizes
from xpnn.losses.weights import or_nan
from xpnn.numerics import widened
from xpnn.training.stepping.conversion import BatchForm
from xpnn.training.stepping.objective import Objective
from xpnn.trees import as_tuple
from xpnn.typing import Array, Arrays, Number, Params, Shape, State

Sums = tuple[Any, Params, State]
Gradients = Callable[..., Sums]
"""``gradients(params, state, x, y, weight, factor) -> (value, grads, state)``, of one batch.

``factor`` multiplies the first delta, and with it all gradients; None stands for 1. Where there are
several losses or terms, there may be a factor for each, and there is a value for each.
"""


class Accumulated:
    """The gradients of a batch, worked out in ``parts`` parts, one after another.

    With W_p the weight of part p among the losses' items, all weights being 1 unless given::

        value = sum_p W_p / W value_p        dL/dw = sum_p W_p / W dL_p/dw         W = sum_p W_p

    which is what the whole batch would give, but for rounding. Sums are in at least float32. A part
    without any weight adds nothing; where all parts are such, value is NaN and the gradients are 0.
    What layers carry from batch to batch goes on from part to part.

    Args:
        one: the gradients of one part.
        replica: of a process that has some rows of each part.
    """

    def __init__(
        self, one: Gradients, objective: Objective, parts: int, replica: Replica | None = None
    ):
        self.one, self.objective, self.parts, self.replica = one, objective, parts, replica
        self.backend = objective.network.backend
        self.form = BatchForm(objective.network)

    def __call__(
        self, params: Params, state: State, x: Arrays, y: Arrays, weight: Array | None, factor: Any
    ) -> Sums:
        """What ``one`` would say of the whole batch."""
        arrays = [one for one in self.form.parts(x, y, weight) if one is not None]
        sizes, forms = self._sizes(arrays[0].shape[0])
        if len(sizes) == 1:
            return self.one(params, state, x, y, weight, factor)
        backend = self.backend
        cut = [_cut(array, sizes) for array in arrays]
        batches = [self.form.whole(rows) for rows in zip(*cut, strict=True)]
        weights = [self.objective.weights(y, weight) for _, y, weight in batches]
        shares, whole = part_shares(weights, backend)
        part = partial(self._part, params, factor)

        sums = part(state, shares[0], *(pieces[0] for pieces in cut))
        equal = forms.count(forms[0])
        if equal > 1:
            rows = [_stacked(array, sizes[0], equal - 1, backend) for array in arrays]
            sums = _looped(part, sums, shares[:equal], rows, backend)
        if equal < len(sizes):
            (value, grads, after), (last, *others) = sums, (pieces[-1] for pieces in cut)
            values = as_tuple(value)
            last, *held = backend.barrier(last, *values, *grads.values())
            own, held = tuple(held[: len(values)]), held[len(values) :]
            own = own if isinstance(value, tuple) else own[0]  # a tuple may be of one value
            sums = own, dict(zip(grads, held, strict=True)), after
            if self.replica is not None:
                self.replica.rows = self.replica.parts[-1]
            sums = _added(part, sums, shares[-1], last, *others)
        value, grads, after = sums
        value = each_of(partial(mean_or_nan, backend=backend), value, whole)
        return value, grads, after

    def _sizes(self, length: int) -> tuple[list[int], Sequence[Any]]:
        """How many rows each part has, and what is equal for parts that are alike."""
        if self.replica is None:
            sizes = part_sizes(length, self.parts)
            return sizes, sizes
        return [rows.count for rows in self.replica.parts], self.replica.parts

    def _part(self, params: Params, factor: Any, state: State, share: Any, *rows: Array) -> Sums:
        """What a part of the batch adds, and the state behind it."""
        by = times(factor, share)
        value, grads, state = self.one(params, state, *self.form.whole(rows), by)
        wide = {name: widened(grad, self.backend.xp) for name, grad in grads.items()}
        value = each_of(partial(term, backend=self.backend), value, share)
        return value, wide, state


def each_of(change: Callable[..., Any], *values: Any) -> Any:
    """What becomes of single values, or of each of tuples of them."""
    if not isinstance(values[0], tuple):
        return change(*values)
    return tuple(change(*one) for one in zip(*values, strict=True))


def times(factor: Any, share: Any) -> Any:
    """What a first delta is multiplied by: a share, and what the whole is multiplied by, if at all.

    Each may be a tuple, of each value.
    """
    if factor is None:
        return share
    if isinstance(factor, tuple):
        return each_of(operator.mul, share, factor)
    return each_of(lambda one: one * factor, share)


def _added(part: Callable[..., Sums], sums: Sums, share: Number, *rows: Array) -> Sums:
    """The sums with one more part in them."""
    value, grads, state = sums
    more, found, state = part(state, share, *rows)
    value = each_of(operator.add, value, more)
    return value, {name: grad + found[name] for name, grad in grads.items()}, state


def _looped(
    part: Callable[..., Sums], sums: Sums, shares: list[Any], rows: list[Array], backend: Backend
) -> Sums:
    """The sums with the parts behind the first in them: a loop, where it matters that it is one."""
    if all(_are_numbers(share) and share == shares[0] for share in shares):
        given, step = rows, lambda sums, *now: (_added(part, sums, shares[0], *now), ())
    else:
        columns = [*zip(*map(as_tuple, shares[1:]), strict=True)]
        own = [backend.stack([_as_array(one, backend) for one in column]) for column in columns]
        is_single = not isinstance(shares[0], tuple)

        def step(sums: Sums, *now: Array) -> tuple[Sums, tuple[()]]:
            share = now[0] if is_single else tuple(now[: len(own)])
            return _added(part, sums, share, *now[len(own) :]), ()

        given = [*own, *rows]
    sums, _ = backend.scan(step, sums, given)
    return sums


def part_shares(weights: list[Any], backend: Backend) -> tuple[list[Any], Any]:
    """W_p / W for each part, zeros where W is zero; and W. Each may be a tuple, of each value."""
    if isinstance(weights[0], tuple):
        columns = [part_shares(list(column), backend) for column in zip(*weights, strict=True)]
        shares, wholes = zip(*columns, strict=True)
        return [*zip(*shares, strict=True)], wholes
    whole = sum(weights[1:], start=weights[0])
    if _is_number(whole):
        return [weight / (whole or 1.0) for weight in weights], whole
    safe = backend.xp.where(whole > 0, whole, 1.0)
    return [weight / safe for weight in weights], whole


def mean_or_nan(value: Array, whole: Number, backend: Backend) -> Array:
    """The mean, or NaN where nothing has any weight."""
    return value if _is_number(whole) else or_nan(value, whole, backend.xp)


def term(value: Array, share: Number, backend: Backend) -> Array:
    """What a part adds to the mean: nothing where it has no weight, and so no mean of its own."""
    if _is_number(share):
        return value * share if share else backend.xp.zeros_like(value)
    return backend.xp.where(share > 0, value * share, 0.0)


def _is_number(weight: Number) -> bool:
    """Whether it is Python's; NumPy's float64 would pass for one, too."""
    return not hasattr(weight, "dtype")


def _are_numbers(weights: Any) -> bool:
    """Whether all of them are Python's, of each value."""
    return all(map(_is_number, as_tuple(weights)))


def _as_array(weight: Number, backend: Backend) -> Array:
    if not _is_number(weight):
        return weight
    return backend.xp.full((), weight, dtype=backend.xp.float32, device=backend.device)


def _cut(array: Array, sizes: list[int]) -> list[Array]:
    """The array in parts of those lengths."""
    stops = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return [array[stop - size : stop, ...] for size, stop in zip(sizes, stops, strict=True)]


def _stacked(array: Array, size: int, count: int, backend: Backend) -> Array:
    """The ``count`` parts behind the first, (count, size, ...)."""
    shape: Shape = (count, size, *array.shape[1:])
    return backend.xp.reshape(array[size : size * (count + 1), ...], shape)
