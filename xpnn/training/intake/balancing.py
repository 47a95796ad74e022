"""What class_weight="balanced" stands for, by the targets of a training."""

from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.data.batches import Samples
from xpnn.data.stream import Stream
from xpnn.losses.balancing import balanced, class_counts, is_balanced
from xpnn.losses.by_output import ByOutput, losses_of
from xpnn.network import Network
from xpnn.typing import Loss


def with_numbers(loss: Loss, train: Samples | Stream, network: Network) -> Loss:
    """The loss, with the weights of classes that are to be balanced by the targets of training.

    A stream is gone through for it.
    """
    outputs = zip(
        losses_of(loss, network.output_names), [shape for shape, _ in network.outputs], strict=True
    )
    wanted = {
        number: (output, one, shape)
        for number, ((output, one, _), shape) in enumerate(outputs)
        if is_balanced(one)
    }
    if not wanted:
        return loss
    batches = train.where_they_lie() if isinstance(train, Stream) else [train.arrays]
    rows = None if isinstance(train, Stream) else train.rows
    counts: dict[str, Any] = {}
    for arrays in batches:
        for number, (output, one, shape) in wanted.items():
            targets = _on_the_host(arrays[len(network.inputs) + number], rows, network.backend)
            counts[output] = counts.get(output, 0) + class_counts(one, targets, shape)
    found = {output: balanced(one, counts[output]) for output, one, _ in wanted.values()}
    if isinstance(loss, ByOutput):
        losses = losses_of(loss, network.output_names)
        parts = {output: found.get(output, one) for output, one, _ in losses}
        return ByOutput(parts, {output: weight for output, _, weight in losses})
    return next(iter(found.values()))


def _on_the_host(targets: Any, rows: np.ndarray | None, backend: Backend) -> np.ndarray:
    """Targets as NumPy's, or some rows of them."""
    if not isinstance(targets, np.ndarray):
        targets = backend.to_numpy(targets)
    return targets if rows is None else targets[rows]
