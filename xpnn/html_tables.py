"""Tables and small curves as HTML, for notebooks: no scripts, no files, no colours of their own.

Text has the colour of the page, and lines are grey that is seen on white and on black.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

GREY = "rgba(128,128,128,0.4)"
WIDTH, HEIGHT, EDGE = 160.0, 28.0, 3.0  # of a curve, in pixels
MOST_POINTS = 300


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """A table with a caption over it and notes under it.

    Args:
        headings: of the columns; one that begins with ">" has what stands in it to the right.
        rows: of as many cells; spaces at the front of a cell indent it.
    """
    to_the_right = [heading.startswith(">") for heading in headings]
    head = "".join(
        f'<th style="{_style(right, bold=True)}">{_text(heading.lstrip(">"))}</th>'
        for heading, right in zip(headings, to_the_right, strict=True)
    )
    body = "".join(
        "<tr style='background:none'>"
        + "".join(map(_cell, row, to_the_right, [k == 0 for k in range(len(row))]))
        + "</tr>"
        for row in rows
    )
    under = "".join(f"<div style='opacity:0.8'>{_text(note)}</div>" for note in notes)
    return (
        f"<div style='overflow-x:auto;color:inherit'>"
        f"<div style='font-weight:600;margin:0.3em 0'>{_text(caption)}</div>"
        f"<table style='border-collapse:collapse;border:none;margin:0;color:inherit'>"
        f"<thead><tr style='background:none'>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<div style='margin:0.4em 0;font-size:0.9em'>{under}</div></div>"
    )


def _cell(text: str, right: bool, first: bool) -> str:
    depth = (len(text) - len(text.lstrip(" "))) / 2
    more = f";padding-left:{0.8 + 1.2 * depth:.1f}em" if first else ""
    return f'<td style="{_style(right)}{more}">{_text(text)}</td>'


def _style(right: bool, bold: bool = False) -> str:
    numbers = "right;font-variant-numeric:tabular-nums" if right else "left"
    return (
        f"text-align:{numbers};padding:0.25em 0.8em;border:none;white-space:nowrap;"
        f"vertical-align:middle;border-bottom:1px solid {GREY}" + (";font-weight:600" * bold)
    )


def _text(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text.strip())


def curve(values: Sequence[float], name: str) -> Markup:
    """A small curve in the colour of the text; numbers that are not finite are gaps in it.

    Args:
        name: what is said of it to those who do not see it.
    """
    step = -(-len(values) // MOST_POINTS)
    places = [*range(0, len(values), step)] if values else []
    if places and places[-1] != len(values) - 1:
        places.append(len(values) - 1)
    finite = [values[k] for k in places if math.isfinite(values[k])]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    across = (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)

    def point(k: int) -> tuple[float, float]:
        share = (values[k] - low) / (high - low) if high > low else 0.5
        return EDGE + across * k, HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE)

    drawn = "".join(
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in map(point, run))}" '
        f'fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"/>'
        for run in _runs(places, values)
        if len(run) > 1
    )
    drawn += "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="currentColor"/>'
        for run in _runs(places, values)
        for x, y in [point(run[-1])]
    )
    return Markup(
        f'<svg width="{WIDTH:.0f}" height="{HEIGHT:.0f}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" '
        f'role="img" aria-label="{escape(name)}" style="vertical-align:middle">{drawn}</svg>'
    )


def _runs(places: Sequence[int], values: Sequence[float]) -> Iterator[list[int]]:
    """The places of finite numbers, those side by side together."""
    run: list[int] = []
    for k in places:
        if math.isfinite(values[k]):
            run.append(k)
        elif run:
            yield run
            run = []
    if run:
        yield run
