"""Figures of matplotlib, which is imported where one is asked for."""

from io import BytesIO
from pathlib import Path
from typing import Any

from xpnn.files import replacement


def new_figure(width: float, height: float) -> Any:
    """A figure of so many inches, that notebooks show, though pyplot does not know of it.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing a figure needs matplotlib; type: pip install 'xpnn[plot]'"
        ) from error

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            file = BytesIO()
            self.savefig(file, dpi=100, format="png")
            return file.getvalue()

    return Picture(figsize=(width, height), layout="constrained")


def written(figure: Any, path: str | Path | None) -> Any:
    """The figure, which is in a picture file then, if there is a path.

    Args:
        path: where the ending of its name does not say in what format, it is a PNG.
    """
    if path is not None:
        path = Path(path)
        if not path.suffix:
            path = path.with_suffix(".png")
        with replacement(path) as file:
            figure.savefig(file, dpi=150, format=path.suffix[1:])
    return figure
