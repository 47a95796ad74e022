"""What windows that slide along an axis need and the standard lacks."""

from collections.abc import Sequence
from typing import Any

from xpnn.numerics import add_up, widened
from xpnn.typing import Array, Namespace


class Sliding:
    """The part of a backend that fills axes up and puts windows back."""

    xp: Namespace
    device: Any

    @property
    def positions_first(self) -> bool:
        """Whether images lie positions first, as the portable products of windows want it."""
        return True

    def pad(self, x: Array, axis: int, start: int, length: int, fill: float = 0.0) -> Array:
        """``x`` at ``start`` of an axis of that length, amid ``fill``; what sticks out is dropped.

        Args:
            x: of any shape.
            axis: counted from the front.
            start: where the first entry of ``x`` comes to lie; below 0 it is dropped.
            length: of the axis afterwards.
            fill: what stands where there is nothing of ``x``.
        """
        xp, own = self.xp, x.shape[axis]
        first, last = inside(own, start, length)
        before = min(max(start, 0), length)
        after = length - before - (last - first)
        kept = x if last - first == own else part(x, axis, first, last)
        if not before and not after:
            return kept
        borders = [
            xp.full(
                (*x.shape[:axis], n, *x.shape[axis + 1 :]), fill, dtype=x.dtype, device=self.device
            )
            for n in (before, after)
        ]
        return xp.concat([borders[0], kept, borders[1]], axis=axis)

    def fold(
        self,
        parts: Sequence[Array],
        axis: int,
        length: int,
        stride: int = 1,
        dilation: int = 1,
        low: int = 0,
    ) -> Array:
        """Windows put back to where they were cut out, and added up where they overlap.

        ::

            out[u] = sum of parts[k][t] over all k, t with t stride + k dilation - low = u

        along one axis. Parts that do not overlap are interleaved; with a stride of the window's
        size that is all. Half precision is added up in float32.

        Args:
            parts: one array for each entry of the window, all of one shape.
            axis: counted from the front.
            length: of the axis afterwards.
            stride: steps from window to window.
            dilation: steps from one entry of the window to the next.
            low: entries of the first window that lie in front of the axis.
        """
        rounds: dict[int, dict[int, Array]] = {}
        for k, one in enumerate(parts):
            behind, phase = divmod(k * dilation, stride)
            rounds.setdefault(behind, {})[phase] = one
        placed = [
            (_interleave(phases, axis, stride, self.xp), behind * stride - low)
            for behind, phases in rounds.items()
        ]
        if len(placed) == 1:
            return self.overlaid(placed, axis, length)
        wide = [(widened(one, self.xp), start) for one, start in placed]
        return self.xp.astype(self.overlaid(wide, axis, length), parts[0].dtype, copy=False)

    def overlaid(self, placed: Sequence[tuple[Array, int]], axis: int, length: int) -> Array:
        """Arrays that each begin somewhere along an axis of that length, added up.

        Args:
            placed: each array with its start, as for ``pad``.
        """
        return add_up((self.pad(one, axis, start, length) for one, start in placed), self.xp)


def inside(own: int, start: int, length: int) -> tuple[int, int]:
    """From where to where ``own`` entries, put at ``start``, lie within an axis of that length."""
    first = min(max(-start, 0), own)
    return first, max(min(own, length - start), first)


def part(x: Array, axis: int, start: int, stop: int, step: int = 1) -> Array:
    """``x[..., start:stop:step, ...]`` along that axis."""
    return x[(slice(None),) * axis + (slice(start, stop, step), ...)]


def _interleave(phases: dict[int, Array], axis: int, stride: int, xp: Namespace) -> Array:
    """The phases in turn along the axis, zeros for those that are not there."""
    if stride == 1:
        return phases[0]
    one = next(iter(phases.values()))
    zeros = xp.zeros_like(one) if len(phases) < stride else None
    together = xp.stack([phases.get(phase, zeros) for phase in range(stride)], axis=axis + 1)
    length = one.shape[axis] * stride
    return xp.reshape(together, (*one.shape[:axis], length, *one.shape[axis + 1 :]))
