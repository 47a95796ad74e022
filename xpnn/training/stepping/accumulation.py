"""A batch gone through in parts, whose gradients are added up: the memory of a part is enough."""

from collections.abc import Callable
from functools import partial
from typing import Any

from xpnn.backends import Backend
from xpnn.losses.weights import or_nan
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.stepping.batch_weight import weight_of
from xpnn.typing import Array, Loss, Number, Params, Shape, State

Sums = tuple[Array, Params, State]
Gradients = Callable[..., Sums]
"""``gradients(params, state, x, y, weight, factor) -> (value, grads, state)``, of one batch.

``factor`` multiplies the first delta, and with it all gradients; None stands for 1.
"""


def part_sizes(size: int, parts: int) -> list[int]:
    """The lengths of at most so many parts of a batch: all equal, but for a shorter last one.

    >>> part_sizes(10, 4), part_sizes(2, 4)
    ([3, 3, 3, 1], [1, 1])
    """
    length = -(-size // parts)
    return [min(length, size - start) for start in range(0, size, length)]


class Accumulated:
    """The gradients of a batch, worked out in ``parts`` parts, one after another.

    With W_p the weight of part p among the losses' items, all weights being 1 unless given::

        value = sum_p W_p / W value_p        dL/dw = sum_p W_p / W dL_p/dw         W = sum_p W_p

    which is what the whole batch would give, but for rounding. Sums are in at least float32. A part
    without any weight adds nothing; where all parts are such, value is NaN and the gradients are 0.
    What layers carry from batch to batch goes on from part to part.

    Args:
        one: the gradients of one part.
    """

    def __init__(self, one: Gradients, network: Network, loss: Loss, parts: int):
        self.one, self.network, self.loss, self.parts = one, network, loss, parts

    def __call__(
        self, params: Params, state: State, x: Array, y: Array, weight: Array | None, factor: Any
    ) -> Sums:
        """What ``one`` would say of the whole batch."""
        sizes = part_sizes(x.shape[0], self.parts)
        if len(sizes) == 1:
            return self.one(params, state, x, y, weight, factor)
        backend = self.network.backend
        arrays = [x, y] if weight is None else [x, y, weight]
        cut = [_cut(array, sizes) for array in arrays]
        weights = part_weights(self.loss, cut[1], cut[2] if len(cut) > 2 else None, self.network)
        shares, whole = part_shares(weights, backend)
        part = partial(self._part, params, factor)

        sums = part(state, shares[0], *(pieces[0] for pieces in cut))
        equal = sizes.count(sizes[0])
        if equal > 1:
            rows = [_stacked(array, sizes[0], equal - 1, backend) for array in arrays]
            sums = _looped(part, sums, shares[:equal], rows, backend)
        if equal < len(sizes):
            (value, grads, after), (last, *others) = sums, (pieces[-1] for pieces in cut)
            last, value, *held = backend.barrier(last, value, *grads.values())
            sums = value, dict(zip(grads, held, strict=True)), after
            sums = _added(part, sums, shares[-1], last, *others)
        value, grads, after = sums
        return value if _is_number(whole) else or_nan(value, whole, backend.xp), grads, after

    def _part(self, params: Params, factor: Any, state: State, share: Number, *rows: Array) -> Sums:
        """What a part of the batch adds, and the state behind it."""
        backend, no_weight = self.network.backend, [None] * (3 - len(rows))
        by = share if factor is None else share * factor
        value, grads, state = self.one(params, state, *rows, *no_weight, by)
        wide = {name: widened(grad, backend.xp) for name, grad in grads.items()}
        return _term(value, share, backend), wide, state


def _added(part: Callable[..., Sums], sums: Sums, share: Number, *rows: Array) -> Sums:
    """The sums with one more part in them."""
    value, grads, state = sums
    more, found, state = part(state, share, *rows)
    return value + more, {name: grad + found[name] for name, grad in grads.items()}, state


def _looped(
    part: Callable[..., Sums], sums: Sums, shares: list[Number], rows: list[Array], backend: Backend
) -> Sums:
    """The sums with the parts behind the first in them: a loop, where it matters that it is one."""
    if all(_is_number(share) and share == shares[0] for share in shares):
        given, step = rows, lambda sums, *now: (_added(part, sums, shares[0], *now), ())
    else:
        given = [backend.stack([_as_array(share, backend) for share in shares[1:]]), *rows]
        step = lambda sums, *now: (_added(part, sums, *now), ())  # noqa: E731
    sums, _ = backend.scan(step, sums, given)
    return sums


def part_weights(
    loss: Loss, targets: list[Array], weights: list[Array] | None, network: Network
) -> list[Number]:
    """W_p for each part, given its targets and, where there are such, its sample weights."""
    given = [None] * len(targets) if weights is None else weights
    return [weight_of(loss, y, weight, network) for y, weight in zip(targets, given, strict=True)]


def part_shares(weights: list[Number], backend: Backend) -> tuple[list[Number], Number]:
    """W_p / W for each part, zeros where W is zero; and W."""
    whole = sum(weights[1:], start=weights[0])
    if _is_number(whole):
        return [weight / (whole or 1.0) for weight in weights], whole
    safe = backend.xp.where(whole > 0, whole, 1.0)
    return [weight / safe for weight in weights], whole


def _term(value: Array, share: Number, backend: Backend) -> Array:
    """What a part adds to the mean: nothing where it has no weight, and so no mean of its own."""
    if _is_number(share):
        return value * share if share else backend.xp.zeros_like(value)
    return backend.xp.where(share > 0, value * share, 0.0)


def _is_number(weight: Number) -> bool:
    """Whether it is Python's; NumPy's float64 would pass for one, too."""
    return not hasattr(weight, "dtype")


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
