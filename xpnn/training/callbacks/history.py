"""History: the numbers of all epochs, as lists, as a table and as a picture."""

import importlib
import math
from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal

from xpnn.arguments import KnownAttributes
from xpnn.figures import written
from xpnn.html_tables import curve, table
from xpnn.names_elsewhere import AnswersOtherNames
from xpnn.training.callbacks.curves import curves_figure
from xpnn.training.callbacks.hooks import Callback, Logs, in_words
from xpnn.training.checkpointing.columns import as_columns, from_columns
from xpnn.training.state import TrainingState


class History(KnownAttributes, Callback, AnswersOtherNames):
    """Keeps the numbers of every epoch: ``history["val_loss"]`` is a list, one entry an epoch.

    It is gone through by names, as a dictionary is, and ``dict(history)`` has all of its lists;
    ``len(history)`` counts the epochs, and ``history.epochs`` has a dictionary for each.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> trainer = Trainer(Network([Dense(1)], input_shape=(1,)), mean_squared_error, SGD(0.1))
    >>> history = trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=3, progress=False)
    >>> history["loss"][-1] < history["loss"][0], len(history), sorted(history.epochs[0])
    (True, 3, ['epoch', 'loss', 'rate'])
    """

    steers: ClassVar[bool] = False

    def __init__(self) -> None:
        self.epochs: list[Logs] = []

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        self.epochs.append({"epoch": state.epoch, **logs})

    def state(self) -> dict[str, Any]:
        return as_columns(self.epochs)

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        from_columns(saved)

    def load_state(self, saved: dict[str, Any]) -> None:
        self.epochs = from_columns(saved)

    def __getitem__(self, name: str) -> list[float]:
        """One number for each epoch, NaN for those in which it was not measured."""
        if self.epochs and name not in self.names:
            do = (
                "give fit validation=0.2" if name.startswith("val_") else "give the trainer metrics"
            )
            raise KeyError(
                f"there is no {name!r} in this history, only {', '.join(self.names)}; to "
                f"measure it, {do}"
            )
        return [epoch.get(name, math.nan) for epoch in self.epochs]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def names(self) -> list[str]:
        """What was measured in any epoch, in the order in which it came."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def keys(self) -> list[str]:
        """The names; with it, ``dict(history)`` is a dictionary of the lists."""
        return self.names

    def items(self) -> list[tuple[str, list[float]]]:
        """Each name with its list."""
        return [(name, self[name]) for name in self.names]

    def to_frame(self, library: Literal["pandas", "polars"] = "pandas") -> Any:
        """A table of a row for each epoch and a column for each number, NaN where it is missing.

        Args:
            library: of the table; the package of that name has to be installed.

        Raises:
            ModuleNotFoundError: it is not.
        """
        if library not in ("pandas", "polars"):
            raise ValueError(f"to_frame wants library to be 'pandas' or 'polars', got {library!r}")
        try:
            frames = importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"to_frame makes a table of {library}; type: pip install {library}"
            ) from error
        return frames.DataFrame(dict(self))

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw losses and metrics over the epochs; needs matplotlib.

        Args:
            path: of a picture file to write, where one is wanted.

        Returns:
            The figure, of matplotlib, which a notebook shows where it ends a cell.

        Raises:
            ValueError: no epoch has ended yet.
        """
        return written(curves_figure(self._of_numbers()), path)

    def _of_numbers(self) -> dict[str, list[float]]:
        """The lists that hold nothing but numbers: a callback may have put in anything."""
        return {n: list(map(float, one)) for n, one in self.items() if _are_numbers(one)}

    def _repr_html_(self) -> str:
        """A row for each number, with its curve, for notebooks."""
        rows = []
        for name, values in self._of_numbers().items():
            if name != "epoch":
                finite = [one for one in values if math.isfinite(one)] or [math.nan]
                shown = (values[0], values[-1], min(finite), max(finite))
                rows.append((name, *(f"{one:.4g}" for one in shown), curve(values, name)))
        headings = ("number", ">first", ">last", ">lowest", ">highest", "over the epochs")
        return table(f"history of {len(self)} epochs", headings, rows)

    def __repr__(self) -> str:
        return f"<history of {len(self)} epochs: {in_words((self.epochs or [{}])[-1])}>"


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(one, Real) for one in values)
