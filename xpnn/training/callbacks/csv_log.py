"""CSVLogger: the numbers of each epoch as a line of a table in a file."""

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xpnn.arguments import KnownAttributes
from xpnn.errors import FileError
from xpnn.training.callbacks.hooks import Callback, Logs
from xpnn.training.callbacks.line_file import LineFile
from xpnn.training.checkpointing.fields import BYTES, NUMBER, check_fields
from xpnn.training.state import TrainingState

ENCODING = "utf-8-sig"  # UTF-8, with the mark before it that spreadsheets may write


class CSVLogger(KnownAttributes, Callback):
    """Writes a line for each epoch into a CSV file, at once, so that a crash loses nothing.

    Every number stands under its name in the header. One that comes later than the header gets a
    column behind the others, which is empty in the lines before; what is not measured in an epoch
    is left empty. In a second ``fit`` of a trainer the file goes on, and so do ``seconds``, without
    the time between. A resumed ``fit`` puts the lines back that were there at the checkpoint, and
    no others.

    Args:
        path: of the file; folders are made. An existing file is replaced unless ``append``.
        append: go on behind the lines of an existing file.

    Raises:
        OSError: from ``fit``: the file cannot be written.
        FileError: from ``fit``: the file to append to is no CSV file, or something else than a file
            lies there.

    >>> from pathlib import Path
    >>> import tempfile
    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(f"{folder}/run.csv")
    ...     trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[logger])
    ...     history = trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=2, progress=False)
    ...     print(Path(f"{folder}/run.csv").read_text().splitlines()[0])
    epoch,seconds,loss,rate
    """

    fixed = ("path",)
    steers: ClassVar[bool] = False
    first_process_only: ClassVar[bool] = True

    def __init__(self, path: str | Path, *, append: bool = False):
        self.path, self.append = Path(path), append
        self._file = LineFile(self.path, b"\r\n")
        self._training: object = None
        self._begins = not append
        self._start = self._seconds = 0.0

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        self._file.check()
        if self._training is not state.training:
            self._training = state.training
            self._begins, self._seconds = not self.append, 0.0
        self._start = time.perf_counter() - self._seconds

    def on_fit_end(self, state: TrainingState) -> None:
        self._seconds = time.perf_counter() - self._start

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        if self._begins:  # not before, as a run that is resumed keeps its lines
            self._begins = False
            self._file.clear()

    def known_by(self, state: TrainingState) -> str:
        return self.path.name

    def state(self) -> dict[str, Any]:
        lines = np.frombuffer(self._file.content(), dtype=np.uint8)
        return {"lines": lines, "seconds": time.perf_counter() - self._start}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"lines": BYTES, "seconds": NUMBER}, "CSVLogger")

    def load_state(self, saved: dict[str, Any]) -> None:
        self._begins = False
        self._file.put_back(saved["lines"].tobytes())
        self._start = time.perf_counter() - saved["seconds"]

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        seconds = round(time.perf_counter() - self._start, 3)
        row = {"epoch": state.epoch, "seconds": seconds, **logs}
        header = self._header()
        names = list(dict.fromkeys((*header, *row)))
        if names != header:
            self._file.write(self._with_columns(names))
        self._file.append(_text([[row.get(name, "") for name in names]]))

    def _header(self) -> list[str]:
        if not self.path.exists():
            return []
        with self._readable(), self.path.open(newline="", encoding=ENCODING) as file:
            return next(csv.reader(file), [])

    def _with_columns(self, names: list[str]) -> bytes:
        """The content with other columns behind those that it has."""
        with self._readable():
            text = self._file.content().decode(ENCODING)
            header, *rows = list(csv.reader(StringIO(text, newline=""))) or [[]]
        empty = [""] * (len(names) - len(header))
        return _text([names, *([*row, *empty] for row in rows)])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileError(
                f"wanted a CSV file to append to, but {self.path} is none: {error}; choose another "
                f"path, or leave out append=True to replace it"
            ) from None


def _text(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as lines of a CSV file."""
    file = StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()
