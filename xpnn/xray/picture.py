"""A step as a picture: the layers as boxes, each with maps of its output and of its delta."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xpnn.drawing import LETTER, LINE, STYLE, Box, escaped, shortened, svg
from xpnn.xray.views import AllSeen, LayerInfo, LayerView, Record

ROWS, COLUMNS, TILES = 12, 20, 4
"""Of a matrix so many rows and columns are drawn, of images so many channels."""
NUMBERS_ROWS, NUMBERS_COLUMNS = 6, 4
"""Up to so many rows and columns have their numbers in their cells."""
CELL, WIDE, HIGH = 6.0, 50.0, 17.0  # a cell in pixels, and one that holds a number
GAP, BETWEEN, LABEL, EDGE = 18.0, 4.0, 16.0, 14.0  # maps, tiles, their label, and the box
LEVELS = 16
NEGATIVE, ZERO, POSITIVE, BAD = (33, 102, 172), (250, 250, 249), (178, 70, 10), "#c8008c"

LOOK = (
    STYLE
    + """
.layer rect { fill: #ffffff; }
.label { font-size: 11px; fill: #535c6b; font-weight: normal; }
.number { font-size: 10px; font-weight: normal; }
.white { fill: #ffffff; }
.cells { shape-rendering: crispEdges; stroke: none; }
"""
)


@dataclass(frozen=True)
class Map:
    """Numbers that are drawn side by side, as tiles of rows and columns, and what they are."""

    label: str
    tiles: np.ndarray  # (tiles, rows, columns)

    @property
    def largest(self) -> float:
        """The largest size of a finite number that is drawn: that of the deepest colour."""
        return float(np.max(np.abs(self.tiles), where=np.isfinite(self.tiles), initial=0.0))

    @property
    def has_numbers(self) -> bool:
        count, rows, columns = self.tiles.shape
        return count == 1 and rows <= NUMBERS_ROWS and columns <= NUMBERS_COLUMNS

    @property
    def cell(self) -> tuple[float, float]:
        return (WIDE, HIGH) if self.has_numbers else (CELL, CELL)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels, with the label above."""
        count, rows, columns = self.tiles.shape
        wide, high = self.cell
        cells = count * (columns * wide + BETWEEN) - BETWEEN
        return max(cells, LETTER * len(self.label)), rows * high + LABEL


@dataclass(eq=False)
class Plate(Box):
    """The box of a layer, with maps under its lines of text."""

    maps: Sequence[Map] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maps:
            sizes = [one.size for one in self.maps]
            wide = sum(width for width, _ in sizes) + GAP * (len(sizes) - 1)
            self.width = max(self.width, wide + 2 * EDGE)
            self.height += max(height for _, height in sizes) + 8


def picture(record: Record, step: int = -1, inside: str | None = None) -> str:
    """An SVG picture of one step.

    Args:
        step: which of the record's steps, counted from 0; of negative ones, from the end.
        inside: the layer whose inner layers are drawn, in place of the network's own.

    Raises:
        ValueError: there is no such step, or nothing inside of such a layer.
    """
    if not -len(record.steps) <= step < len(record.steps):
        raise ValueError(
            f"wanted a step from 0 to {len(record.steps) - 1}, got {step}; count in steps of the "
            f"explanation"
        )
    seen = record.steps[step]
    called = [one for one in record.layers if one.name in seen.layers]
    infos = [one for one in called if one.inside == inside]
    if not infos and inside is not None:
        holders = dict.fromkeys(one.inside for one in called if one.inside is not None)
        raise ValueError(
            f"wanted a layer that holds others, got inside={inside!r}; choose from "
            f"{', '.join(holders) or 'none, as no layer does'}"
        )
    boxes: dict[str, Box] = {}
    if inside is None:
        boxes |= {name: Box("input", (shortened(name),), f"input {name}") for name in record.inputs}
    for info in infos:
        sources = [boxes[name] for name in info.feeds_from if name in boxes]
        boxes[info.name] = _plate(info, seen.layers[info.name], inside, sources)
    read = {id(source) for box in boxes.values() for source in box.sources}
    ends = [box for box in boxes.values() if id(box) not in read]
    if inside is None:
        line = f"loss {_short(seen.loss)}, step {seen.number}"
        boxes[""] = Box("output", (line,), record.loss_name, ends)
    return svg([*boxes.values()], LOOK, lambda box: "".join(_drawn(box)))


def _plate(info: LayerInfo, view: LayerView, inside: str | None, sources: Sequence[Box]) -> Plate:
    name = info.name.removeprefix(f"{inside}.") if inside is not None else info.name
    lines = [name, info.kind]
    if view.grads:
        lines.append(f"|dL/dW| {_short(_norm(view.grads.values()))}")
    weights = _norm(view.params[key] for key in view.updates)
    if view.updates and weights:
        lines.append(f"update / weight {_short(_norm(view.updates.values()) / weights)}")
    flows = (("output", view.output), ("delta", view.delta))
    maps = [made for label, arrays in flows for made in _maps(label, arrays)]
    return Plate(
        "layer", tuple(map(shortened, lines)), f"{info.name}: {info.text}", sources, maps=maps
    )


def _norm(arrays: Iterable[np.ndarray]) -> float:
    with np.errstate(over="ignore"):
        return math.sqrt(sum(float(np.sum(np.square(one, dtype=np.float64))) for one in arrays))


def _short(value: float) -> str:
    return f"{value:.3g}"


# Maps ---------------------------------------------------------------------------------------------


def _maps(label: str, arrays: AllSeen) -> Iterator[Map]:
    """The map of an array; of several the first."""
    array = arrays[0] if isinstance(arrays, tuple) and arrays else arrays
    if not isinstance(array, np.ndarray) or not array.size:
        return
    shape = "x".join(map(str, array.shape))
    yield Map(f"{label} {shape}", _tiles(array.astype(np.float64)))


def _tiles(numbers: np.ndarray) -> np.ndarray:
    """What is drawn of it: rows of a batch, one sample of sequences, channels of one of images."""
    if numbers.ndim <= 2:
        matrix = numbers.reshape(-1, numbers.shape[-1]) if numbers.ndim else numbers.reshape(1, 1)
        return matrix[None, :ROWS, :COLUMNS]
    while numbers.ndim > 4:
        numbers = numbers[0]
    if numbers.ndim == 3:
        return numbers[:1, :ROWS, :COLUMNS]
    channels = np.moveaxis(numbers[0], -1, 0)[:TILES]
    every = [-(-length // COLUMNS) for length in channels.shape[1:]]
    return channels[:, :: every[0], :: every[1]]


def _drawn(box: Box) -> Iterator[str]:
    if not isinstance(box, Plate) or not box.maps:
        return
    sizes = [one.size for one in box.maps]
    x = -(sum(width for width, _ in sizes) + GAP * (len(sizes) - 1)) / 2
    top = 10.0 + LINE * len(box.lines)
    for one, (width, _) in zip(box.maps, sizes, strict=True):
        yield f'<g transform="translate({x:.1f} {top:.1f})">{"".join(_as_svg(one))}</g>'
        x += width + GAP


def _as_svg(one: Map) -> Iterator[str]:
    """Cells, all of one colour as one path, and numbers on them."""
    wide, high = one.cell
    count, _, columns = one.tiles.shape
    tile_wide, largest = columns * wide + BETWEEN, one.largest
    left = (one.size[0] - count * tile_wide + BETWEEN) / 2
    yield f'<text class="label" x="{one.size[0] / 2:.1f}" y="11">{escaped(one.label)}</text>'
    paths: dict[str, list[str]] = {}
    texts = []
    for (tile, row, column), value in np.ndenumerate(one.tiles):
        x = left + tile * tile_wide + column * wide
        y = LABEL + row * high
        colour, is_dark = _colour(float(value), largest)
        paths.setdefault(colour, []).append(f"M{x:.1f} {y:g}h{wide:g}v{high:g}h-{wide:g}z")
        if one.has_numbers:
            white = " white" if is_dark else ""
            texts.append(
                f'<text class="number{white}" x="{x + wide / 2:.1f}" y="{y + 12:g}">'
                f"{_short(float(value))}</text>"
            )
    for colour, cells in paths.items():
        yield f'<path class="cells" style="fill:{colour};stroke:none" d="{"".join(cells)}"/>'
    yield from texts


def _colour(value: float, largest: float) -> tuple[str, bool]:
    """In which colour a number is drawn, and whether white is read better on it than black."""
    if not math.isfinite(value):
        return BAD, True
    share = round(LEVELS * abs(value) / largest) / LEVELS if largest else 0.0
    end = NEGATIVE if value < 0 else POSITIVE
    mixed = [round(zero + share * (to - zero)) for zero, to in zip(ZERO, end, strict=True)]
    red, green, blue = ((level / 255) ** 2.2 for level in mixed)
    is_dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179  # both have 4.6 to 1 there
    return "#" + "".join(f"{level:02x}" for level in mixed), is_dark
