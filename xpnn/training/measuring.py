"""Loss and metrics over a data set, in prediction mode."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import numpy as np

from xpnn.backends import Backend, Communicator
from xpnn.data.batches import Samples
from xpnn.data.stream import Stream
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.training.checkpointing.processes import check_measured
from xpnn.training.running_mean import RunningMean
from xpnn.training.state import TrainingState
from xpnn.training.stepping.conversion import BatchForm
from xpnn.training.stepping.objective import Objective
from xpnn.typing import Array, Loss

READ_EVERY = 100  # batches whose statistics may lie on the device


def measured(
    network: Network,
    loss: Loss,
    eval_step: Callable[..., Any],
    metrics: Sequence[Metric],
    data: Samples | Stream,
    batch_size: int,
    between: Callable[[], None] = lambda: None,
    communicator: Communicator | None = None,
) -> tuple[dict[str, float], list[str]]:
    """The mean loss and each metric by name; the device is waited for every 100 batches.

    Args:
        loss: that the step measures.
        eval_step: from ``make_weighing_eval_step``, for the same metrics.
        batch_size: of samples; a stream has batches.
        between: called before each batch.
        communicator: of processes that each take some of the batches, in turn.

    Returns:
        The numbers, and the names of those that are NaN since all weights were 0.
    """
    losses, tables = _gone_through(
        network, eval_step, metrics, data, batch_size, between, communicator
    )
    results = Objective(network, loss).logs(losses.read())
    results |= {table.metric.name: table.metric.result(table.read()) for table in tables}
    empty = [name for name, value in results.items() if losses.is_empty and math.isnan(value)]
    return results, empty


def measured_epoch(
    state: TrainingState,
    eval_step: Callable[..., Any],
    train: Samples | Stream | None,
    between: Callable[[], None],
) -> tuple[dict[str, float], list[str]]:
    """What a history lists of an epoch beside the loss, and what of it is NaN as nothing weighed.

    Args:
        eval_step: from ``make_weighing_eval_step``, for the loss and the metrics of the state.
        train: training data to measure the metrics on, too.
        between: called before each batch.
    """
    numbers: dict[str, float] = {}
    empty: list[str] = []
    for prefix, data in (("", train), ("val_", state.held_out)):
        if data is not None:
            found, nothing = measured(
                *(state.network, state.loss, eval_step, state.metrics, data, 256, between),
                state.by_rows,
            )
            if data is train:  # of which the history has the losses from the steps
                found = {metric.name: found[metric.name] for metric in state.metrics}
            numbers |= {f"{prefix}{name}": value for name, value in found.items()}
            empty += [f"{prefix}{name}" for name in nothing if name in found]
    return numbers, empty


def statistics_of(
    network: Network,
    eval_step: Callable[..., Any],
    metric: Metric,
    data: Samples | Stream,
    batch_size: int,
    communicator: Communicator | None = None,
) -> np.ndarray:
    """The rows that one metric makes its result of."""
    _, (table,) = _gone_through(
        network, eval_step, [metric], data, batch_size, communicator=communicator
    )
    return table.read()


def result_of_batch(metric: Metric, statistics: Array, backend: Backend) -> float:
    """The metric of one batch, of which there are the statistics; waits for the device."""
    table = _Table(metric, backend)
    table.on_device.append(statistics)
    result: float = metric.result(table.read())
    return result


def _gone_through(
    network: Network,
    eval_step: Callable[..., Any],
    metrics: Sequence[Metric],
    data: Samples | Stream,
    batch_size: int,
    between: Callable[[], None] = lambda: None,
    communicator: Communicator | None = None,
) -> "tuple[RunningMean, list[_Table]]":
    """The losses and statistics of all batches, in all processes."""
    backend = network.backend
    losses, tables = RunningMean(backend), [_Table(metric, backend) for metric in metrics]
    form = BatchForm(network)
    params, state = network.params, network.state
    source = data if isinstance(data, Stream) else data.batches(batch_size)
    turn = (0, 1) if communicator is None else (communicator.rank, communicator.size)
    batches = source.starting_at(0, turn)
    with closing(batches) if isinstance(batches, Generator) else nullcontext():
        for number, parts in enumerate(batches, start=1):
            between()
            (value, whole), statistics = eval_step(params, state, *form.whole(parts))
            losses.add(value, parts[0].shape[0] if whole is None else whole)
            for table, row in zip(tables, statistics, strict=True):
                table.on_device.append(row)
            if number % READ_EVERY == 0:
                losses.read()
                for table in tables:
                    table.read()
    if communicator is not None:
        check_measured(communicator, source)
        losses.read()
        losses.add_others(communicator)
        for table in tables:
            table.add_others(communicator)
    return losses, tables


class _Table:
    """The statistics of one metric: new rows on the device, those before on the host, merged."""

    def __init__(self, metric: Metric, backend: Backend):
        self.metric, self.backend = metric, backend
        self.on_device: list[Array] = []
        self.on_host: list[np.ndarray] = []

    def read(self) -> np.ndarray:
        """All rows, as few as the metric needs; one transfer."""
        if self.on_device:
            join = self.backend.xp.stack if self.on_device[0].ndim == 1 else self.backend.xp.concat
            new = self.backend.to_numpy(join(self.on_device)).astype(np.float64)
            self.on_host = [self.metric.merged(np.concatenate([*self.on_host, new]))]
            self.on_device = []
        return self.on_host[0]

    def add_others(self, communicator: Communicator) -> None:
        """Put the rows of the other processes, which may have none, beside its own."""
        has_rows = bool(self.on_device or self.on_host)
        rows = self.read() if has_rows else np.zeros((0, 0))
        widths = communicator.gathered(np.asarray([rows.shape[1]]))
        found = np.concatenate(communicator.gathered(rows.reshape(-1)))
        self.on_host = [self.metric.merged(found.reshape(-1, int(max(widths)[0])))]
