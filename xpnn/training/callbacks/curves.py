"""Pictures of a training run."""

from collections.abc import Mapping, Sequence
from typing import Any

from xpnn.figures import new_figure

INK, ACCENT = "#1f5fa8", "#d1571b"  # training, validation: told apart without colour vision too
PANELS_ACROSS = 3
PANEL_HEIGHT = 3.6


def curves_figure(history: Mapping[str, Sequence[float]]) -> Any:
    """One panel for each measured number, training and validation together, over the epochs.

    Args:
        history: a list for each number, one entry an epoch; "epoch" is one of them.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to.
        ValueError: there is no epoch to draw.
    """
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    panels = [name for name in names if name not in ("epoch", "rate")]
    if not panels:
        raise ValueError("wanted a history of at least one epoch to draw, got none; train first")
    columns = min(len(panels), PANELS_ACROSS)
    rows = -(-len(panels) // columns)
    figure = new_figure(width=4.5 * columns, height=PANEL_HEIGHT * rows)
    figure.get_layout_engine().set(wspace=0.04, hspace=0.04)
    for number, name in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for key, color, label in ((name, INK, "training"), (f"val_{name}", ACCENT, "validation")):
            if key in history:
                axes.plot(history["epoch"], history[key], color=color, label=label, marker=".")
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def rates_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float
) -> Any:
    """The losses of a range test over its rates, with the rate that it suggests.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says how to.
    """
    figure = new_figure(width=5.5, height=PANEL_HEIGHT)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=INK, alpha=0.35, label="of each step")
    axes.plot(rates, smoothed, color=INK, label="smoothed")
    axes.axvline(suggestion, color=ACCENT, linestyle="--", label=f"suggested: {suggestion:.3g}")
    axes.set(xscale="log", xlabel="rate", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
