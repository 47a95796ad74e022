"""Explanation: steps of a network that were looked into, and the forms in which they are shown."""

from pathlib import Path
from typing import Any

from xpnn.arguments import checked
from xpnn.files import replacement
from xpnn.xray.data import as_data
from xpnn.xray.page import frame, page
from xpnn.xray.picture import picture
from xpnn.xray.text import as_text
from xpnn.xray.views import Record


class Explanation(Record):
    """Training steps with all that was seen in them: ``print`` it, or look at its arrays.

    ``to_html`` writes a page to go through it in a browser, and notebooks show that page.
    ``steps[0].layers["0.dense"].delta`` is what came back to a layer, and so on for all that a
    ``LayerView`` has; ``layers`` tells what the layers are, with their equations. All arrays are
    NumPy's, copies of what there was.

    Attributes:
        layers: in the order in which they are called.
        steps: in their order.
        inputs: the names of the network's inputs, with "input" in front where a layer has it.
        backend, dtype: those of the network.
        loss_name, optimizer: in words.
        loss_equations: those of its docstring, for the numbers of one output.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> seen = xpnn.explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse")
    >>> seen.steps[0].layers["0.dense"].grads["weight"].tolist()
    [[-5.0]]
    """

    def data(self) -> dict[str, Any]:
        """All of it in the form in which a page holds it; see ``xpnn.xray.data``."""
        return as_data(self)

    def to_html(self, path: str | Path) -> None:
        """Write a page to look at it in a browser: one file, which loads nothing from elsewhere.

        The network is a graph; a click on a layer, or the arrow keys, show its equations and arrays
        on the way forward and back, and a slider leads over the steps. Below are norms along the
        depth, updates beside weights, dead units, and where NaN began. It works by keyboard, is
        read out by screen readers, and is light or dark as the system is.

        Args:
            path: of the file, which ends in ``.html``; folders that are missing are made.

        Raises:
            ValueError: it does not end so.
            FileError, OSError: the file cannot be written; an old one is unharmed.
        """
        _write(path, (".html", ".htm"), "a page", page(self.data()))

    @checked
    def to_svg(self, path: str | Path, *, step: int = -1, inside: str | None = None) -> None:
        """Draw one step, for slides: the layers as boxes, with maps of their outputs and deltas.

        Blue is below 0, orange above. Beside them stand the norms of gradients, and how large an
        update is beside its weights. Of large arrays the first rows and channels are drawn.

        Args:
            path: of the file, which ends in ``.svg``; folders that are missing are made.
            step: which one of ``steps``; the last unless given.
            inside: the name of a layer, whose inner layers are drawn in place of the network's.

        Raises:
            ValueError: the path does not end so; there is no such step, or no layer that holds
                others of that name.
            FileError, OSError: the file cannot be written; an old one is unharmed.
        """
        _write(path, (".svg",), "a picture", picture(self, step, inside))

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks."""
        return frame(self.data())

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        steps = f"{len(self.steps)} step{'s' * (len(self.steps) != 1)}"
        return f"<{steps} of {len(self.layers)} layers on {self.backend}: {self.title}>"


def _write(path: str | Path, endings: tuple[str, ...], what: str, text: str) -> None:
    if Path(path).suffix.lower() not in endings:
        raise ValueError(
            f"wanted a file for {what}, got {str(path)!r}; let its name end in {endings[0]}"
        )
    with replacement(path) as file:
        file.write(text.encode())
