"""TensorBoard: a run for the page of that name, by its own package."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.drawing import boxes_of
from xpnn.network import Network
from xpnn.training.callbacks.run_log import Numbers, Plain, RunLog, tag_of
from xpnn.training.state import TrainingState


class TensorBoard(RunLog):
    """Writes a run into a folder that ``tensorboard --logdir`` shows; needs the extra tensorboard.

    There are two runs in it, "train" and "validation", so that one chart has both: under "epoch"
    the numbers of the history, ``val_loss`` as ``epoch/loss`` of "validation", under "steps" those
    of the log points, see ``JSONLines``. All stand over the steps done. Beside them are the
    hyperparameters, the network as a graph, in which a container is one box, and histograms of the
    weights behind each epoch, where they are asked for. A run that begins at step 0 takes the place
    of one that lies in the same folder; a run that is resumed takes that of what came behind its
    checkpoint.

    Args:
        folder: of this run; folders are made.
        gradients, batch_metrics: as for ``JSONLines``.
        weights: whether to write histograms of the parameters, which copies them to the host.
        graph: whether to write the network.
        hyperparameters: what to write beside those of the trainer, such as {"layers": 3}.

    Raises:
        ModuleNotFoundError: the package tensorboard is missing.
        OSError: from ``fit``: the folder cannot be written.
    """

    fixed = (*RunLog.fixed, "folder", "weights", "graph")

    def __init__(
        self,
        folder: str | Path,
        *,
        gradients: bool = False,
        batch_metrics: bool = False,
        weights: bool = False,
        graph: bool = True,
        hyperparameters: Mapping[str, Any] | None = None,
    ):
        super().__init__(gradients, batch_metrics, hyperparameters)
        _import()
        self.folder, self.weights, self.graph = Path(folder), weights, graph
        self._writers: dict[str, EventFile] = {}  # by the folder of the run
        self._begins = 0  # the step from which on they write

    def known_by(self, state: TrainingState) -> str:
        return self.folder.name

    def open(self, state: TrainingState, goes_on: bool) -> None:
        comes_again = state.epoch_steps > state.logged  # a log point behind a checkpoint
        self._begins = state.steps + (0 if comes_again or state.steps == 0 else 1)
        for run in ("train", "validation") if state.held_out is not None else ("train",):
            self._writer(run)
        if self.graph and not goes_on:
            self._add("train", state, graph_def=_graph_of(state.network).SerializeToString())

    def write_hyperparameters(self, state: TrainingState, found: Plain) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._add("", state, summary=hparams_pb(found, trial_id=self.folder.name))

    def write_steps(self, state: TrainingState, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._add_number("train", state, tag_of(name), value)

    def write_epoch(self, state: TrainingState, numbers: Numbers) -> None:
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for name, value in numbers.items():
            if name != "rate":  # of which there are all log points
                run = "validation" if name.startswith("val_") else "train"
                self._add_number(run, state, f"epoch/{name.removeprefix('val_')}", value)
        if self.weights:
            backend = state.network.backend
            for name, values in state.network.params.items():
                data = backend.to_numpy(values).astype(np.float64)
                finite = data[np.isfinite(data)]
                self._add("train", state, summary=histogram_pb(f"weights/{name}", finite))
        self._flush()

    def close(self, state: TrainingState) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def state(self) -> dict[str, Any] | None:
        self._flush()  # a run that goes on from a checkpoint counts on all that came before it
        return super().state()

    # Files of events -----------------------------------------------------------------------------

    def _add_number(self, run: str, state: TrainingState, tag: str, value: float) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._add(run, state, summary=scalar_pb(tag, value))

    def _add(self, run: str, state: TrainingState, **what: Any) -> None:
        self._writer(run).write(step=state.steps, **what)

    def _writer(self, run: str) -> "EventFile":
        """The one of a run; its file begins with the step from which older ones count no more."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        if run not in self._writers:
            self._writers[run] = EventFile(self.folder / run)
            start = SessionLog(status=SessionLog.START)
            self._writers[run].write(step=self._begins, session_log=start)
        return self._writers[run]

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


class EventFile:
    """A file of events, one of those in a folder that are read in the order of their names.

    These go by the clock, to the nanosecond, so that of several in a second the last is the last.
    """

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)
        file = (folder / f"events.out.tfevents.{seconds:010d}.{rest:09d}").open("xb")
        self._records = RecordWriter(file)
        self.write(file_version="brain.Event:2")

    def write(self, **what: Any) -> None:
        """Write an event that has happened now."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **what).SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


def _import() -> None:
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "TensorBoard needs the package of that name; type: pip install 'xpnn[tensorboard]'"
        ) from error


def _graph_of(network: Network) -> Any:
    """Who feeds whom, as ``network.draw`` has it, in TensorBoard's words."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    graph, names = GraphDef(versions=VersionDef(producer=22)), dict[int, str]()
    for number, box in enumerate(boxes_of(network)):
        kind, _, whole = box.whole.partition(": ") if box.kind == "layer" else (box.kind, "", "")
        own = kind if box.kind == "layer" else box.lines[0]
        names[id(box)] = name = _node_name(own, number, set(names.values()))
        node = graph.node.add(name=name, op=whole.partition("(")[0] or box.kind)
        node.input.extend(names[id(source)] for source in box.sources)
        said = {"layer": whole, "shape": box.lines[-1]}
        for key, text in said.items():
            if text:
                node.attr[key].CopyFrom(AttrValue(s=text.encode()))
    return graph


def _node_name(name: str, number: int, taken: set[str]) -> str:
    """A name that TensorBoard takes: letters, digits and few signs, once in a graph."""
    plain = "".join(one if one.isalnum() or one in "._/-" else "_" for one in name)
    return plain if plain not in taken else f"{plain}_{number}"
