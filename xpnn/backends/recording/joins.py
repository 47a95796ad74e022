"""Arrays that are joined, or copied into another order, lie from the start as the copy wants them.

A copy that puts arrays side by side along any axis, or turns axes, has nothing left to do then: the
calls that make these arrays write at steps into what would be copied to. That is left alone where a
call wants its arrays without gaps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View
from xpnn.backends.recording.shapes import cast

LEAST_RUN = 128  # bytes that lie behind each other: of fewer, a copy is faster


def laid_as_joined(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The same calls, arrays at the strides at which they are joined.

    Args:
        calls: of a recording.
        kept: memory that is read before or after them.
    """
    joining = {call: call.placements() for call in calls}
    users: dict[Memory, dict[Call, list[View]]] = {}
    for call, placements in joining.items():  # which may go across rows of the result
        for view in (*call.views(), *(place for _, place in placements)):
            users.setdefault(view.memory, {}).setdefault(call, []).append(view)
    made = {view.memory for call in calls for view in call.writes()} - kept
    layouts: dict[Memory, Layout] = {}

    def moved(view: View) -> View:
        layout = layouts.get(view.memory)
        found = view if layout is None else layout.moved(view)
        assert found is not None
        return found

    for call in reversed(calls):  # what is joined may be part of what is joined later
        for piece, place in joining[call]:
            if not isinstance(piece, View) or piece.memory not in made or piece.memory in layouts:
                continue
            if piece.dtype != place.dtype or piece.memory is place.memory:
                continue
            layout = Layout.of(piece, moved(place))
            if layout is not None and all(
                layout.suits(one, views, bool(joining[one]))
                for one, views in users[piece.memory].items()
            ):
                layouts[piece.memory] = layout
    return [call.with_views(moved, layouts) for call in calls]


class Layout(NamedTuple):
    """How an array without gaps comes to lie at other strides.

    Attributes:
        old: its memory.
        new: memory from its first item to its last.
        axes: length, stride and new stride of each, the outermost first.
    """

    old: Memory
    new: Memory
    axes: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, piece: View, place: View) -> "Layout | None":
        """From a piece to where it goes; None if it has gaps already, or would fall to bits."""
        item = piece.dtype.itemsize
        axes: list[tuple[int, int, int]] = []
        lengths = zip(piece.shape, piece.strides, place.strides, strict=True)
        for length, old, new in sorted(lengths, key=lambda one: -one[1]):
            if length == 1:
                continue
            if axes and axes[-1][1:] == (length * old, length * new):
                axes[-1] = axes[-1][0] * length, old, new
            else:
                axes.append((length, old, new))
        inner = item
        for length, old, _ in reversed(axes):
            if old != inner:
                return None
            inner *= length
        if not axes or inner != piece.memory.nbytes:
            return None
        length, _, new = axes[-1]
        if new != item or length * item < LEAST_RUN:
            return None
        size = item + sum((length - 1) * new for length, _, new in axes)
        return cls(piece.memory, Memory(size), tuple(axes))

    def moved(self, view: View) -> View | None:
        """A view of the old memory as one of the new; None if it goes across axes."""
        offset, left, last = 0, view.offset, []
        for length, old, new in self.axes:
            at, left = divmod(left, old)
            offset += at * new
            last.append(length - 1 - at)  # so far one may go on along this axis
        strides = []
        for length, stride in zip(view.shape, view.strides, strict=True):
            k = next((k for k, one in enumerate(self.axes) if one[1] <= stride), None)
            if length == 1 or stride == 0:
                strides.append(0 if stride == 0 else stride)
                continue
            if k is None or stride % self.axes[k][1]:
                return None
            times = stride // self.axes[k][1]
            last[k] -= times * (length - 1)
            strides.append(times * self.axes[k][2])
        if left or min(last) < 0:
            return None
        return view._replace(memory=self.new, offset=offset, strides=tuple(strides))

    def suits(self, call: Call, views: Sequence[View], joins: bool) -> bool:
        """Whether a call, which may join arrays, can meet these views where they would lie."""
        by_items = call.is_elementwise or call.function in (cast, np.where)
        if not (by_items or joins or call.function is np.matmul):
            return False
        found = [self.moved(view) for view in views]
        if any(view is None for view in found):
            return False
        if call.function is np.matmul:  # matrices whose rows have no gaps; a stack stays one
            ranks = {len(view.shape) for view in call.views()}
            return len(ranks) == 1 and all(
                view is not None and len(view.shape) > 2 and view.strides[-1] == view.dtype.itemsize
                for view in found
            )
        return True
