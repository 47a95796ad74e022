"""Where an item lies, by its number in a domain, as CUDA; which of them lie behind each other."""

from xpnn.backends.recording.calls import View
from xpnn.typing import Shape


def offset(view: View, shape: Shape, index: str) -> str:
    """Where an item of a view lies, by its number in a domain of that shape, in items."""
    axes, terms, inner = _axes(view, shape), list[str](), 1
    for number, (length, step) in reversed(list(enumerate(axes))):
        if step:
            place = index if inner == 1 else f"{index} / {inner}"
            place = place if number == 0 else f"{place} % {length}"
            terms.append(
                f"({place}) * {step}" if step != 1 else f"({place})" if terms or number else place
            )
        inner *= length
    return " + ".join(terms) or "0"


def lies_in_packs(view: View, shape: Shape, count: int) -> bool:
    """Whether each ``count`` items, from the first of the domain on, lie behind each other.

    They then begin at a multiple of so many items behind the view's first one.
    """
    *outer, (length, step) = _axes(view, shape) or [(1, 0)]
    return step == 1 and length % count == 0 and all(one % count == 0 for _, one in outer)


def is_same_in_packs(view: View, shape: Shape, count: int) -> bool:
    """Whether it is one item for each ``count`` of the domain."""
    axes = _axes(view, shape)
    return not axes or (axes[-1][1] == 0 and axes[-1][0] % count == 0)


def _axes(view: View, shape: Shape) -> list[tuple[int, int]]:
    """Lengths, and distances in items; what goes on in one step is one axis."""
    axes: list[tuple[int, int]] = []
    for length, stride in zip(shape, view.strides, strict=True):
        if length == 1:
            continue
        step = stride // view.dtype.itemsize
        if axes and axes[-1][1] == length * step:
            axes[-1] = axes[-1][0] * length, step
        else:
            axes.append((length, step))
    return axes
