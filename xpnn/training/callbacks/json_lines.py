"""JSONLines: a run as a file of JSON objects, one on each line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.training.callbacks.line_file import LineFile
from xpnn.training.callbacks.run_log import Numbers, Plain, RunLog
from xpnn.training.checkpointing.fields import BYTES, check_fields
from xpnn.training.state import TrainingState


class JSONLines(RunLog):
    """Writes a run into a file, a line of JSON at a time, so that a crash loses nothing.

    At each log point, under the number of steps done over all calls of ``fit``, there are::

        loss                the mean since the log point before, of each output too
        rate                of the last step
        steps_per_second    since the log point before
        gradient_norm       with ``gradients``: of all gradients of that step together
        gradient_norm/NAME  and of each parameter that is trained
        accuracy, ...       with ``batch_metrics``: the metrics of the trainer, of that step's batch

    The first line is ``{"event": "begin", ...}`` with the hyperparameters, one with ``"event":
    "steps"`` comes at each log point, and one with ``"event": "epoch"`` behind each epoch, with all
    that the history lists. All have ``step``, the steps done, ``epoch``, counted from 1, and
    ``seconds``. NaN is null and infinity "Infinity", as JSON has no numbers for them. A resumed
    ``fit`` puts the lines back that were there at the checkpoint, and no others.

    Args:
        path: of the file; folders are made. An existing file is replaced unless ``append``.
        append: go on behind the lines of an existing file.
        gradients: whether to write the norms of gradients, before any limit.
        batch_metrics: whether to write the metrics of training batches. Either costs a forward and
            a backward pass at each log point, and leaves the step as it is.
        hyperparameters: what to write beside those of the trainer, such as {"layers": 3}.

    Raises:
        OSError: from ``fit``: the file cannot be written.
        FileError: from ``fit``: something else than a file lies there.

    >>> import json
    >>> from pathlib import Path
    >>> import tempfile
    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = JSONLines(f"{folder}/run.jsonl")
    ...     trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[logger])
    ...     history = trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=2, progress=False)
    ...     lines = Path(f"{folder}/run.jsonl").read_text().splitlines()
    >>> [json.loads(line)["event"] for line in lines]
    ['begin', 'steps', 'epoch', 'steps', 'epoch']
    """

    fixed = (*RunLog.fixed, "path", "append")

    def __init__(
        self,
        path: str | Path,
        *,
        append: bool = False,
        gradients: bool = False,
        batch_metrics: bool = False,
        hyperparameters: Mapping[str, Any] | None = None,
    ):
        super().__init__(gradients, batch_metrics, hyperparameters)
        self.path, self.append = Path(path), append
        self._file = LineFile(self.path, b"\n")

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        super().on_fit_begin(state, epochs)
        self._file.check()

    def open(self, state: TrainingState, goes_on: bool) -> None:
        if not goes_on and not self.append:
            self._file.clear()

    def write_hyperparameters(self, state: TrainingState, found: Plain) -> None:
        self._write("begin", state, state.epoch + 1, found)

    def write_steps(self, state: TrainingState, numbers: Numbers) -> None:
        self._write("steps", state, state.epoch + 1, numbers)

    def write_epoch(self, state: TrainingState, numbers: Numbers) -> None:
        self._write("epoch", state, state.epoch, numbers)

    def _write(
        self, event: str, state: TrainingState, epoch: int, found: Mapping[str, Any]
    ) -> None:
        where = {"step": state.steps, "epoch": epoch, "seconds": round(self.seconds, 3)}
        line = {"event": event, **where, **{name: _as_json(one) for name, one in found.items()}}
        self._file.append(json.dumps(line, allow_nan=False).encode() + b"\n")

    def known_by(self, state: TrainingState) -> str:
        return self.path.name

    def state(self) -> dict[str, Any] | None:
        own = super().state()
        return own and {**own, "lines": np.frombuffer(self._file.content(), dtype=np.uint8)}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        super().check_state(state, saved)
        check_fields(saved, {"lines": BYTES}, "JSONLines")

    def load_state(self, saved: dict[str, Any]) -> None:
        super().load_state(saved)
        self._file.put_back(saved["lines"].tobytes())


def _as_json(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
