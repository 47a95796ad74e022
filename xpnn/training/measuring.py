"""Loss and metrics over a data set, in prediction mode."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import numpy as np

from xpnn.data.batches import Samples
from xpnn.data.stream import Stream
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.training.running_mean import RunningMean
from xpnn.typing import Array


def measured(
    network: Network,
    eval_step: Callable[..., Any],
    metrics: Sequence[Metric],
    data: Samples | Stream,
    batch_size: int,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The mean loss and each metric by name; the device is waited for at the end.

    Args:
        eval_step: from ``make_eval_step``, for the same metrics.
        batch_size: of samples; a stream has batches.
        between: called before each batch.
    """
    backend = network.backend
    losses = RunningMean(backend)
    rows: list[list[Array]] = [[] for _ in metrics]
    params, state = network.params, network.state
    batches = iter(data if isinstance(data, Stream) else data.batches(batch_size))
    with closing(batches) if isinstance(batches, Generator) else nullcontext():
        for x, y, weight in batches:
            between()
            value, statistics = eval_step(params, state, x, y, weight)
            losses.add(value, x.shape[0] if weight is None else backend.xp.sum(weight))
            for kept, new in zip(rows, statistics, strict=True):
                kept.append(new)
    results = {"loss": losses.read()}
    for metric, kept in zip(metrics, rows, strict=True):
        stacked = backend.to_numpy(backend.xp.stack(kept))
        results[metric.name] = metric.result(stacked.astype(np.float64))
    return results
