"""Pictures of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnn.files import replacement

INK, ACCENT = "#1f5fa8", "#d1571b"  # training, validation: told apart without colour vision too


def draw_curves(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """One panel for each measured number, training and validation together, over the epochs.

    Args:
        history: a list for each number, one entry an epoch; "epoch" is one of them.
        path: of the picture; where its ending does not say in what format, it is a PNG.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to.
    """
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    panels = [name for name in names if name not in ("epoch", "rate")]
    figure = _figure(width=4.5 * len(panels))
    for number, name in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for key, color, label in ((name, INK, "training"), (f"val_{name}", ACCENT, "validation")):
            if key in history:
                axes.plot(history["epoch"], history[key], color=color, label=label, marker=".")
        axes.set(title=name, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    _write(figure, path)


def draw_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    path: Path,
) -> None:
    """The losses of a range test over its rates, with the rate that it suggests.

    Args:
        path: see ``draw_curves``.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to.
    """
    figure = _figure(width=5.5)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=INK, alpha=0.35, label="of each step")
    axes.plot(rates, smoothed, color=INK, label="smoothed")
    axes.axvline(suggestion, color=ACCENT, linestyle="--", label=f"suggested: {suggestion:.3g}")
    axes.set(xscale="log", xlabel="rate", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    _write(figure, path)


def _figure(width: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing curves needs matplotlib; type: pip install 'xpnn[plot]'"
        ) from error
    return Figure(figsize=(width, 3.6), layout="constrained")


def _write(figure: Any, path: Path) -> None:
    if not path.suffix:
        path = path.with_suffix(".png")
    with replacement(path) as file:
        figure.savefig(file, dpi=150, format=path.suffix[1:])
