"""ProgressBar: how far training is, for whoever looks."""

import importlib.util
import sys
import time
from typing import Any, ClassVar, Literal

from xpnn.arguments import KnownAttributes
from xpnn.training.callbacks.hooks import Callback, Logs, in_words
from xpnn.training.state import TrainingState

STYLES = ("auto", "bar", "lines")


class ProgressBar(KnownAttributes, Callback):
    """A bar for the epoch that runs, with its loss (tqdm), and a line with the results of each.

    In a terminal the bar is as wide as that is, and gone when its epoch is; in a notebook there is
    one, tqdm's own for notebooks where ``ipywidgets`` is installed, which stays. Lines go to
    standard error, and in a notebook to the output of its cell. Where nobody can see them, as
    standard error is missing, closed or broken, training goes on without.

    Args:
        style: "auto" for a bar in terminals and notebooks, while a file or a pipe gets the lines
            alone; "bar" for one everywhere; "lines" for none anywhere.

    >>> ProgressBar("lines")
    ProgressBar(style='lines')
    """

    steers: ClassVar[bool] = False
    first_process_only: ClassVar[bool] = True
    fixed: ClassVar[tuple[str, ...]] = ("style",)

    def __init__(self, style: Literal["auto", "bar", "lines"] = "auto") -> None:
        if style not in STYLES:
            raise ValueError(
                f"ProgressBar wants style to be 'auto', 'bar' or 'lines', got {style!r}"
            )
        self.style = style
        self._stream = Stream(None)
        self._bar: Any = None
        self._last = self._steps = 0
        self._start = 0.0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self._last = state.epoch + epochs

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        self._stream, self._start = Stream(sys.stderr), time.perf_counter()
        if self._stream.is_of_notebook:
            self._stream = Stream(sys.stdout)  # which stands there without the colour of errors
        moves = self._stream.moves if self.style == "auto" else self.style == "bar"
        if not moves or self._stream.is_missing:
            return
        if self._stays and self._bar is not None:
            self._bar.reset(steps)
            self._bar.set_description(self._name_of(state.epoch + 1), refresh=False)
            self._bar.update(state.epoch_steps)
            return
        self._bar = _bar_for(self._stream)(
            total=steps,
            initial=state.epoch_steps,
            desc=self._name_of(state.epoch + 1),
            unit="step",
            dynamic_ncols=True,
            leave=self._stays,
            file=self._stream,
        )

    def on_step_end(self, state: TrainingState, step: int) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_log(self, state: TrainingState, step: int, logs: Logs) -> None:
        self._steps = step
        if self._bar is not None:
            self._bar.set_postfix_str(in_words(logs), refresh=False)

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        results = in_words({name: one for name, one in logs.items() if name != "rate"})
        if self._stays and self._bar is not None:
            self._bar.set_postfix_str(results)
        else:
            self._close()
        seconds = time.perf_counter() - self._start
        name = self._name_of(state.epoch)
        self._stream.write(f"{name}: {self._steps} steps in {seconds:.3g} s, {results}\n")
        self._stream.flush()

    def on_fit_end(self, state: TrainingState) -> None:
        self._close()

    def _name_of(self, epoch: int) -> str:
        return f"epoch {epoch}/{self._last}"

    @property
    def _stays(self) -> bool:
        """Whether one bar serves all epochs: each would leave an empty place in a notebook."""
        return self._stream.is_of_notebook and _has_widgets()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_bar(progress: Any) -> list[ProgressBar]:
    """What ``fit`` shows, as it is told: True and False, or a style."""
    if progress is False:
        return []
    if progress is True:
        return [ProgressBar()]
    if progress not in STYLES:
        raise ValueError(
            f"fit wants progress to be 'auto', 'bar', 'lines', True or False, got {progress!r}"
        )
    return [ProgressBar(progress)]


def _bar_for(stream: "Stream") -> Any:
    """The class of tqdm's bars that suits a stream."""
    if stream.is_of_notebook and _has_widgets():
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar
    from tqdm import tqdm

    return tqdm


def _has_widgets() -> bool:
    return importlib.util.find_spec("ipywidgets") is not None


class Stream:
    """A stream of text that may be missing, closed or broken: then what is written is lost."""

    def __init__(self, stream: Any):
        self.stream = stream

    @property
    def is_of_notebook(self) -> bool:
        """Whether what is written stands below a cell."""
        return type(self.stream).__module__.startswith("ipykernel")

    @property
    def is_missing(self) -> bool:
        return self.stream is None

    @property
    def moves(self) -> bool:
        """Whether what was written can be written over: it is a terminal, or a notebook."""
        try:
            return self.is_of_notebook or self.stream.isatty()
        except (AttributeError, ValueError):  # ValueError: it is closed
            return False

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "ascii"

    def fileno(self) -> int:
        number: int = self.stream.fileno()
        return number

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        if hasattr(self.stream, "flush"):
            self._try("flush")

    def _try(self, method: str, *arguments: str) -> None:
        try:
            if self.stream is not None:
                getattr(self.stream, method)(*arguments)
        except (OSError, ValueError, RuntimeError):
            self.stream = None  # it is broken, is closed or lacks a letter, or its window is gone
