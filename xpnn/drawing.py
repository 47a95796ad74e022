"""A picture of a network: boxes from the inputs down to the outputs, and lines between them.

The boxes lie in rows by the longest way from an input (Sugiyama, Tagawa and Toda, 1981). A line
that passes rows by has a narrow place in each, so that it runs between boxes and not across them.
Each row is put in order by where the neighbours of its boxes stand, downwards and upwards in turn,
and then each box is moved to the middle of its neighbours, as far as there is room.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from xpnn.files import replacement
from xpnn.layers import Graph

if TYPE_CHECKING:
    from xpnn.network import Network

LONGEST = 40  # letters in a line of text; the rest is shown where the mouse rests on a box
LETTER, LINE = 7.3, 17.0  # width of a letter of 12 pixels that is as wide as all, height of a line
MARGIN, GAP, ROW_GAP = 12.0, 24.0, 40.0
SWEEPS = 12

STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1b1f24;
       text-anchor: middle; }
title + rect + text { font-weight: bold; }
rect { stroke: #57606a; }
.layer rect { fill: #dbe9f9; }
.input rect { fill: #d7f0dc; }
.output rect { fill: #fbe6cf; }
path { fill: none; stroke: #808890; stroke-width: 1.5; }
"""
"""No letter stands outside of a box, and the grey of lines is seen on white and on black."""


@dataclass(eq=False)
class Box:
    """A layer, an input or an output; or, without lines of text, the place where a line passes.

    Attributes:
        kind: "layer", "input", "output" or "passage".
        lines: of text; the first is the name.
        whole: what is said where the mouse rests on it.
        sources: the boxes that feed it.
        row: the number of its row, from the top.
        above, below: what lines lead to in the rows beside it.
        x, y: its middle and its top.
        width, height: in pixels.
    """

    kind: str
    lines: tuple[str, ...] = ()
    whole: str = ""
    sources: Sequence["Box"] = ()
    row: int = 0
    above: list["Box"] = field(default_factory=list)
    below: list["Box"] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0

    def __post_init__(self) -> None:
        self.width = max((28.0 + LETTER * width_of(line) for line in self.lines), default=0.0)
        self.height = 12.0 + LINE * len(self.lines)


Near: TypeAlias = "Callable[[Box], list[Box]]"


@dataclass(frozen=True)
class Line:
    """A line between two boxes, and the places in between at which it passes rows by."""

    source: Box
    box: Box
    passages: tuple[Box, ...]


def draw(network: "Network", path: str | Path) -> None:
    """Write a picture of a network; see ``Network.draw``."""
    if Path(path).suffix.lower() != ".svg":
        raise ValueError(
            f"wanted a file for an SVG picture, got {str(path)!r}; let its name end in .svg"
        )
    text = svg(list(boxes_of(network)))
    with replacement(path) as file:
        file.write(text.encode())


# What there is to draw ----------------------------------------------------------------------------


def boxes_of(network: "Network") -> Iterator[Box]:
    """The inputs, the calls of layers, and the outputs, each behind all that feeds it."""
    values: list[Box] = []
    for shape, takes, name in network.inputs:
        what = f"{shape}" if takes == "floats" else f"{shape} {takes}"
        values.append(Box("input", (shortened(name), shortened(what)), f"input {name}"))
    yield from values
    root = network.root
    if isinstance(root, Graph):
        shapes = root.all_shapes(network.input_shape)
        for step in root.steps:
            made = [shapes[number] for number in step.results]
            shape = made[0] if len(made) == 1 else tuple(made)
            sources = [values[number] for number in step.sources]
            box = _of_layer(step.name, step.layer, shape, sources)
            values += [box] * len(step.results)
            yield box
        ends = [values[number] for number in root.output_numbers]
    else:
        for (name, layer), shape in zip(
            root.children().items(), root.all_shapes(network.input_shape)[1:], strict=True
        ):
            values.append(_of_layer(name, layer, shape, values[-1:]))
            yield values[-1]
        ends = values[-1:]
    for (shape, name), end in zip(network.outputs, ends, strict=True):
        yield Box("output", (shortened(name), shortened(str(shape))), f"output {name}", [end])


def _of_layer(name: str, layer: object, shape: object, sources: Sequence[Box]) -> Box:
    lines = (shortened(name), shortened(repr(layer)), shortened(str(shape)))
    return Box("layer", lines, f"{name}: {layer!r}", sources)


def shortened(text: str) -> str:
    """A line of text, of which a box shows the beginning where it is long."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"


def width_of(text: str) -> int:
    """How many columns a text takes where letters are equally wide; Chinese ones take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


# Where it lies ------------------------------------------------------------------------------------


def lay_out(boxes: Sequence[Box]) -> list[Line]:
    """Put boxes, which come behind those that feed them, in their places; gives the lines."""
    for box in boxes:
        box.row = 1 + max((source.row for source in box.sources), default=-1)
    last = max(box.row for box in boxes)
    rows: list[list[Box]] = [[] for _ in range(last + 1)]
    lines = []
    for box in boxes:
        box.row = last if box.kind == "output" else box.row
        rows[box.row].append(box)
        for source in dict.fromkeys(box.sources):
            passages = [Box("passage", row=row) for row in range(source.row + 1, box.row)]
            for passage in passages:
                rows[passage.row].append(passage)
            way = [source, *passages, box]
            for upper, lower in pairwise(way):
                upper.below.append(lower)
                lower.above.append(upper)
            lines.append(Line(source, box, tuple(passages)))
    _order(rows)
    _spread(rows)
    top, left = MARGIN, min(box.x - box.width / 2 for row in rows for box in row) - MARGIN
    for row in rows:
        height = max(box.height for box in row)
        for box in row:
            box.x, box.y = box.x - left, top
            box.height = height if box.kind == "passage" else box.height
        top += height + ROW_GAP
    return lines


