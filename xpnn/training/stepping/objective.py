"""What a training makes small: the losses of all outputs, what layers add, and penalties."""

import operator
from collections.abc import Sequence
from typing import Any

from xpnn.layers import Layer
from xpnn.losses.by_output import ByOutput, losses_of
from xpnn.losses.outputs import outputs_by_part
from xpnn.losses.weights import items_weigh_alike, without_ignored
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.stepping.batch_weight import weight_dtype, weight_of
from xpnn.training.stepping.loss_form import check_loss, value_and_delta
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Loss, Number


class Objective:
    """The sum that is made small, and what histories list of it::

        value = sum_k c_k l_k + sum_j t_j + penalties

    with a loss l_k for each output k, its weight c_k, and the term t_j of each layer that adds one.

    Where it is one loss alone, values are single numbers; else there are as many as ``names`` says,
    and one more for the penalties, where there are any.

    Raises:
        TypeError: a loss is no function of the right arguments.
        ValueError: the last layer gives what a loss cannot take for what it wants.
    """

    def __init__(self, network: Network, loss: Loss | ByOutput):
        self.network = network
        self.losses = losses_of(loss, network.output_names)
        for _, one, _ in self.losses:
            check_loss(one)
        self.outputs = outputs_by_part(
            network.root, network.output_shape, [one for _, one, _ in self.losses]
        )
        self.adding: list[tuple[str, Layer]] = [
            (f"{name}.{layer.adds}", layer) for name, layer in network.walk() if layer.adds
        ]
        self.shapes = [shape for shape, _ in network.outputs]
        self.is_single = not (isinstance(loss, ByOutput) or self.adding)
        self._weigh_alike = all(items_weigh_alike(one) for _, one, _ in self.losses)

    @property
    def names(self) -> list[str]:
        """Of the losses and terms, beside their sum."""
        losses = [f"{output}_loss" for output, _, _ in self.losses]
        return (losses if len(losses) > 1 else ["own_loss"]) + [name for name, _ in self.adding]

    def total(self, value: Any) -> Array:
        """The sum of all values of a batch, in a tuple or one array, those of penalties or not."""
        if self.is_single:
            return value
        values = value if isinstance(value, tuple) else [value[k] for k in range(value.shape[0])]
        return sum(map(operator.mul, values[1:], self._weights[1:]), values[0] * self._weights[0])

    @property
    def _weights(self) -> tuple[float, ...]:
        """What the values are multiplied by in the sum: those of terms and penalties by 1."""
        return (*(weight for _, _, weight in self.losses), *[1.0] * (len(self.adding) + 1))

    def logs(self, means: Any) -> dict[str, float]:
        """What a history lists, of the means of all values."""
        if self.is_single:
            return {"loss": means}
        means = means if isinstance(means, list) else [means] * len(self.names)  # of nothing
        found = dict(zip(self.names, means, strict=False))
        return {"loss": sum(map(operator.mul, self._weights, means)), **found}

    def measured(
        self, predictions: Arrays, y: Arrays, weight: Array | None
    ) -> tuple[Arrays, Arrays]:
        """The values of the losses, and their deltas times their weights."""
        backend = self.network.backend
        if self.is_single:
            return value_and_delta(self.losses[0].loss, predictions, y, weight, backend)
        values, deltas = [], []
        for (_, loss, share), output, targets in zip(
            self.losses, as_tuple(predictions), as_tuple(y), strict=True
        ):
            value, delta = value_and_delta(loss, output, targets, weight, backend)
            values.append(value)
            deltas.append(delta if share == 1.0 else delta * share)
        values += [widened(layer.cache["term"], backend.xp) for _, layer in self.adding]
        return tuple(values), one_or_tuple(deltas)

    def counted(self, y: Arrays, weight: Array | None) -> tuple[Any, Any]:
        """Targets and weights for metrics, of each output: what a loss ignores weighs nothing."""
        backend = self.network.backend
        pairs = [
            without_ignored(loss, targets, weight, backend)
            for (_, loss, _), targets in zip(self.losses, as_tuple(y), strict=True)
        ]
        targets, weights = zip(*pairs, strict=True)
        return one_or_tuple(targets), one_or_tuple(weights)

    def factors(self, factor: Any) -> tuple[Any, ...]:
        """What the derivatives of each loss, and then of each term, are multiplied by.

        Args:
            factor: one for all, or a tuple; None for 1.
        """
        count = len(self.losses) + len(self.adding)
        return factor if isinstance(factor, tuple) else (factor,) * count

    def lend_factors(self, factors: Sequence[Any]) -> None:
        """Tell layers that add terms what to multiply the derivatives of these by."""
        for (_, layer), own in zip(self.adding, factors[len(self.losses) :], strict=True):
            vars(layer)["term_factor"] = 1.0 if own is None else own

    def take_factors_back(self) -> None:
        """Let nothing of a step, which a compiler may have traced, stay in the layers."""
        for _, layer in self.adding:
            vars(layer).pop("term_factor", None)

    def weights(self, y: Arrays, weight: Array | None) -> Any:
        """What each value weighs in a mean over batches."""
        if self.is_single:
            return weight_of(self.losses[0].loss, y, weight, self.shapes[0], self.network)
        found = [
            weight_of(loss, targets, weight, shape, self.network)
            for (_, loss, _), shape, targets in zip(
                self.losses, self.shapes, as_tuple(y), strict=True
            )
        ]
        rows = float(as_tuple(y)[0].shape[0])
        return (*found, *[rows] * len(self.adding))

    def counts_samples(self, weight: Array | None) -> bool:
        """Whether each sample weighs 1 in the mean of each loss."""
        return weight is None and self._weigh_alike

    def weighed(
        self,
        value: Any,
        y: Arrays,
        weight: Array | None,
        whole: Any = None,
        samples: int | None = None,
    ) -> tuple[Array, Number | Array | None]:
        """The value, or all values, of a batch, and what they weigh; None for its samples.

        Args:
            value: behind those of the losses and terms that of the penalties, if any.
            whole, samples: what the batch weighs, and how many samples it has, where other
                processes have some of them.
        """
        if self.counts_samples(weight):
            return value if self.is_single else self.network.backend.stack(list(value)), None
        found = self.weights(y, weight) if whole is None else whole
        if self.is_single:
            return value, None if type(found) is float and found == y.shape[0] else found
        backend = self.network.backend
        rows = as_tuple(y)[0].shape[0] if samples is None else samples
        weights = (*found, *[float(rows)] * (len(value) - len(found)))
        if all(type(one) is float and one == rows for one in weights):
            return backend.stack(list(value)), None
        return backend.stack(list(value)), backend.stack([self.as_weight(one) for one in weights])

    def as_weight(self, weight: Number) -> Array:
        """A number, or a 0-d array, as an array to add up weights with."""
        backend = self.network.backend
        dtype = backend.dtype(weight_dtype(self.network))
        if hasattr(weight, "dtype"):
            return backend.xp.astype(weight, dtype, copy=False)
        return backend.xp.full((), weight, dtype=dtype, device=backend.device)
