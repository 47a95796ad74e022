"""Pictures of the gallery: what examples have learned or made, by the names they leave behind.

Each example runs as a program, in a folder of its own, with arguments that make it small. Then its
global names are handed to a function, which gives a figure; an example that draws by itself leaves
a file.
"""

import contextlib
import io
import re
import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import xpnn

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
Names = dict[str, Any]


def little(arguments: str) -> str:
    """Arguments of an example, for two rounds of training."""
    return re.sub(r"(--(?:epochs|steps|updates)) \d+", r"\1 2", arguments)


def drawn(name: str, draft: bool = False) -> bytes:
    """The picture of one example, as PNG; a draft is of hardly any training."""
    picture = PICTURES[name]
    style = {"backend": "agg", "savefig.transparent": True, "savefig.dpi": 110, "font.size": 9}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        matplotlib.rc_context(style),
    ):
        arguments = little(picture.arguments) if draft else picture.arguments
        names = names_of(name, arguments)
        if picture.draw:
            picture.draw(names).savefig("picture.png")
        return Path("picture.png").read_bytes()


def names_of(name: str, arguments: str) -> Names:
    """The global names of an example that has run; what it prints is for nobody."""
    path = str(EXAMPLES / f"{name}.py")
    with (
        patch.object(sys, "argv", [path, *arguments.split()]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return runpy.run_path(path, run_name="__main__")


def rows_of_images(rows: dict[str, Any], titles: Any = None) -> Figure:
    """Images (count, side, side) in rows that have names, with titles over the columns."""
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(6.5, 0.75 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for panel, image in zip(line, images, strict=True):
            panel.imshow(image, cmap="gray_r")
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    for panel, title in zip(panels[0], titles or [], strict=False):
        panel.set_title(title, fontsize=9)
    return figure


def one_plot(**labels: Any) -> tuple[Figure, Any]:
    """A figure with one plot."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(**labels)
    return figure, axes


def nand_gate(names: Names) -> Figure:
    """The output between the four corners that it has learned from."""
    figure, axes = one_plot(xlabel="first input", ylabel="second input", aspect="equal")
    side = np.linspace(-0.2, 1.2, 80)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    z = grid
    for layer in (names["h"], names["o"]):
        weights, bias = map(layer.backend.to_numpy, (layer.weights, layer.bias))
        z = 1 / (1 + np.exp(-(z @ weights + bias)))
    shades = axes.contourf(side, side, z.reshape(80, 80), levels=20, cmap="RdBu", alpha=0.7)
    figure.colorbar(shades, ticks=[0, 0.5, 1], label="output")
    for (first, second), (wanted,) in zip(names["X"], names["Y"], strict=True):
        axes.text(first, second, str(wanted), fontsize=16, ha="center", va="center")
    return figure


def unet(names: Names) -> Figure:
    """New pictures, their disks, and the disks that are found."""
    images, disks = (part[:8] for part in names["test"])
    scores = names["network"].predict(images)
    return rows_of_images(
        {"picture": images[..., 0], "disk": disks, "found": np.argmax(scores, axis=-1)}
    )


def vae(names: Names) -> Figure:
    """Digits of the data above new ones."""
    side = (8, 8, 8)
    return rows_of_images({"data": names["x"][:8].reshape(side), "drawn": names["digits"]})


def gan(names: Names) -> Figure:
    """Points that the generator draws, and the places that it was to find."""
    figure, axes = one_plot(aspect="equal")
    axes.scatter(*names["points"].T, s=3, alpha=0.4, label="drawn")
    axes.scatter(*names["PLACES"].T, s=150, facecolors="none", edgecolors="darkred", label="places")
    axes.legend(loc="center")
    return figure


def siamese(names: Names) -> Figure:
    """New digits by the three numbers that the encoder gives them."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    for digit in range(10):
        axes.scatter(*names["new"][names["y_test"] == digit].T, s=8, label=str(digit))
    axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axes.legend(title="digit", loc="center left", bbox_to_anchor=(1.05, 0.5))
    return figure


def same_digit(names: Names) -> Figure:
    """Pairs of new pictures, and how likely each is said to be of one digit."""
    pairs = [part[:8] for part in names["test"][0]]
    likely = 1 / (1 + np.exp(-names["network"].predict(tuple(pairs))[:, 0]))
    one, other = (part.reshape(8, 8, 8) for part in pairs)
    return rows_of_images({"one": one, "other": other}, [f"{share:.0%}" for share in likely])


def sort_sequences(names: Names) -> Figure:
    """Where the decoder looks among the unsorted letters when it writes each one."""
    sorter, letters = names["sorter"], names["letters"]
    given, answer = names["unseen"][:1], names["written"][:1]
    before = np.pad(answer[:, :-1], ((0, 0), (1, 0)), constant_values=letters.begin)
    sorter.forward({"x": given, "answer": before})
    (looks,) = (layer for _, layer in sorter.root.walk() if isinstance(layer, xpnn.CrossAttention))
    shares = looks.cache["P"][0].mean(axis=0)  # over the heads
    figure, axes = one_plot(xlabel="looked at", ylabel="written, from above")
    axes.imshow(shares, cmap="gray_r", vmin=0)
    axes.set_xticks(range(shares.shape[1]), letters.decode(given)[0])
    axes.set_yticks(range(shares.shape[0]), letters.decode(answer)[0])
    return figure


def reinforce(names: Names) -> Figure:
    """How long the poles stand."""
    figure, axes = one_plot(xlabel="updates", ylabel="steps that poles stand, of 200 at most")
    axes.plot(names["curves"][0])
    return figure


def entity_embeddings(names: Names) -> Figure:
    """The vectors of the shops by their two main axes, and how large the shops really are."""
    vectors = names["network"].numpy_arrays()
    (table,) = (one for one in vectors.values() if one.shape == (names["SHOPS"], 8))
    centred = table - table.mean(axis=0)
    _, _, axes_of_pca = np.linalg.svd(centred, full_matrices=False)
    figure, axes = one_plot(title="one dot a shop, where its vector lies", xticks=[], yticks=[])
    dots = axes.scatter(*(centred @ axes_of_pca[:2].T).T, c=names["size"], cmap="viridis")
    figure.colorbar(dots, label="size, which it was not told")
    return figure


def watched_runs(names: Names) -> Figure:
    """Accuracies on training batches, as the logs have them."""
    figure, axes = one_plot(xlabel="step", ylabel="accuracy of training batches", ylim=(0, 1))
    for rate in names["options"].rates:
        steps = names["lines"](rate, "steps")
        accuracies = [line["accuracy"] for line in steps]
        axes.plot([line["step"] for line in steps], accuracies, label=f"rate {rate:g}")
    axes.legend()
    return figure


def two_heads(names: Names) -> Figure:
    """Ink that is said beside ink that there is, and which digits are mistaken."""
    said = names["network"].predict(names["x_test"])
    right = np.argmax(said["digit"], axis=1) == names["y_test"]
    figure, axes = one_plot(xlabel="ink of a new picture, in pixels", ylabel="ink that is said")
    for chosen, mark, label in ((right, "o", "digit right"), (~right, "X", "digit mistaken")):
        axes.scatter(names["ink_test"][chosen], said["ink"][chosen], s=12, marker=mark, label=label)
    axes.legend()
    return figure


@dataclass(frozen=True)
class Picture:
    """The picture of one example.

    Attributes:
        arguments: that the example runs with.
        draw: makes a figure of its names; None for one that writes ``picture.png`` itself.
        shows: what is seen, for those who cannot see it.
    """

    arguments: str
    draw: Callable[[Names], Figure] | None
    shows: str


BY_ITSELF = "--picture picture.png"
PICTURES = {
    "01_nand_gate": Picture("", nand_gate, "The gate's output between its four inputs"),
    "decision_boundary": Picture(
        f"--epochs 40 {BY_ITSELF}", None, "Two spirals, and the boundary between them"
    ),
    "autoencoder": Picture(
        f"--epochs 40 {BY_ITSELF}", None, "Digits, and what is left of them behind eight numbers"
    ),
    "unet": Picture(
        "--pictures 400 --epochs 4", unet, "Noisy pictures, their disks, and the disks found"
    ),
    "vae": Picture("--epochs 20", vae, "Digits of the data, and new ones that were drawn"),
    "gan": Picture(
        "--steps 1000 --batch 128", gan, "Points that were drawn, around eight places on a circle"
    ),
    "siamese": Picture("--epochs 15", siamese, "New digits in three numbers, each kind together"),
    "same_digit": Picture(
        "--epochs 5", same_digit, "Pairs of digits, with how likely they are said to be the same"
    ),
    "sort_sequences": Picture(
        "--length 8 --samples 4000 --epochs 6",
        sort_sequences,
        "Which unsorted letter is looked at for each sorted one",
    ),
    "entity_embeddings": Picture(
        "--epochs 6", entity_embeddings, "Vectors of shops, in the order of the shops' sizes"
    ),
    "two_heads": Picture(
        "--epochs 10", two_heads, "Ink that is said of new pictures beside what there is"
    ),
    "reinforce": Picture("--updates 30", reinforce, "How long poles stand, update by update"),
    "watched_runs": Picture("--epochs 4", watched_runs, "Accuracies of three runs, by their rates"),
}