def _order(rows: list[list[Box]]) -> None:
    """Put each row in the order in which its neighbours stand; keep what crosses least."""
    best, fewest = [list(row) for row in rows], _crossings(rows)
    place = {box: float(k) for row in rows for k, box in enumerate(row)}
    for sweep in range(SWEEPS if fewest else 0):
        for row, near in _swept(rows, sweep):
            wanted = {box: _mean([place[one] for one in near(box)], place[box]) for box in row}
            row.sort(key=wanted.__getitem__)
            place.update((box, float(k)) for k, box in enumerate(row))
        if (found := _crossings(rows)) < fewest:
            best, fewest = [list(row) for row in rows], found
    rows[:] = best


def _crossings(rows: Sequence[Sequence[Box]]) -> int:
    """How many pairs of lines cross."""
    count = 0
    for upper, lower in pairwise(rows):
        place = {box: k for k, box in enumerate(lower)}
        ends = [place[below] for box in upper for below in sorted(box.below, key=place.__getitem__)]
        count += sum(one > other for k, one in enumerate(ends) for other in ends[k + 1 :])
    return count


def _spread(rows: Sequence[list[Box]]) -> None:
    """Move each box towards the middle of its neighbours, in the order of its row."""
    for row in rows:
        _put(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        for row, near in _swept(rows, sweep):
            _put(row, [_mean([one.x for one in near(box)], box.x) for box in row])


def _put(row: Sequence[Box], wanted: Sequence[float]) -> None:
    """Put boxes where they are wanted, pushed apart where they would overlap.

    Boxes pushed to the right and boxes pushed to the left lie equally far off, so their mean is
    taken, which keeps the distances that both have.
    """
    pairs = list(zip(row, wanted, strict=True))
    right = _pushed(pairs)
    left = [-x for x in reversed(_pushed([(box, -x) for box, x in reversed(pairs)]))]
    for box, one, other in zip(row, right, left, strict=True):
        box.x = (one + other) / 2


def _pushed(pairs: Sequence[tuple[Box, float]]) -> list[float]:
    """Middles of boxes from left to right, none further left than wanted."""
    places, free = list[float](), float("-inf")
    for box, x in pairs:
        places.append(max(x, free + box.width / 2))
        free = places[-1] + box.width / 2 + GAP
    return places


def _swept(rows: Sequence[list[Box]], sweep: int) -> Iterator[tuple[list[Box], Near]]:
    """The rows downwards and upwards in turn, and which neighbours stand by then."""
    down = sweep % 2 == 0
    for row in rows if down else reversed(rows):
        yield row, attrgetter("above" if down else "below")


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


# As text ------------------------------------------------------------------------------------------


def svg(
    boxes: Sequence[Box], style: str = STYLE, inner: Callable[[Box], str] = lambda box: ""
) -> str:
    """The picture of these boxes.

    Args:
        style: in CSS, of all classes that are in the picture.
        inner: what else is drawn in a box, in SVG; (0, 0) is the middle of its upper edge.
    """
    lines = lay_out(boxes)
    drawn = [*boxes, *(passage for line in lines for passage in line.passages)]
    width = max(box.x + box.width / 2 for box in drawn) + MARGIN
    height = max(box.y + box.height for box in drawn) + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.1f} {height:.1f}">',
            f"<style>{style}</style>",
            *map(_line_as_text, lines),
            *(_box_as_text(box, inner(box)) for box in boxes),
            "</svg>\n",
        ]
    )


def _line_as_text(line: Line) -> str:
    """Curves from row to row, straight past a row, with a tip at the end."""
    x, y = line.source.x, line.source.y + line.source.height
    way = f"M{x:.1f},{y:.1f}"
    for box in (*line.passages, line.box):
        middle = (y + box.y) / 2
        way += f" C{x:.1f},{middle:.1f} {box.x:.1f},{middle:.1f} {box.x:.1f},{box.y:.1f}"
        x, y = box.x, box.y + box.height
        way += f" V{y:.1f}" if box is not line.box else " m-4,-8 l4,8 l4,-8"
    said = escaped(f"{line.source.lines[0]} to {line.box.lines[0]}")
    return f'<path d="{way}"><title>{said}</title></path>'


def _box_as_text(box: Box, inner: str) -> str:
    corner = 4.0 if box.kind == "layer" else box.height / 2
    lines = "".join(
        f'<text x="{box.x:.1f}" y="{box.y + 18 + LINE * k:.1f}">{escaped(line)}</text>'
        for k, line in enumerate(box.lines)
    )
    return (
        f'<g class="{box.kind}"><title>{escaped(box.whole)}</title>'
        f'<rect x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{corner:.1f}"/>{lines}'
        + (f'<g transform="translate({box.x:.1f} {box.y:.1f})">{inner}</g>' if inner else "")
        + "</g>"
    )


def escaped(text: str) -> str:
    """Text as XML has it, which knows no control characters."""
    return escape(
        "".join(letter if letter.isprintable() else "\ufffd" for letter in text), quote=False
    )
