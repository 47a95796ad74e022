"""ProgressBar: how far training is, for whoever looks."""

import sys
import time
from typing import Any, ClassVar

from xpnn.arguments import KnownAttributes
from xpnn.training.callbacks.hooks import Callback, Logs, in_words
from xpnn.training.state import TrainingState


class ProgressBar(KnownAttributes, Callback):
    """A bar for the epoch that runs, with its loss (tqdm), and a line with the results of each.

    They go to standard error. The bar is for terminals and notebooks; a file or a pipe gets the
    lines alone. Where nobody can see them, as standard error is missing, closed or broken, training
    goes on without.
    """

    steers: ClassVar[bool] = False

    def __init__(self) -> None:
        self._stream = Stream(None)
        self._bar: Any = None
        self._last = self._steps = 0
        self._start = 0.0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self._last = state.epoch + epochs

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        self._stream, self._start = Stream(sys.stderr), time.perf_counter()
        if not self._stream.moves:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=steps,
            initial=state.epoch_steps,
            desc=self._name_of(state.epoch + 1),
            unit="step",
            dynamic_ncols=True,
            leave=False,
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
        self._close()
        seconds = time.perf_counter() - self._start
        results = in_words({name: one for name, one in logs.items() if name != "rate"})
        name = self._name_of(state.epoch)
        self._stream.write(f"{name}: {self._steps} steps in {seconds:.3g} s, {results}\n")
        self._stream.flush()

    def on_fit_end(self, state: TrainingState) -> None:
        self._close()

    def _name_of(self, epoch: int) -> str:
        return f"epoch {epoch}/{self._last}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Stream:
    """A stream of text that may be missing, closed or broken: then what is written is lost."""

    def __init__(self, stream: Any):
        self.stream = stream

    @property
    def moves(self) -> bool:
        """Whether what was written can be written over: it is a terminal, or a notebook."""
        try:
            return type(self.stream).__module__.startswith("ipykernel") or self.stream.isatty()
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
