"""Pictures of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

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
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing curves needs matplotlib; type: pip install 'xpnn[plot]'"
        ) from error
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    panels = [name for name in names if name not in ("epoch", "rate")]
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    for number, name in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for key, color, label in ((name, INK, "training"), (f"val_{name}", ACCENT, "validation")):
            if key in history:
                axes.plot(history["epoch"], history[key], color=color, label=label, marker=".")
        axes.set(title=name, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    if not path.suffix:
        path = path.with_suffix(".png")
    with replacement(path) as file:
        figure.savefig(file, dpi=150, format=path.suffix[1:])
